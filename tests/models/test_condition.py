"""A context of several slots: prefix, padding, positions; rotary, RMSNorm and SwiGLU trunks."""

import pytest
import torch
from torch import Tensor, nn

from nextscale.config.architecture import TransformerConfig
from nextscale.config.model import SamplingConfig
from nextscale.config.registry import CONDITIONS, Registry
from nextscale.errors import UsageError
from nextscale.generation.generate import generate, prepare
from nextscale.models.attention import rotate, rotation_of
from nextscale.models.condition import ClassCondition, Context

SLOTS = 3
TRUNK = {"norm": "rms", "mlp": "swiglu", "positions": "rotary"}


class Prefix(ClassCondition):
    """A class as a prefix of slots; the first is padding of odd classes."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.slots = nn.Parameter(torch.randn(SLOTS, config.width))
        self.masked = True

    def forward(self, given: Tensor) -> Context:
        vector = self.embedding(given)
        states = vector[:, None] * self.slots
        mask = torch.ones(len(given), SLOTS, dtype=torch.bool)
        mask[:, 0] = given % 2 == 0
        positions = mask.cumsum(1) - 1
        return Context(vector, states, mask if self.masked else None, positions)


@pytest.fixture(autouse=True, scope="module")
def _registered():
    CONDITIONS.add("prefix", Prefix)
    yield
    del CONDITIONS.homes["prefix"]


@pytest.fixture(params=[{}, TRUNK, {**TRUNK, "adaln": False}], ids=["adaln", "llama", "plain"])
def model(request, make_model, tokenizer):
    return make_model(tokenizer, condition="prefix", **request.param)


def maps_of(tokenizer, batch=3):
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(16, (batch, *s), generator=generator) for s in tokenizer.config.scales]


@torch.inference_mode()
def test_cached_steps_behind_a_prefix_equal_the_full_pass(model, tokenizer) -> None:
    tokens, labels = maps_of(tokenizer), torch.tensor([0, 1, 2])
    pyramid, order = tokenizer.quantizer, model.order
    full = model(labels, order.teacher_inputs(pyramid, tokens))
    assert full.std() > 0.1
    predict, x = prepare(model, labels, guided=False)
    assert x.shape[1] == SLOTS
    maps, stepped = pyramid.accumulated_maps(tokens), []
    for k in range(3):
        if k:
            x = model.embed(k, order.step_inputs(k, pyramid, maps[k - 1], maps[k - 1]))
        stepped.append(predict(x)[:, -len(order.steps[k].cells) :])
    torch.testing.assert_close(torch.cat(stepped, 1), full, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_padding_is_not_seen(model, tokenizer) -> None:
    inputs = model.order.teacher_inputs(tokenizer.quantizer, maps_of(tokenizer, 2))
    labels = torch.tensor([1, 2])  # the first slot is padding of the first row alone
    before = model(labels, inputs)
    model.condition.slots[0] += 1
    after = model(labels, inputs)
    model.condition.slots[0] -= 1
    assert torch.equal(before[0], after[0])
    assert not torch.isclose(before[1], after[1]).all(-1).any()


def test_images_are_sampled_behind_a_prefix(model, tokenizer) -> None:
    labels = torch.tensor([0, 1, 2])
    states = list(generate(model, tokenizer, labels, SamplingConfig(cfg=1.0), seeds=range(3)))
    alone = list(generate(model, tokenizer, labels[1:2], SamplingConfig(cfg=1.0), seeds=[1]))
    assert torch.equal(states[-1].tokens[1:2], alone[-1].tokens)


def test_rotation_keeps_norms_and_depends_on_differences() -> None:
    q, k = torch.randn(2, 1, 2, 1, 8).double()
    places = torch.tensor([[[2.0, 5.0]], [[3.5, 1.0]]])
    scores = []
    for shift in (0.0, 7.0):
        turned = [
            rotate(x, rotation_of(place[None] + shift, 8).double())
            for x, place in zip((q, k), places, strict=True)
        ]
        torch.testing.assert_close(turned[0].norm(dim=-1), q.norm(dim=-1), rtol=1e-5, atol=1e-5)
        scores.append((turned[0] * turned[1]).sum(-1))
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-4)


def test_each_half_turns_by_its_own_position() -> None:
    x = torch.randn(1, 1, 1, 8)
    turned = rotate(x, rotation_of(torch.tensor([[[0.0, 3.0]]]), 8))
    assert torch.equal(turned[..., :4], x[..., :4])  # row 0
    assert not torch.isclose(turned[..., 4:], x[..., 4:]).all()


@torch.inference_mode()
def test_rotary_models_hold_no_position_embeddings(make_model, tokenizer) -> None:
    model = make_model(tokenizer, **TRUNK)
    assert "position_embedding" not in model.state_dict()
    inputs = model.order.teacher_inputs(tokenizer.quantizer, maps_of(tokenizer, 1))
    logits = model(torch.tensor([0]), inputs)[0]
    assert not torch.isclose(logits[5], logits[6]).all()
    with pytest.raises(UsageError, match="heads of a multiple of 4"):
        TransformerConfig(width=12, heads=2, positions="rotary")


def test_a_registry_takes_new_names_once() -> None:
    known = Registry("thing", {"a": "json:loads"})
    known.add("b", dict)
    assert known.load("b") is dict
    assert known.load("a")("1") == 1
    with pytest.raises(UsageError, match="thing 'b' is registered already"):
        known.add("b", list)
    with pytest.raises(UsageError, match="unknown thing 'c'"):
        known.load("c")
