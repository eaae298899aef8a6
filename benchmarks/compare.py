"""Next-scale against next-token and diffusion on equal terms (VAR Tables 1 and 3 in miniature).

    python benchmarks/compare.py run
    python benchmarks/compare.py time
    python benchmarks/compare.py table

`run` tunes, trains, draws and judges whatever is not recorded yet, and goes on where it was
stopped, also without the trainings of rows that are recorded; `time` measures seconds an image and
images a second of training, side by side; `table` writes table and figures.
"""

import hashlib
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from contenders import CFG, PYRAMID, ROWS, SHARES, SINGLE, TOP_K, TRAININGS, Row
from diffusion import load_diffusion, sample
from dit import Diffusion
from tables import write_results
from torch import Tensor, nn
from torch._inductor import config as inductor
from trainings import (
    Comparison,
    Judging,
    Records,
    checkpoint_at,
    cost_of,
    fingerprint,
    full_training,
    log_of,
    tokenizer_of,
    training_rate,
    tuned_rate,
)

from nextscale import checkpoint
from nextscale.acceleration import can_compile, made_for
from nextscale.classifiers import load_judge
from nextscale.cli.inference import progress
from nextscale.cli.options import Stop, add_dataclass, from_options, parser_for
from nextscale.complexity import parameters
from nextscale.errors import UsageError
from nextscale.evaluation.chunks import Chunks
from nextscale.evaluation.drawing import Draw, Drawing
from nextscale.evaluation.extractors import Extractor, load_extractor
from nextscale.evaluation.features import features_of, gathered
from nextscale.evaluation.images import ImageSet, open_raw
from nextscale.evaluation.metrics import Features, compare
from nextscale.evaluation.report import drawer
from nextscale.models.var import VAR
from nextscale.pipeline import Judge
from nextscale.scaling_laws.ladder import run_to_its_end
from nextscale.training.engine import device_of_runs

CHUNK = 250
TIMED = 50  # images drawn at once when seconds are measured
REPEATS = 5
TIMED_STEPS = 200  # of training, when its rate is measured
COLUMNS = ("fid", "is", "precision", "recall")


@dataclass(frozen=True)
class Contender:
    """A trained network that draws.

    Attributes:
        draw: with its options.
        classes: number of classes.
        parameters: of the network that is sampled from, without the tokenizer.
        steps: sequential evaluations of the network that an image takes.
    """

    draw: Draw
    classes: int
    parameters: int
    steps: int


@lru_cache(maxsize=1)  # a row is judged many times, and compiling takes as long as 500 images
def compiled_diffusion(place: Path) -> Diffusion:
    """A diffusion model for thousands of images: compiled where that is possible."""
    network = load_diffusion(place).to(device_of_runs())
    lower(network.transformer)
    if can_compile():
        network.transformer.compile(dynamic=False)
    return network


def drawing_precision() -> str:
    """In what transformers multiply when thousands of images are judged."""
    return "bf16" if made_for("bfloat16", device_of_runs()) else "no"


def lower(transformer: nn.Module) -> None:
    """Lets a transformer multiply in bfloat16 on a device made for it, in half the time."""
    enabled = drawing_precision() == "bf16"
    lowered = torch.autocast(device_of_runs().type, torch.bfloat16, enabled=enabled)
    transformer.forward = lowered(transformer.forward)


def open_contender(
    row: Row, place: Path, options: dict[str, Any], hurried: bool = False
) -> Contender:
    """Loads a row's network from a checkpoint.

    Args:
        hurried: for thousands of images, which are the same but for rounding: in
            `drawing_precision`, diffusion compiled.
    """
    if row.sampler:
        network = (compiled_diffusion if hurried else load_diffusion)(place).to(device_of_runs())

        def draw(labels: Tensor, seeds: Sequence[int]) -> Tensor:
            with inductor.patch(freezing=hurried):  # weights as constants, in the processor's order
                return sample(
                    network, labels, seeds, steps=row.steps, sampler=row.sampler, **options
                )

        weights = parameters(network.transformer)
        return Contender(draw, network.config.classes, weights, row.steps)
    pipe = checkpoint.load(place).to(device_of_runs())
    if hurried:
        lower(pipe.model.transformer)
    # Guidance that grows with the scales means nothing over tokens in raster order.
    growth = "linear" if isinstance(pipe.model, VAR) else "constant"
    draws = drawer(pipe, {"cfg": 0.0, "top_k": 0, "guidance": growth, **options})
    return Contender(draws, pipe.model.config.classes, parameters(pipe.model), pipe.model.steps)


def judge_of(row: Row, place: Path, classifier: str) -> Judge | None:
    """What chooses among a row's images, drawn from a checkpoint; None if all are kept."""
    if row.keep == 1:
        return None
    return load_judge(classifier, checkpoint.load(place).to(device_of_runs()))


class Jury:
    """Judges contenders by one extractor, against test images, or training ones while tuning."""

    def __init__(self, comparison: Judging) -> None:
        self.comparison = comparison
        self.state = PartialState(cpu=not torch.accelerator.is_available())
        self.extractor: Extractor = load_extractor(comparison.extractor)
        self.test = self.real("fashion-mnist:test")
        self.training = self.real("fashion-mnist:train")

    def real(self, split: str) -> Features:
        """Features of 10 000 real images."""
        images = ImageSet(open_raw(split), split, self.extractor.channels, limit=10000)
        return features_of(images, self.extractor, self.state)

    def judge(
        self, row: Row, place: Path, options: dict[str, Any], count: int, seed: int, real: Features
    ) -> dict[str, float]:
        """Figures of images that a row draws with these options."""
        contender = open_contender(row, place, options, hurried=True)
        labels = [i % contender.classes for i in range(count)]
        judge = judge_of(row, place, self.comparison.extractor)
        drawing = Drawing(contender.draw, labels, seed * 10**6, row.keep, judge)
        told = [fingerprint(place), drawing_precision(), self.extractor.identity]
        told += [row.sampler, row.steps, row.keep, options, count, seed]
        name = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
        folder = Path(self.comparison.work) / "drawn" / name
        settings = {"drawn": json.dumps(told), "extractor": self.extractor.identity}
        chunks = Chunks(folder, len(drawing.drawn), CHUNK, settings, self.state)
        with progress(f"drawing, {row.title}", len(drawing.drawn)) as advance:
            chunks.fill(lambda part: drawing.make(part, self.extractor), advance)
        chosen = drawing.chosen(chunks)
        found = compare(gathered(chunks, self.extractor.identity, chosen), real, COLUMNS)
        right = chunks.read("logits")[chosen].argmax(1) == np.array(labels)
        return {**found, "class_accuracy": float(right.mean())}

    def tune(self, row: Row, place: Path) -> dict[str, Any]:
        """The options of lowest FID against training images, one after the other."""
        options, tried = {}, []
        for name in row.tuned:
            found = {}
            for value in {"top_k": TOP_K, "cfg": CFG}[name]:
                given = {**options, name: value}
                count = self.comparison.tuning_count
                found[value] = self.judge(row, place, given, count, 99, self.training)["fid"]
                tried.append({**given, "fid": found[value]})
            options[name] = min(found, key=found.__getitem__)
        return {"options": options, "tried": tried}


def run_row(comparison: Judging, jury: Jury, name: str) -> None:
    """Trains, tunes and judges a row, and records it."""
    row, count = ROWS[name], comparison.count
    record: dict[str, Any] = {"title": row.title, "training": row.training, "runs": []}
    seeds, rate = TRAININGS[row.training].seeds, tuned_rate(comparison, row.training)
    runs = [full_training(comparison, row.training, seed, rate) for seed in seeds]
    early = {share: checkpoint_at(runs[0], share) for share in SHARES if row.efficiency}
    known = comparison.record(f"row_{row.options_of}") if row.options_of else None
    tuning = known["tuning"] if known else jury.tune(row, runs[0] / "final")
    options = tuning["options"]
    for seed, run in zip(seeds, runs, strict=True):
        for drawn in row.seeds:
            place = run / "final"
            figures = jury.judge(row, place, options, count, drawn, jury.test)
            record["runs"].append({"training_seed": seed, "seed": drawn, **figures})
    contender = open_contender(row, runs[0] / "final", options)
    record |= {
        "learning_rate": rate,
        "tuning": tuning,
        "parameters": contender.parameters,
        "steps": contender.steps,
        "precision": log_of(runs[0])[0]["precision"],
        "drawing_precision": drawing_precision(),
        "cost": cost_of(runs[0]),
        "images_judged": count,
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
    }
    if row.efficiency:
        record["on_the_way"] = []
        for share, place in early.items():
            figures = jury.judge(row, place, options, count, 0, jury.test)
            record["on_the_way"].append({"share": share, **figures})
    comparison.keep(f"row_{name}", record)


def run(comparison: Judging) -> None:
    """Makes every record that is missing and asked for."""
    jury = Jury(comparison)
    for name, row in ROWS.items():
        if comparison.wants(row.training) and comparison.record(f"row_{name}") is None:
            run_row(comparison, jury, name)
    for name in (PYRAMID, SINGLE):
        if comparison.wants(name) and comparison.record(f"rfid_{name}") is None:
            keep_rfid(comparison, name)


def keep_rfid(comparison: Comparison, name: str) -> None:
    """Records the figures of a tokenizer's reconstructions, and of real training images."""
    file = Path(comparison.records) / f"rfid_{name}.json"
    words = ["evaluate", tokenizer_of(comparison, name), "--reconstruct", "--extractor"]
    words += [comparison.extractor, "--reference", "fashion-mnist", "--perceptual"]
    words += [comparison.extractor, "--json", str(file)]
    if run_to_its_end([sys.executable, "-m", "nextscale", *words]):
        raise UsageError(f"the tokenizer {name} was not judged; what was told above is why")


def measure_time(comparison: Comparison) -> None:
    """Records seconds an image of every row, measured in turn so that all meet the same machine.

    Seconds do not depend on what a network has learnt, so each is trained for a few steps here,
    whose rate is recorded too; what was trained so before is trained again.
    """
    work = Path(comparison.work) / "timed"
    for log in work.glob("*/log.jsonl"):
        shutil.rmtree(log.parent)
    steps = comparison.max_steps or TIMED_STEPS
    short = replace(comparison, work=str(work), max_steps=steps)
    contenders, judges, rates = {}, {}, {}
    for name, row in ROWS.items():
        known = comparison.record(f"row_{name}")
        if known is not None:
            trained_here = full_training(short, row.training, 0, known["learning_rate"])
            rates[row.training] = training_rate(trained_here)
            place = trained_here / "final"
            contenders[name] = open_contender(row, place, known["tuning"]["options"])
            judges[name] = judge_of(row, place, comparison.extractor)
    if not contenders:
        raise UsageError(f"{comparison.records} holds no row; `compare.py run` makes them")
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    labels = torch.arange(TIMED) % 10
    for _ in range(REPEATS):
        for name, contender in contenders.items():
            begin = time.perf_counter()
            images, judge = contender.draw(labels, range(TIMED)), judges[name]
            (images if judge is None else judge(images)).cpu()  # waits for the device
            kept = TIMED * ROWS[name].keep
            seconds[name].append((time.perf_counter() - begin) / kept)
    comparison.keep(
        "seconds",
        {
            "median": {name: statistics.median(values) for name, values in seconds.items()},
            "all": seconds,
            "training_images_per_second": rates,
            "images_at_once": TIMED,
            "threads": torch.get_num_threads(),
            "date": time.strftime("%Y-%m-%d"),
        },
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code as `nextscale` does, 2 at bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, tuple[type, Callable[[Any], None]]] = {
        "run": (Judging, run),
        "time": (Comparison, measure_time),
        "table": (Records, lambda given: write_results(Path(given.records))),
    }
    try:
        if not words or words[0] not in commands:
            raise UsageError(f"unknown command {' '.join(words[:1])!r}; known: run, time, table")
        parser = parser_for(f"python benchmarks/compare.py {words[0]}", "compare on equal terms")
        kind, command = commands[words[0]]
        add_dataclass(parser, kind)
        command(from_options(kind, parser.parse(words[1:])))
    except Stop as stop:
        return stop.code
    except (UsageError, OSError) as error:  # the latter: a full disk, a place without permission
        print(f"compare: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compare: interrupted; run this again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
