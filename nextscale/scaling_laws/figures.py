"""Scaling laws as the paper shows them (VAR Fig. 5, 6): against weights, and against arithmetic."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from nextscale.files import replacing_file
from nextscale.scaling_laws.curves import QUANTITIES, Curve
from nextscale.scaling_laws.fit import Law

mpl.use("Agg")  # no screen is needed
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator, NullLocator

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito's, which the colour-blind tell apart
GREYS = (0.8, 0.1)  # of the curves, from the smallest model to the largest


def draw_laws(report: dict[str, Any], file: Path) -> None:
    """Writes each quantity against N, with its law and correlation."""
    sizes = np.array([model["parameters"] for model in report["models"]], float)
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), sharex=True, layout="constrained")
    for axis, (quantity, words) in zip(axes.flat, QUANTITIES.items(), strict=True):
        entry = report["laws"][quantity]
        values = [model[quantity] for model in report["models"]]
        law = Law(entry["alpha"], entry["log_beta"])
        axis.plot(sizes, law(sizes), color=ORANGE, linestyle="--")
        axis.plot(sizes, values, "o", color=BLUE)
        describe(axis, words, f"α = {law.alpha:.3f}", entry["correlation"])
    for axis in axes[1]:
        axis.set_xlabel("weights in the blocks, N")
    write(figure, file)


def draw_frontier(ladder: Sequence[Curve], report: dict[str, Any], file: Path) -> None:
    """Writes each quantity against training arithmetic, with the lowest of all models."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), sharex=True, layout="constrained")
    for axis, (quantity, words) in zip(axes.flat, QUANTITIES.items(), strict=True):
        for shade, curve in zip(np.linspace(*GREYS, len(ladder)), ladder, strict=True):
            axis.plot(curve.flops, curve.values(quantity), color=str(shade), label=curve.name)
        entry = report["frontier"][quantity]
        flops, law = np.array(entry["flops"]), Law(entry["exponent"], entry["log_beta"])
        axis.plot(flops, entry["values"], ".", color=BLUE, label="lowest")
        axis.plot(flops, law(flops), color=ORANGE, linestyle="--")
        describe(axis, words, f"exponent {law.alpha:.3f}", entry["correlation"])
    axes[0, 1].legend(fontsize="x-small")
    for axis in axes[1]:
        axis.set_xlabel("training arithmetic, FLOP")
    write(figure, file)


def draw_scales(report: dict[str, Any], ladder: Sequence[Curve], file: Path) -> None:
    """Writes loss and error of every scale against N."""
    sizes = [model["parameters"] for model in report["models"]]
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for axis, name, words in zip(
        axes, ("scale_loss", "scale_error"), ("test loss", "token error"), strict=True
    ):
        values = np.stack([getattr(curve, name)[-1] for curve in ladder])  # (n, K)
        for k, column in enumerate(values.T):
            shade = str(np.linspace(*GREYS, values.shape[1])[k])
            axis.plot(sizes, column, "o-", color=shade, label=f"scale {k + 1}")
        logarithmic(axis, words)
        axis.set_xlabel("weights in the blocks, N")
    axes[1].legend(fontsize="x-small")
    write(figure, file)


def describe(axis: Any, title: str, exponent: str, correlation: float) -> None:
    """Makes an axis logarithmic and tells its law in the corner below."""
    logarithmic(axis, title)
    told = f"{exponent}\ncorrelation {correlation:.4f}"
    axis.text(0.05, 0.05, told, transform=axis.transAxes)


def logarithmic(axis: Any, title: str) -> None:
    """Makes both directions logarithmic; losses span less than a decade and have plain ticks."""
    axis.set(xscale="log", yscale="log", title=title)
    axis.yaxis.set_major_locator(MaxNLocator(6))
    axis.yaxis.set_major_formatter("{x:.3g}")
    axis.yaxis.set_minor_locator(NullLocator())


def write(figure: Any, file: Path) -> None:
    """Writes a figure whole or not at all."""
    with replacing_file(file) as beside:
        figure.savefig(beside, format="png", dpi=120)
    plt.close(figure)
