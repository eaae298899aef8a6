"""Scaling laws as the paper shows them (VAR Fig. 5, 6): against weights, and against arithmetic."""

from collections.abc import Sequence
from typing import IO, Any

import matplotlib as mpl
import numpy as np
from PIL import Image

from nextscale.scaling_laws.curves import QUANTITIES, Curve, beside_whole
from nextscale.scaling_laws.fit import Law

mpl.use("Agg")  # no screen is needed
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator, NullLocator

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito's, which the colour-blind distinguish
GREYS = (0.65, 0.0)  # of the curves, from the smallest model to the largest
MARKERS = "osD^v<>PX*"  # beside greys, for curves that lie close


def draw_laws(report: dict[str, Any], file: IO[bytes]) -> None:
    """Writes each quantity against N, with its law and correlation."""
    sizes = np.array([model["parameters"] for model in report["models"]], float)
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), sharex=True, layout="constrained")
    for axis, (quantity, words) in zip(axes.flat, QUANTITIES.items(), strict=True):
        entry = report["laws"][quantity]
        values = [model[quantity] for model in report["models"]]
        law = Law(entry["alpha"], entry["log_beta"])
        axis.plot(sizes, law(sizes), color=ORANGE, linestyle="--")
        axis.plot(sizes, values, "o", color=BLUE)
        logarithmic(axis, words)
        inform(axis, f"α = {law.alpha:.3f}\ncorrelation {entry['correlation']:.4f}")
    for axis in axes[1]:
        axis.set_xlabel("weights in the blocks, N")
    write(figure, file)


def draw_frontier(ladder: Sequence[Curve], report: dict[str, Any], file: IO[bytes]) -> None:
    """Writes each quantity against training arithmetic, with the lowest of all models."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), sharex=True, layout="constrained")
    for axis, (quantity, words) in zip(axes.flat, QUANTITIES.items(), strict=True):
        for style, curve in zip(styles(len(ladder)), ladder, strict=True):
            axis.plot(curve.flops, curve.values(quantity), **style, label=curve.name)
        logarithmic(axis, words)
        entry = report["frontier"][quantity]
        if entry is not None:
            flops, law = np.array(entry["flops"]), Law(entry["exponent"], entry["log_beta"])
            axis.plot(flops, entry["values"], ".", color=BLUE, label="lowest of all")
            axis.plot(flops, law(flops), color=ORANGE, linestyle="--", label="its law")
            inform(axis, f"exponent {law.alpha:.3f}")
    axes[0, 1].legend(fontsize="x-small")
    for axis in axes[1]:
        axis.set_xlabel("training arithmetic, FLOP")
    write(figure, file)


def draw_scales(report: dict[str, Any], ladder: Sequence[Curve], file: IO[bytes]) -> None:
    """Writes loss and error of every scale against N."""
    sizes = [model["parameters"] for model in report["models"]]
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for axis, name, words in zip(
        axes, ("scale_loss", "scale_error"), ("test loss", "token error"), strict=True
    ):
        values = np.stack([getattr(curve, name)[-1] for curve in ladder])  # (n, K)
        for k, (style, column) in enumerate(zip(styles(values.shape[1]), values.T, strict=True)):
            axis.plot(sizes, column, **style, label=f"scale {k + 1}")
        logarithmic(axis, words)
        axis.set_xlabel("weights in the blocks, N")
    axes[1].legend(fontsize="x-small")
    write(figure, file)


def draw_shares(ladder: Sequence[Curve], shares: Sequence[Curve], file: IO[bytes]) -> None:
    """Writes test loss against images seen, of runs on shares of the images and on all."""
    runs = beside_whole(shares, ladder)
    figure, axis = plt.subplots(figsize=(5, 4), layout="constrained")
    for style, curve in zip(styles(len(runs)), runs, strict=True):
        axis.plot(curve.images, curve.loss, **style, label=f"{curve.share:.0%} of the images")
    logarithmic(axis, "test loss, all scales")
    axis.set(xscale="linear", xlabel="images seen, repeated ones included")
    axis.legend(fontsize="small")
    write(figure, file)


def draw_sheet(
    pictures: Sequence[Sequence[Image.Image]],
    rows: Sequence[str],
    columns: Sequence[str],
    file: IO[bytes],
) -> None:
    """Writes pictures of one size with names at their rows and above their columns."""
    size = len(rows), len(columns)
    inches = 1.6 * size[1] + 0.6, 1.6 * size[0] + 0.3
    figure, axes = plt.subplots(*size, figsize=inches, squeeze=False, layout="constrained")
    for i, row in enumerate(pictures):
        for j, picture in enumerate(row):
            axes[i, j].imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes[i, j].set(xticks=[], yticks=[])
        axes[i, 0].set_ylabel(rows[i])
    for axis, words in zip(axes[0], columns, strict=True):
        axis.set_title(words, fontsize="medium")
    write(figure, file)


def styles(count: int) -> list[dict[str, Any]]:
    """How curves are drawn that have an order, so that greys and markers distinguish them."""
    shades = np.linspace(*GREYS, count)
    return [
        {"color": str(shade), "marker": MARKERS[i % len(MARKERS)], "markersize": 4, "linewidth": 1}
        for i, shade in enumerate(shades)
    ]


def inform(axis: Any, words: str) -> None:
    """Writes words into the corner below."""
    axis.text(0.05, 0.05, words, transform=axis.transAxes)


def logarithmic(axis: Any, title: str) -> None:
    """Makes both directions logarithmic; losses span less than a decade and have plain ticks."""
    axis.set(xscale="log", yscale="log", title=title)
    axis.yaxis.set_major_locator(MaxNLocator(6))
    axis.yaxis.set_major_formatter("{x:.3g}")
    axis.yaxis.set_minor_locator(NullLocator())


def write(figure: Any, file: IO[bytes]) -> None:
    """Writes a figure as PNG."""
    figure.savefig(file, format="png", dpi=120)
    plt.close(figure)
