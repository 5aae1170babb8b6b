"""The families: each file holds one mathematical function or problem with all its formulations."""

from gradrace.families import (
    gauss_newton_step,
    hello,
    identity,
    jacobian_modes,
    phase_retrieval,
    sandwich,
    scalar_trace,
    sgd_exponent,
    soft_threshold,
    softmax_refclass,
    two_faces,
)

FAMILIES = (
    identity.identity,
    hello.hello,
    soft_threshold.soft_threshold,
    two_faces.two_faces_relu,
    two_faces.two_faces_abs,
    two_faces.two_faces_twice,
    two_faces.two_faces_jump,
    sandwich.sandwich,
    scalar_trace.scalar_trace,
    softmax_refclass.softmax_refclass,
    sgd_exponent.sgd_exponent,
    jacobian_modes.jacobian_modes,
    phase_retrieval.phase_retrieval,
    gauss_newton_step.gauss_newton_step,
)
"""The one list of the built-in families."""
