"""The families: each file holds one mathematical function or problem with all its formulations.

The list groups them by what they teach. What several share stands beside them: `numerics` (references), `descent` and
`endpoints` (solvers), `iris` (data).
"""

from gradrace.families import (
    dual_numbers,
    gauss_newton_step,
    hello,
    identity,
    jacobian_modes,
    logistic,
    phase_retrieval,
    sandwich,
    scalar_trace,
    sgd_exponent,
    soft_threshold,
    softmax_refclass,
    solve_cond,
    tanh_tail,
    two_faces,
)

FAMILIES = (
    # templates: what the harness itself costs, and how a family is declared
    identity.identity,
    hello.hello,
    # functions of one number: kinks, and lost digits
    soft_threshold.soft_threshold,
    two_faces.two_faces_relu,
    two_faces.two_faces_abs,
    two_faces.two_faces_twice,
    two_faces.two_faces_jump,
    tanh_tail.tanh_tail,
    # linear algebra: what structure saves
    sandwich.sandwich,
    solve_cond.solve_cond,
    # modes of differentiation
    scalar_trace.scalar_trace,
    dual_numbers.dual_numbers,
    jacobian_modes.jacobian_modes,
    # models
    softmax_refclass.softmax_refclass,
    logistic.logistic,
    # descent and its step sizes
    sgd_exponent.sgd_exponent,
    # nonlinear least squares
    phase_retrieval.phase_retrieval,
    gauss_newton_step.gauss_newton_step,
)
"""The one list of the built-in families."""
