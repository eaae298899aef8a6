"""What a source of images offers to training, and the loader that reads it in batches."""

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
        """The batch in page-locked memory, from which a GPU copies on its own.

        A `DataLoader` with `pin_memory=True` calls this method.
        """
        return self.each(Tensor.pin_memory)

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device; a copy from pinned memory does not wait for the GPU."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with every tensor changed."""
        tensors = {name: change(v) for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A small CPU tensor on a device; neither the CPU nor a GPU waits for the copy."""
    pinned = tensor.pin_memory() if device.type == "cuda" else tensor
    return pinned.to(device, non_blocking=True)


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

    def load(self, part: Part) -> Batch:
        """Reads some samples as an epoch shows them.

        Raises:
            UsageError: if a file cannot be read and may not be skipped.
        """
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

    def load(self, part: Part) -> Batch:
        """Reads from the source, whose images keep their augmentation."""
        batch = self.source.load(Part(part.epoch, self.numbers[part.samples]))
        return replace(batch, part=part)


class _Parts(Dataset[Batch | UsageError]):
    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, part: Part) -> Batch | UsageError:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            return self.source.load(part)
        except UsageError as error:  # as a value: the loader would wrap it in its traceback
            return error


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
