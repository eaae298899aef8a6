"""What a fitted law says of a model that nobody has trained."""

from typing import Any

import numpy as np

from nextscale.config.scaling import PredictConfig
from nextscale.errors import UsageError
from nextscale.scaling_laws.curves import QUANTITIES
from nextscale.scaling_laws.fit import fit_law, prediction_interval


def predict(report: dict[str, Any], config: PredictConfig) -> dict[str, Any]:
    """Loss and error of a model of N weights with intervals, its arithmetic, and hours.

    Arithmetic of an image is a power law of N too, fitted to the same models.

    Args:
        report: of `nextscale scaling-laws fit`.
        config: what is asked.

    Raises:
        UsageError: if N is further from the fitted models than `reach` allows.
    """
    models = report["models"]
    sizes = np.array([model["parameters"] for model in models], float)
    least, most = sizes.min() / config.reach, sizes.max() * config.reach
    if not least <= config.params <= most:
        raise UsageError(
            f"params is {config.params:.3g}; the law was fitted from {sizes.min():.3g} to "
            f"{sizes.max():.3g} weights and reaches from {least:.3g} to {most:.3g}; give a larger "
            "--reach to go further"
        )
    found: dict[str, Any] = {"params": config.params, "images": report["images"]}
    for quantity in QUANTITIES:
        values = np.array([model[quantity] for model in models])
        centre, low, high = prediction_interval(sizes, values, config.params, config.confidence)
        found[quantity] = {"predicted": centre, "low": low, "high": high}
    flops = fit_law(sizes, np.array([model["flops"] for model in models]))
    found["flops"] = float(flops(np.array([config.params]))[0])
    if config.rate:
        found["hours"] = found["flops"] / (config.rate * 1e9) / 3600
    return found
