"""Runs trainings as programs of their own to their end, also when they are asked to stop."""

import signal
import subprocess
from contextlib import suppress
from pathlib import Path

GLANCE = 1.0  # seconds between looks at a training that runs
# Exit codes of a training that was asked to stop, and has saved.
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)


def run_to_its_end(command: list[str]) -> int:
    """A program's exit code.

    Asked to stop, it has the time to save: Ctrl-C reaches it by itself, SIGTERM is passed on.
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
