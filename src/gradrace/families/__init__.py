"""The families: each file holds one mathematical function or problem with all its formulations."""

from gradrace.families.gauss_newton_step import gauss_newton_step
from gradrace.families.hello import hello
from gradrace.families.identity import identity
from gradrace.families.jacobian_modes import jacobian_modes
from gradrace.families.phase_retrieval import phase_retrieval
from gradrace.families.sandwich import sandwich
from gradrace.families.scalar_trace import scalar_trace
from gradrace.families.soft_threshold import soft_threshold

FAMILIES = (
    identity,
    hello,
    soft_threshold,
    sandwich,
    scalar_trace,
    jacobian_modes,
    phase_retrieval,
    gauss_newton_step,
)
"""The one list of the built-in families."""
