"""What a fitted law says of a model that nobody has trained."""

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nextscale.config.scaling import PredictConfig
from nextscale.config.validation import check_type
from nextscale.errors import UsageError
from nextscale.scaling_laws.cost import cost_terms
from nextscale.scaling_laws.curves import LEAST, QUANTITIES
from nextscale.scaling_laws.fit import Law, prediction_interval

STRICT = ConfigDict(strict=True, allow_inf_nan=False)
Positive = Annotated[float, Field(gt=1e-30, lt=1e30)]


class Model(BaseModel):
    """A fitted model: its size and its last losses."""

    model_config = STRICT
    parameters: Annotated[int, Field(ge=1, le=10**18)]
    loss: Positive
    loss_last: Positive
    error: Positive
    error_last: Positive


class Floored(BaseModel):
    """A law with a floor."""

    model_config = STRICT
    alpha: float
    log_beta: float
    floor: float


class FittedLaw(BaseModel):
    """What is read of a law."""

    model_config = STRICT
    bends: str | None
    better: str = ""
    floored: Floored | None = None


class Report(BaseModel):
    """What is read of `fit.json`."""

    model_config = STRICT
    models: Annotated[list[Model], Field(min_length=LEAST, max_length=10_000)]
    laws: dict[str, FittedLaw]
    cost: Annotated[list[float], Field(min_length=3, max_length=3)]
    images: float


def check_report(report: dict[str, Any]) -> None:
    """Raises UsageError unless a report that may come from anyone holds a fit."""
    check_type(Report, report, "the fit")
    missing = [quantity for quantity in QUANTITIES if quantity not in report["laws"]]
    if missing:
        raise UsageError(f"the fit holds no law of {', '.join(missing)}")
    if len({model["parameters"] for model in report["models"]}) < LEAST:
        raise UsageError(f"the fit holds models of fewer than {LEAST} sizes")


def predict(report: dict[str, Any], config: PredictConfig) -> dict[str, Any]:
    """Loss and error of a model of N weights with intervals, its arithmetic, and hours.

    The law is the one without a floor; where one with a floor was fitted, its value stands beside.
    Arithmetic is that of a model whose depth and width go on growing together.

    Args:
        report: of `nextscale scaling-laws fit`.
        config: what is asked.

    Raises:
        UsageError: if N is further from the fitted models than `reach` allows, or the report is
            not one.
    """
    check_report(report)
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
        if law.get("floored") is not None:
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
    """Why a law may not hold beyond its models; empty if there is no such reason."""
    if law["bends"]:
        return f"the law bends {law['bends']}"
    if law.get("better") == "with a floor":
        return "models left out are predicted better with a floor"
    return ""
