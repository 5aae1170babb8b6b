"""The families: each file holds one mathematical function or problem with all its formulations.

The list groups them by what they teach. What several share stands beside them: `numerics` (references), `descent` and
`endpoints` (solvers), `losses` (what a descent goes down), `iris` (data).
"""

from gradrace.families import (
    adam,
    beale,
    circle_reparam,
    dual_numbers,
    gauss_newton_step,
    gd_1d,
    hello,
    hypergradient,
    identity,
    jacobian_modes,
    logistic,
    lowrank,
    mse_linear,
    multi_backward,
    phase_retrieval,
    relu_net3,
    sandwich,
    scalar_trace,
    sgd_exponent,
    sgd_moments,
    soft_threshold,
    softmax_refclass,
    solve_cond,
    speelpenning,
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
    speelpenning.speelpenning,
    dual_numbers.dual_numbers,
    jacobian_modes.jacobian_modes,
    multi_backward.multi_backward,
    # models
    softmax_refclass.softmax_refclass,
    logistic.logistic,
    relu_net3.relu_net3,
    lowrank.lowrank,
    # descent and its step sizes
    mse_linear.mse_linear,
    gd_1d.gd_1d,
    circle_reparam.circle_reparam,
    sgd_exponent.sgd_exponent,
    sgd_moments.sgd_moments,
    hypergradient.hypergradient,
    adam.adam,
    # nonlinear least squares
    beale.beale,
    phase_retrieval.phase_retrieval,
    gauss_newton_step.gauss_newton_step,
)
"""The one list of the built-in families."""
