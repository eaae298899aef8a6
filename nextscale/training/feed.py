"""The data as one process of a run reads it: its parts of every batch, ahead, on its device."""

from collections.abc import Iterable, Iterator

from accelerate import Accelerator, DistributedType
from torch.utils.data import DataLoader

from nextscale.config.run import TrainingConfig
from nextscale.data.images import Batch, Source, batches
from nextscale.data.order import Part, steps_in_epoch, training_parts, validation_parts
from nextscale.errors import UsageError
from nextscale.training.interruption import ignore_interrupt


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
        """This process's micro-batches of the steps from `first` to before `last`.

        Raises:
            UsageError: if a reading process was killed.
        """
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
        stream = iter(self.reader(self.training, parts))
        while (batch := next_batch(stream)) is not None:
            yield self.on_device(batch)

    def validation_batches(self) -> DataLoader[Batch]:
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
        return next(iter(batches(self.validation, parts, 0, False)))

    def reader(self, source: Source, parts: Iterable[Part]) -> DataLoader[Batch]:
        """Reads parts ahead; its processes leave Ctrl-C to this one, which saves first."""
        workers = self.config.data.workers if self.training.reads_files else 0
        pin = self.accelerator.device.type == "cuda"
        loader = batches(source, parts, workers, pin)
        loader.worker_init_fn = ignore_interrupt
        return loader

    def on_device(self, batch: Batch) -> Batch:
        """The batch's tensors on this process's device; counts skipped files."""
        self.skipped += batch.skipped
        device = self.accelerator.device
        values = batch.values.to(device, non_blocking=True)
        return Batch(values, batch.labels.to(device, non_blocking=True), batch.part, batch.skipped)

    @property
    def validation_count(self) -> int:
        """Images that a validation looks at."""
        return min(self.config.validation_images or len(self.validation), len(self.validation))


def next_batch(stream: Iterator[Batch]) -> Batch | None:
    """The stream's next batch, None at its end.

    Raises:
        UsageError: if a reading process was killed.
    """
    try:
        return next(stream, None)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UsageError(
            "a process that reads images was killed, most likely because memory ran out; give a "
            "smaller --batch-size, a smaller network, or fewer --data.workers"
        ) from error
