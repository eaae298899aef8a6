"""The compute frontier: the lowest loss of any run at each amount of training arithmetic."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from nextscale.scaling_laws.fit import Values, fit_law


def envelope(curves: Sequence[tuple[Values, Values]], points: int = 60) -> tuple[Values, Values]:
    """The lowest loss of any run at each amount of arithmetic (the compute frontier).

    Where only one run has been, there is nothing to choose from, and no frontier.

    Args:
        curves: of each run, arithmetic and loss, both (T,); between them logarithms are linear.
        points: at which the frontier is taken, spread evenly in logarithms.

    Returns:
        arithmetic and loss, (n,), where the frontier falls.
    """
    low = sorted(flops[0] for flops, _ in curves)[1]
    high = sorted(flops[-1] for flops, _ in curves)[-2]
    if low >= high:
        return np.array([]), np.array([])
    at = np.geomspace(low, high, points)
    lowest, count = np.full(points, np.inf), np.zeros(points)
    for flops, losses in curves:
        inside = (at >= flops[0] * (1 - 1e-9)) & (at <= flops[-1] * (1 + 1e-9))
        found = np.exp(np.interp(np.log(at[inside]), np.log(flops), np.log(losses)))
        lowest[inside] = np.minimum(lowest[inside], found)
        count += inside
    lowest[count < 2] = np.inf
    before = np.minimum.accumulate(np.concatenate([[np.inf], lowest[:-1]]))
    falls = np.isfinite(lowest) & (lowest < before)
    return at[falls], lowest[falls]


def frontier_exponent(curves: Sequence[tuple[Values, Values]]) -> float | None:
    """Exponent of the compute frontier; None where runs do not overlap."""
    flops, lowest = envelope(curves)
    return fit_law(flops, lowest).alpha if len(flops) >= 2 else None


def frontier_interval(
    curves: Sequence[tuple[Values, Values]], confidence: float
) -> tuple[float, float] | None:
    """Interval of `frontier_exponent` by the jackknife over runs; None if it is not known."""
    runs = range(len(curves))
    without = [frontier_exponent([curves[j] for j in runs if j != i]) for i in runs]
    found = np.array([exponent for exponent in without if exponent is not None])
    whole = frontier_exponent(curves)
    if whole is None or len(found) < len(curves):
        return None
    n = len(found)
    error = np.sqrt((n - 1) / n * ((found - found.mean()) ** 2).sum())
    half = float(student.ppf((1 + confidence) / 2, n - 1) * error)
    return whole - half, whole + half
