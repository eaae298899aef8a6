"""`nextscale data check`: what a folder of images holds, and what to train it with."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from nextscale.cli.inference import check_between
from nextscale.console.options import Parser, add_device_argument
from nextscale.console.progress import progress
from nextscale.console.report import check_report, write_report
from nextscale.errors import UsageError, escaped

if TYPE_CHECKING:
    import torch

    from nextscale.data.advice import Advice
    from nextscale.data.check import Findings, Parts
    from nextscale.data.listing import Listing

SHOWN = 3  # files, in a line
MOST_HOURS = 10_000.0
UNEVEN = 10  # times as many images in the largest class as in the smallest


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    what = "folder of images, as a training takes it"
    parser.add_argument("path", type=str, help=what)
    parser.add_argument("--json", type=str, default="", help="also write the findings there")
    hours = "that the transformer's training may take on this device, at its measured FLOP/s"
    parser.add_argument("--hours", type=float, default=8.0, help=hours)
    add_device_argument(parser)


def run(options: Namespace) -> int:
    """Looks at every image and says what was found and what to do."""
    check_report(options.json, options.path)
    check_between(0.01, MOST_HOURS, hours=options.hours)
    if not options.path or not Path(options.path).is_dir():
        raise UsageError(f"{options.path!r} is not a folder; give a folder of images")
    from nextscale.data.advice import advise
    from nextscale.data.check import examine, open_parts
    from nextscale.data.folder import too_few
    from nextscale.machine.devices import usable_device
    from nextscale.machine.instructions import made_for
    from nextscale.machine.peaks import QUICK_PRODUCT, measure_peak

    device = usable_device(options.device)
    parts = open_parts(Path(options.path))
    with progress("decoding", len(parts)) as advance:
        found = examine(parts, advance)
    if not found.sizes:
        path, reason = next(iter(found.unreadable.items()))
        raise UsageError(f"none of the images in {options.path} can be read ({path}: {reason})")
    for line in described(parts, found):
        print(escaped(line))
    if parts.held_out is None and len(found.sizes) < 2:
        raise too_few(parts.training.folder)
    rate = measure_peak(device, repeats=2, products=[QUICK_PRODUCT])
    advice = advise(
        len(parts.training),
        found.short_side(),
        found.grey == len(found.sizes),
        rate * 3600 * options.hours,
        made_for("bfloat16", device),
    )
    commands = commands_of(advice, options.path)
    needs = needs_of(advice, parts.training, rate, device)
    print("\nto begin with:")
    for command, need in zip(commands, needs, strict=True):
        hours = f"about {time_of(need['seconds'])} at {need['rate_gflops']:.4g} GFLOP/s"
        print(f"\n# {hours}, {need['memory_bytes'] / 2**30:.1f} GiB")
        if need["task"] == "transformer" and need["seconds"] > 3600 * options.hours:
            print(f"# longer than --hours {options.hours:g}: fewer steps would hardly train it")
        print(escaped(command))
    if options.json:
        report = {**report_of(parts, found), "commands": commands, "estimates": needs}
        write_report(report, options.json)
    return 0


def described(parts: "Parts", found: "Findings") -> list[str]:
    """What was found, in lines."""
    from nextscale.data.listing import left_out
    from nextscale.data.summary import counted, images_of, left_out_lines, single_class, some

    training, held_out, layout = parts.training, parts.held_out, parts.layout
    lines = [f"training: {training.folder}, {images_of(training.labels, training.names)}"]
    if held_out is None:
        lines.append("held out: none; a training splits off 5 % by its seed")
    else:
        lines.append(f"held out: {held_out.folder}, {counted(len(held_out), 'image')}")
        names = {training.names[label] for label in set(held_out.labels)} if training.names else ()
        missing = [name for name in training.names if name not in names]
        if missing:
            lines.append(f"held out, no image of: {some(missing)}")
    lines += left_out_lines(training, held_out) + single_class(training)
    if layout.unused:
        lines.append(f"not used: {some(layout.unused)} in {layout.root}")
    if layout.left_out:
        lines.append(f"beside them: {left_out(layout.left_out)}")
    return lines + pictures_lines(parts, found)


def pictures_lines(parts: "Parts", found: "Findings") -> list[str]:
    """What the pictures are, in lines."""
    from nextscale.data.summary import counted, some

    sizes = sorted(found.sizes, key=lambda size: size[0] * size[1])
    least, middle, most = ("x".join(map(str, sizes[i])) for i in (0, len(sizes) // 2, -1))
    lines = [f"sizes: {least} to {most}, {middle} in the median"]
    lines.append(
        "width over height: {:.3g} to {:.3g}, {:.3g} in the median".format(
            *(found.aspect_ratios()[i] for i in (0, 2, 1))
        )
    )
    grey = found.grey
    colours = "all grey" if grey == len(sizes) else f"{grey:,} grey" if grey else "all in colour"
    lines.append(f"colours: {colours}")
    ratio = imbalance(parts)
    if ratio >= UNEVEN:
        lines.append(f"uneven: the largest class has {ratio:.3g} times the images of the smallest")
    for what, groups in (
        ("duplicates (the same pixels)", found.duplicates),
        ("duplicates across training and validation", found.across_parts),
        ("duplicates across classes", found.across_classes),
    ):
        if groups:
            example = some([str(path) for path in groups[0]])
            lines.append(f"{what}: {counted(len(groups), 'group')}, as {example}")
    for path, reason in list(found.unreadable.items())[:SHOWN]:
        lines.append(f"cannot be read: {path} ({reason})")
    if len(found.unreadable) > SHOWN:
        lines.append(f"cannot be read: {len(found.unreadable) - SHOWN:,} more")
    return lines


def imbalance(parts: "Parts") -> float:
    """Images of the largest class over those of the smallest; 1 without classes."""
    import numpy as np

    if not parts.training.names:
        return 1.0
    counts = np.bincount(parts.training.labels, minlength=len(parts.training.names))
    return float(counts.max() / counts.min())


def commands_of(advice: "Advice", path: str) -> list[str]:
    """The two trainings as they are typed."""
    runs, data = runs_of(Path(path)), ["--data.path", path]
    tokenizer = ["tokenizer", *data, "--out", f"{runs}/tokenizer"]
    var = ["var", *data, "--tokenizer", f"{runs}/tokenizer", "--out", f"{runs}/var"]
    return [
        shlex.join(["nextscale", "train", *words])
        for words in (
            tokenizer + advice.tokenizer_words(),
            var + advice.transformer_words(),
        )
    ]


def runs_of(data: Path) -> str:
    """A directory for the runs, named after the data and not within it."""
    data, runs = data.resolve(), Path("runs", data.resolve().name)
    return os.path.relpath(f"{data}-runs") if runs.resolve().is_relative_to(data) else str(runs)


def needs_of(
    advice: "Advice", training: "Listing", rate: float, device: "torch.device"
) -> list[dict[str, Any]]:
    """Time and memory of both trainings, as `nextscale estimate` gives them.

    Args:
        training: the training files.
        rate: FLOP/s of the device.
    """
    from dataclasses import replace

    from nextscale.config.model import ModelConfig
    from nextscale.config.presets import TOKENIZERS, TRANSFORMERS
    from nextscale.config.speed import EstimateConfig
    from nextscale.speed.estimate import estimate

    tokenizer = replace(TOKENIZERS[advice.tokenizer], image_channels=advice.channels)
    transformer = replace(TRANSFORMERS[advice.transformer], classes=len(training.names))
    whole, rows = ModelConfig(tokenizer, transformer), []
    trainings = (
        ("tokenizer", advice.tokenizer_batch, advice.tokenizer_epochs),
        ("transformer", advice.transformer_batch, advice.transformer_epochs),
    )
    with progress("estimating", len(trainings), "trainings") as advance:
        for task, batch, epochs in trainings:
            config = EstimateConfig(
                tasks=(task,), precision=("float32",), batch=(batch,), rate=rate / 1e9
            )
            (row,) = estimate(config, device, advance, whole)["rows"]
            seconds = row["seconds_per_image"] * len(training) * epochs
            rows.append({**row, "epochs": epochs, "seconds": seconds, "rate_gflops": rate / 1e9})
    return rows


def time_of(seconds: float) -> str:
    """A time as people say it."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} seconds"


def report_of(parts: "Parts", found: "Findings") -> dict[str, Any]:
    """What was found, for JSON."""
    import numpy as np

    def part(listing: Any) -> dict[str, Any]:
        counts = np.bincount(listing.labels, minlength=len(listing.names)).tolist()
        return {
            "folder": str(listing.folder),
            "images": len(listing),
            "classes": dict(zip(listing.names, counts, strict=False)),
            "left_out": dict(listing.left_out),
            "empty": listing.empty,
        }

    def names(groups: list[list[Path]]) -> list[list[str]]:
        return [[str(path) for path in group] for group in groups]

    return {
        "training": part(parts.training),
        "held_out": part(parts.held_out) if parts.held_out else None,
        "unused": parts.layout.unused,
        "sizes": {"least": min(found.sizes), "most": max(found.sizes)},
        "median_short_side": found.short_side(),
        "aspect_ratios": dict(zip(("least", "median", "most"), found.aspect_ratios(), strict=True)),
        "grey": found.grey,
        "imbalance": imbalance(parts),
        "unreadable": {str(path): reason for path, reason in found.unreadable.items()},
        "duplicates": names(found.duplicates),
        "across_parts": names(found.across_parts),
        "across_classes": names(found.across_classes),
    }
