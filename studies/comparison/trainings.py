"""The comparison's trainings: run to their end, their learning rates tuned, their cost told."""

import hashlib
import json
import math
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nextscale.console.messages import inform
from nextscale.errors import UsageError
from nextscale.storage.files import read_json, write_text
from nextscale.storage.weights import hash_weights, read_tensors
from nextscale.training.divergence import Diverged
from nextscale.training.launch import STOPPED, finished, run_to_its_end
from studies.comparison.contenders import (
    EQUAL_COST,
    FINER_RATES,
    PYRAMID,
    RATES,
    RECIPES,
    SINGLE,
    TRAININGS,
)

RECORDS = "docs/results/comparison"
SHOWN = 8  # characters of a hash


@dataclass(frozen=True)
class Records:
    """What was found out.

    Attributes:
        records: directory of it; a record that is there is not made again.
    """

    records: str = RECORDS

    def record(self, name: str) -> dict[str, Any] | None:
        """What is known by this name."""
        file = Path(self.records) / f"{name}.json"
        return read_json(file) if file.is_file() else None

    def keep(self, name: str, values: dict[str, Any]) -> None:
        """Records values by a name."""
        file = Path(self.records) / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(values, indent=2) + "\n")


@dataclass(frozen=True)
class Comparison(Records):
    """What trains.

    Attributes:
        work: directory of trainings and drawn images.
        pyramid: checkpoint of the tokenizer of next-scale and diffusion; empty is
            `tokenizer_pyramid` in `work`, which is trained by its recipe if it is not there.
        single: that of next-token, alike.
        extractor: classifier that sees and judges all images.
        max_steps: of every training, for trials; 0 is off.
    """

    work: str = "runs/compare"
    pyramid: str = ""
    single: str = ""
    extractor: str = "fashion-mnist"
    max_steps: int = 0


@dataclass(frozen=True)
class Judging(Comparison):
    """What tunes and judges.

    Attributes:
        only: trainings, or tokenizers, whose records to make; none makes all.
        count: images that a row is judged by.
        tuning_count: images that an option is tuned by.
        tuning_epochs: length of the trainings that tune a learning rate.
    """

    only: tuple[str, ...] = ()
    count: int = 10000
    tuning_count: int = 2000
    tuning_epochs: float = 1.0

    def __post_init__(self) -> None:
        if self.max_steps and self.records == RECORDS:
            raise UsageError("trials of --max-steps need records of their own; give --records")
        known = (PYRAMID, SINGLE, *TRAININGS)
        unknown = [name for name in self.only if name not in known]
        if unknown:
            raise UsageError(f"unknown training {unknown[0]!r}; known: {', '.join(known)}")

    def wants(self, name: str) -> bool:
        """Whether the records of a training are asked for."""
        return not self.only or name in self.only


def trained(comparison: Comparison, name: str, seed: int, **options: Any) -> Path:
    """The run of a recipe, trained to its end unless it was before; raises as `run_recipe`."""
    training, recipe = TRAININGS[name], RECIPES / f"{name}.yaml"
    given = {"seed": seed, **options}
    if comparison.max_steps:
        given["max_steps"] = comparison.max_steps
    tokenizer = tokenizer_of(comparison, training.tokenizer)
    told = json.dumps([[recipe.read_text(), fingerprint(Path(tokenizer))], given])
    shown = hashlib.sha256(told.encode()).hexdigest()[:SHOWN]  # another recipe is another run
    telling = [f"{options[key]:g}" for key in ("learning_rate", "epochs") if key in options]
    out = Path(comparison.work) / "-".join([name, str(seed), *telling, shown])
    own = training.command == "diffusion"
    program = ["studies", "diffusion", "train"] if own else ["nextscale", "train", training.command]
    run_recipe(program, recipe, out, {**given, "tokenizer": tokenizer})
    return out


def tokenizer_of(comparison: Comparison, name: str) -> str:
    """The checkpoint of a tokenizer, which is trained if none is given; raises as `run_recipe`."""
    if given := {PYRAMID: comparison.pyramid, SINGLE: comparison.single}[name]:
        return given
    recipe, trial = f"tokenizer_{name}", comparison.max_steps
    out = Path(comparison.work) / (f"{recipe}-{trial}" if trial else recipe)
    steps = {"max_steps": trial} if trial else {}
    run_recipe(["nextscale", "train", "tokenizer"], RECIPES / f"{recipe}.yaml", out, steps)
    return str(out / "final")


def run_recipe(program: list[str], recipe: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Trains a recipe to its end, unless that was done before.

    Args:
        program: the module that trains, and its command.
        recipe: YAML file of options.
        out: directory of the run, which is continued where it was stopped.
        options: override those of the recipe.

    Raises:
        Diverged: if its loss was not finite.
        KeyboardInterrupt: if it was told to stop; it has saved.
        UsageError: if the training fails otherwise; it has told why.
    """
    if finished(out):
        return
    given = {"config": recipe, "out": out, **options}
    words = [word for key, value in given.items() for word in (dashed(key), str(value))]
    inform(f"training {out.name}")
    code = run_to_its_end([sys.executable, "-m", *program, *words, "--resume"])
    if code in STOPPED:
        raise KeyboardInterrupt
    if code and diverged(out):
        raise Diverged(f"the training in {out} diverged")
    if code:
        raise UsageError(f"the training in {out} ended with code {code}; run this again to go on")


def diverged(run: Path) -> bool:
    """Whether the last that a run's log tells is that its loss was not finite."""
    lines = log_of(run) if (run / "log.jsonl").is_file() else []
    return bool(lines) and lines[-1].get("error", "").startswith(Diverged.__name__)


def fingerprint(checkpoint: Path) -> list[str]:
    """What tells a checkpoint from others: the hashes of its files of weights."""
    return [hash_weights(read_tensors(file)) for file in sorted(checkpoint.glob("*.safetensors"))]


def dashed(name: str) -> str:
    """An option as it is typed."""
    return "--" + name.replace("_", "-")


def log_of(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def tuned_rate(comparison: Judging, name: str) -> float:
    """The learning rate whose short training has the lowest loss on unseen images."""
    name = TRAININGS[name].rate_of or name
    known = comparison.record(f"rate_{name}") or {"losses": {}}
    losses = {float(rate): loss for rate, loss in known["losses"].items()}
    while (rate := untried(losses)) is not None:
        losses[rate] = loss_at(comparison, name, rate)
        kept = {f"{rate:g}": losses[rate] for rate in sorted(losses)}
        comparison.keep(f"rate_{name}", {"losses": kept})
    return min(losses, key=losses.__getitem__)


def untried(losses: Mapping[float, float]) -> float | None:
    """The next learning rate to try: one of `RATES`, then beside the best while that is an end."""
    missing = [rate for rate in RATES if rate not in losses]
    if missing:
        return missing[0]
    best = FINER_RATES.index(min(losses, key=losses.__getitem__))
    beside = FINER_RATES[max(0, best - 1) : best + 2]
    return next((rate for rate in beside if rate not in losses), None)


def loss_at(comparison: Judging, name: str, rate: float) -> float:
    """Loss on unseen images after a short training; infinite if that diverged."""
    short = {"learning_rate": rate, "epochs": comparison.tuning_epochs}
    try:
        run = trained(comparison, name, 0, **short)
    except Diverged:
        return math.inf
    return [entry["loss"] for entry in log_of(run) if entry.get("event") == "validation"][-1]


def training_flops(run: Path) -> float:
    """Floating-point operations of training on one image."""
    return log_of(run)[0]["training_flops_per_image"]


def full_training(comparison: Comparison, name: str, seed: int, rate: float) -> Path:
    """The run of a recipe at a learning rate; diffusion gets the arithmetic of `EQUAL_COST`."""
    options: dict[str, Any] = {"learning_rate": rate}
    if TRAININGS[name].command == "diffusion":
        ours, theirs = (
            training_flops(trained(comparison, kind, 0, **options, epochs=0.01))
            for kind in (EQUAL_COST, name)
        )
        recipe = yaml.safe_load((RECIPES / f"{EQUAL_COST}.yaml").read_text())
        longer = ours / theirs
        options["epochs"] = round(recipe["epochs"] * longer, 2)
        options["save_every"] = round(recipe["save_every"] * longer)
        options["keep"] = math.ceil(recipe["keep"] * longer)  # more epochs end with a checkpoint
    return trained(comparison, name, seed, **options)


def steps_of(run: Path) -> list[dict[str, Any]]:
    """The lines of training steps in a run's log."""
    return [entry for entry in log_of(run) if "images_per_second" in entry]


def training_rate(run: Path) -> float:
    """Images a second of a training, the median: it may have been stopped, or waited for others."""
    return statistics.median(entry["images_per_second"] for entry in steps_of(run))


def cost_of(run: Path) -> dict[str, float]:
    """Arithmetic and hours of a training, at its median rate, and images it saw."""
    images = max(entry["images"] for entry in steps_of(run))
    hours = images / training_rate(run) / 3600
    return {"images": images, "hours": hours, "flops": images * training_flops(run)}


def checkpoint_at(run: Path, share: float) -> Path:
    """The model of a run after a share of its training.

    Raises:
        UsageError: if no checkpoint is from there, within a hundredth of the training.
    """
    if share == 1:
        return run / "final"
    steps = log_of(run)[0]["steps"]
    for place in sorted((run / "checkpoints").glob("step-*")):
        if abs(int(place.name.removeprefix("step-")) - share * steps) < steps / 100:
            return place
    raise UsageError(f"{run} has no checkpoint of {share:.0%} of its {steps} steps")
