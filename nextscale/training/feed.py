"""Reads one process's part of every batch ahead and copies it to the device."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextscale.config.run import TrainingConfig
from nextscale.data.images import Batch, Source, batches
from nextscale.data.order import (
    Part,
    Samples,
    shuffled,
    steps_in_epoch,
    training_parts,
    validation_parts,
)
from nextscale.data.record import Record, joined
from nextscale.training.interruption import attend_to
from nextscale.training.processes import Processes


class Feed:
    """Batches for training and validation.

    Args:
        config: of the run.
        training, validation: sources of the run's data.
        processes: of the run.

    Attributes:
        steps_in_epoch: optimizer steps.
        skipped: number of files that this process could not read so far.

    Raises:
        UsageError: if a batch is larger than the data.
    """

    def __init__(
        self,
        config: TrainingConfig,
        training: Source,
        validation: Source,
        processes: Processes,
    ) -> None:
        self.config, self.processes = config, processes
        self.training, self.validation = training, validation
        self.steps_in_epoch = steps_in_epoch(len(training), config.batch_size)
        self.skipped = 0
        self.warned = False

    def training_batches(self, first: int, last: int) -> Iterator[Batch]:
        """This process's micro-batches of the steps from `first` to before `last`."""
        parts = training_parts(
            self.config.seed,
            len(self.training),
            self.config.batch_size,
            self.config.accumulation,
            first,
            last,
            self.processes.index,
            self.processes.count,
        )
        for batch in self.reader(self.training, parts):
            yield self.on_device(batch)

    def validation_batches(self) -> Iterator[Batch]:
        """This process's part of the images that a validation looks at, on its device."""
        config, world = self.config, self.processes.count
        count = self.validation_count
        micro = config.batch_size // config.accumulation // world
        if self.processes.sharded:  # every process takes part in every batch
            micro = max(1, min(micro, count // world))
            count -= count % (micro * world)
        parts = validation_parts(count, micro, self.processes.index, world)
        numbers = spread(len(self.validation), count)
        parts = [Part(part.epoch, numbers[part.samples]) for part in parts]
        for batch in self.reader(self.validation, parts):
            yield batch.to(self.processes.device)

    def shown(self, count: int) -> Batch:
        """At most `count` validation images, spread evenly over the classes by the seed.

        They are the same at every validation and are not on the device.
        """
        return next(batches(self.validation, [Part(0, self.shown_numbers(count))]))

    def shown_numbers(self, count: int) -> Samples:
        """Numbers of the images of `shown`."""
        return of_all_classes(np.asarray(self.validation.labels), count, self.config.seed)

    def facts(self, shown: int) -> dict[str, Any]:
        """Returns what the log records of the data.

        It counts the held-out images and names the smallest class, the largest class, and the
        classes of `shown` images.
        """
        names, held_out = self.training.names, {"held_out": len(self.validation)}
        if not names:
            return held_out
        counts = np.bincount(np.asarray(self.training.labels), minlength=len(names))
        fewest, most = int(counts.argmin()), int(counts.argmax())
        return held_out | {
            "fewest": [names[fewest], int(counts[fewest])],
            "most": [names[most], int(counts[most])],
            "shown": [names[self.validation.labels[i]] for i in self.shown_numbers(shown)],
        }

    def reader(self, source: Source, parts: Iterable[Part]) -> Iterator[Batch]:
        """Reads parts ahead in worker processes, which end with this process.

        Raises:
            UsageError: if a file cannot be read and may not be skipped, or if a worker was killed.
        """
        workers = self.config.data.workers if self.training.reads_files else 0
        return batches(source, parts, workers, self.processes.device.type == "cuda", attend_to)

    def on_device(self, batch: Batch) -> Batch:
        """The batch on this process's device; counts its skipped files."""
        self.skipped += batch.skipped
        return batch.to(self.processes.device)

    def figures(self) -> dict[str, int]:
        """Number of skipped files for the log; the first call with any prints a warning."""
        if self.skipped and not self.warned:
            self.warned = True
            print(
                f"{self.skipped} files could not be read so far; the next readable files replace "
                "them, the log counts them, and --data.strict stops at the first one"
            )
        return {"skipped_files": self.skipped} if self.skipped else {}

    @property
    def record(self) -> Record:
        """The record of the run's data."""
        return joined(self.training.record, self.validation.record)

    @property
    def validation_count(self) -> int:
        """Number of images that a validation uses."""
        return min(self.config.validation_images or len(self.validation), len(self.validation))


def spread(length: int, count: int) -> Samples:
    """Returns `count` evenly spaced numbers below `length`; images are sorted by class."""
    return np.arange(count) * length // count


def of_all_classes(labels: NDArray[Any], count: int, seed: int) -> Samples:
    """Numbers of at most `count` images, spread evenly over the classes and sorted by class.

    Args:
        labels: integers (N,).
        seed: selects images within a class, and classes if there are more than `count`.
    """
    order = shuffled(seed, 0, len(labels))
    classes, of = np.unique(labels[order], return_inverse=True)
    by_class = np.argsort(of, kind="stable")
    first = np.searchsorted(of[by_class], np.arange(len(classes)))
    turn = np.empty(len(labels), np.int64)  # rank of each image within its class
    turn[by_class] = np.arange(len(labels)) - first[of[by_class]]
    chosen = order[np.lexsort((shuffled(seed, 1, len(classes))[of], turn))[:count]]
    return chosen[np.argsort(labels[chosen], kind="stable")]
