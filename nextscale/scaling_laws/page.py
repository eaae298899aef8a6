"""A report of scaling laws in words and tables."""

from typing import Any

from nextscale.scaling_laws.curves import QUANTITIES
from nextscale.tables import table

BENT = 2.5  # t-value of the curvature from which the page speaks of a bend
OVERFIT = 0.005  # rise of the test loss above its lowest, from which a run is named


def page(report: dict[str, Any], left_out: dict[str, str]) -> str:
    """The report in words and tables."""
    models, parts = report["models"], ["# Scaling laws"]
    sizes = [model["parameters"] for model in models]
    parts.append(
        f"{len(models)} models from {min(sizes):,} to {max(sizes):,} weights in their blocks, each "
        f"trained on {report['images']:,.0f} images."
    )
    parts.append(table([model_row(model) for model in models]))
    parts.append("## L = (β N)^α\n\n" + table([law_row(report, name) for name in QUANTITIES]))
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
    frontier = [
        {
            "quantity": QUANTITIES[quantity],
            "exponent": f"{entry['exponent']:.4f}",
            "correlation": f"{entry['correlation']:.4f}",
        }
        for quantity, entry in report["frontier"].items()
    ]
    parts.append("## The compute frontier, L = (β C)^α\n\n" + table(frontier))
    scales = zip(report["scales"]["scale_loss"], report["scales"]["scale_error"], strict=True)
    rows = [
        {
            "scale": str(k + 1),
            "loss, smallest": f"{loss['smallest']:.3f}",
            "loss, largest": f"{loss['largest']:.3f}",
            "exponent": f"{loss['exponent']:.4f}",
            "error, smallest": f"{error['smallest']:.3f}",
            "error, largest": f"{error['largest']:.3f}",
            "exponent of error": f"{error['exponent']:.4f}",
        }
        for k, (loss, error) in enumerate(scales)
    ]
    parts.append("## Scale by scale\n\n" + table(rows))
    if report["data"]:
        parts.append(
            "## Fewer images, as many steps\n\n" + table(list(map(model_row, report["data"])))
        )
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
    low, high = law["alpha_interval"]
    floored = law.get("floored")
    return {
        "quantity": QUANTITIES[quantity],
        "α": f"{law['alpha']:.4f}",
        f"{report['confidence']:.0%} interval": f"{low:.4f} to {high:.4f}",
        "log β": f"{law['log_beta']:.2f}",
        "correlation": f"{law['correlation']:.4f}",
        "largest residual": f"{max(map(abs, law['residuals'])):.2%}",
        "left-out error": f"{law['leave_one_out']:.2%}",
        "with a floor of": "" if floored is None else f"{floored['floor']:.3f}",
        "its left-out error": "" if floored is None else f"{floored['leave_one_out']:.2%}",
    }


def bends(report: dict[str, Any]) -> str:
    """Where the law bends and which runs overfit, in words."""
    told = [
        f"{QUANTITIES[quantity]} bends {'up' if law['curvature'] > 0 else 'down'} (t "
        f"{law['curvature_t']:+.1f})"
        for quantity, law in report["laws"].items()
        if abs(law["curvature_t"]) >= BENT
    ]
    tired = [
        f"{model['name']} ends {model['overfit']:.1%} above its lowest test loss"
        for model in [*report["models"], *report["data"]]
        if model["overfit"] >= OVERFIT
    ]
    if not told and not tired:
        return "No law bends, and no run overfits."
    return "; ".join([*told, *tired]) + "."
