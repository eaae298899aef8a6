"""What `nextscale scaling-laws fit` finds out, as one report of plain numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nextscale.config.scaling import FitConfig
from nextscale.errors import UsageError
from nextscale.scaling_laws.cost import fit_cost
from nextscale.scaling_laws.curves import LEAST, QUANTITIES, Curve, beside_whole
from nextscale.scaling_laws.fit import (
    Values,
    bootstrap,
    correlation,
    crossing_interval,
    curvature,
    fit_floored,
    fit_law,
    leave_one_out,
    residuals,
)
from nextscale.scaling_laws.frontier import envelope, frontier_interval

WORTH = 0.95  # of the error without a floor, which one with a floor must stay below
BENT = 0.01  # probability of as much curvature by noise, below which a law is said to bend


def analyse(
    ladder: Sequence[Curve], shares: Sequence[Curve], sweeps: Sequence[Curve], config: FitConfig
) -> dict[str, Any]:
    """Laws of final loss and error, of each scale and of arithmetic, and loss against data.

    Raises:
        UsageError: if too few sizes are left when the largest are held out.
    """
    sizes = np.array([curve.parameters for curve in ladder], float)
    flops = np.array([curve.flops[-1] for curve in ladder])
    different = sorted(set(sizes))
    if config.held_out and len(different) - config.held_out < LEAST:
        raise UsageError(
            f"held_out is {config.held_out} of {len(different)} sizes; at least {LEAST} must be "
            "left"
        )
    kept = int((sizes <= different[-1 - config.held_out]).sum())
    report: dict[str, Any] = {
        "models": [model_entry(curve) for curve in ladder],
        "laws": {},
        "held_out": {},
        "frontier": {},
        "ends": {},
        "scales": {},
        "cost": fit_cost(sizes, flops).tolist(),
        "data": [model_entry(curve) for curve in beside_whole(shares, ladder)],
        "sweeps": sorted(
            ({"name": curve.name, "loss": float(curve.loss[-1])} for curve in sweeps),
            key=lambda entry: entry["name"],
        ),
        "confidence": config.confidence,
        "images": float(ladder[0].images[-1]),
    }
    for quantity in QUANTITIES:
        losses = np.array([curve.values(quantity)[-1] for curve in ladder])
        if losses.min() <= 0:
            raise UsageError(f"{QUANTITIES[quantity]} is 0 for a model and has no logarithm")
        report["laws"][quantity] = law_entry(sizes, losses, config)
        if config.held_out:
            report["held_out"][quantity] = [
                {"name": curve.name, "actual": float(actual), **guess}
                for curve, actual, guess in zip(
                    ladder[kept:], losses[kept:], guesses(sizes, losses, kept), strict=True
                )
            ]
        report["frontier"][quantity] = frontier_entry(ladder, quantity, config.confidence)
        report["ends"][quantity] = fit_law(flops, losses).alpha
    for name in ("scale_loss", "scale_error"):
        values = np.stack([getattr(curve, name)[-1] for curve in ladder])  # (n, K)
        report["scales"][name] = [scale_entry(sizes, column) for column in values.T]
    return report


def frontier_entry(
    ladder: Sequence[Curve], quantity: str, confidence: float
) -> dict[str, Any] | None:
    """The compute frontier and its law; None where runs do not overlap."""
    curves = [(curve.flops, curve.values(quantity)) for curve in ladder]
    flops, lowest = envelope(curves)
    if len(flops) < LEAST:
        return None
    law = fit_law(flops, lowest)
    return {
        "exponent": law.alpha,
        "exponent_interval": frontier_interval(curves, confidence),
        "log_beta": law.log_beta,
        "flops": flops.tolist(),
        "values": lowest.tolist(),
    }


def scale_entry(sizes: Values, values: Values) -> dict[str, Any]:
    """A scale's law, which there is none of where a value is 0, and its ends."""
    fitted = bool(values.min() > 0)
    return {
        "exponent": fit_law(sizes, values).alpha if fitted else None,
        "correlation": correlation(sizes, values) if fitted else None,
        "smallest": float(values[0]),
        "largest": float(values[-1]),
    }


def model_entry(curve: Curve) -> dict[str, Any]:
    """A model's line."""
    return {
        "name": curve.name,
        "depth": curve.depth,
        "width": curve.width,
        "parameters": curve.parameters,
        "share": curve.share,
        "images": float(curve.images[-1]),
        "flops": float(curve.flops[-1]),
        **{quantity: float(curve.values(quantity)[-1]) for quantity in QUANTITIES},
        "lowest_loss": float(curve.loss.min()),
        "overfit": curve.overfit,
    }


def law_entry(sizes: Values, losses: Values, config: FitConfig) -> dict[str, Any]:
    """A law with correlation, intervals, residuals, bend, and whether a floor helps."""
    law = fit_law(sizes, losses)
    bend, bend_p = curvature(sizes, losses)
    entry = {
        "alpha": law.alpha,
        "log_beta": law.log_beta,
        "alpha_interval": bootstrap(sizes, losses, config.confidence, config.samples, config.seed),
        "log_beta_interval": crossing_interval(sizes, losses, config.confidence),
        "correlation": correlation(sizes, losses),
        "residuals": residuals(law, sizes, losses).tolist(),
        "leave_one_out": leave_one_out(sizes, losses, floored=False),
        "curvature": bend,
        "curvature_p": bend_p,
        "bends": direction(bend, bend_p),
    }
    if len(sizes) > LEAST + 1:  # three values are fitted, and one model is left out
        floored = fit_floored(sizes, losses)
        error, worth = leave_one_out(sizes, losses, floored=True), WORTH * entry["leave_one_out"]
        entry |= {
            "floored": {**vars(floored), "leave_one_out": error},
            "better": "with a floor" if error < worth else "without a floor",
        }
    return entry


def direction(bend: float, p: float | None) -> str | None:
    """`up` or `down` where a law bends, empty where it does not, None where it is unknown."""
    if p is None:
        return None
    return ("up" if bend > 0 else "down") if p < BENT else ""


def guesses(sizes: Values, losses: Values, kept: int) -> list[dict[str, float]]:
    """What the first models predict of the rest."""
    law = fit_law(sizes[:kept], losses[:kept])
    predicted = law(sizes[kept:])
    errors = predicted / losses[kept:] - 1
    return [
        {"predicted": float(value), "relative_error": float(error)}
        for value, error in zip(predicted, errors, strict=True)
    ]
