"""How fast nextscale is here: runs the benchmarks and writes docs/results/performance.md.

    python benchmarks/performance.py            # all, about an hour on two cores
    python benchmarks/performance.py methods    # some of them; the others stay as recorded

What was printed lies in docs/results/performance/NAME.md, the whole report in NAME.json.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from nextscale.storage.files import read_json, write_text

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "docs/results"
RECORDS = RESULTS / "performance"

# Name: (what it shows, command).
BENCHMARKS = {
    "sample_d16": (
        "Drawing at 256 pixels: the shape of the released d16, guided",
        "nextscale benchmark sample --model var-d16 --random-weights --batch 1 8 --repeats 3",
    ),
    "steps": (
        "What each step brought: d16 at 256 pixels, fp32, each in its own process, in turn",
        "python benchmarks/steps.py",
    ),
    "steps_fashion_mnist": (
        "The same of the bundled model",
        "python benchmarks/steps.py --model fashion-mnist --batch 25",
    ),
    "sample_fashion_mnist": (
        "Drawing with the bundled model",
        "nextscale benchmark sample --model fashion-mnist --batch 1 25",
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
        "nextscale benchmark sample --model var-d36-512 --random-weights --batch 1 --modes exact "
        "--repeats 1",
    ),
    "tiles": (
        "Decoding in tiles: the shape of the released tokenizer at 512 pixels",
        "python benchmarks/tiles.py",
    ),
    "methods": (
        "Next-scale against next-token and diffusion: d16, 256 tokens, unguided",
        "nextscale benchmark methods",
    ),
    "growth": (
        "How attention grows with the side of the token map",
        "nextscale benchmark growth",
    ),
    "train_fashion_mnist": (
        "Training both stages of the bundled model",
        "nextscale benchmark train --model fashion-mnist --batch 64",
    ),
    "train_d16": (
        "Training d16 at 256 pixels on cached tokens",
        "nextscale benchmark train --model var-d16 --stages transformer --batch 2 --repeats 3",
    ),
    "train_d16_checkpointed": (
        "The same with activation checkpointing of all blocks",
        "nextscale benchmark train --model var-d16 --stages transformer --batch 2 --repeats 3 "
        "--activation-checkpointing 1",
    ),
    "train_d16_half_checkpointed": (
        "The same with activation checkpointing of half of the blocks",
        "nextscale benchmark train --model var-d16 --stages transformer --batch 2 --repeats 3 "
        "--activation-checkpointing 0.5",
    ),
    "estimate_d16": (
        "Estimates for sampling and training d16",
        "nextscale estimate --model var-d16 --tasks sample transformer --batch 1 2 8 --rate 190",
    ),
}


def measure(name: str) -> None:
    """Runs a benchmark and records what it printed."""
    title, command = BENCHMARKS[name]
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
    """What is recorded, in the order of `BENCHMARKS`."""
    files = [RECORDS / f"{name}.md" for name in BENCHMARKS]
    parts = [file.read_text() for file in files if file.is_file()]
    head = "# Performance\n\nMade by `python benchmarks/performance.py`, on an idle machine.\n"
    return "\n".join([head, *parts])


def main(names: list[str]) -> int:
    """Measures what is named, or all; returns the exit code."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        known = ", ".join(BENCHMARKS)
        print(f"performance: error: unknown {unknown[0]!r}; known: {known}", file=sys.stderr)
        return 2
    RECORDS.mkdir(parents=True, exist_ok=True)
    for name in names or BENCHMARKS:
        try:
            measure(name)
        except subprocess.CalledProcessError as error:  # it has told why
            return error.returncode
        write_text(RESULTS / "performance.md", page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
