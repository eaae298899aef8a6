"""What a source of images offers to training, and the loader that reads it in batches."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nextscale.data.order import Part, Samples, shuffled
from nextscale.data.record import Record
from nextscale.errors import UsageError, ignore_pillow_warnings


@dataclass
class Batch:
    """One process's part of a micro-step.

    Attributes:
        values: images float32 (B, channels, H, W) in [-1, 1], or tokens int64 (B, L).
        labels: int64 (B,).
        part: what was asked for.
        skipped: files that could not be read, replaced by their neighbours.
    """

    values: Tensor
    labels: Tensor
    part: Part
    skipped: int = 0


class Source(Protocol):
    """Images or tokens by number.

    Attributes:
        names: of the classes; empty if unlabelled.
        identity: distinguishes this data and its augmentation from any other, for caches.
        reads_files: whether reading takes long enough to be done ahead, in processes.
        labels: of all images, integers (N,); 0 if unlabelled.
        record: what a run remembers of this data, whatever its augmentation.
    """

    names: tuple[str, ...]
    identity: str
    reads_files: bool

    @property
    def labels(self) -> NDArray[Any]: ...

    @property
    def record(self) -> Record: ...

    def __len__(self) -> int: ...

    def load(self, epoch: int, samples: Samples) -> tuple[Tensor, Tensor, int]:
        """Values, labels and how many files were skipped; see `Batch`."""
        ...


class Share:
    """A `Source` of some of the images of another.

    Args:
        source: of all images.
        share: of them, at least one image.
        seed: that chooses them.
    """

    def __init__(self, source: Source, share: float, seed: int) -> None:
        count = max(1, round(share * len(source)))
        self.source, self.numbers = source, np.sort(shuffled(seed, 0, len(source))[:count])
        self.names, self.reads_files = source.names, source.reads_files
        self.identity = f"{source.identity} share {share} {seed}"

    @property
    def record(self) -> Record:
        """Of all images; which are taken follows from share and seed."""
        return self.source.record

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def labels(self) -> NDArray[Any]:
        return self.source.labels[self.numbers]

    def load(self, epoch: int, samples: Samples) -> tuple[Tensor, Tensor, int]:
        """As the source, whose images keep their augmentation."""
        return self.source.load(epoch, self.numbers[samples])


class _Parts(Dataset[Batch | UsageError]):
    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, part: Part) -> Batch | UsageError:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            values, labels, skipped = self.source.load(part.epoch, part.samples)
        except UsageError as error:  # as a value: the loader would wrap it in its traceback
            return error
        return Batch(values, labels, part, skipped)


@contextmanager
def signals_delayed() -> Iterator[None]:
    """Delays SIGINT and SIGTERM; processes that are started meanwhile never receive them.

    A terminal sends Ctrl-C to a whole group. A reading process that is still importing would die
    of it, before `prepare` could ignore it, and with it the run that wants to save.
    """
    known = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, known)


def start_reading(prepare: Callable[[int], None] | None, number: int) -> None:
    """Prepares a reading process; `prepare` is the caller's part of it."""
    ignore_pillow_warnings()
    if prepare:
        prepare(number)


def batches(
    source: Source,
    parts: Iterable[Part],
    workers: int = 0,
    pin: bool = False,
    prepare: Callable[[int], None] | None = None,
) -> Iterator[Batch]:
    """Reads parts in their order; with workers, whole batches are read ahead in processes.

    Args:
        workers: reading processes.
        pin: whether batches go to a GPU.
        prepare: called in each reading process with its number.

    Raises:
        UsageError: as the source, or if a reading process was killed.
    """
    loader = DataLoader(
        _Parts(source),
        batch_size=None,
        sampler=parts,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=partial(start_reading, prepare),
        multiprocessing_context="forkserver" if workers else None,
    )
    with signals_delayed() if workers else nullcontext():
        stream = iter(loader)
    try:
        for batch in stream:
            if isinstance(batch, UsageError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UsageError(
            "a process that reads images was killed, most likely because memory ran out; give a "
            "smaller --batch-size, a smaller network, or fewer --data.workers"
        ) from error
