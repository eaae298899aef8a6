"""Where a next-scale model's FID comes from: its first scales taken from real images.

    python -m studies coherence [CHECKPOINT] [--count N] [--json FILE]

Tokens of a scale are drawn independently of each other, given the coarser ones (VAR Eq. 4). What
they then fail to agree on shows in the step of the FID from row to row: a row's first scales are
those of real training images of the same classes, the rest is drawn from all codes, unguided; the
last is a reconstruction.
"""

from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from jsonargparse import Namespace
from torch import Tensor

from nextscale.checkpoints import checkpoint
from nextscale.console.options import Parser
from nextscale.console.progress import progress
from nextscale.console.report import check_report, conclude
from nextscale.data.fashion_mnist import IMAGES, LABELS, PARTS, find, read_idx
from nextscale.errors import UsageError
from nextscale.evaluation.chunks import Arrays
from nextscale.evaluation.features import features_of, see
from nextscale.evaluation.metrics import Features, compare
from nextscale.evaluation.sets import ImageSet, open_raw
from nextscale.generation.generate import generate, last_state
from nextscale.judges.extractors import load_extractor
from nextscale.machine.devices import best_device
from nextscale.machine.heap import keep_freed_memory
from nextscale.pictures.pixels import to_pixels, to_tensor
from nextscale.pipeline import Pipeline
from nextscale.speed.timing import machine

MODEL = "fashion-mnist"
REFERENCE = "fashion-mnist:test"
BATCH = 250
KEYS = ("values", "logits")


def draw(pipe: Pipeline, images: Tensor, labels: Tensor, first: int, given: int) -> Tensor:
    """Images (B, 1, H, W) whose `given` first scales are those of real images of their classes.

    Args:
        first: number of the first image, and its seed.
    """
    quantizer = pipe.tokenizer.quantizer
    with torch.inference_mode():
        vectors = [quantizer.lookup(tokens) for tokens in pipe.tokenizer.encode(images)]

    def constrain(k: int, drawn: Tensor) -> Tensor:
        return vectors[k] if k < given else drawn

    seeds = range(first, first + len(labels))
    states = generate(pipe.model, pipe.tokenizer, labels, seeds=seeds, constrain=constrain)
    return last_state(states).image()


def measure(name: str, count: int) -> dict[str, Any]:
    """The report; its `rows` hold a number of given scales each."""
    pipe = checkpoint.load(name).to(best_device())
    if not pipe.model.order.averages:
        raise UsageError(f"{name} is no next-scale model; its tokens are drawn one by one")
    if pipe.config.data != MODEL:
        raise UsageError(f"{name} was trained on {pipe.config.data}; give a model of {MODEL}")
    extractor = load_extractor(MODEL)
    state = PartialState(cpu=not torch.accelerator.is_available())
    images = ImageSet(open_raw(REFERENCE), REFERENCE, extractor.channels)
    reference = features_of(images, extractor, state)
    pixels = to_tensor(read_idx(find(), f"{PARTS['train']}-{IMAGES}")[:count], 1)
    labels = torch.tensor(read_idx(find(), f"{PARTS['train']}-{LABELS}")[:count].astype(np.int64))
    scales, rows = pipe.model.scales, []
    with progress("drawing", len(pixels) * (len(scales) + 1)) as advance:
        for given in range(len(scales) + 1):
            seen: list[Arrays] = []
            for first in range(0, len(pixels), BATCH):
                real, classes = (x[first : first + BATCH].to(pipe.device) for x in (pixels, labels))
                drawn = draw(pipe, real, classes, first, given)
                seen.append(see(extractor, to_pixels(drawn)))
                advance(len(drawn))
            values, logits = (np.concatenate([s[key] for s in seen]) for key in KEYS)
            features = Features(extractor.identity, values, logits)
            figures = compare(features, reference, ("fid", "precision", "recall"))
            figures["class_accuracy"] = float((logits.argmax(1) == labels.numpy()).mean())
            rows.append({"given_scales": given, **figures})
    shared = {"model": name, "images": len(pixels), "scales": scales}
    return {**shared, "rows": rows, **machine(pipe.device)}


def lines(report: dict[str, Any]) -> list[dict[str, str]]:
    """The report as rows of a table."""
    sides = ["x".join(map(str, scale)) for scale in report["scales"]]
    return [
        {
            "from real images": ", ".join(sides[: row["given_scales"]]) or "nothing",
            f"FID ({MODEL} classifier)": f"{row['fid']:.3f}",
            "precision": f"{row['precision']:.2f}",
            "recall": f"{row['recall']:.2f}",
            "class accuracy": f"{row['class_accuracy']:.1%}",
        }
        for row in report["rows"]
    ]


def add_arguments(parser: Parser) -> None:
    """Adds the options of `coherence`."""
    add = parser.add_argument
    add("checkpoint", type=str, nargs="?", default=MODEL, help=f"name or directory [{MODEL}]")
    add("--count", type=int, default=10000, help="images a row")
    add("--json", type=str, default="", help="file of the report")


def run(options: Namespace) -> None:
    """Measures and prints."""
    check_report(options.json)
    if options.count < 2:
        raise UsageError(f"count is {options.count}; a FID needs at least 2 images")
    keep_freed_memory()
    report = measure(options.checkpoint, options.count)
    conclude(report, options.json, lines(report))
