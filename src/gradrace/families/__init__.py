"""The families: each file holds one mathematical function or problem with all its formulations."""

from gradrace.families import (
    gauss_newton_step,
    hello,
    identity,
    jacobian_modes,
    phase_retrieval,
    sandwich,
    scalar_trace,
    soft_threshold,
)

FAMILIES = (
    identity.identity,
    hello.hello,
    soft_threshold.soft_threshold,
    sandwich.sandwich,
    scalar_trace.scalar_trace,
    jacobian_modes.jacobian_modes,
    phase_retrieval.phase_retrieval,
    gauss_newton_step.gauss_newton_step,
)
"""The one list of the built-in families."""
