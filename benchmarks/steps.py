"""What each step of making drawing faster brought, and whether it still draws the same images.

    python benchmarks/steps.py [--model var-d16] [--seeds 10] [--batch 8] [--json FILE]

takes the steps' commits from the repository's history and lets each draw in a process of its own,
in turn, so that all meet the same machine. A bundled model draws with its weights, a released one
with fresh ones, guided as its configuration says.
"""

import argparse
import io
import json
import shutil
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from nextscale.checkpoints.checkpoint import config_of
from nextscale.console.progress import progress
from nextscale.console.report import check_report, conclude
from nextscale.cost.flops import decoder_flops
from nextscale.errors import UsageError
from nextscale.scales import areas
from nextscale.speed.timing import machine
from nextscale.storage.files import read_json, write_text
from nextscale.tokenizer.tokenizer import Tokenizer

REPOSITORY = Path(__file__).parents[1]
BUNDLED = REPOSITORY / "nextscale/bundled"
Seconds = dict[str, float]  # an image, by part


@dataclass(frozen=True)
class Step:
    """A commit and what it changed.

    Attributes:
        commit: "" is the code beside this file.
        predicted: what was expected of it.
    """

    commit: str
    change: str
    predicted: str = ""


# Predictions are counts of arithmetic, but for memory's, of a profile (clearing fresh pages was a
# fifth of decoding), and the last, of what a batch had taken longer than single images.
STEPS = (
    Step("5d2acb7", "before"),
    Step("44f2069", "upsampling as four convolutions, channels last", "decoder {upsampling:.0%}"),
    Step("ff69c2c", "freed memory kept; attention reads its cache in place", "decoder -20%"),
    Step("", "large images decoded one at a time", "decoder -8% at batch 8"),
)

NEWER = "mean_scales"  # a sampling option that steps before the last do not know

# What draws, in a process of its own: answers a line of JSON with a line of JSON.
DRAWER = """
import importlib.util, json, sys, time
import numpy as np, torch
import nextscale
from nextscale.checkpoints.checkpoint import config_of, load
from nextscale.models.build import build_model
from nextscale.generation.sampling import generate, last_state
from nextscale.tokenizer.tokenizer import Tokenizer

if importlib.util.find_spec("nextscale.acceleration"):
    from nextscale.acceleration import keep_freed_memory
    keep_freed_memory()
if sys.argv[2]:
    pipe = load(sys.argv[2])
    config, tokenizer, model = pipe.config, pipe.tokenizer, pipe.model
else:
    config = config_of(sys.argv[1])
    torch.manual_seed(0)
    tokenizer = Tokenizer(config.tokenizer).eval()
    model = build_model(config.model, config.tokenizer).eval()
print(json.dumps({"code": nextscale.__file__}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    labels = torch.tensor(asked["seeds"]) % config.model.classes
    tokens = []
    with torch.inference_mode():
        begin = time.perf_counter()
        drawn = generate(model, tokenizer, labels, seeds=asked["seeds"], **asked["sampling"])
        for state in drawn:
            tokens.append(state.tokens.flatten(1))
        between = time.perf_counter()
        image = state.image()
        end = time.perf_counter()
    np.savez(asked["file"], tokens=torch.cat(tokens, 1).numpy(), image=image.numpy())
    took = {"seconds": end - begin, "transformer": between - begin, "decoder": end - between}
    print(json.dumps(took), flush=True)
"""


def known_to_all(checkpoint: Path, folder: Path) -> Path:
    """A copy of a checkpoint whose configuration every step can read."""
    copy = folder / "weights"
    if not copy.exists():
        shutil.copytree(checkpoint, copy)
        config = read_json(copy / "config.json")
        del config["sampling"][NEWER]
        write_text(copy / "config.json", json.dumps(config))
    return copy


class Drawer:
    """A step's code, waiting in a process of its own."""

    def __init__(self, step: Step, model: str, folder: Path) -> None:
        source = unpack(step.commit, folder) if step.commit else REPOSITORY
        weights = known_to_all(BUNDLED / model, folder) if (BUNDLED / model).is_dir() else ""
        sampling = vars(config_of(model).sampling)  # a default that changed is no other draw
        self.sampling = {name: value for name, value in sampling.items() if name != NEWER}
        command = [sys.executable, "-c", DRAWER, model, str(weights)]
        self.process = subprocess.Popen(
            command, cwd=source, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        code = Path(self.hear()["code"])
        if source not in code.parents:
            raise UsageError(f"{step.change!r} would run {code}, not its own code")

    def draw(self, seeds: Sequence[int], file: Path) -> Seconds:
        """Draws a batch; gives the seconds of its parts, an image."""
        assert self.process.stdin is not None
        asked = {"seeds": list(seeds), "sampling": self.sampling, "file": str(file)}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return {part: seconds / len(seeds) for part, seconds in self.hear().items()}

    def hear(self) -> dict[str, Any]:
        """The next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise UsageError("a step's process ended, and has told why")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def unpack(commit: str, folder: Path) -> Path:
    """The package as a commit holds it, below `folder`."""
    done = subprocess.run(
        ["git", "archive", "--format=tar", commit, "nextscale"],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise UsageError(f"commit {commit} is not in this repository's history; clone all of it")
    target = folder / commit
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(target, filter="data")
    return target


class Steps:
    """All steps' processes, asked in turn."""

    def __init__(
        self, model: str, folder: Path, opened: ExitStack, advance: Callable[[int], None]
    ) -> None:
        self.folder, self.advance = folder, advance
        self.drawers: list[Drawer] = []
        for step in STEPS:
            self.drawers.append(Drawer(step, model, folder))
            opened.callback(self.drawers[-1].close)

    def rounds(self, asked: Sequence[Sequence[int]]) -> list[list[Seconds]]:
        """Lets every step draw each batch of seeds; gives their seconds by step and batch."""
        found: list[list[Seconds]] = [[] for _ in STEPS]
        for seeds in asked:
            for i, drawer in enumerate(self.drawers):
                found[i].append(drawer.draw(seeds, drawing_of(self.folder, i, seeds[0])))
                self.advance(1)
        return found


def drawing_of(folder: Path, step: int, seed: int) -> Path:
    """Where the tokens and images of a batch that begins with `seed` are left."""
    return folder / f"{step}_{seed}.npz"


def difference(folder: Path, step: int, seeds: int) -> dict[str, Any]:
    """How the images of a step, drawn one by one, differ from the first step's."""
    flips, distances = [], []
    for seed in range(seeds):
        first, other = (np.load(drawing_of(folder, i, seed)) for i in (0, step))
        places = np.flatnonzero(first["tokens"] != other["tokens"])
        if len(places):  # what follows the first one differs because of it
            at = int(places[0])
            pair = [int(drawn["tokens"].flat[at]) for drawn in (first, other)]
            flips.append({"seed": seed, "position": at, "tokens": pair})
        distances.append(float(np.abs(first["image"] - other["image"]).max()))
    return {"flips": flips, "largest_difference": max(distances)}


def measure(model: str, seeds: int, batch: int) -> dict[str, Any]:
    """The report; its `rows` hold a step each.

    Args:
        model: a bundled one, or the shape of a released one.
        seeds: images drawn one by one, compared and timed.
        batch: images drawn at once, in three rounds; only timed.
    """
    with (
        TemporaryDirectory() as folder,
        ExitStack() as opened,
        progress("measuring", (seeds + 4) * len(STEPS), "drawings") as advance,
    ):
        steps = Steps(model, Path(folder), opened, advance)
        steps.rounds([[0]])  # warms up
        batches = steps.rounds([range(batch)] * 3)
        singles = steps.rounds([[seed] for seed in range(seeds)])
        rows = [
            {
                "commit": step.commit,
                "change": step.change,
                "predicted": step.predicted.format(upsampling=-upsampling_saved(model)),
                "alone": medians(singles[i]),
                "batch": medians(batches[i]),
                **difference(Path(folder), i, seeds),
            }
            for i, step in enumerate(STEPS)
        ]
    about = {"model": model, "seeds": seeds, "batch": batch, "now": described()}
    return about | {"rows": rows} | machine(torch.device("cpu"))


def medians(runs: Sequence[Seconds]) -> Seconds:
    """Seconds of each part, in the middle, and how far apart the whole's are, as a share."""
    found = {part: statistics.median(run[part] for run in runs) for part in runs[0]}
    whole = [run["seconds"] for run in runs]
    return {**found, "spread": (max(whole) - min(whole)) / found["seconds"]}


def described() -> str:
    """The commit beside this file, and whether the package was changed since."""
    name = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(name, cwd=REPOSITORY, capture_output=True, check=True, text=True)
    changed = subprocess.run(
        ["git", "diff", "--quiet", "HEAD", "--", "nextscale"], cwd=REPOSITORY, check=False
    )
    return done.stdout.strip() + "-dirty" * bool(changed.returncode)


def upsampling_saved(model: str) -> float:
    """The share of the decoder's arithmetic that four taps a pixel save where nine were."""
    config = config_of(model).tokenizer
    with torch.device("meta"):
        upsamples = Tokenizer(config).decoder.upsamples
    products = 0
    for i, upsample in upsamples.items():
        pixels = areas(config.scales)[-1] * 4 ** (len(upsamples) + 1 - int(i))
        products += pixels * sum(w.numel() for w in upsample.parameters() if w.dim() == 4)
    return 5 / 9 * 2 * products / decoder_flops(config)


def lines(report: dict[str, Any]) -> list[dict[str, str]]:
    """The report as rows of a table."""
    first = report["rows"][0]
    batch = f"batch {report['batch']}"
    return [
        {
            "commit": row["commit"] or report["now"],
            "change": row["change"],
            "predicted": row["predicted"],
            "batch 1": seconds(row["alone"], first["alone"]),
            batch: seconds(row["batch"], first["batch"]),
            "transformer": f"{row['batch']['transformer']:.3g}",
            "decoder": f"{row['batch']['decoder']:.3g}",
            "spread": f"{row['batch']['spread']:.0%}",
            "seeds with another token": f"{len(row['flips'])} of {report['seeds']}",
            "images differ by": f"{row['largest_difference']:.0e}",
        }
        for row in report["rows"]
    ]


def seconds(took: Seconds, first: Seconds) -> str:
    """Seconds an image, and how many times faster than at first."""
    return f"{took['seconds']:.3g} ({first['seconds'] / took['seconds']:.2f}x)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and tells; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="var-d16", help="bundled, or a released one's shape")
    parser.add_argument("--seeds", type=int, default=10, help="images compared")
    parser.add_argument("--batch", type=int, default=8, help="images drawn at once")
    parser.add_argument("--json", default="", help="file of the report")
    given = parser.parse_args(arguments)
    try:
        if min(given.seeds, given.batch) < 1:
            raise UsageError("--seeds and --batch must be at least 1")
        check_report(given.json)
        report = measure(given.model, given.seeds, given.batch)
    except UsageError as error:
        print(f"steps: error: {error}", file=sys.stderr)
        return 2
    conclude(report, given.json, lines(report))
    for row in report["rows"]:
        for flip in row["flips"]:
            print(f"{row['commit'] or report['now']}: {flip}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
