"""Runs trainings as programs of their own to their end, also when they are asked to stop."""

import signal
import subprocess
from pathlib import Path

# Exit codes of a training that was asked to stop, and has saved.
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)


def run_to_its_end(command: list[str]) -> int:
    """A program's exit code.

    Asked to stop, it has the time to save: Ctrl-C reaches it by itself, SIGTERM is passed on.
    """
    with subprocess.Popen(command) as process:
        known = signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
        finally:
            signal.signal(signal.SIGTERM, known)


def finished(place: Path) -> bool:
    """Whether a run has its final model."""
    return (place / "final/config.json").is_file()
