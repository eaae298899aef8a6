"""Signals that ask a training to stop: it finishes its step and saves first."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(Exception):
    """A signal asked the run to stop; it has saved. The signal's number is its argument."""


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Collects SIGTERM and Ctrl-C instead of dying; a second one acts at once."""
    received: list[int] = []
    known = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def remember(number: int, frame: Any) -> None:
        del frame
        received.append(number)
        signal.signal(number, known[signal.Signals(number)])

    try:
        for number in known:
            signal.signal(number, remember)
        yield received
    finally:
        for number, handler in known.items():
            signal.signal(number, handler)


def ignore_interrupt(worker: int) -> None:
    """Makes a reading process deaf to the Ctrl-C that a terminal sends to all of a run."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
