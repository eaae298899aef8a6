"""Every process, any accumulation and any resumption sees the same samples with the same draws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextscale.data.order import (
    shuffled,
    steps_in_epoch,
    training_parts,
    uniforms,
    validation_parts,
)
from nextscale.errors import UsageError

seeds = st.integers(0, 2**63)
epochs = st.integers(0, 1000)
counts = st.integers(8, 200)


def samples_of(parts):
    return [(part.epoch, part.samples.tolist()) for part in parts]


def joined(parts):
    (epoch,) = {epoch for epoch, _ in parts}
    return epoch, [sample for _, samples in parts for sample in samples]


@given(seeds, epochs, st.integers(1, 500))
def test_every_epoch_is_a_permutation(seed, epoch, count):
    assert sorted(shuffled(seed, epoch, count)) == list(range(count))


def test_epochs_and_seeds_differ_in_order():
    orders = {tuple(shuffled(seed, epoch, 50)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


@given(seeds, counts, st.sampled_from([1, 2]), st.sampled_from([2, 4]), st.integers(1, 20))
def test_processes_share_the_global_batches(seed, count, accumulation, processes, steps):
    alone = samples_of(training_parts(seed, count, 8, accumulation, 0, steps, 0, 1))
    shares = [
        samples_of(training_parts(seed, count, 8, accumulation, 0, steps, rank, processes))
        for rank in range(processes)
    ]
    assert [joined(parts) for parts in zip(*shares, strict=True)] == alone


@given(seeds, counts, st.sampled_from([2, 4, 8]), st.integers(1, 20))
def test_accumulation_divides_the_same_batches(seed, count, accumulation, steps):
    whole = samples_of(training_parts(seed, count, 8, 1, 0, steps, 0, 1))
    divided = samples_of(training_parts(seed, count, 8, accumulation, 0, steps, 0, 1))
    assert len(divided) == steps * accumulation
    for step, (epoch, samples) in enumerate(whole):
        micro = divided[step * accumulation : (step + 1) * accumulation]
        assert joined(micro) == (epoch, samples)


@given(seeds, counts, st.integers(0, 40), st.integers(0, 40), st.sampled_from([1, 2]))
def test_resuming_gives_the_tail(seed, count, first, more, accumulation):
    whole = samples_of(training_parts(seed, count, 8, accumulation, 0, first + more, 0, 1))
    tail = samples_of(training_parts(seed, count, 8, accumulation, first, first + more, 0, 1))
    assert tail == whole[first * accumulation :]


@given(seeds, counts)
def test_an_epoch_shows_no_sample_twice(seed, count):
    steps = steps_in_epoch(count, 8)
    parts = list(training_parts(seed, count, 8, 1, 0, 2 * steps, 0, 1))
    for epoch in (0, 1):
        seen = np.concatenate([part.samples for part in parts if part.epoch == epoch])
        assert len(set(seen.tolist())) == len(seen) == steps * 8


@given(counts, st.integers(1, 64), st.sampled_from([1, 2, 4]))
def test_validation_shows_everything_once(count, batch_size, processes):
    parts = [p for r in range(processes) for p in validation_parts(count, batch_size, r, processes)]
    assert sorted(np.concatenate([part.samples for part in parts])) == list(range(count))


def test_batch_larger_than_the_data():
    with pytest.raises(UsageError, match="batch_size 9 is larger than the data \\(8 images\\)"):
        next(training_parts(0, 8, 9, 1, 0, 1, 0, 1))


def test_batch_that_processes_cannot_share():
    with pytest.raises(UsageError, match="micro-batches of 3 cannot be divided among 2"):
        next(training_parts(0, 8, 3, 1, 0, 1, 0, 2))


@given(seeds, epochs, st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.integers(1, 5))
def test_draws_depend_on_their_sample_alone(seed, epoch, samples, draws):
    together = uniforms(seed, epoch, np.array(samples), draws)
    alone = [uniforms(seed, epoch, np.array([sample]), draws)[0] for sample in samples]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, uniforms(seed, epoch, np.array(samples), 9)[:, :draws])
    assert together.dtype == np.float64
    assert ((together >= 0) & (together < 1)).all()


@pytest.mark.parametrize("changed", [{"seed": 1}, {"epoch": 1}, {"purpose": 1}])
def test_draws_of_other_uses_are_unrelated(changed):
    arguments = {"seed": 0, "epoch": 0, "purpose": 0}
    samples = np.arange(20_000)
    first = uniforms(samples=samples, draws=1, **arguments)[:, 0]
    second = uniforms(samples=samples, draws=1, **{**arguments, **changed})[:, 0]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


def test_draws_are_uniform():
    values = uniforms(3, 5, np.arange(50_000), 3)
    for column in values.T:
        shares = np.histogram(column, 20, (0, 1))[0] / len(column)
        np.testing.assert_allclose(shares, 0.05, atol=0.005)  # 5 standard deviations
    between = np.corrcoef(values.T) - np.eye(3)
    neighbours = np.corrcoef(values[1:, 0], values[:-1, 0])[0, 1]
    assert max(abs(between).max(), abs(neighbours)) < 0.025
