"""Signals that ask a training to stop: it finishes its step and saves first."""

import multiprocessing
import os
import signal
import threading
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


def attend_to(worker: int) -> None:
    """Ties a reading process to its run: it leaves signals to the run, and ends when that ends.

    A terminal or a scheduler sends signals to all processes of a run, which still needs its readers
    to save; and a reader, whose parent is multiprocessing's server, would outlive a killed run.
    """
    del worker
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    run = multiprocessing.parent_process()
    assert run is not None

    def end_with_run() -> None:
        run.join()
        os._exit(1)

    threading.Thread(target=end_with_run, daemon=True).start()
