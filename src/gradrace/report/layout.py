"""The names of all that a report consists of."""

from __future__ import annotations

PAGE, SUMMARY, FIGURES = "index.html", "summary.md", "figures"

MARKER = ".gradrace-report"
"""It says that the folder is a report, and may be replaced."""
