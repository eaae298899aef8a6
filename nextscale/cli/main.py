"""`nextscale COMMAND`: finds the command, imports its file alone, makes errors one line."""

import importlib
import io
import os
import signal
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import suppress

from nextscale.console.options import Stop, parser_for
from nextscale.errors import (
    UsageError,
    did_you_mean,
    escaped,
    ignore_pillow_warnings,
    to_install,
    unknown,
)
from nextscale.storage.files import FULL, disk_full

LONGEST_LINE = 1200  # characters of an error; a message that lists all options has a thousand
# Command: (file in this folder, what it does). Two words where a command has parts.
COMMANDS = {
    "sample": ("sample", "draw images with a model"),
    "reconstruct": ("reconstruct", "encode and decode pictures, or show them scale by scale"),
    "edit inpaint": ("edit_inpaint", "fill what is marked of pictures"),
    "edit outpaint": ("edit_outpaint", "continue pictures beyond their sides"),
    "edit class": ("edit_class", "make what is marked of pictures one of another class"),
    "edit vary": ("edit_vary", "keep coarse scales of pictures and sample the fine ones again"),
    "edit interpolate": ("edit_interpolate", "make pictures from one to another"),
    "app": ("app", "serve a page to draw, edit and look inside"),
    "data check": ("data_check", "look at a folder of images and say what to train it with"),
    "train tokenizer": ("train_tokenizer", "train a tokenizer, the first stage"),
    "train var": ("train_var", "train a transformer, the second stage"),
    "train ar": ("train_ar", "train the next-token baseline on a tokenizer of one scale"),
    "train classifier": ("train_classifier", "train a classifier that judges images"),
    "evaluate": (
        "evaluate",
        "measure a model, a tokenizer or images: FID, IS, precision, recall, KID",
    ),
    "benchmark sample": ("benchmark_sample", "measure how fast a model draws, and in what memory"),
    "benchmark train": ("benchmark_train", "measure how fast both stages train, in what memory"),
    "benchmark methods": (
        "benchmark_methods",
        "measure next-scale against next-token and diffusion on one trunk",
    ),
    "benchmark growth": (
        "benchmark_growth",
        "count and measure how attention's cost grows with the token map",
    ),
    "scaling-laws run": ("scaling_laws_run", "train a ladder of models"),
    "scaling-laws fit": ("scaling_laws_fit", "fit power laws to trained models"),
    "scaling-laws predict": ("scaling_laws_predict", "predict what a larger model would reach"),
    "scaling-laws draw": ("scaling_laws_draw", "draw one class over model size and training"),
    "estimate": ("estimate", "predict parameters, FLOPs, memory and time without running"),
    "convert": ("convert", "make a checkpoint of released or published weights"),
    "models": ("models", "list the models that can be loaded by name"),
}
# The optional part of the package that a command needs, by its first word; `train` for the others.
EXTRAS = {"evaluate": "eval", "scaling-laws": "eval", "benchmark": "bench", "app": "app"}
PATIENCE = 10  # seconds that a process gives the first one to meet the same error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0, 2 at bad input, 128 + signal if interrupted."""
    print_anywhere()
    ignore_pillow_warnings()
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        return answer(words)
    except KeyboardInterrupt:
        if rank() == 0:
            complain("nextscale: interrupted")
        return 130
    except BrokenPipeError:
        forget_output()
        return 141  # 128 + SIGPIPE, as a shell expects of a writer whose reader left
    except Exception as error:
        line = None if debug else line_of(error, words)
        if rank() > 0:
            wait_for_the_first(1 if line is None else 2)
        if line is None:
            raise
        where = f"rank {rank()}: " if rank() > 0 else ""
        complain(f"nextscale: error: {where}{clipped(escaped(line))}")
        forget_output()
        return 2


def answer(words: list[str]) -> int:
    """Runs a command; what it prints is written when this returns, or raises OSError."""
    try:
        code = run(words)
    except Stop as stop:
        code = stop.code
    sys.stdout.flush()
    return code


def complain(line: str) -> None:
    """Prints a line on stderr if it can be written to; the exit code speaks either way."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def forget_output() -> None:
    """Drops what is printed and cannot be written, at which Python would complain at its exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def clipped(line: str) -> str:
    """A line without its middle, if someone gave a value that fills screens."""
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} … {line[-half:]}"


def line_of(error: Exception, words: list[str]) -> str | None:
    """What a user can mend, in one line; None for a fault of ours."""
    if isinstance(error, UsageError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "nextscale").partition(".")[0]
        hint = to_install(EXTRAS.get(words[0], "train"))
        missing = f"`{words[0]}` needs {package}, which is not installed; {hint}"
        return None if package == "nextscale" else missing
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and ran_out(str(error))):
        return "memory ran out; give a smaller batch, size or model"
    if lost_process(error):
        return "another process of this run has ended; what it saved can be continued"
    if isinstance(error, OSError) and error.errno is not None:
        # a full disk, a directory that may not be written to
        said = disk_full(error) if error.errno in FULL else error.strerror
        return f"{error.filename}: {said}" if error.filename else said
    return None


def ran_out(said: str) -> bool:
    """Whether torch says that the memory of a CPU or an accelerator is used up."""
    return "can't allocate memory" in said or "out of memory" in said


def lost_process(error: Exception) -> bool:
    """Whether torch says that a process with which this one computes has ended."""
    if not isinstance(error, RuntimeError) or int(os.environ.get("WORLD_SIZE") or 1) == 1:
        return False
    if type(error).__name__ in ("DistBackendError", "DistNetworkError"):
        return True
    said = str(error).lower()
    return "gloo" in said and any(word in said for word in ("reset by peer", "closed by peer"))


def print_anywhere() -> None:
    """Makes what the locale's encoding lacks print as its escape, such as `\\u03c6` for φ.

    A stream that is closed from the start swallows what is printed. Otherwise lines for stderr
    would go to stdout, and the next file that is opened would take the stream's place.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def rank() -> int:
    """Number of this process among those of `torchrun`; 0 alone."""
    return int(os.environ.get("RANK") or 0)


def wait_for_the_first(code: int) -> None:
    """Leaves an error that all processes meet to the first one.

    The first one prints it and ends; torchrun then terminates the others, which exit with the same
    code and print nothing. A process that is still there after a while met an error of its own.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(code))
    time.sleep(PATIENCE + rank() / 2)  # the lowest of several speaks


def run(words: list[str]) -> int:
    """Runs the command that the words begin with."""
    if words[:1] == ["--version"]:
        from importlib import metadata

        print(metadata.version("nextscale"))
        return 0
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(overview(COMMANDS))
        return 0
    parts = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if parts and words[1:2] in (["-h"], ["--help"], ["help"]):
        print(overview(parts))
        return 0
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in COMMANDS:
            file, what = COMMANDS[name]
            module = importlib.import_module(f"nextscale.cli.{file}")
            parser = parser_for(f"nextscale {name}", what)
            module.add_arguments(parser)
            return module.run(parser.parse(words[count:])) or 0
    raise unknown_command(words, parts)


def unknown_command(words: list[str], parts: list[str]) -> UsageError:
    """The error about words that begin with no command; `parts` share the first word."""
    if parts and len(words) == 1:
        return UsageError(f"{words[0]!r} needs a second word; known: {', '.join(parts)}")
    single = [name for name in COMMANDS if " " not in name]
    mistyped = did_you_mean(words[0], single) and not parts
    given = words[0] if mistyped else " ".join(words[:2])
    return unknown("command", given, parts or [*COMMANDS, "--help", "--version"])


def overview(commands: Collection[str]) -> str:
    """The help of the whole program, or of the commands that share a first word."""
    width = max(map(len, commands)) + 2
    lines = [f"  {name:<{width}}{COMMANDS[name][1]}" for name in commands]
    return "\n".join(
        [
            "usage: nextscale COMMAND [options]",
            "",
            "Next-scale visual autoregressive generation (VAR, arXiv 2404.02905).",
            "",
            *lines,
            "",
            "nextscale COMMAND --help shows a command's options; --version, --debug (tracebacks).",
        ]
    )
