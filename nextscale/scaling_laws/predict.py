"""What a fitted law says of a model that nobody has trained."""

from typing import Any

import numpy as np

from nextscale.config.scaling import PredictConfig
from nextscale.errors import UsageError
from nextscale.scaling_laws.cost import cost_terms
from nextscale.scaling_laws.curves import QUANTITIES
from nextscale.scaling_laws.fit import Law, prediction_interval


def predict(report: dict[str, Any], config: PredictConfig) -> dict[str, Any]:
    """Loss and error of a model of N weights with intervals, its arithmetic, and hours.

    The law is the one without a floor; where one with a floor was fitted, its value stands beside.
    Arithmetic is that of a model whose depth and width go on growing together.

    Args:
        report: of `nextscale scaling-laws fit`.
        config: what is asked.

    Raises:
        UsageError: if N is further from the fitted models than `reach` allows.
    """
    models, params = report["models"], np.array([config.params])
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
        law, guess = report["laws"][quantity], {"predicted": centre, "low": low, "high": high}
        if "floored" in law:
            floored = Law(*(law["floored"][name] for name in ("alpha", "log_beta", "floor")))
            guess["with_a_floor"] = float(floored(params)[0])
        highest = 1.0 if quantity.startswith("error") else np.inf
        found[quantity] = {name: min(value, highest) for name, value in guess.items()}
        found[quantity]["doubt"] = doubt(law)
    found["flops"] = float((cost_terms(params) @ report["cost"])[0])
    if config.rate:
        found["hours"] = found["flops"] / (config.rate * 1e9) / 3600
    return found


def doubt(law: dict[str, Any]) -> str:
    """Why a law may not hold beyond its models; empty if nothing tells so."""
    if law["bends"]:
        return f"the law bends {law['bends']}"
    if law.get("better") == "with a floor":
        return "models left out are predicted better with a floor"
    return ""
