"""How fast nextscale is here: runs measurements and writes docs/results/performance.md.

    python -m studies performance            # all, about an hour on two cores
    python -m studies performance methods    # some of them; the others stay as recorded

What was printed lies in docs/results/performance/NAME.md, the whole report in NAME.json.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from jsonargparse import Namespace

from nextscale.console.options import Parser
from nextscale.errors import UsageError, unknown
from nextscale.storage.files import read_json, write_text

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "docs/results"
RECORDS = RESULTS / "performance"

# Name: (what it shows, command; empty where only a record is left).
MEASUREMENTS = {
    "sample_d16": (
        "Drawing at 256 pixels: the shape of the released d16, guided",
        "nextscale speed sample --model var-d16 --random-weights --batch 1 8 --repeats 3",
    ),
    "steps": (
        "What each step brought: d16 at 256 pixels, fp32, each in its own process, in turn",
        "",
    ),
    "steps_fashion_mnist": (
        "The same of the bundled model",
        "",
    ),
    "sample_fashion_mnist": (
        "Drawing with the bundled model",
        "nextscale speed sample --model fashion-mnist --batch 1 25",
    ),
    "quality_exact": (
        "Quality of the bundled model: 10,000 images, exact",
        "nextscale evaluate fashion-mnist --extractor fashion-mnist --out build/quality_exact",
    ),
    "quality_int8": (
        "The same in int8",
        "nextscale evaluate fashion-mnist --extractor fashion-mnist --no-bounds --precision int8 "
        "--compile --out build/quality_int8",
    ),
    "sample_d36_512": (
        "One image of 512 pixels: the shape of the released d36",
        "nextscale speed sample --model var-d36-512 --random-weights --batch 1 --modes exact "
        "--repeats 1",
    ),
    "tiles": (
        "Decoding in tiles: the shape of the released tokenizer at 512 pixels",
        "python -m studies tiles",
    ),
    "methods": (
        "Next-scale against next-token and diffusion: d16, 256 tokens, unguided",
        "python -m studies methods",
    ),
    "growth": (
        "How attention grows with the side of the token map",
        "python -m studies growth",
    ),
    "train_fashion_mnist": (
        "Training both stages of the bundled model",
        "nextscale speed train --model fashion-mnist --batch 64",
    ),
    "train_d16": (
        "Training d16 at 256 pixels on cached tokens",
        "nextscale speed train --model var-d16 --stages transformer --batch 2 --repeats 3",
    ),
    "train_d16_checkpointed": (
        "The same with activation checkpointing of all blocks",
        "nextscale speed train --model var-d16 --stages transformer --batch 2 --repeats 3 "
        "--activation-checkpointing 1",
    ),
    "train_d16_half_checkpointed": (
        "The same with activation checkpointing of half of the blocks",
        "nextscale speed train --model var-d16 --stages transformer --batch 2 --repeats 3 "
        "--activation-checkpointing 0.5",
    ),
    "estimate_d16": (
        "Estimates for sampling and training d16",
        "nextscale estimate --model var-d16 --tasks sample transformer --batch 1 2 8 --rate 190",
    ),
}


def measure(name: str) -> None:
    """Runs a measurement and records what it printed."""
    title, command = MEASUREMENTS[name]
    program, *words = shlex.split(command)
    module = ["-m", program] if program == "nextscale" else []
    done = subprocess.run(
        [sys.executable, *module, *words, "--json", str(RECORDS / f"{name}.json")],
        check=True,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    told = done.stdout
    if words[0] == "evaluate":  # prints no table of Markdown, and not where it ran
        report = read_json(RECORDS / f"{name}.json")
        told = f"```text\n{told}```\n\n{report['processor']}, {report['threads']} threads, "
        told = f"{told}seed {report['seed']}, {report['date']}\n"
    write_text(RECORDS / f"{name}.md", f"## {title}\n\n`{command}`\n\n{told}")


def page() -> str:
    """What is recorded, in the order of `MEASUREMENTS`."""
    files = [RECORDS / f"{name}.md" for name in MEASUREMENTS]
    parts = [file.read_text() for file in files if file.is_file()]
    head = "# Performance\n\nMade by `python -m studies performance`, on an idle machine.\n"
    return "\n".join([head, *parts])


def add_arguments(parser: Parser) -> None:
    """Adds the options of `performance`."""
    parser.add_argument("names", type=str, nargs="*", help="of measurements [all]")


def run(options: Namespace) -> int:
    """Measures what is named, or all; returns the exit code.

    Raises:
        UsageError: at a name that is unknown, or of which only a record is left.
    """
    for name in options.names:
        if name not in MEASUREMENTS:
            raise unknown("measurement", name, MEASUREMENTS)
        if not MEASUREMENTS[name][1]:
            raise UsageError(f"{name} is only a record; the program that made it is gone")
    RECORDS.mkdir(parents=True, exist_ok=True)
    for name in options.names or [name for name, (_, command) in MEASUREMENTS.items() if command]:
        try:
            measure(name)
        except subprocess.CalledProcessError as error:  # it has told why
            return error.returncode
        write_text(RESULTS / "performance.md", page())
    return 0
