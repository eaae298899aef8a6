"""A report of scaling laws in words and tables."""

from typing import Any

from nextscale.console.tables import table
from nextscale.scaling_laws.curves import QUANTITIES

OVERFIT = 0.005  # rise of the test loss above its lowest, from which a run is named


def as_markdown(report: dict[str, Any], left_out: dict[str, str]) -> str:
    """The report in words and tables."""
    models, parts = report["models"], ["# Scaling laws"]
    sizes = [model["parameters"] for model in models]
    parts.append(
        f"{len(models)} models from {min(sizes):,} to {max(sizes):,} weights in their blocks, each "
        f"trained on {report['images']:,.0f} images."
    )
    parts.append(table([model_row(model) for model in models]))
    parts.append("## L = (β N)^α\n\n" + table([law_row(report, name) for name in QUANTITIES]))
    parts.append("![Loss and error against weights](laws.png)")
    parts.append(bends(report))
    if report["held_out"]:
        rows = [
            {
                "quantity": QUANTITIES[quantity],
                "model": entry["name"],
                "predicted": f"{entry['predicted']:.4f}",
                "actual": f"{entry['actual']:.4f}",
                "error": f"{entry['relative_error']:+.2%}",
            }
            for quantity, entries in report["held_out"].items()
            for entry in entries
        ]
        parts.append("## The largest models, predicted from the others\n\n" + table(rows))
    parts.append(
        "## The compute frontier, L = (β C)^α\n\n"
        "The lowest value of any run at each amount of training arithmetic, where at least two "
        "runs are under way. On the way learning rates have not come down yet: shorter trainings "
        "would end lower. Intervals by the jackknife over models. Beside it the law through the "
        "runs' ends.\n\n" + table([frontier_row(report, name) for name in QUANTITIES])
    )
    parts.append("![Loss and error against training arithmetic](frontier.png)")
    scales = zip(report["scales"]["scale_loss"], report["scales"]["scale_error"], strict=True)
    rows = [
        {
            "scale": str(k + 1),
            "loss, smallest": f"{loss['smallest']:.3f}",
            "loss, largest": f"{loss['largest']:.3f}",
            "exponent": number(loss["exponent"]),
            "error, smallest": f"{error['smallest']:.3f}",
            "error, largest": f"{error['largest']:.3f}",
            "exponent of error": number(error["exponent"]),
        }
        for k, (loss, error) in enumerate(scales)
    ]
    parts.append("## Scale by scale\n\n" + table(rows))
    parts.append("![Loss and error of every scale against weights](scales.png)")
    if report["data"]:
        parts.append(
            "## Fewer images, as many steps\n\n" + table(list(map(data_row, report["data"])))
        )
        parts.append("![Loss against images seen](shares.png)")
    if report["sweeps"]:
        rows = [{"run": e["name"], "loss": f"{e['loss']:.4f}"} for e in report["sweeps"]]
        parts.append("## Learning rates around the rule, short runs\n\n" + table(rows))
    if left_out:
        parts.append("Left out: " + "; ".join(f"{k}, {why}" for k, why in left_out.items()) + ".")
    return "\n\n".join(parts) + "\n"


def model_row(model: dict[str, Any]) -> dict[str, str]:
    """A model as a line of a table."""
    row = {
        "run": model["name"],
        "depth": str(model["depth"]),
        "width": str(model["width"]),
        "N": f"{model['parameters']:,}",
        "training, TFLOP": f"{model['flops'] / 1e12:,.0f}",
    }
    row |= {words: f"{model[quantity]:.4f}" for quantity, words in QUANTITIES.items()}
    return {**row, "above its lowest loss": f"{model['overfit']:.1%}"}


def law_row(report: dict[str, Any], quantity: str) -> dict[str, str]:
    """A law as a line of a table."""
    law = report["laws"][quantity]
    floored = law.get("floored")
    return {
        "quantity": QUANTITIES[quantity],
        "α": f"{law['alpha']:.4f}",
        f"{report['confidence']:.0%} interval": between(law["alpha_interval"], 4),
        "log β": f"{law['log_beta']:.2f}",
        "its interval": between(law["log_beta_interval"], 1),
        "correlation": f"{law['correlation']:.4f}",
        "largest residual": f"{max(map(abs, law['residuals'])):.2%}",
        "left-out error": f"{law['leave_one_out']:.2%}",
        "with a floor of": "" if floored is None else f"{floored['floor']:.3f}",
        "its left-out error": "" if floored is None else f"{floored['leave_one_out']:.2%}",
        "better": law.get("better", ""),
    }


def frontier_row(report: dict[str, Any], quantity: str) -> dict[str, str]:
    """A compute frontier as a line of a table."""
    entry = report["frontier"][quantity] or {"exponent": None, "exponent_interval": None}
    return {
        "quantity": QUANTITIES[quantity],
        "exponent": number(entry["exponent"]),
        f"{report['confidence']:.0%} interval": between(entry["exponent_interval"], 4),
        "exponent through the ends": number(report["ends"][quantity]),
    }


def data_row(model: dict[str, Any]) -> dict[str, str]:
    """A run on a share of the images as a line of a table."""
    return {
        "run": model["name"],
        "N": f"{model['parameters']:,}",
        "share of the images": f"{model['share']:.0%}",
        "test loss": f"{model['loss']:.4f}",
        "its lowest on the way": f"{model['lowest_loss']:.4f}",
        "above it at the end": f"{model['overfit']:.1%}",
        "token error": f"{model['error']:.4f}",
    }


def number(value: float | None) -> str:
    """An exponent; empty where there is none."""
    return "" if value is None else f"{value:.4f}"


def between(interval: tuple[float, float] | None, digits: int) -> str:
    """An interval; empty where there is none."""
    return "" if interval is None else " to ".join(f"{end:.{digits}f}" for end in interval)


def bends(report: dict[str, Any]) -> str:
    """Where the law bends and which runs overfit, in words."""
    told = [
        f"{QUANTITIES[quantity]} bends {law['bends']} (p {law['curvature_p']:.2g})"
        for quantity, law in report["laws"].items()
        if law["bends"]
    ]
    if not told and report["laws"]["loss"]["bends"] is None:
        told = [f"{len(report['models'])} models are too few to detect whether a law bends"]
    told = told or ["No law bends"]
    tired = [
        f"{model['name']} ends {model['overfit']:.1%} above its lowest test loss"
        for model in [*report["models"], *report["data"]]
        if model["overfit"] >= OVERFIT
    ]
    tired = tired or [f"no run ends {OVERFIT:.1%} or more above its lowest test loss"]
    return "; ".join([*told, *tired]) + "."
