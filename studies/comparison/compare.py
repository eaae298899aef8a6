"""Next-scale against next-token and diffusion on equal terms (VAR Tables 1 and 3 in miniature).

    python -m studies compare run
    python -m studies compare time
    python -m studies compare table
    python -m studies compare judge --row dit_ddim --checkpoint DIRECTORY --cfg 2

`run` tunes, trains, draws and judges whatever is not recorded yet, and goes on where it was
stopped, also without the trainings of rows that are recorded; `time` measures seconds an image and
images a second of training, side by side; `table` writes table and figures; `judge` tells what a
row's tuning would find of any checkpoint, with options of one's own, and records nothing.
"""

import json
import shutil
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nextscale.console.commands import configured
from nextscale.console.messages import inform
from nextscale.errors import UsageError
from nextscale.machine.devices import best_device
from nextscale.speed.timing import machine
from nextscale.training.launch import run_to_its_end
from studies.comparison.contenders import PYRAMID, ROWS, SHARES, SINGLE, TRAININGS
from studies.comparison.jury import Jury, drawing_precision, judge_of, open_contender
from studies.comparison.tables import write_results
from studies.comparison.trainings import (
    Comparison,
    Judging,
    Records,
    checkpoint_at,
    cost_of,
    full_training,
    log_of,
    tokenizer_of,
    training_rate,
    tuned_rate,
)

TIMED = 50  # images drawn at once when seconds are measured
REPEATS = 5
TIMED_STEPS = 200  # of training, when its rate is measured


@dataclass(frozen=True)
class Trial:
    """A checkpoint that is judged as options are tuned: few images, against training ones.

    Attributes:
        row: by its name in `ROWS`, that draws with the checkpoint.
        checkpoint: directory of it.
        top_k: codes that are drawn from; 0 keeps all.
        cfg: strength of guidance; 0 is off.
        count: images.
        work: directory of drawn images.
        extractor: classifier that sees and judges them.
    """

    row: str = ""
    checkpoint: str = ""
    top_k: int = 0
    cfg: float = 0.0
    count: int = 2000
    work: str = "runs/compare"
    extractor: str = "fashion-mnist"

    def __post_init__(self) -> None:
        if self.row not in ROWS:
            raise UsageError(f"row is {self.row!r}; it can be {', '.join(ROWS)}")
        if not self.checkpoint:
            raise UsageError("nothing is given to judge; give --checkpoint DIRECTORY")
        if ROWS[self.row].sampler and self.top_k:
            raise UsageError(f"top_k is {self.top_k}, but {self.row} draws no codes")


def run_row(comparison: Judging, jury: Jury, name: str) -> None:
    """Trains, tunes and judges a row, and records it."""
    row, count = ROWS[name], comparison.count
    record: dict[str, Any] = {"title": row.title, "training": row.training, "runs": []}
    seeds, rate = TRAININGS[row.training].seeds, tuned_rate(comparison, row.training)
    runs = [full_training(comparison, row.training, seed, rate) for seed in seeds]
    shares = SHARES if row.efficiency and not comparison.max_steps else ()  # a trial ends before
    early = {share: checkpoint_at(runs[0], share) for share in shares}
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
        raise UsageError(
            f"{comparison.records} holds no row; `python -m studies compare run` makes them"
        )
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    labels = torch.arange(TIMED) % 10
    for _ in range(REPEATS):
        for name, contender in contenders.items():
            begin = time.perf_counter()
            images, judge = contender.draw(labels, range(TIMED))[-1], judges[name]
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
            **machine(best_device()),
        },
    )


def judge(trial: Trial) -> None:
    """Prints the figures of a checkpoint's images as JSON."""
    row, options = ROWS[trial.row], {"cfg": trial.cfg}
    if not row.sampler:
        options["top_k"] = trial.top_k
    jury = Jury(Judging(work=trial.work, extractor=trial.extractor, tuning_count=trial.count))
    print(json.dumps(jury.judge_options(row, Path(trial.checkpoint), options), indent=2))


def show(records: Records) -> None:
    """Writes the table and the figures."""
    inform(f"see {write_results(Path(records.records))}")


COMMANDS = {
    "run": configured(Judging, run),
    "time": configured(Comparison, measure_time),
    "table": configured(Records, show),
    "judge": configured(Trial, judge),
}
