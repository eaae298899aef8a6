"""Programs that others start are told to stop with them, and given the time to save."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_is_given_time_to_save(tmp_path: Path, number: int) -> None:
    """Ctrl-C reaches both programs, SIGTERM the one that waits, which must not leave the other."""
    saving = (
        "import pathlib, signal, sys, time\n"
        "def save(number, _):\n"
        "    time.sleep(1)\n"
        "    pathlib.Path('saved').touch()\n"
        "    sys.exit(128 + number)\n"
        "signal.signal(signal.SIGINT, save)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "pathlib.Path('ready').touch()\n"
        "for _ in range(600):\n"
        "    time.sleep(0.1)\n"  # a signal just before a long sleep would wait for its end
    )
    waiting = (
        "import sys\n"
        "from nextscale.training.launch import run_to_its_end\n"
        "try:\n"
        "    sys.exit(run_to_its_end([sys.executable, '-c', sys.argv[1]]))\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    command = [sys.executable, "-c", waiting, saving]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert (tmp_path / "saved").exists()
