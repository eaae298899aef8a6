"""Known laws are found again, their intervals hold the truth as often as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextscale.scaling_laws.fit import (
    Law,
    bootstrap,
    correlation,
    curvature,
    envelope,
    fit_floored,
    fit_law,
    leave_one_out,
    prediction_interval,
    residuals,
)

SIZES = 18.0 * 32**2 * np.arange(1, 9) ** 3
TRIALS = 150


@given(st.floats(-0.3, -0.02), st.floats(-5, 5))
def test_a_law_without_noise_is_found_exactly(alpha: float, log_beta: float) -> None:
    law = Law(alpha, log_beta)
    found = fit_law(SIZES, law(SIZES))
    assert found.alpha == pytest.approx(alpha, rel=1e-6)
    assert found.log_beta == pytest.approx(log_beta, rel=1e-5, abs=1e-5)
    assert correlation(SIZES, law(SIZES)) == pytest.approx(-1)
    assert np.abs(residuals(found, SIZES, law(SIZES))).max() < 1e-9


@settings(max_examples=8, deadline=None)
@given(st.floats(-0.25, -0.03), st.floats(0.002, 0.02), st.integers(0, 10**6))
def test_intervals_hold_the_truth_as_often_as_they_say(alpha, noise, seed) -> None:
    law, random = Law(alpha, 1.0), np.random.default_rng(seed)
    held = {"alpha": 0, "log_beta": 0}
    for trial in range(TRIALS):
        losses = law(SIZES) * np.exp(noise * random.standard_normal(len(SIZES)))
        found = bootstrap(SIZES, losses, 0.9, samples=400, seed=trial)
        for name, truth in (("alpha", law.alpha), ("log_beta", law.log_beta)):
            held[name] += found[name][0] <= truth <= found[name][1]
    for name, count in held.items():
        assert 0.80 < count / TRIALS <= 0.98, name  # four deviations around 0.9


@settings(max_examples=8, deadline=None)
@given(st.floats(-0.25, -0.03), st.integers(0, 10**6))
def test_predictions_hold_as_often_as_they_say(alpha, seed) -> None:
    law, random = Law(alpha, 1.0), np.random.default_rng(seed)
    held = 0
    for _ in range(TRIALS):
        noise = np.exp(0.01 * random.standard_normal(len(SIZES) + 1))
        losses, target = law(SIZES) * noise[:-1], law(np.array([1e8]))[0] * noise[-1]
        _, low, high = prediction_interval(SIZES, losses, 1e8, 0.9)
        held += low <= target <= high
    assert 0.80 < held / TRIALS <= 0.98


def test_a_floor_is_found_and_preferred_only_where_there_is_one() -> None:
    random = np.random.default_rng(0)
    noise = np.exp(0.001 * random.standard_normal(len(SIZES)))
    floored, plain = Law(-0.4, -6.0, floor=1.5), Law(-0.1, 2.0)
    found = fit_floored(SIZES, floored(SIZES))
    assert found.floor == pytest.approx(1.5, rel=1e-3)
    assert found.alpha == pytest.approx(-0.4, rel=1e-2)
    losses = floored(SIZES) * noise
    assert leave_one_out(SIZES, losses, True) < leave_one_out(SIZES, losses, False)
    bend, t = curvature(SIZES, losses)
    assert bend > 0
    assert t > 3
    assert abs(curvature(SIZES, plain(SIZES) * noise)[1]) < 3


def test_the_frontier_is_the_lowest_of_all_runs() -> None:
    small = (np.array([1.0, 10.0]), np.array([4.0, 2.0]))
    large = (np.array([5.0, 100.0]), np.array([5.0, 1.0]))
    flops, lowest = envelope([small, large], points=21)
    assert flops[0] == 1
    assert flops[-1] == pytest.approx(100)
    assert lowest[0] == 4
    assert lowest[-1] == pytest.approx(1)
    assert (np.diff(lowest) < 0).all()
    at_ten = lowest[np.abs(flops - 10).argmin()]
    assert at_ten == pytest.approx(2)
