"""Known laws are found again, their intervals hold the truth as often as they say."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextscale.errors import UsageError
from nextscale.scaling_laws.fit import (
    Law,
    bootstrap,
    correlation,
    crossing_interval,
    curvature,
    fit_floored,
    fit_law,
    leave_one_out,
    prediction_interval,
    residuals,
)
from nextscale.scaling_laws.frontier import envelope, frontier_exponent, frontier_interval

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


@settings(max_examples=12, deadline=None)
@given(
    st.integers(3, 8),
    st.floats(-0.25, -0.03),
    st.floats(-12.0, 2.0),  # losses of 1 lie within, where the line crosses zero
    st.floats(0.002, 0.02),
    st.integers(0, 10**6),
)
def test_intervals_hold_the_truth_as_often_as_they_say(
    models: int, alpha: float, log_beta: float, noise: float, seed: int
) -> None:
    law, random, sizes = Law(alpha, log_beta), np.random.default_rng(seed), SIZES[:models]
    held = {"alpha": 0, "log_beta": 0}
    for trial in range(TRIALS):
        losses = law(sizes) * np.exp(noise * random.standard_normal(models))
        found = {
            "alpha": bootstrap(sizes, losses, 0.9, samples=400, seed=trial),
            "log_beta": crossing_interval(sizes, losses, 0.9) or (-np.inf, np.inf),
        }
        for name, truth in (("alpha", alpha), ("log_beta", log_beta)):
            held[name] += found[name][0] <= truth <= found[name][1]
    for name, count in held.items():
        assert 0.78 < count / TRIALS <= 0.99, name  # four deviations around 0.9


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
    without = plain(SIZES) * noise
    assert leave_one_out(SIZES, without, True) > leave_one_out(SIZES, without, False)
    bend, p = curvature(SIZES, losses)
    assert bend > 0
    assert p is not None
    assert p < 1e-3
    assert (curvature(SIZES, without)[1] or 0) > 0.01
    assert curvature(SIZES[:3], losses[:3])[1] is None


def test_where_the_exponent_may_be_nought_no_crossing_is_told() -> None:
    losses = np.array([2.0, 2.1, 1.95, 2.05])
    low, high = bootstrap(SIZES[:4], losses, 0.95, samples=400, seed=0)
    assert low < 0 < high
    assert crossing_interval(SIZES[:4], losses, 0.95) is None


def test_the_exponent_of_a_known_frontier_is_found() -> None:
    """Of L = N^-a + D^-b and C = 6 N D the lowest losses fall as C to the power -a b / (a + b)."""
    a, b = 0.3, 0.2
    curves = []
    for size in np.geomspace(1e4, 1e8, 25):
        data = np.geomspace(1e3, 1e9, 60)
        curves.append((6 * size * data, size**-a + data**-b))
    exponent = frontier_exponent(curves)
    assert exponent == pytest.approx(-a * b / (a + b), rel=0.1)
    interval = frontier_interval(curves, 0.95)
    assert interval is not None
    assert interval[0] < -a * b / (a + b) < interval[1] or abs(interval[1] - interval[0]) < 0.02
    assert frontier_exponent(curves[:1] + curves[-1:]) is None or len(envelope(curves)[0]) > 20


def test_the_frontier_is_the_lowest_of_all_runs() -> None:
    small = (np.array([1.0, 10.0]), np.array([4.0, 2.0]))
    large = (np.array([5.0, 100.0]), np.array([5.0, 1.0]))
    flops, lowest = envelope([small, large], points=21)
    assert flops[[0, -1]] == pytest.approx([5, 10])  # where there is a choice
    assert lowest[-1] == pytest.approx(2)
    assert (np.diff(lowest) < 0).all()
    assert len(envelope([small, (np.array([20.0, 40.0]), np.array([1.0, 0.5]))])[0]) == 0


@pytest.mark.parametrize("law", [Law(1e3, 5.0), Law(-1.0, -1e4), Law(math.inf, 1.0)])
def test_a_law_beyond_numbers_is_one_line(law: Law) -> None:
    with pytest.raises(UsageError, match=r"predicts a loss of e\^"):
        law(SIZES)


def test_an_interval_beyond_numbers_is_one_line() -> None:
    losses = np.array([1e-29, 1e29, 1e-29])
    with pytest.raises(UsageError, match=r"predicts a loss of e\^"):
        prediction_interval(np.array([1e3, 1e4, 1e5]), losses, 1e6, 0.99999)
