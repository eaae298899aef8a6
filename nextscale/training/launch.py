"""Runs trainings as separate programs and lets them save when a signal stops them."""

import signal
import subprocess
from contextlib import suppress
from pathlib import Path

GLANCE = 1.0  # seconds between checks whether the program has ended
# Exit codes of a training that a signal stopped after it saved.
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)


def run_to_its_end(command: list[str]) -> int:
    """Runs a program to its end and returns its exit code.

    SIGTERM is passed on to it; Ctrl-C reaches it directly. Either way, it has the time to save.
    """
    with subprocess.Popen(command) as process:
        known = signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):  # a signal may come just before a wait
                    return process.wait(GLANCE)
        except KeyboardInterrupt:
            process.wait()
            raise
        finally:
            signal.signal(signal.SIGTERM, known)


def finished(place: Path) -> bool:
    """Whether a run has its final model."""
    return (place / "final/config.json").is_file()
