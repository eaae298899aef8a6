"""Handles signals that stop a training: it finishes its step and saves first."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(Exception):
    """A signal stopped the run after it saved. The argument is the signal's number."""


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Collects the first SIGTERM and the first SIGINT; a second one has its usual effect."""
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
    """Makes a worker process ignore signals, and end when its run ends.

    A terminal or a scheduler sends signals to all processes of a run, but the run needs its workers
    until it has saved. A worker, whose parent is multiprocessing's server, would otherwise outlive
    a killed run.
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
