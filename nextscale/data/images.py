"""Batches of images, tokens or features, the sources that hold them, and the loader."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nextscale.data.order import Part, shuffled
from nextscale.data.record import Record
from nextscale.errors import UsageError, ignore_pillow_warnings


@dataclass(kw_only=True)
class Batch:
    """One process's part of a micro-step; it holds either images, tokens or features.

    Attributes:
        part: the epoch and the samples that were asked for.
        images: float32 (B, channels, H, W) in [-1, 1].
        tokens: int64 (B, L), of all scales.
        features: float32 (B, C, H, W), of the encoder.
        labels: int64 (B,); 0 if unlabelled.
        skipped: number of files that could not be read; their neighbours replace them.

    Raises:
        ValueError: unless exactly one of images, tokens and features is given.
    """

    part: Part
    images: Tensor | None = None
    tokens: Tensor | None = None
    features: Tensor | None = None
    labels: Tensor
    skipped: int = 0

    def __post_init__(self) -> None:
        given = [x for x in (self.images, self.tokens, self.features) if x is not None]
        if len(given) != 1:
            raise ValueError(f"a batch holds images, tokens or features; {len(given)} are given")

    def __len__(self) -> int:
        return len(self.part.samples)

    def pin_memory(self) -> "Batch":
        """Copies the batch to page-locked memory, which a GPU reads asynchronously.

        A `DataLoader` with `pin_memory=True` calls this method.
        """
        return self.each(Tensor.pin_memory)

    def to(self, device: torch.device) -> "Batch":
        """Copies the batch to a device; from pinned memory, without waiting for a GPU."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with every tensor changed."""
        tensors = {name: change(v) for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a small CPU tensor to a device, without waiting for a GPU."""
    pinned = tensor.pin_memory() if device.type == "cuda" else tensor
    return pinned.to(device, non_blocking=True)


class Source(Protocol):
    """Samples by number, in batches.

    Attributes:
        names: of the classes; empty if unlabelled.
        identity: distinguishes this data and its augmentation from any other, for caches.
        reads_files: whether reading is slow, so that worker processes should read ahead.
        labels: of all samples, integers (N,); 0 if unlabelled.
        record: identifies the data of a run, independently of the augmentation.
    """

    names: tuple[str, ...]
    identity: str
    reads_files: bool

    @property
    def labels(self) -> NDArray[Any]: ...

    @property
    def record(self) -> Record: ...

    def __len__(self) -> int: ...

    def load(self, part: Part) -> Batch:
        """Reads some samples as an epoch shows them.

        Raises:
            UsageError: if a file cannot be read and may not be skipped.
        """
        ...


class Share:
    """A random share of a source's samples.

    Args:
        source: of all samples.
        share: of the samples, at least one.
        seed: selects the samples.
    """

    def __init__(self, source: Source, share: float, seed: int) -> None:
        count = max(1, round(share * len(source)))
        self.source, self.numbers = source, np.sort(shuffled(seed, 0, len(source))[:count])
        self.names, self.reads_files = source.names, source.reads_files
        self.identity = f"{source.identity} share {share} {seed}"

    @property
    def record(self) -> Record:
        """The record of all samples; share and seed are options of the run."""
        return self.source.record

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def labels(self) -> NDArray[Any]:
        return self.source.labels[self.numbers]

    def load(self, part: Part) -> Batch:
        """Reads from the source; each sample keeps its augmentation there."""
        batch = self.source.load(Part(part.epoch, self.numbers[part.samples]))
        return replace(batch, part=part)


class _Parts(Dataset[Batch | UsageError]):
    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, part: Part) -> Batch | UsageError:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            return self.source.load(part)
        except UsageError as error:  # returned, as the loader would wrap it in a traceback
            return error


@contextmanager
def signals_delayed() -> Iterator[None]:
    """Delays SIGINT and SIGTERM; processes that are started in this context never receive them.

    A terminal sends Ctrl-C to a whole process group. It would end a worker that is still importing
    and cannot yet ignore it, and with the worker the run that needs it to save.
    """
    known = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, known)


def start_reading(prepare: Callable[[int], None] | None, number: int) -> None:
    """Prepares a worker process; `prepare` is the caller's part of it."""
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
    """Reads parts in their order; worker processes read whole batches ahead.

    Args:
        workers: number of worker processes; 0 reads in this process.
        pin: whether batches are pinned, to be copied to a GPU.
        prepare: called in each worker process with its number.

    Raises:
        UsageError: like the source, or if a worker process was killed.
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
