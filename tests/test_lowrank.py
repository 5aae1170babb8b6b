"""Low-rank factorisation of Iris: published losses, saddles, gauge, edge of stability, and what a residual costs."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from gradrace.cases import all_cases
from gradrace.declare import size
from gradrace.families import lowrank
from gradrace.families.endpoints import classify
from gradrace.families.iris import centred_iris
from gradrace.families.lowrank import closed_form, eckart_young, gram, mean_reduction, mse_loss
from gradrace.verify import SOLVED_WITHIN, verify, wilson_interval
from gradrace.work import count

mpmath = pytest.importorskip("mpmath", reason="comes with the extra `test`")

STEP = 1e-30
SIGMA = [25.09996044, 6.01314738, 3.41368064, 1.88452351]
LIMITS = [681.3706, 51.3625858008053, 15.204644359438953, 3.551428853043964]
IRIS = torch.from_numpy(centred_iris())


def published_start(seed=0):
    """U (150, 2), then V (2, 4), uniform by numpy.random.RandomState(seed)."""
    rng = np.random.RandomState(seed)
    return torch.from_numpy(rng.rand(150, 2)), torch.from_numpy(rng.rand(2, 4))


def batch_of_starts(count=20):
    return (torch.stack(each) for each in zip(*(published_start(seed) for seed in range(count)), strict=True))


def stacked(U, V):
    return torch.cat((U, V.mT), dim=-2)


def descend(U, V, A=IRIS, rate=0.01, epochs=1000):
    """The homework's descent, of one start or of a batch."""
    for _ in range(epochs):
        R = U @ V - A
        U, V = U - 2 * rate * R @ V.mT, V - 2 * rate * U.mT @ R
    return U, V


def loss(U, V, A=IRIS):
    return ((U @ V - A) ** 2).sum((-2, -1))


def sharpness(U, V):
    """2 (σ_max(U)² + σ_max(V)²)."""
    return 2 * (torch.linalg.matrix_norm(U, 2) ** 2 + torch.linalg.matrix_norm(V, 2) ** 2)


# ---- the reference, the data and the limit ----


def test_the_reference_agrees_with_a_complex_step():
    """A second route: f at W + i h e_k."""
    numbers = lowrank.draw(size("test", data="random", m=7, n=5, r=2), np.random.default_rng(0))
    W, A = numbers["W"], numbers["A"]

    def objective(W):
        return ((W[:7] @ W[7:].T - A) ** 2).sum()

    exact = lowrank.reference(numbers)
    by_step = [objective(W + 1j * STEP * e.reshape(W.shape)).imag / STEP for e in np.eye(W.size)]
    assert math.isclose(exact["value"], objective(W), rel_tol=1e-14)
    assert np.allclose(exact["W"].astype(float).ravel(), by_step, rtol=1e-12)


def test_the_table_has_the_published_singular_values():
    assert IRIS.shape == (150, 4)
    assert np.allclose(torch.linalg.svdvals(IRIS), SIGMA, rtol=0, atol=6e-9)
    assert IRIS.mean(dim=0).abs().max() < 1e-14


def test_the_limits_agree_with_mpmath():
    """A second route: eigenvalues of the 4 × 4 Gram matrix of the measurements in tenths, to thirty digits."""
    tenths = np.rint(10 * (centred_iris() + [5.843333, 3.057333, 3.758, 1.199333])).astype(int)
    with mpmath.workdps(30):
        table = mpmath.matrix(tenths.tolist())
        means = [mpmath.fsum(table[:, j]) / 150 for j in range(4)]
        centred = mpmath.matrix(150, 4)
        for j in range(4):
            centred[:, j] = table[:, j] - means[j]
        eigenvalues = sorted(mpmath.eigsy(centred.T * centred, eigvals_only=True), reverse=True)
        exact = [float(mpmath.fsum(eigenvalues[r:]) / 100) for r in range(4)]
    assert np.allclose(exact, LIMITS, rtol=1e-14)
    assert np.allclose([eckart_young(IRIS.numpy(), r) for r in range(4)], exact, rtol=1e-13)


# ---- the homework's descent ----


def test_the_descent_is_held_up_at_the_rank_one_saddle(monkeypatch):
    U, V = published_start()
    losses = {}
    for epochs in (0, 50, 200, 1000):
        monkeypatch.setattr(lowrank, "EPOCHS", epochs)
        losses[epochs] = mse_loss(lowrank.descent_closed_form(stacked(U, V), IRIS), IRIS).item()
    assert np.allclose(list(losses.values()), [813.28121, 51.33870, 51.10451, 15.20611], rtol=0, atol=6e-6)
    assert abs(losses[50] - LIMITS[1]) < 0.03


def test_three_ways_to_descend_are_one(monkeypatch):
    monkeypatch.setattr(lowrank, "EPOCHS", 30)
    W = stacked(*published_start())
    by_autograd, by_sgd, by_hand = (
        getattr(lowrank, f"descent_{how}")(W, IRIS) for how in ("autograd", "sgd", "closed_form")
    )
    assert torch.allclose(by_autograd, by_sgd, rtol=1e-11)
    assert torch.allclose(by_autograd, by_hand, rtol=1e-11)


def test_a_thousand_epochs_are_too_few_for_six_digits():
    ends = loss(*descend(*batch_of_starts(50)))
    assert ((ends[:6] > 15.20465) & (ends[:6] < 15.2095)).all()
    low, high = wilson_interval(int((ends / LIMITS[2] - 1 <= SOLVED_WITHIN).sum()), 50)
    (variant,) = (each for each in lowrank.lowrank.variants if each.name == "descent_closed_form")
    assert low < variant.success[None] < high < 0.5


def in_float32(seed):
    """torch.manual_seed(seed), U = rand(150, 2), V = rand(2, 4)."""
    torch.manual_seed(seed)
    return torch.rand(150, 2), torch.rand(2, 4)


def test_the_homework_in_float32():
    U, V = in_float32(211)
    A = IRIS.float()
    losses = [loss(*descend(U, V, A, epochs=epochs), A).item() for epochs in (0, 50, 200, 500)]
    assert np.allclose(losses, [888.795, 51.358, 51.339, 45.224], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("seed", "epochs", "narrow", "wide"),
    [
        (0, 1000, 15.204680442810059, 15.204680040137),
        (211, 995, 15.212685585021973, 15.212686042629),
        (211, 1000, 15.211915969848633, 15.211915875579),
    ],
)
def test_the_ends_of_the_homework(seed, epochs, narrow, wide):
    """In float32 to its last digits, of which 1e-6 is one; from the same start in float64.

    The homework prints every fifth loss, before the step: its last line, of epoch 995, is not the final loss.
    """
    U, V = in_float32(seed)
    A = IRIS.float()
    assert math.isclose(loss(*descend(U, V, A, epochs=epochs), A), narrow, abs_tol=5e-6)
    assert math.isclose(loss(*descend(U.double(), V.double(), epochs=epochs)), wide, rel_tol=1e-11)


def test_the_mean_in_place_of_the_sum_hardly_moves():
    """mse_loss divides by 600 unless it is told not to, and the gradient with it."""
    U, V = published_start()
    W = stacked(U, V).requires_grad_()
    (by_sum,), (by_mean,) = (torch.autograd.grad(function(W, IRIS), W) for function in (mse_loss, mean_reduction))
    assert torch.allclose(by_sum, 600 * by_mean, rtol=1e-13)
    assert math.isclose(loss(*descend(U, V, rate=0.01 / 600)), 679.825, abs_tol=5e-4)
    (case,) = (
        case
        for case in all_cases([lowrank.lowrank])
        if case.id == "lowrank/mean_reduction/value_and_gradient/iris_m150_n4_r2/float64/cpu"
    )
    assert {outcome.status for outcome in verify(case).outputs.values()} == {"disagree"}


@pytest.mark.parametrize(
    ("rate", "gap", "within"),
    [
        (0.001, 36.0, 0.02),
        (0.005, 10.3, 0.02),
        (0.0075, 0.116153227, 1e-8),
        (0.01, 8.6e-5, 0.02),
        (0.012, 4.7e-9, 0.02),
        (0.013, 1.04e-12, 0.02),  # six hundred roundings of the loss
    ],
)
def test_the_median_gap_falls_with_the_rate(rate, gap, within):
    """Of twenty published starts after 1000 epochs."""
    excess = loss(*descend(*batch_of_starts(), rate=rate)) - LIMITS[2]
    assert math.isclose(np.median(excess), gap, rel_tol=within)


def test_past_the_edge_it_diverges():
    """2/0.02 = 100 is below 4 σ_1 = 100.4, the least sharpness that a minimum can have.

    Of twenty published starts thirteen overflow, all within twenty epochs.
    """
    assert math.isclose(4 * SIGMA[0], 100.39984, abs_tol=1e-5)
    early, ends = (loss(*descend(*batch_of_starts(), rate=0.02, epochs=epochs)) for epochs in (20, 1000))
    assert (~ends.isfinite()).sum() == 13
    assert torch.equal(ends.isfinite(), early.isfinite())
    assert (ends[ends.isfinite()] > LIMITS[2] + 2).all()  # the others swing from side to side for ever
    assert (loss(*descend(*batch_of_starts(), rate=0.015)) - LIMITS[2]).median() < 1e-12


def test_the_descent_comes_below_the_edge_of_stability():
    """At 0.005 it ends where 2/sharpness < 0.01; a descent by 0.01 cannot stay there, and balances its factors."""
    slow, fast = (sharpness(*descend(*published_start(), rate=rate, epochs=3000)) for rate in (0.005, 0.01))
    assert math.isclose(slow, 209.0956, abs_tol=5e-4)
    assert math.isclose(fast, 194.10, abs_tol=5e-3)
    assert 4 * SIGMA[0] < fast < 2 / 0.01 < slow < 2 / 0.005
    assert (sharpness(*descend(*batch_of_starts())) < 200).all()


# ---- the landscape ----


def kept(*which):
    """U V of these singular vectors of Iris, padded to rank 2."""
    P, sigma, Q = torch.linalg.svd(IRIS, full_matrices=False)
    U, V = torch.zeros(150, 2).double(), torch.zeros(2, 4).double()
    for column, i in enumerate(which):
        U[:, column], V[column] = sigma[i].sqrt() * P[:, i], sigma[i].sqrt() * Q[i]
    return U, V


@pytest.mark.parametrize(("which", "value"), [((), 681.3706), ((0,), 51.3626), ((1,), 645.2127), ((0, 2), 39.7094)])
def test_saddles_keep_other_singular_vectors(which, value):
    """The gradient is zero, f the sum of the σ² that are left out, and some direction leads down."""
    U, V = kept(*which)
    found, (gradient,) = closed_form(stacked(U, V), IRIS)
    assert math.isclose(found, value, abs_tol=6e-5)
    assert gradient.abs().max() < 1e-12
    out = min({0, 1, 2, 3} - set(which))  # the largest that is left out
    P, _, Q = torch.linalg.svd(IRIS, full_matrices=False)
    U[:, 1] += 0.1 * P[:, out]
    V[1] += 0.1 * Q[out]
    assert loss(U, V) < found - 0.01


def test_only_the_product_of_the_factors_counts():
    """U G and G⁻¹ V: the same f, another gradient, another sharpness, least where the factors are balanced."""
    U, V = kept(0, 1)
    G = torch.tensor([[2.0, 1.0], [0.5, 3.0]]).double()
    turned = U @ G, torch.linalg.solve(G, V)
    assert torch.allclose(turned[0] @ turned[1], U @ V, rtol=1e-12, atol=1e-13)
    assert math.isclose(loss(*turned), loss(U, V), rel_tol=1e-12)
    assert math.isclose(sharpness(U, V), 4 * SIGMA[0], rel_tol=1e-8)
    assert sharpness(*turned) > 2 * sharpness(U, V)
    numbers = {"A": IRIS.numpy()}
    assert all(lowrank.distance(numbers, stacked(*factors).numpy()) < 1e-12 for factors in (turned, (U, V)))


def test_the_hessian_at_a_minimum_is_flat_along_the_gauge_and_sharp_as_declared():
    """r² zero eigenvalues, one for each entry of G; the largest is 2 (σ_max(U)² + σ_max(V)²)."""
    A = torch.from_numpy(lowrank.draw(size("test", data="random", m=7, n=5, r=2), np.random.default_rng(0))["A"])
    W = lowrank.svd(torch.zeros(12, 2).double(), A)
    hessian = torch.func.hessian(partial(mse_loss, A=A))(W).reshape(24, 24)
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert eigenvalues[:4].abs().max() < 1e-10 * eigenvalues[-1]
    assert eigenvalues[4] > 1e-3 * eigenvalues[-1]
    assert math.isclose(eigenvalues[-1], sharpness(W[:7], W[7:].mT), rel_tol=1e-12)


def test_gradient_flow_conserves_the_balance_of_the_factors():
    """d/dt (UᵀU − V Vᵀ) = 0 along −∇f: a descent changes it by O(η²) a step only."""
    U, V = published_start()
    _, (gradient,) = closed_form(stacked(U, V), IRIS)
    by_U, by_V = gradient[:150], gradient[150:].mT
    change = U.mT @ by_U + by_U.mT @ U - V @ by_V.mT - by_V @ V.mT
    assert change.abs().max() < 1e-14 * (U.mT @ by_U).abs().max() * 150


# ---- formulations ----


def test_alternating_least_squares_is_a_power_method():
    """Each sweep shrinks the error of the subspace by (σ_3/σ_2)² = 0.322."""
    target = torch.linalg.svd(IRIS, full_matrices=False)[2][:2]
    projector = target.mT @ target
    _, V = published_start()
    Vt, errors = V.mT, []
    for _ in range(12):
        Vt = lowrank._fitted(IRIS.mT, lowrank._fitted(IRIS, Vt))
        Q = torch.linalg.qr(Vt)[0]
        errors.append(torch.linalg.matrix_norm(Q @ Q.mT - projector, 2).item())
    rate = (SIGMA[2] / SIGMA[1]) ** 2
    assert math.isclose(rate, 0.322, abs_tol=5e-4)
    assert math.isclose((errors[-1] / errors[5]) ** (1 / 6), rate, rel_tol=1e-3)


def test_the_gram_form_loses_digits():
    """In float32 at the end of the descent from RandomState(0), rounded, where ‖A‖² = 681 is 45 times f = 15.206109.

    Its f is a difference of numbers above 512, so whole multiples of their ulp, 2⁻¹⁴ = 6e-5: which one is a matter of
    the order of the sums, and so of the order of the rows. The residual gives f to its own ulp, 1e-6, or two.
    """
    W = stacked(*descend(*published_start())).float()
    exact = float(lowrank.reference({"W": W.double().numpy(), "A": IRIS.float().double().numpy()})["value"])
    assert math.isclose(exact, 15.206109, abs_tol=6e-7)
    rng, by_residual, by_gram = np.random.default_rng(0), [], []
    for _ in range(30):
        rows = torch.from_numpy(rng.permutation(150))
        turned, A = torch.cat((W[rows], W[150:])), IRIS.float()[rows]
        by_residual.append(float(closed_form(turned, A)[0]))
        by_gram.append(float(gram(turned, A)[0]))
    assert np.abs(np.array(by_residual) - exact).max() < 5e-6
    assert (np.array(by_gram) * 2**14 % 1 == 0).all()
    assert 2**-15 < np.median(np.abs(np.array(by_gram) - exact)) < 30 * 2**-14


def test_the_gram_form_saves_a_third_of_the_products():
    """4 m n r + 4 (m + n) r² FLOPs and those of ‖A‖², not 6 m n r."""
    m, n, r = 400, 300, 10
    flops = {
        case.variant.name: count(case).counters["flops"]
        for case in all_cases([lowrank.lowrank])
        if case.id.endswith("/value_and_gradient/random_m400_n300_r10/float64/cpu")
    }
    assert flops["mse_loss"] == flops["closed_form"] == 6 * m * n * r
    # ‖A‖² counts where it is a product of vectors, and does not where it is a sum of squares.
    assert flops["gram"] - 4 * m * n * r - 4 * (m + n) * r * r in (0, 2 * m * n)


# ---- where they end ----


def kind_of(U, V):
    (kind,) = classify(lowrank.landscape(IRIS, 2), stacked(U, V)[None])
    return kind


def test_which_singular_values_are_kept_is_the_kind():
    """Whatever the gauge. The Hessian is singular at each of these points."""
    assert {which: kind_of(*kept(*which)) for which in [(0, 1), (), (0,), (1,), (3,), (0, 2), (2, 3)]} == {
        (0, 1): "solution",
        **dict.fromkeys([(), (0,), (1,), (3,), (0, 2), (2, 3)], "saddle"),
    }
    G = torch.tensor([[2.0, 1.0], [0.5, 3.0]]).double()
    for which, kind in (((0, 1), "solution"), ((0,), "saddle")):
        U, V = kept(*which)
        assert kind_of(U @ G, torch.linalg.solve(G, V)) == kind
    U, V = kept(0, 1)
    assert kind_of(1e3 * U, V / 1e3) == "solution"


def test_what_is_no_critical_point_is_unfinished():
    """Also the product of a saddle by factors of which one has a column that the other does not use."""
    U, V = kept(0)
    beside = torch.linalg.svd(IRIS, full_matrices=False)[0][:, 1]
    assert kind_of(U + 3 * torch.stack((0 * beside, beside), dim=1), V) == "unfinished"
    assert kind_of(1.1 * U, V) == "unfinished"
    assert kind_of(*published_start()) == "unfinished"
    assert kind_of(math.nan * U, V) == kind_of(1e9 * U, V) == kind_of(math.inf * U, V) == "infinity"


@pytest.mark.parametrize("name", ["descent_autograd", "descent_sgd", "descent_closed_form"])
def test_a_batch_descends_as_its_starts_do(name, monkeypatch):
    monkeypatch.setattr(lowrank, "EPOCHS", 30)
    W = stacked(*batch_of_starts(3))
    together = getattr(lowrank, name)(W, IRIS)
    assert torch.allclose(together, torch.stack([getattr(lowrank, name)(each, IRIS) for each in W]), rtol=1e-11)


def test_small_steps_are_still_at_the_saddle(monkeypatch):
    """A thousand epochs by 0.001: the loss is that of rank one, 51.36, and hardly falls."""
    monkeypatch.setattr(lowrank, "RATE", 0.001)
    (row,) = lowrank.race(stacked(*batch_of_starts()), IRIS, ("descent_closed_form",))
    assert math.isclose(row.residual, LIMITS[1], abs_tol=0.3)
    assert row.kinds["saddle"] >= 15
    assert row.kinds.keys() <= {"saddle", "unfinished"}


def test_steps_past_the_edge_run_away(monkeypatch):
    monkeypatch.setattr(lowrank, "RATE", 0.02)
    (row,) = lowrank.race(stacked(*batch_of_starts()), IRIS, ("descent_closed_form",))
    assert row.kinds["infinity"] == 13


def test_the_race_tells_the_fates_apart():
    """Fifty published starts: the homework's epochs are too few for some, and nothing else ends elsewhere."""
    names = ("descent_closed_form", "alternating_least_squares", "svd", "svd_lowrank", "eigh_of_gram")
    rows = {row.solver: row for row in lowrank.race(stacked(*batch_of_starts(50)), IRIS, names)}
    assert tuple(rows) == names
    descent = rows.pop("descent_closed_form")
    assert descent.iterations == 1000
    assert descent.kinds.keys() == {"solution", "unfinished"}
    assert 5 < descent.kinds["unfinished"] < 45
    assert math.isclose(descent.residual, LIMITS[2], rel_tol=1e-4)
    assert all(row.kinds == {"solution": 50} for row in rows.values())
    assert all(math.isclose(row.residual, LIMITS[2], rel_tol=1e-9) for row in rows.values())
    assert [rows[name].iterations for name in names[2:]] == [0, 0, 0]
    assert 5 <= rows["alternating_least_squares"].iterations <= 20
