import re

import pytest
import torch

from nextscale.checkpoints.published.var import describe_released, from_released
from nextscale.config.architecture import RELEASED_256, TokenizerConfig, TransformerConfig
from nextscale.errors import UsageError
from nextscale.scales import areas, parse_scales
from tests.parity.figures import COPY, load


@pytest.fixture(scope="module")
def published():
    """State dicts of a published tiny tokenizer and transformer, scales 1 2 3 4 6."""
    figures = load(COPY / "tiny.safetensors")
    return figures.state("tokenizer"), figures.state("transformer")


@pytest.fixture
def states(published):
    """Copies whose keys a test may change."""
    return dict(published[0]), dict(published[1])


def reshape_pyramid(transformer, scales):
    """The same transformer's state cut to another, shorter pyramid."""
    counts = torch.tensor(areas(parse_scales(scales)))
    tokens = int(counts.sum())
    return transformer | {
        "pos_start": torch.randn(1, counts[0], 128),
        "pos_1LC": transformer["pos_1LC"][:, :tokens],
        "lvl_embed.weight": transformer["lvl_embed.weight"][: len(counts)],
        "lvl_1L": torch.arange(len(counts)).repeat_interleave(counts)[None],
        "attn_bias_for_masking": torch.zeros(1, 1, tokens, tokens),
    }


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def assert_same_weights(one, other):
    for part in ("tokenizer", "model"):
        mine, theirs = getattr(one, part).state_dict(), getattr(other, part).state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_shapes_tell_the_configuration(states):
    pipe = from_released(*states)
    assert pipe.config.tokenizer == TokenizerConfig(
        scales="1 2 3 4 6", width=32, latent=8, codes=128
    )
    assert pipe.config.model == TransformerConfig(classes=10, depth=2)
    assert (pipe.config.sampling.cfg, pipe.config.sampling.top_k) == (1.5, 128)
    assert describe_released(pipe) == "VAR of depth 2, 128 codes, scales 1 2 3 4 6"


@pytest.mark.parametrize(
    ("name", "tokenizer", "model"),
    [
        ("tiny_shared_adaln", {}, {"shared_adaln": True}),
        ("tiny_phi_shared", {"phi": "shared"}, {"normalized_attention": False}),
        ("tiny_phi_each", {"phi": "each"}, {}),
    ],
)
def test_variants_are_told_apart(name, tokenizer, model):
    figures = load(COPY / f"{name}.safetensors")
    config = from_released(figures.state("tokenizer"), figures.state("transformer")).config
    assert {key: getattr(config.tokenizer, key) for key in tokenizer} == tokenizer
    assert {key: getattr(config.model, key) for key in model} == model


def test_networks_are_ready_to_draw_and_to_be_tuned(states):
    pipe = from_released(*states)
    for module in (pipe.tokenizer, pipe.model):
        assert not module.training
        assert all(p.requires_grad and p.device.type == "cpu" for p in module.parameters())


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."]
)
def test_compiled_and_distributed_prefixes_are_dropped(states, prefix):
    assert_same_weights(
        from_released(*(prefixed(state, prefix) for state in states)), from_released(*states)
    )


def test_the_published_trainers_file_is_both(states):
    nested = {
        "epoch": 3,
        "trainer": {
            "config": {"depth": 2},
            "vae_local": states[0],
            "var_wo_ddp": prefixed(states[1], "_orig_mod."),
        },
    }
    assert_same_weights(from_released(nested, nested), from_released(*states))


@pytest.mark.parametrize(
    ("part", "key"), [("tokenizer", "vae_local"), ("transformer", "var_wo_ddp")]
)
def test_a_trainers_file_without_a_network_is_refused(states, part, key):
    whole = {"vae_local": states[0], "var_wo_ddp": states[1]}
    del whole[key]
    with pytest.raises(UsageError, match=rf"no {part} \({key}\)"):
        from_released({"trainer": whole}, {"trainer": whole})


def test_swapped_files_are_refused(states):
    with pytest.raises(UsageError, match=r"no published tokenizer: it has no quantize\.embedding"):
        from_released(states[1], states[0])


def test_a_tokenizer_alone_takes_the_released_scales(states):
    with pytest.warns(UserWarning, match="released 1 2 3 4 5 6 8 10 13 16 are assumed"):
        pipe = from_released(states[0], None)
    assert pipe.maybe_model is None
    assert pipe.config.tokenizer.scales == RELEASED_256
    assert from_released(states[0], None, "1 2").config.tokenizer.scales == ((1, 1), (2, 2))


@pytest.mark.parametrize("part", [0, 1])
def test_every_key_is_needed_or_carries_nothing(states, part):
    silent = ("ema_vocab_hit_SV", "lvl_1L", "attn_bias_for_masking", "zero_k_bias")
    scales = "1 2 3 4 6"  # given, because lvl_1L is among the keys left out
    one_of_each = {re.sub(r"\d+", "", key): key for key in states[part]}
    for key in one_of_each.values():
        value = states[part].pop(key)
        if key.endswith(silent):
            from_released(*states, scales)
        else:
            with pytest.raises(UsageError):
                from_released(*states, scales)
        states[part][key] = value


@pytest.mark.parametrize(("part", "key"), [(0, "encoder.conv_in.weight"), (1, "class_emb.weight")])
def test_keys_that_tell_the_configuration_are_asked_for_first(states, part, key):
    del states[part][key]
    with pytest.raises(UsageError, match=f"it has no {key}"):
        from_released(*states)


@pytest.mark.parametrize(
    ("part", "key", "ours"),
    [
        (0, "decoder.up.1.block.0.norm1.bias", r"decoder.levels.1.blocks.0.norm1.bias"),
        (0, "quantize.quant_resi.qresi_ls.2.weight", "quantizer.phis.2.conv.weight"),
        (1, "blocks.1.ffn.fc2.bias", "transformer.blocks.1.mlp.project.bias"),
        (1, "head.weight", "head.weight"),
    ],
)
def test_misfits_are_named(states, part, key, ours):
    value = states[part].pop(key)
    with pytest.raises(UsageError, match=f"missing: {ours}"):
        from_released(*states)
    states[part][key] = value[:-1]
    with pytest.raises(UsageError, match=rf"{ours} \(\d+.* instead of \(\d+"):
        from_released(*states)


@pytest.mark.parametrize("part", [0, 1])
def test_keys_that_no_table_knows_are_named(states, part):
    states[part]["text_encoder.weight"] = torch.zeros(2)
    with pytest.raises(UsageError, match=r"unknown keys .*: text_encoder\.weight"):
        from_released(*states)


def test_scales_come_from_the_levels_of_the_file(states):
    transformer = reshape_pyramid(states[1], "1 3 4")
    assert from_released(states[0], transformer).model.scales == ((1, 1), (3, 3), (4, 4))


def test_without_levels_the_released_pyramid_is_known_by_its_length(states):
    transformer = reshape_pyramid(states[1], RELEASED_256[:5])
    del transformer["lvl_1L"]
    with pytest.raises(UsageError, match="55 positions fit no released pyramid"):
        from_released(states[0], transformer)
    transformer["pos_1LC"] = torch.randn(1, 680, 128)
    transformer["lvl_embed.weight"] = torch.randn(10, 128)
    with pytest.warns(UserWarning, match="are assumed"):
        assert from_released(states[0], transformer).model.scales == RELEASED_256


def test_non_square_scales_must_be_given(states):
    transformer = reshape_pyramid(states[1], "1 1x2 2x3")
    with pytest.raises(UsageError, match=r"not square \(areas \[1, 2, 6\]\); give them"):
        from_released(states[0], transformer)
    pipe = from_released(states[0], transformer, "1 1x2 2x3")
    assert pipe.model.scales == pipe.tokenizer.config.scales == ((1, 1), (1, 2), (2, 3))
    (image,) = pipe.sample(0)
    assert image.size == (48, 32)


def test_given_scales_must_fit_the_positions(states):
    with pytest.raises(UsageError, match=r"position_embedding \(1, 66, 128\) instead of \(30, 128"):
        from_released(*states, "1 2 3 4")


def test_what_shapes_cannot_tell_can_be_given(states):
    pipe = from_released(*states, z_norm=True, phi_ratio=0.25, commitment=0.5)
    assert pipe.tokenizer.quantizer.code.z_norm
    assert pipe.tokenizer.quantizer.phis[0].ratio == 0.25
    assert pipe.config.tokenizer.commitment == 0.5
