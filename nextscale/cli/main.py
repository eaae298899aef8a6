"""`nextscale COMMAND`: the table of commands; makes errors one line."""

import io
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from nextscale.console.commands import Program
from nextscale.console.options import Stop
from nextscale.errors import UsageError, escaped, ignore_pillow_warnings, to_install
from nextscale.storage.files import FULL, disk_full

LONGEST_LINE = 1200  # characters of an error; a message that lists all options has a thousand
# Command: (file in this folder, what it does). Two words where a command has parts.
COMMANDS = {
    "sample": ("sample", "draw images with a model"),
    "reconstruct": ("reconstruct", "encode and decode pictures, or show them scale by scale"),
    "edit inpaint": ("edit", "fill what is marked of pictures"),
    "edit outpaint": ("edit", "continue pictures beyond their sides"),
    "edit class": ("edit", "make what is marked of pictures one of another class"),
    "edit vary": ("edit", "keep coarse scales of pictures and sample the fine ones again"),
    "edit interpolate": ("edit", "make pictures from one to another"),
    "app": ("app", "serve a page to draw, edit and look inside"),
    "data check": ("data", "look at a folder of images and say what to train it with"),
    "train tokenizer": ("train", "train a tokenizer, the first stage"),
    "train var": ("train", "train a transformer, the second stage"),
    "train ar": ("train", "train the next-token baseline on a tokenizer of one scale"),
    "train classifier": ("train", "train a classifier that judges images"),
    "evaluate": (
        "evaluate",
        "measure a model, a tokenizer or images: FID, IS, precision, recall, KID",
    ),
    "speed sample": ("speed", "measure how fast a model samples, and in what memory"),
    "speed train": ("speed", "measure how fast both stages train, and in what memory"),
    "scaling-laws run": ("scaling_laws", "train a ladder of models"),
    "scaling-laws fit": ("scaling_laws", "fit power laws to trained models"),
    "scaling-laws predict": ("scaling_laws", "predict what a larger model would reach"),
    "scaling-laws draw": ("scaling_laws", "draw one class over model size and training"),
    "estimate": ("estimate", "predict parameters, FLOPs, memory and time without running"),
    "convert": ("models", "make a checkpoint of released or published weights"),
    "models": ("models", "list the models that can be loaded by name"),
}
PROGRAM = Program(
    name="nextscale",
    what="Next-scale visual autoregressive generation (VAR, arXiv 2404.02905).",
    package="nextscale.cli",
    commands=COMMANDS,
    note="nextscale COMMAND --help shows a command's options; --version, --debug (tracebacks),\n"
    "--plugin MODULE before COMMAND (imports a module that registers codes, data sets … of yours).",
    switches=("--help", "--version"),
)
RENAMED = {  # what is said of a command that has another name now
    "benchmark": "`nextscale benchmark` is now `nextscale speed sample` or `nextscale speed "
    "train`; methods and growth are `python -m studies methods` and `growth` in a clone",
}
# The optional part of the package that a command needs, by its first word; `train` for the others.
EXTRAS = {"evaluate": "eval", "scaling-laws": "eval", "app": "app"}
PATIENCE = 10  # seconds that a process gives the first one to meet the same error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0, 2 at bad input, 128 + signal if interrupted."""
    print_anywhere()
    ignore_pillow_warnings()
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        return answer(with_plugins(words))
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


def with_plugins(words: list[str]) -> list[str]:
    """Imports the modules that `--plugin` names before the command; returns the other words.

    They register answers of their own; see `config.registry` and docs/extending.md.
    """
    while words[:1] == ["--plugin"]:
        if len(words) < 2:
            raise UsageError("--plugin needs the name of a module")
        sys.path.insert(0, os.getcwd())  # as `python -m` does
        try:
            import_module(words[1])
        except ModuleNotFoundError as error:
            if error.name != words[1].partition(".")[0]:
                raise
            raise UsageError(
                f"--plugin {words[1]} is no module; give the name of one that Python finds here"
            ) from error
        words = words[2:]
    return words


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
    if words and words[0] in RENAMED:
        raise UsageError(RENAMED[words[0]])
    return PROGRAM.run(words)
