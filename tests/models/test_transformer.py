import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nextscale.config.architecture import TransformerConfig
from nextscale.models import layers
from nextscale.models.attention import Attention, Cache, attend_stored, causal_pieces
from nextscale.models.layers import build_norm, drop_path, modulate
from nextscale.models.trunk import AdaLNBlock, Transformer
from nextscale.scales import length, parse_scales, spans

SCALES = parse_scales("1 2 3")
TOKENS = length(SCALES)
PIECES = causal_pieces(spans(SCALES), torch.device("cpu"))


def weights_of_matrices(model):
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear))


@pytest.mark.parametrize("depth", [1, 6, 16, 30])
def test_blocks_weigh_as_the_paper_counts(depth):
    with torch.device("meta"):
        own = Transformer(TransformerConfig(depth=depth))
        shared = Transformer(TransformerConfig(depth=depth, shared_adaln=True))
    assert weights_of_matrices(own) == 73_728 * depth**3
    assert weights_of_matrices(shared) == 49_152 * depth**3 + 6 * (64 * depth) ** 2


@pytest.mark.parametrize("normalized", [True, False])
def test_a_compiled_block_trains_as_a_plain_one(normalized):
    config = TransformerConfig(width=12, heads=3, normalized_attention=normalized)
    block = AdaLNBlock(config, 0.0)
    x, condition = torch.randn(2, TOKENS, 12), torch.randn(2, 12)
    gradients = []
    for call in (block, torch.compile(block, backend="aot_eager", fullgraph=True)):
        given = x.clone().requires_grad_()
        out = call(given, condition, PIECES)
        inputs = [given, *block.parameters()]
        gradients.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_compiled_gelu_is_gelu():
    x = torch.linspace(-12, 12, 1001)
    compiled = torch.compile(layers.gelu, backend="eager", fullgraph=True)(x)
    torch.testing.assert_close(compiled, F.gelu(x, approximate="tanh"), rtol=1e-5, atol=1e-6)
    assert not compiled.equal(F.gelu(x, approximate="tanh"))  # it is the other formula


@pytest.mark.parametrize("normalized", [True, False])
@torch.inference_mode()
def test_attention_equals_one_softmax_under_a_block_causal_mask(normalized):
    config = TransformerConfig(width=12, heads=3, normalized_attention=normalized)
    layer = Attention(config)
    nn.init.normal_(layer.query_bias)
    nn.init.normal_(layer.value_bias)
    if normalized:
        layer.log_scale.copy_(torch.tensor([0.0, 2.0, 6.0]))  # the last is beyond log 100
    x = torch.randn(2, TOKENS, 12)
    query, key, value = F.linear(x, layer.query_key_value.weight).chunk(3, -1)
    query, value = query + layer.query_bias, value + layer.value_bias
    q, k, v = (part.view(2, TOKENS, 3, 4).transpose(1, 2) for part in (query, key, value))
    if normalized:
        strength = torch.tensor([1.0, math.exp(2), 100.0]).view(3, 1, 1)
        scores = strength * F.cosine_similarity(q.unsqueeze(3), k.unsqueeze(2), dim=-1)
    else:
        scores = q @ k.transpose(2, 3) * 0.25 / 4**0.5
    level = torch.tensor([i for i, (b, e) in enumerate(spans(SCALES)) for _ in range(b, e)])
    scores = scores.masked_fill(level > level[:, None], -torch.inf)
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(x, PIECES), layer.project(mixed), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_masked_and_separate_calls_agree():
    layer = Attention(TransformerConfig(width=12, heads=3))
    x = torch.randn(2, TOKENS, 12)
    outputs = []
    for merged in (0, 5, 128):  # no scale in the shared call, two of three, all
        pieces = causal_pieces(spans(SCALES), x.device, merged)
        outputs.append((len(pieces), layer(x, pieces)))
    assert [calls for calls, _ in outputs] == [3, 2, 1]
    torch.testing.assert_close(outputs[0][1], outputs[1][1], rtol=0, atol=1e-6)
    torch.testing.assert_close(outputs[0][1], outputs[2][1], rtol=0, atol=1e-6)


@torch.inference_mode()
def test_stored_attention_sees_all_it_was_given_before():
    cache = Cache(torch.zeros(1), 2, (1, 3, 5, 4))
    q, k, v = torch.randn(3, 1, 3, 5, 4)
    for begin, end in ((0, 2), (2, 5)):
        new = [part[:, :, begin:end] for part in (q, k, v)]
        outputs = [attend_stored(*new, *cache.of(block), 0.7) for block in (0, 1)]
        whole = F.scaled_dot_product_attention(
            new[0], k[:, :, :end], v[:, :, :end], scale=0.7
        )  # (1, 3, l, 4)
        for out in outputs:
            torch.testing.assert_close(out, whole.transpose(1, 2).flatten(2))
        cache.advance(end - begin)
    assert cache.length == 5
    assert torch.equal(cache.of(1)[0], torch.stack([k, v]))


def test_stored_attention_keeps_the_contract_of_operators():
    new = torch.randn(3, 2, 3, 4, 5).unbind(0)
    torch.library.opcheck(
        torch.ops.nextscale.attend_stored.default,
        (*new, torch.zeros(2, 2, 3, 9, 5), 3, None, 0.5),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_a_cache_holds_keys_in_the_weights_type():
    model = Transformer(TransformerConfig(depth=2, width=8, heads=2)).bfloat16()
    memory, known, _ = model.new_cache(batch=3, tokens=7).of(1)
    assert (memory.dtype, known) == (torch.bfloat16, 0)
    assert memory.shape == (2, 3, 2, 7, 4)


def test_norms_normalise_and_modulate_scales_by_one_more_and_shifts():
    x = 3 * torch.randn(2, 4, 50) + 5
    normed = build_norm(TransformerConfig(width=50, heads=2), affine=False)(x)
    torch.testing.assert_close(normed.mean(-1), torch.zeros(2, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(normed.std(-1, correction=0), torch.ones(2, 4))
    scaled = modulate(normed, torch.tensor(0.5), torch.tensor(2.0))
    torch.testing.assert_close(scaled, 1.5 * normed + 2)
    rms = build_norm(TransformerConfig(width=50, heads=2, norm="rms"), affine=False)
    torch.testing.assert_close(rms(x).square().mean(-1), torch.ones(2, 4))


@torch.inference_mode()
def test_gates_close_both_branches():
    block = AdaLNBlock(TransformerConfig(width=8, heads=2), 0.0)
    x, one = torch.randn(2, TOKENS, 8), torch.ones(2, 1, 8)
    closed = block(x, (0 * one, 0 * one, one, one, one, one), PIECES)
    assert torch.equal(closed, x)
    only_mlp = block(x, (0 * one, 2 * one, one, 0 * one, one, 0 * one), PIECES)
    torch.testing.assert_close(only_mlp, x + 2 * block.mlp(F.layer_norm(x, (8,), eps=1e-6)))


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    dropped = drop_path(torch.ones(4000, 2, 3), 0.25)
    per_sample = dropped.flatten(1)
    assert torch.equal(per_sample.amin(1), per_sample.amax(1))
    assert sorted(set(per_sample[:, 0].tolist())) == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)


def test_drop_path_rises_with_depth_and_acts_in_training_only():
    trunk = Transformer(TransformerConfig(depth=3, width=8, heads=2, drop_path=0.4))
    assert [block.drop_rate for block in trunk.blocks] == pytest.approx([0, 0.2, 0.4])
    last, x, one = trunk.blocks[2], torch.randn(100, 1, 8), torch.ones(100, 1, 8)
    for gates in ((one, 0 * one), (0 * one, one)):  # attention alone, then the MLP alone
        modulations = (*gates, one, one, one, one)
        counts = [
            (last.train(training)(x, modulations, [(0, 1, None)]) == x).all(-1).sum().item()
            for training in (True, False)
        ]
        assert counts == [pytest.approx(40, abs=20), 0]  # samples left as they came


@torch.inference_mode()
def test_shared_modulation_is_one_projection_plus_a_blocks_offset():
    model = Transformer(TransformerConfig(depth=2, width=8, heads=2, shared_adaln=True))
    condition = torch.randn(3, 8)
    first, second = (torch.stack(m) for m in model.modulations(condition))  # (6, B, 1, D)
    apart = model.blocks[1].offset - model.blocks[0].offset  # (6, D)
    torch.testing.assert_close(second - first, apart[:, None, None].expand(6, 3, 1, 8))
    common = model.shared_modulation(F.silu(condition)).view(3, 6, 8)
    torch.testing.assert_close(first[4, :, 0], common[:, 4] + model.blocks[0].offset[4])


def test_initial_weights_follow_the_paper():
    config = TransformerConfig(depth=2, width=192, heads=3, gate_init=1e-3)
    model = Transformer(config)
    model.initialize()
    std = (1 / (3 * 192)) ** 0.5
    block = model.blocks[1]
    gates, others = block.modulation.weight.split([2 * 192, 4 * 192])
    spread = {
        "mixing": block.attention.query_key_value.weight.std() / std,
        "residual": block.attention.project.weight.std() / std * 2,
        "mlp residual": block.mlp.project.weight.std() / std * 2,
        "gates": gates.std() / std / 1e-3,
        "modulation": others.std() / std * 2,
    }
    assert {name: value.item() for name, value in spread.items()} == pytest.approx(
        dict.fromkeys(spread, 1), rel=0.02
    )
    assert block.attention.log_scale.tolist() == pytest.approx([math.log(4)] * 3)
    assert block.mlp.expand.bias.abs().max() == 0


def test_initial_offsets_of_shared_modulation_follow_the_paper():
    config = TransformerConfig(depth=2, width=1024, heads=2, shared_adaln=True, gate_init=1e-2)
    model = Transformer(config)
    model.initialize()
    gates, others = model.blocks[0].offset.split([2, 4])
    assert gates.std().item() * 32 == pytest.approx(1e-2, rel=0.05)
    assert others.std().item() * 32 == pytest.approx(0.5, rel=0.05)
    projected = model.shared_modulation.weight.std().item()
    assert projected == pytest.approx((1 / (3 * 1024)) ** 0.5, rel=0.02)
