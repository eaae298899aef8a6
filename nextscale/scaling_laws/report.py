"""What `nextscale scaling-laws fit` finds out, as one report of plain numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nextscale.config.scaling import FitConfig
from nextscale.errors import UsageError
from nextscale.scaling_laws.curves import LEAST, QUANTITIES, Curve
from nextscale.scaling_laws.fit import (
    Values,
    bootstrap,
    correlation,
    curvature,
    envelope,
    fit_floored,
    fit_law,
    leave_one_out,
    residuals,
)


def analyse(
    ladder: Sequence[Curve], shares: Sequence[Curve], sweeps: Sequence[Curve], config: FitConfig
) -> dict[str, Any]:
    """Laws of final loss and error, of each scale, of arithmetic and of data.

    Raises:
        UsageError: if too few models are left when the largest are held out.
    """
    sizes = np.array([curve.parameters for curve in ladder], float)
    kept = len(ladder) - config.held_out
    if config.held_out and kept < LEAST:
        raise UsageError(
            f"held_out is {config.held_out} of {len(ladder)} models; at least {LEAST} must be left"
        )
    report: dict[str, Any] = {
        "models": [model_entry(curve) for curve in ladder],
        "laws": {},
        "held_out": {},
        "frontier": {},
        "scales": {},
        "data": [model_entry(curve) for curve in shares],
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
        curves = [(curve.flops, curve.values(quantity)) for curve in ladder]
        flops, lowest = envelope(curves)
        report["frontier"][quantity] = {
            "exponent": fit_law(flops, lowest).alpha,
            "log_beta": fit_law(flops, lowest).log_beta,
            "correlation": correlation(flops, lowest),
            "flops": flops.tolist(),
            "values": lowest.tolist(),
        }
    for name in ("scale_loss", "scale_error"):
        values = np.stack([getattr(curve, name)[-1] for curve in ladder])  # (n, K)
        report["scales"][name] = [
            {
                "exponent": fit_law(sizes, column).alpha,
                "correlation": correlation(sizes, column),
                "smallest": float(column[0]),
                "largest": float(column[-1]),
            }
            for column in values.T
        ]
    return report


def model_entry(curve: Curve) -> dict[str, Any]:
    """A model's line."""
    return {
        "name": curve.name,
        "depth": curve.depth,
        "width": curve.width,
        "parameters": curve.parameters,
        "share": curve.share,
        "flops": float(curve.flops[-1]),
        **{quantity: float(curve.values(quantity)[-1]) for quantity in QUANTITIES},
        "overfit": curve.overfit,
    }


def law_entry(sizes: Values, losses: Values, config: FitConfig) -> dict[str, Any]:
    """A law with correlation, intervals, residuals, bend, and whether a floor helps."""
    law = fit_law(sizes, losses)
    intervals = bootstrap(sizes, losses, config.confidence, config.samples, config.seed)
    bend, bend_t = curvature(sizes, losses)
    entry = {
        "alpha": law.alpha,
        "log_beta": law.log_beta,
        "alpha_interval": intervals["alpha"],
        "log_beta_interval": intervals["log_beta"],
        "correlation": correlation(sizes, losses),
        "residuals": residuals(law, sizes, losses).tolist(),
        "leave_one_out": leave_one_out(sizes, losses, floored=False),
        "curvature": bend,
        "curvature_t": bend_t,
    }
    if len(sizes) > LEAST + 1:  # three values are fitted, and one model is left out
        floored = fit_floored(sizes, losses)
        error = leave_one_out(sizes, losses, floored=True)
        entry |= {
            "floored": {**vars(floored), "leave_one_out": error},
            "better": "with a floor" if error < entry["leave_one_out"] else "without a floor",
        }
    return entry


def guesses(sizes: Values, losses: Values, kept: int) -> list[dict[str, float]]:
    """What the first models predict of the rest."""
    law = fit_law(sizes[:kept], losses[:kept])
    predicted = law(sizes[kept:])
    errors = predicted / losses[kept:] - 1
    return [
        {"predicted": float(value), "relative_error": float(error)}
        for value, error in zip(predicted, errors, strict=True)
    ]
