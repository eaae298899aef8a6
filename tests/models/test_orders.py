"""Sub-steps: their groups, that no cell knows itself, and that the cache changes nothing."""

import pytest
import torch

from nextscale.config.model import SamplingConfig
from nextscale.errors import UsageError
from nextscale.generation.generate import generate, prepare
from nextscale.generation.likelihood import token_log_probabilities
from nextscale.models.orders import scattered

STEPS = {"order": "sub-steps", "sub_steps": (1, 4, 3)}


@pytest.fixture(scope="module")
def stepping(make_model, tokenizer):
    return make_model(tokenizer, **STEPS)


def maps_of(tokenizer, batch=2):
    generator = torch.Generator().manual_seed(5)
    scales = tokenizer.config.scales
    return [torch.randint(16, (batch, *scale), generator=generator) for scale in scales]


@pytest.mark.parametrize(("scale", "count"), [((3, 3), 9), ((4, 4), 2), ((2, 5), 3), ((1, 1), 1)])
def test_groups_hold_every_cell_once(scale, count) -> None:
    groups = scattered(scale, count)
    assert len(groups) == count
    assert sorted(cell for group in groups for cell in group) == list(range(scale[0] * scale[1]))
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_two_groups_are_nearly_a_checkerboard() -> None:
    first = set(scattered((8, 8), 2)[0])
    pairs = [(cell, cell + step) for cell in range(56) for step in (1, 8) if (cell + 1) % 8]
    assert sum((a in first) != (b in first) for a, b in pairs) / len(pairs) > 0.65


def test_steps_and_what_they_read(stepping) -> None:
    order = stepping.order
    assert [len(step.cells) for step in order.steps] == [1, 1, 1, 1, 1, 5, 5, 6]
    assert stepping.steps == 8
    assert order.reads == 4 + 3 + 16 + 10  # queries, and the cells that were sampled before
    assert sorted(order.predictors) == [i for i, known in enumerate(order.known) if not known]
    assert order.progress(0) == 0
    assert order.progress(4) == 0.5
    assert order.progress(7) == 1


@torch.inference_mode()
def test_cached_steps_equal_the_full_pass(stepping, tokenizer) -> None:
    tokens, labels, order = maps_of(tokenizer), torch.tensor([0, 3]), stepping.order
    full = stepping(labels, order.teacher_inputs(tokenizer.quantizer, tokens))  # (2, 21, 16)
    predict, x = prepare(stepping, labels, guided=False)
    maps = [tokenizer.quantizer.empty(2), *tokenizer.quantizer.accumulated_maps(tokens)]
    first = (0, 1, 5)
    for i, step in enumerate(order.steps):
        if i:
            vectors = tokenizer.quantizer.lookup(tokens[order.steps[i - 1].scale])
            read = order.step_inputs(i, tokenizer.quantizer, maps[step.scale], vectors)
            x = stepping.embed(i, read)
        logits = predict(x)[:, -len(step.cells) :]
        places = [first[step.scale] + cell for cell in step.cells]
        torch.testing.assert_close(logits, full[:, places], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_cell_depends_on_the_cells_of_earlier_steps_alone(stepping, tokenizer) -> None:
    tokens, labels, order = maps_of(tokenizer), torch.tensor([0, 3]), stepping.order
    pyramid = tokenizer.quantizer
    before = stepping(labels, order.teacher_inputs(pyramid, tokens))
    for i, step in enumerate(order.steps):
        changed = [t.clone() for t in tokens]
        changed[step.scale].flatten(1)[:, step.cells[0]] += 1
        changed[step.scale] %= 16
        after = stepping(labels, order.teacher_inputs(pyramid, changed))
        moved = (after != before).any(-1).any(0)  # (21,)
        for j, other in enumerate(order.steps):
            places = [(0, 1, 5)[other.scale] + cell for cell in other.cells]
            assert moved[places].all() == (j > i), (i, j)
            assert moved[places].any() == (j > i), (i, j)


def test_greedy_samples_are_the_likeliest_of_the_full_pass(stepping, tokenizer) -> None:
    labels = torch.tensor([0, 1, 2])
    sampling = SamplingConfig(top_k=1)
    states = list(generate(stepping, tokenizer, labels, sampling, seeds=range(3)))
    assert [state.scale for state in states] == list(tokenizer.config.scales)
    tokens = [state.tokens for state in states]
    with torch.inference_mode():
        logits = stepping(labels, stepping.order.teacher_inputs(tokenizer.quantizer, tokens))
        maps = tokenizer.quantizer.accumulated_maps(tokens)
    assert torch.equal(torch.cat([t.flatten(1) for t in tokens], 1), logits.argmax(-1))
    torch.testing.assert_close(states[-1].accumulated, maps[-1])
    found = token_log_probabilities(stepping, tokenizer, tokens, labels)
    torch.testing.assert_close(found, logits.log_softmax(-1).amax(-1))


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 1, 3, 2), (3, 1, 0, 2)])
def test_kept_cells_reach_the_steps_behind_them(stepping, tokenizer, axes) -> None:
    """Whatever the memory layout of what a constraint returns."""
    own, labels = maps_of(tokenizer, 1), torch.tensor([1])
    back = [axes.index(i) for i in range(4)]

    def keep(k, vectors):
        return tokenizer.quantizer.lookup(own[k]).permute(axes).contiguous().permute(back)

    sampling = SamplingConfig(top_k=1)
    *_, state = generate(stepping, tokenizer, labels, sampling, seeds=[0], constrain=keep)
    with torch.inference_mode():
        inputs = stepping.order.teacher_inputs(tokenizer.quantizer, own)
        expected = stepping(labels, inputs).argmax(-1)[:, 5:]
    assert torch.equal(state.tokens.flatten(1), expected)


@pytest.mark.parametrize("counts", [(1, 4), (2, 1, 1), (1, 5, 1), (1, 0, 1)])
def test_numbers_of_steps_that_do_not_fit_are_refused(make_model, tokenizer, counts) -> None:
    with pytest.raises(UsageError, match="sub_steps are"):
        make_model(tokenizer, order="sub-steps", sub_steps=counts)
    with pytest.raises(UsageError, match="sub_steps are"):
        make_model(tokenizer, sub_steps=(1, 1, 1))


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_a_constraint_that_changes_nothing_changes_nothing(stepping, tokenizer, axes) -> None:
    back, labels = [axes.index(i) for i in range(4)], torch.tensor([0, 2])

    def same(k, vectors):
        return vectors.permute(axes).contiguous().permute(back)

    *_, free = generate(stepping, tokenizer, labels, seeds=[4, 5])
    *_, held = generate(stepping, tokenizer, labels, seeds=[4, 5], constrain=same)
    assert torch.equal(free.tokens, held.tokens)
    torch.testing.assert_close(free.accumulated, held.accumulated)
