"""The families: each file holds one mathematical function or problem with all its formulations."""

from gradrace.families.hello import hello
from gradrace.families.identity import identity
from gradrace.families.sandwich import sandwich
from gradrace.families.soft_threshold import soft_threshold

FAMILIES = (identity, hello, soft_threshold, sandwich)
"""The one list of the built-in families."""
