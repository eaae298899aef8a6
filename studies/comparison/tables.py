"""The comparison's table and figures, drawn from its records."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from nextscale.errors import UsageError
from nextscale.storage.files import read_json, replacing_file, write_text
from studies.comparison.contenders import PYRAMID, ROWS, SHARES, SINGLE, TRAININGS

mpl.use("Agg")  # no screen is needed
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

# Okabe and Ito's colours, which the colour-blind distinguish; markers do so in grey.
STYLES = {
    "var": ("#0072B2", "o", "next-scale"),
    "ar": ("#D55E00", "s", "next-token"),
    "diffusion": ("#009E73", "^", "diffusion"),
}
FIGURES = ("fid", "inception_score", "precision", "recall", "class_accuracy")
HOURS = (
    "Seconds are measured in float32, {images_at_once} images at once, the rows in turn on one "
    "machine ({processor}, {threads} threads, {date}); so are the rates of training that hours "
    "follow from."
)
LOGGED_HOURS = "Hours are those of each training's log, on machines and threads that differ."
HEAD = (
    "row | FID (classifier) | IS | precision | recall | class accuracy | parameters | steps | "
    "seconds an image | training, TFLOP | hours"
)


def write_results(records: Path) -> Path:
    """Writes `comparison.md` and the two figures beside the directory of the records.

    Returns:
        the page.

    Raises:
        UsageError: if no row is recorded.
    """
    rows = {
        name: read_json(records / f"row_{name}.json")
        for name in ROWS
        if (records / f"row_{name}.json").is_file()
    }
    if not rows:
        raise UsageError(f"{records} holds no row; `python -m studies compare run` makes them")
    known = records / "seconds.json"
    timed = read_json(known) if known.is_file() else {}
    seconds, rates = timed.get("median", {}), timed.get("training_images_per_second", {})
    for row in rows.values():  # one machine's rates are comparable, those of the trainings are not
        if row["training"] in rates:
            row["cost"]["hours"] = row["cost"]["images"] / rates[row["training"]] / 3600
    page = records.parent / "comparison.md"
    write_text(page, table(records, rows, timed))
    draw_efficiency(rows, records.parent / "comparison_efficiency.png")
    if seconds:
        draw_seconds(rows, seconds, records.parent / "comparison_seconds.png")
    return page


def table(records: Path, rows: dict[str, Any], timed: dict[str, Any]) -> str:
    """The page: rows, beside what to read them, how they came about."""
    seconds = timed.get("median", {})
    lines = [
        "# Next-scale, next-token and diffusion on equal terms",
        "",
        f"Fashion-MNIST, {next(iter(rows.values()))['images_judged']:,} drawn images against the "
        "10,000 test images, features of the bundled classifier, which is also the judge of "
        "rejection sampling. Made by `python -m studies compare run`, `time` and `table` on a "
        "CPU. Figures are means over seeds of drawing and of training, with the largest deviation "
        "of a FID in brackets. Transformers see the same images, five epochs; diffusion gets the "
        "arithmetic of AdaLN's row instead, which is more epochs of a smaller sequence. The two "
        "tokenizers are one network, trained alike for ten epochs: next-scale's encodes an image "
        "in 111 tokens of 256 codes, next-token's in 49 of 1,024.",
        "",
        "The two encode different amounts of information, only the plain rows have two trainings, "
        "and every row has one length of training: [the limits](../comparison.md#limits) say what "
        "these rows do not show.",
        "",
        f"| {HEAD} |",
        "|---" * (HEAD.count("|") + 1) + "|",
        *(f"| {line(row, seconds.get(name))} |" for name, row in rows.items()),
        "",
        *missing(rows),
        *bounds(records),
        "",
        "## How each row was tuned",
        "",
        "Each option is the one of lowest FID with 2,000 images against 10,000 training images, "
        "tuned in the order shown; each learning rate that of the lowest loss after one epoch on "
        "2,000 images that are not trained on, the first of the test images. The larger model and "
        "the smaller DiT take the rate of the network that they enlarge and reduce, DDPM the "
        "guidance of DDIM, rejection the options of the row above it. Diffusion denoises the "
        "features of next-scale's tokenizer; the variance of its steps is not learnt. "
        "Transformers multiply in bf16 on machines made for it, else in float32 (`no`), when they "
        "are trained and when images are drawn to be judged.",
        "",
        HOURS.format(**timed) if timed else LOGGED_HOURS,
        *untuned(records, rows),
        "",
        "| row | learning rate | top-k | guidance | trained seeds | trained in | drawn in | date |",
        "|---|---|---|---|---|---|---|---|",
        *(f"| {tuning(row)} |" for row in rows.values()),
        "",
        "## Data efficiency",
        "",
        "FID (classifier) from checkpoints on the way, against 10 %, 30 % and all of the training "
        "images seen.",
        "",
        "| row | 10 % | 30 % | 100 % |",
        "|---|---|---|---|",
        *(f"| {efficiency(row)} |" for row in rows.values() if "on_the_way" in row),
        "",
        "![FID against images seen and training arithmetic](comparison_efficiency.png)",
    ]
    if seconds:
        lines += ["", "![FID against seconds an image](comparison_seconds.png)"]
    return "\n".join(lines) + "\n"


def mean(row: dict[str, Any], figure: str) -> float:
    """A figure's mean over the row's runs."""
    return statistics.mean(run[figure] for run in row["runs"])


def line(row: dict[str, Any], seconds: float | None) -> str:
    """A row's cells."""
    fids = [run["fid"] for run in row["runs"]]
    spread = max(abs(fid - mean(row, "fid")) for fid in fids)
    told = f" (±{spread:.3f})" if len(fids) > 1 else ""
    first = f"{row['title']} | {mean(row, 'fid'):.3f}{told}"
    figures = [f"{mean(row, figure):.2f}" for figure in FIGURES[1:4]]
    accuracy = f"{mean(row, 'class_accuracy'):.1%}"
    cost, took = row["cost"], "" if seconds is None else f"{seconds:.4f}"
    last = [f"{row['parameters']:,}", str(row["steps"]), took]
    spent = [f"{cost['flops'] / 1e12:.0f}", f"{cost['hours']:.2f}"]
    return " | ".join([first, *figures, accuracy, *last, *spent])


def tuning(row: dict[str, Any]) -> str:
    """How a row was tuned, in cells."""
    options = row["tuning"]["options"]
    chosen = [str(options.get(name) or "off") for name in ("top_k", "cfg")]
    seeds = str(len({run["training_seed"] for run in row["runs"]}))
    last = [seeds, row["precision"], row.get("drawing_precision", "no"), row["date"]]
    return " | ".join([row["title"], f"{row['learning_rate']:g}", *chosen, *last])


def efficiency(row: dict[str, Any]) -> str:
    """FID at shares of the training, in cells."""
    found = {point["share"]: f"{point['fid']:.3f}" for point in row["on_the_way"]}
    early = [found.get(share, "") for share in SHARES]
    return " | ".join([row["title"], *early, f"{mean(row, 'fid'):.3f}"])


def missing(rows: dict[str, Any]) -> list[str]:
    """What has not been trained or judged yet."""
    titles = [row.title for name, row in ROWS.items() if name not in rows]
    return ["Not made yet: " + "; ".join(titles) + ".", ""] if titles else []


def untuned(records: Path, rows: dict[str, Any]) -> list[str]:
    """Whose learning rate was chosen by trials that are not recorded."""
    titles = []
    for row in rows.values():
        owner = TRAININGS[row["training"]].rate_of or row["training"]
        if not (records / f"rate_{owner}.json").is_file():
            titles.append(row["title"])
    return (
        [f"No trials of the learning rate are recorded for {'; '.join(titles)}."] if titles else []
    )


def bounds(records: Path) -> list[str]:
    """FID of real images and of reconstructions, beside which rows are to be read."""
    told: list[str] = []
    for name, what in ((PYRAMID, "next-scale (and diffusion's)"), (SINGLE, "next-token")):
        file = records / f"rfid_{name}.json"
        if file.is_file():
            figures = read_json(file)["figures"]
            if not told:
                told.append(f"* 10,000 real training images: FID {figures['floor_fid']:.3f}.")
            told.append(
                f"* Tokenizer of {what}: rFID {figures['rfid']:.3f}, PSNR "
                f"{figures['psnr_of_mean_error']:.2f} dB."
            )
    return told


def kind_of(row: dict[str, Any]) -> tuple[str, str, str]:
    """Colour, marker and name of a row's method."""
    return STYLES[TRAININGS[row["training"]].command]


def draw_efficiency(rows: dict[str, Any], path: Path) -> None:
    """FID against images seen and against training arithmetic, from checkpoints on the way."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for row in rows.values():
        if "on_the_way" in row:
            color, marker, _ = kind_of(row)
            points = [(p["share"], p["fid"]) for p in row["on_the_way"]]
            points.append((1.0, mean(row, "fid")))
            full = "--" if row["tuning"]["options"] else "-"
            y = [fid for _, fid in points]
            wholes = (row["cost"]["images"], row["cost"]["flops"] / 1e12)
            for axes, whole in zip(panels, wholes, strict=True):
                x = [share * whole for share, _ in points]
                axes.loglog(x, y, full, color=color, marker=marker, label=row["title"])
    for axes, label in zip(panels, ("images seen", "training, TFLOP"), strict=True):
        axes.set_xlabel(label)
    finish(figure, panels, path)


def draw_seconds(rows: dict[str, Any], seconds: dict[str, float], path: Path) -> None:
    """FID against seconds an image."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    points: dict[str, tuple[float, float]] = {}
    named: set[str] = set()
    for name, row in rows.items():
        if name in seconds:
            color, marker, kind = kind_of(row)
            label = kind if kind not in named else None
            named.add(kind)
            points[row["title"]] = point = (seconds[name], mean(row, "fid"))
            axes.loglog(*point, marker, color=color, label=label)
    axes.set_xlabel("seconds an image")
    axes.margins(x=0.12)  # for names
    name_points(axes, points)
    finish(figure, [axes], path)


def name_points(axes: Axes, points: dict[str, tuple[float, float]]) -> None:
    """Writes a name beside each point where no other name or point is, above or below it."""
    axes.figure.draw_without_rendering()  # which settles where on the figure the points are
    pixels = axes.transData.transform(list(points.values()))
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in pixels]
    sides = [(x, y) for x in (6, -6) for y in (3, -9)]
    for name, point in points.items():
        for x, y in sides:
            side = "left" if x > 0 else "right"
            label = axes.annotate(name, point, (x, y), textcoords="offset points", size=7, ha=side)
            box = label.get_window_extent().expanded(1, 1.3)
            if not any(box.overlaps(other) for other in taken) or (x, y) == sides[-1]:
                break
            label.remove()
        taken.append(box)


def finish(figure: Figure, panels: Sequence[Axes], path: Path) -> None:
    """Labels what all figures share, the legend above the panels, and writes one."""
    panels[0].set_ylabel("FID (classifier)")
    for axes in panels:
        axes.grid(True, which="both", alpha=0.3)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:,g}")
            axis.set_minor_formatter(NullFormatter())
    if lines := panels[0].get_legend_handles_labels()[0]:
        figure.legend(handles=lines, loc="outside upper center", ncols=2, fontsize=8)
    with replacing_file(path) as file:
        figure.savefig(file, format="png", dpi=150)
    plt.close(figure)
