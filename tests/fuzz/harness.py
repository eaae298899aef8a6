"""Runs a command in this process and says what is wrong with how it answered."""

import importlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import pytest

from nextscale.cli import main as command_line
from nextscale.console.options import Parser
from nextscale.errors import UsageError

SECONDS = 20  # that a command may take for its answer
ROOM = 3 * 2**30  # bytes of addresses beside those that are taken already
REACHED = "the work is reached"
WORK = {  # what takes long, and is replaced by the news that it was reached
    "nextscale.training.loop": ("Run.train",),
    "nextscale.scaling_laws.ladder": ("climb",),
    "nextscale.speed.sampling_speed": ("measure",),
    "nextscale.speed.training_speed": ("measure",),
    "nextscale.speed.estimate": ("estimate",),
    "nextscale.app.page": ("build_page",),
}
INSTEAD = {  # what also takes long, and what it gives instead
    "nextscale.scaling_laws.figures": (("draw_laws", "draw_frontier", "draw_scales"), None),
    "nextscale.machine.peaks": (("measure_peak",), 1e9),  # FLOP/s
}


class TooSlow(BaseException):
    """A command goes on and on."""


def reached(*arguments: Any, **options: Any) -> Any:
    """Stands for the work."""
    raise UsageError(REACHED)


def uncached(*arguments: Any, **options: Any) -> Any:
    """The source itself instead of its tokens, of which none was skipped."""
    source = arguments[2]
    source.skipped = 0
    return source


def put_work_aside(patch: pytest.MonkeyPatch) -> None:
    """Replaces what takes long in every command."""
    for module, names in WORK.items():
        for name in names:
            owner: Any = importlib.import_module(module)
            *classes, attribute = name.split(".")
            for inner in classes:
                owner = getattr(owner, inner)
            patch.setattr(owner, attribute, reached)
    for module, (names, value) in INSTEAD.items():
        for name in names:
            stand_in = lambda *_, value=value, **__: value  # noqa: E731
            patch.setattr(importlib.import_module(module), name, stand_in)
    tokens = importlib.import_module("nextscale.data.tokens")
    patch.setattr(tokens, "cache_tokens", uncached)


def parser_of(command: str) -> Parser:
    """The parser of a command."""
    parser, _ = command_line.PROGRAM.command(command)
    return parser


@contextmanager
def bounded() -> Iterator[None]:
    """Ends what takes too long, and lets no allocation beyond `ROOM` succeed."""

    def stop(*_: Any) -> None:
        raise TooSlow

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    was = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, was)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def run(words: list[str]) -> tuple[int | None, str, str]:
    """Exit code (None: an exception came out), standard error, and where it broke."""
    told, written = StringIO(), StringIO()
    try:
        with bounded(), redirect_stderr(told), redirect_stdout(written), catch_warnings():
            simplefilter("error", RuntimeWarning)  # of numpy, about values that are no numbers
            return command_line.main(words), told.getvalue(), ""
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | pytest.fail.Exception):
            raise
        last = traceback.extract_tb(error.__traceback__)
        places = [f"{Path(f.filename).name}:{f.lineno}" for f in last[-6:]]
        return None, told.getvalue(), f"{type(error).__name__}: {str(error)[:150]} {places}"


def complaint(words: list[str], folder: Path) -> str:
    """What is wrong with a command's answer, and with what it leaves in a folder.

    What it began is whole if it succeeds or reaches its work, and not there if it fails.
    """
    before = {*entries(folder)}
    code, told, broke = run(words)
    wrong = broke if code is None else "" if code == 0 else wrong_line(code, told.splitlines())
    fails = code != 0 and REACHED not in told
    changed = {name for name, _ in before ^ {*entries(folder)}}
    rests = [name for name in changed if fails or Path(name).name.startswith(".")]
    wrong = wrong or (f"left {rests}" if rests else "")
    return wrong and f"{' '.join(word[:60] for word in words)!r}: {wrong}"


def wrong_line(code: int, lines: list[str]) -> str:
    """What is wrong with an exit code and the lines of an error; empty if nothing is."""
    if code != 2 or not lines or not lines[-1].startswith("nextscale: error: "):
        return f"it ended with {code}: {lines[-3:]}"
    if "memory ran out" in lines[-1]:
        return "it takes memory without bound"
    errors = [line for line in lines if "error" in line.lower() or "Traceback" in line]
    if len(errors) > 1 or len(lines[-1]) > 1500:
        return f"it prints more than a line: {str(lines)[:300]}"
    return ""


def entries(folder: Path) -> list[tuple[str, int]]:
    """All that is below a folder, with sizes of files."""
    found = []
    for place, folders, files in os.walk(folder):
        found += [(os.path.join(place, name), -1) for name in folders]
        found += [(f, os.lstat(f).st_size) for f in (os.path.join(place, name) for name in files)]
    return sorted(found)


def main() -> None:
    """Runs one command as the fuzz does, to look at it."""
    print(complaint(sys.argv[1:], Path()) or "fine")


if __name__ == "__main__":
    main()
