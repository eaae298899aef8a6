"""Power laws L = (β N)^α by least squares in logarithms (VAR Eq. 9), with what they are worth.

Everything here is arithmetic on arrays; `report` joins it to runs.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import t as student

from nextscale.errors import LARGEST, UsageError

Values = NDArray[np.float64]
LARGEST_LOGARITHM = math.log(LARGEST)


@dataclass(frozen=True)
class Law:
    """L = (β N)^α + floor.

    Attributes:
        alpha: exponent, negative where larger is better.
        log_beta: natural logarithm of β.
        floor: what no size goes below; 0 in the paper.
    """

    alpha: float
    log_beta: float
    floor: float = 0.0

    def __call__(self, sizes: Values) -> Values:
        return exponential(self.alpha * (self.log_beta + np.log(sizes))) + self.floor


def exponential(logarithms: Values) -> Values:
    """Losses of their logarithms. Raises UsageError where one is too large for a number."""
    if not np.all(logarithms < LARGEST_LOGARITHM):  # nor is NaN
        raise UsageError(
            f"the law predicts a loss of e^{np.max(logarithms):.4g}; the losses follow no law"
        )
    return np.exp(logarithms)


def fit_law(sizes: Values, losses: Values) -> Law:
    """The law without a floor, a line in logarithms."""
    alpha, offset = np.polyfit(np.log(sizes), np.log(losses), 1)
    return Law(float(alpha), float(offset / alpha) if alpha else 0.0)


def fit_floored(sizes: Values, losses: Values) -> Law:
    """The law with a floor, by least squares of the logarithm's error, from several starts."""
    logs, targets = np.log(sizes), np.log(losses)
    centre = logs.mean()

    def predicted(values: Values) -> Values:
        slope, offset, floor = values
        return np.logaddexp(offset + slope * (logs - centre), floor)

    found = []
    for share in (0.1, 0.5, 0.9):
        rest = losses - share * losses.min()
        slope, offset = np.polyfit(logs - centre, np.log(rest), 1)
        start = np.array([slope, offset, np.log(share * losses.min())])
        found.append(least_squares(lambda values: predicted(values) - targets, start))
    slope, offset, floor = min(found, key=lambda result: result.cost).x
    return Law(float(slope), float(offset / slope - centre), float(np.exp(floor)))


def residuals(law: Law, sizes: Values, losses: Values) -> Values:
    """Errors of the logarithm, (n,): 0.01 is one per cent above the law."""
    return np.log(losses) - np.log(law(sizes))


def correlation(sizes: Values, losses: Values) -> float:
    """Pearson's r of the logarithms; 0 if all losses are equal."""
    if np.ptp(losses) == 0:
        return 0.0
    return float(np.corrcoef(np.log(sizes), np.log(losses))[0, 1])


def bootstrap(
    sizes: Values, losses: Values, confidence: float, samples: int, seed: int
) -> tuple[float, float]:
    """Interval of α by the bootstrap-t over residuals (Efron and Tibshirani 1993).

    Residuals are drawn with repetition, and each drawn slope is measured in its own standard
    error, so that few models do not make the interval too short. Three models have a single degree
    of freedom, too few to draw from: theirs is Student's.
    """
    x, y = np.log(sizes), np.log(losses)
    n, random = len(x), np.random.default_rng(seed)
    centred = x - x.mean()
    spread = (centred**2).sum()

    def line(values: Values) -> tuple[Values, Values, Values]:
        """Slope, mean and standard deviation of the residuals of lines, values (..., n)."""
        slope = (values * centred).sum(-1) / spread
        mean = values.mean(-1)
        rest = values - mean[..., None] - slope[..., None] * centred
        return slope, mean, np.sqrt((rest**2).sum(-1) / (n - 2))

    slope, mean, deviation = line(y)
    if deviation < 1e-12:
        return float(slope), float(slope)
    if n == 3:
        half = student.ppf((1 + confidence) / 2, 1) * deviation / np.sqrt(spread)
        return float(slope - half), float(slope + half)
    rest = y - mean - slope * centred
    drawn = mean + slope * centred + random.choice(rest, (samples, n))
    slopes, _, deviations = line(drawn)
    kept = deviations > 1e-12
    measured = (slopes - slope)[kept] / deviations[kept]
    low, high = np.quantile(measured, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(slope - high * deviation), float(slope - low * deviation)


def crossing_interval(
    sizes: Values, losses: Values, confidence: float
) -> tuple[float, float] | None:
    """Interval of log β, which is minus log N where the line crosses zero, by Fieller's theorem.

    None if α may be 0: the line may then cross anywhere.
    """
    x, y, n = np.log(sizes), np.log(losses), len(sizes)
    centred, mean = x - x.mean(), y.mean()
    spread = (centred**2).sum()
    slope = (y * centred).sum() / spread
    variance = ((y - mean - slope * centred) ** 2).sum() / (n - 2)
    allowed = student.ppf((1 + confidence) / 2, n - 2) ** 2 * variance
    # |mean - α u| at most t times its standard error, of u = log β + mean log N
    square, half = slope**2 - allowed / spread, slope * mean
    if square <= 0:
        return None
    root = np.sqrt(max(0.0, half**2 - square * (mean**2 - allowed / n)))
    low, high = (half - root) / square, (half + root) / square
    return float(low - x.mean()), float(high - x.mean())


def prediction_interval(
    sizes: Values, losses: Values, size: float, confidence: float
) -> tuple[float, float, float]:
    """What the line predicts for a new model, and between what it should lie (Student's t)."""
    x, y, n = np.log(sizes), np.log(losses), len(sizes)
    slope, offset = np.polyfit(x, y, 1)
    deviation = np.sqrt(((y - offset - slope * x) ** 2).sum() / (n - 2))
    away = (np.log(size) - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
    half = student.ppf((1 + confidence) / 2, n - 2) * deviation * np.sqrt(1 + 1 / n + away)
    centre = offset + slope * np.log(size)
    centre, low, high = exponential(np.array([centre, centre - half, centre + half]))
    return float(centre), float(low), float(high)


def leave_one_out(sizes: Values, losses: Values, floored: bool) -> float:
    """Root mean square of the logarithm's error at each model, predicted from the others."""
    fit = fit_floored if floored else fit_law
    errors = []
    for i in range(len(sizes)):
        rest = np.arange(len(sizes)) != i
        law = fit(sizes[rest], losses[rest])
        errors.append(float(residuals(law, sizes[i : i + 1], losses[i : i + 1])[0]))
    return float(np.sqrt(np.mean(np.square(errors))))


def curvature(sizes: Values, losses: Values) -> tuple[float, float | None]:
    """Second derivative of log L by log N, and how likely noise alone would bend a line as much.

    The latter is None where three models are all there are, and 1 where nothing is left to explain.
    """
    x, n = np.log(sizes) - np.log(sizes).mean(), len(sizes)
    design = np.stack([np.ones(n), x, x**2], 1)
    values, *_ = np.linalg.lstsq(design, np.log(losses), rcond=None)
    rest = np.log(losses) - design @ values
    freedom = n - design.shape[1]
    bend = float(2 * values[2])
    if freedom < 1:
        return bend, None
    deviation = np.sqrt((rest**2).sum() / freedom * np.linalg.inv(design.T @ design)[2, 2])
    if abs(values[2]) < 1e-9:
        return bend, 1.0
    return bend, float(2 * student.sf(abs(values[2]) / max(deviation, 1e-12), freedom))
