"""How a run reads its data: in processes that pass errors on and end with it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from nextscale.data.images import Batch, batches
from nextscale.data.order import Part
from nextscale.errors import UsageError
from nextscale.training.feed import of_all_classes, spread
from nextscale.training.interruption import attend_to


class Numbers:
    """A source of numbers that breaks, or kills its reader, at some of them."""

    names: tuple[str, ...] = ()
    identity = "numbers"
    reads_files = True

    def __init__(self, bad: int = -1, deadly: int = -1) -> None:
        self.bad, self.deadly = bad, deadly

    def __len__(self) -> int:
        return 10

    def load(self, part):
        if self.bad in part.samples:
            raise UsageError(f"{self.bad} cannot be read")
        if self.deadly in part.samples:
            os.kill(os.getpid(), signal.SIGKILL)
        numbers = torch.from_numpy(part.samples)
        return Batch(part=part, tokens=numbers, labels=numbers)


def parts(*samples: int) -> list[Part]:
    return [Part(0, np.array([sample])) for sample in samples]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_file_is_one_line(workers: int) -> None:
    stream = batches(Numbers(bad=2), parts(1, 2, 3), workers, prepare=attend_to)
    assert next(stream).tokens.tolist() == [1]
    with pytest.raises(UsageError, match=r"^2 cannot be read$"):
        next(stream)


def test_a_killed_reader_is_an_error() -> None:
    stream = batches(Numbers(deadly=2), parts(1, 2), 1, prepare=attend_to)
    with pytest.raises(UsageError, match="a process that reads images was killed"):
        list(stream)


def test_readers_leave_signals_to_the_run() -> None:
    stream = batches(Numbers(), parts(*range(10)), 1, prepare=attend_to)
    next(stream)
    for reader in multiprocessing.active_children():
        assert reader.pid is not None
        os.kill(reader.pid, signal.SIGTERM)
    assert len(list(stream)) == 9


def test_readers_end_with_a_killed_run() -> None:
    code = """
import sys, time, multiprocessing
from tests.training.test_feed import Numbers, attend_to, batches, parts
if __name__ == "__main__":
    stream = batches(Numbers(), parts(*range(10)), 1, prepare=attend_to)
    next(stream)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    readers = [int(pid) for pid in run.stdout.readline().split()]
    assert readers
    run.kill()
    run.wait()
    until = time.monotonic() + 20
    while any(map(alive, readers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(alive, readers))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_pictures_are_of_all_classes() -> None:
    """Folders are sorted by class, and the largest class is the first here."""
    labels = np.repeat(np.arange(5), [900, 40, 3, 1, 56])
    chosen = of_all_classes(labels, 16, seed=0)
    assert np.bincount(labels[chosen], minlength=5).tolist() == [4, 4, 3, 1, 4]
    assert sorted(labels[chosen]) == labels[chosen].tolist()
    assert np.array_equal(of_all_classes(labels, 16, seed=0), chosen)
    assert not np.array_equal(of_all_classes(labels, 16, seed=1), chosen)
    few = [labels[of_all_classes(labels, 2, seed)].tolist() for seed in range(20)]
    assert len(set(map(tuple, few))) > 3
    assert sorted(of_all_classes(labels[:3], 16, seed=0)) == [0, 1, 2]


def test_a_validation_of_some_images_looks_at_all_classes() -> None:
    labels = np.repeat(np.arange(10), 100)
    assert np.bincount(labels[spread(1000, 30)]).tolist() == [3] * 10
    assert spread(7, 7).tolist() == list(range(7))
