"""A head of several choices a token: digits, losses and sampling agree with the joint softmax."""

import pytest
import torch
import torch.nn.functional as F

from nextscale.config.model import SamplingConfig
from nextscale.errors import UsageError
from nextscale.generation.generate import generate
from nextscale.generation.likelihood import token_log_probabilities
from nextscale.models.heads import ChannelHead, SoftmaxHead

ALPHABET = (5, 4, 3)
GRID = {"code": "fsq", "levels": ALPHABET}


@pytest.fixture(scope="module")
def head() -> ChannelHead:
    head = ChannelHead(8, ALPHABET)
    torch.nn.init.normal_(head.weight)
    return head


def joint(head: ChannelHead, logits: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (B, l, V) of all tokens."""
    parts = [part.log_softmax(-1) for part in head.split(logits)]
    a, b, c = parts
    total = a[..., :, None, None] + b[..., None, :, None] + c[..., None, None, :]
    return total.flatten(2)


def test_digits_and_tokens_are_inverse(head) -> None:
    tokens = torch.arange(60).view(3, 20)
    assert torch.equal(head.join(head.digits(tokens)), tokens)
    assert [int(d.max()) for d in head.digits(tokens)] == [4, 3, 2]


@torch.no_grad()
def test_losses_are_those_of_the_joint_distribution(head) -> None:
    logits, tokens = head(torch.randn(2, 6, 8)), torch.randint(60, (2, 6))
    assert logits.shape == (2, 6, 12)
    everything = joint(head, logits)
    wanted = everything.gather(2, tokens[..., None])[..., 0]
    torch.testing.assert_close(head.log_probabilities(logits, tokens), wanted)
    torch.testing.assert_close(head.losses(logits, tokens), -wanted)
    assert torch.equal(head.likeliest(logits), everything.argmax(-1))
    assert (head.losses(logits, tokens, 0.1) != -wanted).any()


@torch.no_grad()
def test_one_softmax_is_plain_cross_entropy() -> None:
    head = SoftmaxHead(8, ALPHABET)
    logits, tokens = head(torch.randn(2, 6, 8)), torch.randint(60, (2, 6))
    plain = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none")
    assert torch.equal(head.losses(logits, tokens).flatten(), plain)


@pytest.mark.parametrize("kind", ["channels", "softmax"])
def test_a_model_on_levels_samples_what_it_learns(make_tokenizer, make_model, kind) -> None:
    tokenizer = make_tokenizer(**GRID)
    model = make_model(tokenizer, head=kind)
    assert model.head.out_features == (12 if kind == "channels" else 60)
    labels = torch.tensor([0, 1, 2])
    for sampling in (SamplingConfig(top_k=1), SamplingConfig(top_k=1, mean_scales=3)):
        states = list(generate(model, tokenizer, labels, sampling, seeds=range(3)))
        tokens = [state.tokens for state in states]
        with torch.inference_mode():
            logits = model(labels, model.order.teacher_inputs(tokenizer.quantizer, tokens))
        flat = torch.cat([t.flatten(1) for t in tokens], 1)
        assert torch.equal(flat, model.head.likeliest(logits))  # the mean of one code is that code
        maps = tokenizer.quantizer.accumulated_maps(tokens)
        torch.testing.assert_close(states[-1].accumulated, maps[-1])
    found = token_log_probabilities(model, tokenizer, tokens, labels)
    torch.testing.assert_close(found, model.head.log_probabilities(logits, flat))


def test_codes_of_several_channels_take_one_softmax_each(make_tokenizer, make_model) -> None:
    model = make_model(make_tokenizer(**GRID))
    assert isinstance(model.head, ChannelHead)
    assert isinstance(make_model(make_tokenizer()).head, SoftmaxHead)
    with pytest.raises(UsageError, match=r"top_k is 6; .* to 5 codes"):
        generate(model, make_tokenizer(**GRID), torch.tensor([0]), SamplingConfig(top_k=6))
    with pytest.raises(UsageError, match="unknown head 'bits'"):
        make_model(make_tokenizer(), head="bits")
