"""The data as one process of a run reads it: its parts of every batch, ahead, on its device."""

from collections.abc import Iterable, Iterator

from accelerate import Accelerator, DistributedType

from nextscale.config.run import TrainingConfig
from nextscale.data.images import Batch, Source, batches
from nextscale.data.order import Part, steps_in_epoch, training_parts, validation_parts
from nextscale.data.record import Record, joined
from nextscale.training.interruption import attend_to


class Feed:
    """Batches for training and validation.

    Args:
        config: of the run.
        training, validation: its data.
        accelerator: of the run.

    Attributes:
        steps_in_epoch: optimizer steps.
        skipped: files that could not be read so far, by this process.

    Raises:
        UsageError: if a batch is larger than the data.
    """

    def __init__(
        self,
        config: TrainingConfig,
        training: Source,
        validation: Source,
        accelerator: Accelerator,
    ) -> None:
        self.config, self.accelerator = config, accelerator
        self.training, self.validation = training, validation
        self.steps_in_epoch = steps_in_epoch(len(training), config.batch_size)
        self.skipped = 0

    def training_batches(self, first: int, last: int) -> Iterator[Batch]:
        """This process's micro-batches of the steps from `first` to before `last`."""
        parts = training_parts(
            self.config.seed,
            len(self.training),
            self.config.batch_size,
            self.config.accumulation,
            first,
            last,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        for batch in self.reader(self.training, parts):
            yield self.on_device(batch)

    def validation_batches(self) -> Iterator[Batch]:
        """This process's part of the images that a validation looks at."""
        config, world = self.config, self.accelerator.num_processes
        count = self.validation_count
        micro = config.batch_size // config.accumulation // world
        if self.accelerator.distributed_type == DistributedType.FSDP:  # all meet in every batch
            micro = max(1, min(micro, count // world))
            count -= count % (micro * world)
        parts = validation_parts(count, micro, self.accelerator.process_index, world)
        return self.reader(self.validation, list(parts))

    def first(self, count: int) -> Batch:
        """The first validation images, at most `count`, read here and not on the device."""
        parts = validation_parts(min(count, self.validation_count), count, 0, 1)
        return next(batches(self.validation, parts))

    def reader(self, source: Source, parts: Iterable[Part]) -> Iterator[Batch]:
        """Reads parts ahead, in processes that end with this one.

        Raises:
            UsageError: if a file cannot be read and may not be skipped, or a process was killed.
        """
        workers = self.config.data.workers if self.training.reads_files else 0
        return batches(source, parts, workers, self.accelerator.device.type == "cuda", attend_to)

    def on_device(self, batch: Batch) -> Batch:
        """The batch's tensors on this process's device; counts skipped files."""
        self.skipped += batch.skipped
        device = self.accelerator.device
        values = batch.values.to(device, non_blocking=True)
        return Batch(values, batch.labels.to(device, non_blocking=True), batch.part, batch.skipped)

    @property
    def record(self) -> Record:
        """What the run remembers of its data."""
        return joined(self.training.record, self.validation.record)

    @property
    def validation_count(self) -> int:
        """Images that a validation looks at."""
        return min(self.config.validation_images or len(self.validation), len(self.validation))
