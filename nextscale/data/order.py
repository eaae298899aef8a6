"""The order of samples and the random draws of each, as functions of (seed, epoch, sample).

No draw depends on history, so a resumed run and any number of processes see the same data.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nextscale.errors import UsageError

Samples = NDArray[np.int64]

# Increments and multipliers of the SplitMix64 generator (Steele, Lea, Flood 2014).
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class Part:
    """The samples that one process reads for one micro-step.

    Attributes:
        epoch: from 0.
        samples: numbers of the samples, int64 (B,).
    """

    epoch: int
    samples: Samples


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser, which maps neighbouring integers to unrelated ones."""
    values = (values ^ (values >> np.uint64(30))) * MIX_1
    values = (values ^ (values >> np.uint64(27))) * MIX_2
    return values ^ (values >> np.uint64(31))


def uniforms(seed: int, epoch: int, samples: Samples, draws: int, purpose: int = 0) -> NDArray:
    """Uniform draws float64 (samples, draws) in [0, 1) that depend on nothing but the arguments.

    Args:
        purpose: distinguishes uses: augmentation 0, label dropping 1, order 2.
    """
    with np.errstate(over="ignore"):
        key = np.zeros(1, np.uint64)
        for part in (seed, epoch, purpose):
            key = mix(key + GOLDEN + np.uint64(part % 2**64))
        keys = mix(key + GOLDEN + samples.astype(np.uint64))[:, None]  # (samples, 1)
        counters = np.arange(1, draws + 1, dtype=np.uint64)[None] * GOLDEN
        bits = mix(keys + counters)  # (samples, draws)
    return (bits >> np.uint64(11)).astype(np.float64) / 2**53


def shuffled(seed: int, epoch: int, count: int) -> Samples:
    """The numbers 0 to count - 1 in the order of an epoch."""
    return np.argsort(uniforms(seed, epoch, np.arange(count), 1, purpose=2)[:, 0], kind="stable")


def steps_in_epoch(count: int, batch_size: int) -> int:
    """Number of whole batches in an epoch; the remaining samples are not used in it.

    Raises:
        UsageError: if the data is smaller than one batch.
    """
    if count < batch_size:
        raise UsageError(
            f"batch_size {batch_size} is larger than the data ({count} images); "
            f"give at most {count}"
        )
    return count // batch_size


def training_parts(
    seed: int,
    count: int,
    batch_size: int,
    accumulation: int,
    first_step: int,
    last_step: int,
    rank: int,
    processes: int,
) -> Iterator[Part]:
    """Yields this process's parts of the optimizer steps first_step to last_step - 1.

    Each micro-batch is the next slice of the epoch's order, and each process takes a slice of it,
    so that global batches do not depend on the number of processes.

    Raises:
        UsageError: if a micro-batch cannot be divided among the processes.
    """
    micro = batch_size // accumulation
    if micro % processes:
        raise UsageError(f"micro-batches of {micro} cannot be divided among {processes} processes")
    share = micro // processes
    steps = steps_in_epoch(count, batch_size)
    epoch, order = -1, np.empty(0, np.int64)
    for step in range(first_step, last_step):
        if step // steps != epoch:
            epoch = step // steps
            order = shuffled(seed, epoch, count)
        begin = step % steps * batch_size
        for i in range(accumulation):
            start = begin + i * micro + rank * share
            yield Part(epoch, order[start : start + share])


def validation_parts(count: int, batch_size: int, rank: int, processes: int) -> Iterator[Part]:
    """All images once, in order, whole batches dealt to the processes in turn."""
    for i, start in enumerate(range(0, count, batch_size)):
        if i % processes == rank:
            yield Part(0, np.arange(start, min(start + batch_size, count)))
