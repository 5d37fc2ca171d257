"""The average of weights: against 60-digit numbers, closed forms, and a real training by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from torch.testing import assert_close

from mpdit_core.config import TrainConfig, preset
from mpdit_core.data import digits
from mpdit_core.ema import (
    WIDEST,
    PowerEMA,
    decay_factor,
    gamma_of,
    profile_products,
    raw_coefficients,
    reconstruct,
    sigma_rel_of,
)
from mpdit_core.errors import InvalidConfig, NoSuchWeights
from mpdit_core.runs import load_run
from mpdit_core.runs.files import read_tensors
from mpdit_core.training import train

REFERENCE = json.loads((Path(__file__).parent / "fixtures/ema_reference.json").read_text())
WIDTHS = st.floats(0.005, float(WIDEST))


def profile(steps, step: float, sigma_rel: float):
    """p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1), zero after t; arXiv 2312.02696."""
    gamma = gamma_of(sigma_rel)
    return np.where(steps <= step, (gamma + 1) * (steps / step) ** gamma / step, 0.0)


def shares_of_steps(step: int, sigma_rel: float) -> np.ndarray:
    """The profile's mass between tau - 1 and tau, for tau = 1 ... t: the share of each step."""
    edges = (np.arange(step + 1) / step) ** (gamma_of(sigma_rel) + 1)
    return np.diff(edges)


@pytest.mark.parametrize("sigma_rel", REFERENCE["gamma"])
def test_gamma_agrees_with_the_reference(sigma_rel):
    assert gamma_of(float(sigma_rel)) == pytest.approx(REFERENCE["gamma"][sigma_rel], rel=1e-9)


@pytest.mark.parametrize("sigma_rel", REFERENCE["decay_factor"])
def test_decay_factors_agree_with_the_reference(sigma_rel):
    expected = REFERENCE["decay_factor"][sigma_rel]
    gamma = gamma_of(float(sigma_rel))
    found = np.array([decay_factor(gamma, int(step)) for step in expected])
    largest = max(expected.values())
    np.testing.assert_allclose(found, list(expected.values()), rtol=0, atol=1e-9 * largest)


@pytest.mark.parametrize("row", REFERENCE["posthoc"], ids=lambda row: str(row["target_sigma_rel"]))
def test_post_hoc_coefficients_agree_with_the_reference(row):
    snapshots = row["snapshot_step"], row["snapshot_sigma_rel"]
    target = row["target_step"], row["target_sigma_rel"]
    expected = np.array(row["coefficients"])
    found = raw_coefficients(*snapshots, *target)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * abs(expected).max())
    used = reconstruct(*snapshots, *target)
    assert used.raw_sum == pytest.approx(row["sum"], rel=1e-9)
    np.testing.assert_allclose(used.coefficients * row["sum"], expected, atol=1e-8)
    assert used.coefficients.sum() == pytest.approx(1, abs=1e-12)


@given(WIDTHS)
def test_gamma_and_sigma_rel_are_inverse_to_each_other(sigma_rel):
    assert sigma_rel_of(gamma_of(sigma_rel)) == pytest.approx(sigma_rel, rel=1e-9)


@given(WIDTHS)
def test_sigma_rel_is_the_standard_deviation_of_the_profile(sigma_rel):
    mass, mean, square = (
        quad(lambda tau, power=power: tau**power * profile(tau, 1.0, sigma_rel), 0, 1)[0]
        for power in range(3)
    )
    assert mass == pytest.approx(1, rel=1e-6)
    assert np.sqrt(square - mean**2) == pytest.approx(sigma_rel, rel=1e-5)


@pytest.mark.parametrize("sigma_rel", [0.0, -0.1, 0.3, 1.0, float("nan")])
def test_an_impossible_width_is_refused_with_what_is_possible(sigma_rel):
    with pytest.raises(InvalidConfig, match=r"0\.289"):
        gamma_of(sigma_rel)


@given(WIDTHS, st.integers(1, 5000), st.integers(1, 5000))
def test_several_steps_at_once_decay_as_much_as_one_after_another(sigma_rel, step, many):
    many, gamma = min(many, step), gamma_of(sigma_rel)
    single = np.prod([decay_factor(gamma, at) for at in range(step - many + 1, step + 1)])
    assert decay_factor(gamma, step, many) == pytest.approx(single, rel=1e-9, abs=1e-300)


def averaged(values: torch.Tensor, sigma_rel: float) -> torch.Tensor:
    """PowerEMA over values (steps, ...), the first of them after step 1."""
    average = PowerEMA(sigma_rel, {"w": torch.full_like(values[0], 1e6)}, {"w"})
    for step, value in enumerate(values, start=1):
        average.update({"w": value}, step)
    return average.state["w"]


def test_the_widest_average_is_the_plain_mean_of_all_steps():
    values = torch.randn(57, 8, dtype=torch.float64)
    assert_close(averaged(values, WIDEST), values.mean(0), atol=1e-9, rtol=0)


@given(WIDTHS, st.integers(1, 300))
def test_the_average_gives_each_step_its_share_of_the_profile(sigma_rel, steps):
    values = torch.randn(steps, 4, dtype=torch.float64)
    shares = torch.from_numpy(shares_of_steps(steps, sigma_rel))
    assert_close(averaged(values, sigma_rel), shares @ values)


def test_the_average_of_a_power_of_the_step_has_its_closed_form():
    """The integral of tau^n over the profile is t^n (gamma + 1) / (gamma + n + 1)."""
    steps, gamma = 4000, gamma_of(0.1)
    ramp = torch.arange(1, steps + 1, dtype=torch.float64)[:, None] / steps
    for power in (1, 2, 3):
        expected = (gamma + 1) / (gamma + power + 1)
        assert float(averaged(ramp**power, 0.1)) == pytest.approx(expected, rel=1e-3)


def test_buffers_are_copied_and_parameters_averaged():
    start = {"w": torch.zeros(3), "buffer": torch.zeros(3), "count": torch.tensor(0)}
    average = PowerEMA(0.1, start, {"w"})
    for step in (1, 2, 3):
        now = {"w": torch.full((3,), float(step)), "buffer": torch.full((3,), 7.0 * step)}
        average.update({**now, "count": torch.tensor(step)}, step)
    assert average.state["buffer"].tolist() == [21.0] * 3
    assert int(average.state["count"]) == 3
    assert 2 < float(average.state["w"][0]) < 3


def test_the_average_never_shares_memory_with_the_weights():
    weights = {"w": torch.zeros(3)}
    average = PowerEMA(0.1, weights, {"w"})
    average.update(weights, 1)
    weights["w"].add_(1)
    assert average.state["w"].tolist() == [0, 0, 0]


SNAPSHOTS = st.lists(st.integers(1, 40), min_size=1, max_size=8, unique=True).map(sorted)


@given(SNAPSHOTS, st.sampled_from([(0.05,), (0.05, 0.1), (0.1, 0.2)]), st.floats(0.03, 0.25))
def test_constant_weights_stay_constant_after_reconstruction(hundreds, tracked, wanted):
    steps = [100 * step for step in hundreds for _ in tracked]
    used = reconstruct(steps, list(tracked) * len(hundreds), max(steps), wanted)
    assert float((used.coefficients * 3.5).sum()) == pytest.approx(3.5, abs=1e-6)


@given(SNAPSHOTS, st.floats(0.02, 0.28))
def test_a_width_that_was_tracked_is_reconstructed_from_itself(hundreds, width):
    steps = [100 * step for step in hundreds]
    used = reconstruct(steps, [width] * len(steps), steps[-1], width)
    np.testing.assert_allclose(used.coefficients, [0.0] * (len(steps) - 1) + [1.0], atol=1e-6)
    assert used.error < 1e-5


def test_inner_products_of_profiles_agree_with_numerical_integration():
    steps, widths = np.array([300.0, 500.0, 1000.0]), np.array([0.05, 0.1, 0.25])
    gammas = np.array([gamma_of(width) for width in widths])
    found = profile_products(steps, gammas, steps, gammas)
    for i, j in np.ndindex(3, 3):
        product = quad(
            lambda tau, i=i, j=j: float(
                profile(tau, steps[i], widths[i]) * profile(tau, steps[j], widths[j])
            ),
            0,
            min(steps[i], steps[j]),
        )[0]
        assert found[i, j] == pytest.approx(product, rel=1e-6)


@pytest.mark.parametrize("wanted", [0.03, 0.075, 0.15, 0.25])
@pytest.mark.parametrize("spacing", [100, 500])
def test_the_fit_error_agrees_with_numerical_integration(wanted, spacing):
    steps = [step for step in range(spacing, 2001, spacing) for _ in range(2)]
    widths = [0.05, 0.1] * (len(steps) // 2)
    used = reconstruct(steps, widths, 2000, wanted)
    tau = np.linspace(0, 2000, 400_001)[1:]
    ideal = profile(tau, 2000, wanted)
    parts = zip(used.coefficients, steps, widths, strict=True)
    mixed = sum(share * profile(tau, step, width) for share, step, width in parts)
    error = np.sqrt(np.mean((mixed - ideal) ** 2) / np.mean(ideal**2))
    assert used.error == pytest.approx(error, rel=2e-2, abs=2e-4)


def test_more_snapshots_reconstruct_a_width_better():
    errors = []
    for spacing in (1000, 500, 250, 125):
        steps = [step for step in range(spacing, 2001, spacing) for _ in range(2)]
        errors.append(reconstruct(steps, [0.05, 0.1] * (len(steps) // 2), 2000, 0.2).error)
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.05 < errors[0]


STEPS = 40


@pytest.fixture(scope="module", params=["A", "E"])
def training(request, tmp_path_factory):
    """A short real training; its run, and the raw and averaged state after every step, float32."""
    folder = tmp_path_factory.mktemp("ema") / request.param
    states = []

    def keep(step: int, loss: float) -> None:
        states.append(read_tensors(folder / "state" / f"step_{step:07d}.safetensors"))

    config = preset(request.param, depth=1, width=8, heads=2)
    settings = TrainConfig(
        steps=STEPS, batch=8, learning_rate=1e-2, warmup=4, decay_start=20, sigma_rels=(0.05, 0.1),
        save_every=10, ema_every=4, state_every=1, evaluate_every=STEPS,
    )  # fmt: skip
    train(folder, config, settings, digits(), keep)
    return load_run(folder), states


def by_hand(states, name: str, sigma_rel: float, step: int = STEPS) -> torch.Tensor:
    """The average of a parameter, as the plain sum of the weights of all steps times shares."""
    weights = torch.stack([state[f"model/{name}"].double() for state in states[:step]])
    shares = torch.from_numpy(shares_of_steps(step, sigma_rel))
    return torch.einsum("t,t...->...", shares, weights)


def parameters(run) -> list[str]:
    return [name for name, _ in run.model("final").named_parameters()]


@pytest.mark.parametrize("sigma_rel", [0.05, 0.1])
def test_training_averages_as_the_sum_of_profile_weighted_weights(training, sigma_rel):
    run, states = training
    for name in parameters(run):
        expected = by_hand(states, name, sigma_rel)
        assert_close(states[-1][f"ema/{sigma_rel}/{name}"].double(), expected, rtol=1e-4, atol=1e-6)
        moved = states[-1][f"model/{name}"].double() - expected
        assert float(moved.abs().max()) > 1e-4  # the raw weights would not pass


@pytest.mark.parametrize("sigma_rel", [0.05, 0.1])
def test_a_saved_average_is_the_average_rounded_to_half_precision(training, sigma_rel):
    run, states = training
    found = run.state_dict(f"ema-{sigma_rel:.3f}")
    for name in parameters(run):
        assert_close(found[name].double(), by_hand(states, name, sigma_rel), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("sigma_rel", [0.07, 0.15, 0.2])
def test_a_reconstructed_average_is_near_the_one_that_was_never_tracked(training, sigma_rel):
    run, states = training
    found = run.state_dict(f"ema-{sigma_rel:.3f}")
    for name in parameters(run):
        expected = by_hand(states, name, sigma_rel)
        raw = states[-1][f"model/{name}"].double()
        wrong = float((found[name].double() - expected).norm())
        # Rounding to half precision is a fifth of what remains at this size of training.
        assert wrong < 0.1 * float((raw - expected).norm()) + 1e-3 * float(expected.norm())


def test_buffers_of_a_reconstruction_are_those_of_the_last_step(training):
    run, states = training
    found = run.state_dict("ema-0.150")
    buffers = set(found) - set(parameters(run))
    assert "patches.position" in buffers
    for name in buffers:
        assert_close(found[name], states[-1][f"model/{name}"])


def test_a_run_says_how_it_reconstructs(training):
    run, _ = training
    made = run.reconstruction(0.15)
    assert len(made.coefficients) == len(run.snapshots()) == 2 * STEPS // 4
    assert made.coefficients.sum() == pytest.approx(1)
    assert 0 < made.error < 0.1
    with pytest.raises(NoSuchWeights, match=r"0\.289"):
        run.state_dict("ema-0.500")
