import json
from dataclasses import FrozenInstanceError

import pytest

from nextscale.config.architecture import (
    RELEASED_256,
    RELEASED_512,
    TokenizerConfig,
    TransformerConfig,
)
from nextscale.config.building import build, shaping
from nextscale.config.model import ModelConfig, SamplingConfig
from nextscale.errors import UsageError
from nextscale.scales import length


def test_released_pyramids_have_the_published_lengths():
    assert (length(RELEASED_256), length(RELEASED_512)) == (680, 2240)


def test_the_default_tokenizer_is_the_released_one():
    config = TokenizerConfig()
    assert config.downsampling == 16
    assert config.image_size == (256, 256)
    assert (config.codes, config.latent, config.phi_modules) == (4096, 32, 4)


def test_image_size_follows_scales_and_levels():
    config = TokenizerConfig(scales="1x2 3x6", multipliers=[1, 2, 2])
    assert config.scales == ((1, 2), (3, 6))
    assert config.image_size == (12, 24)


def test_phi_modules_follow_the_sharing():
    counts = [TokenizerConfig(phi=phi).phi_modules for phi in ("partial", "shared", "each")]
    assert counts == [4, 1, 10]


@pytest.mark.parametrize("depth", [1, 16, 30])
def test_depth_gives_the_papers_width_heads_and_drop_path(depth):
    config = TransformerConfig(depth=depth)
    assert (config.width, config.heads) == (64 * depth, depth)
    assert config.drop_path == pytest.approx(0.1 * depth / 24)


def test_what_is_set_is_not_derived():
    config = TransformerConfig(depth=4, width=96, heads=3, drop_path=0.0)
    assert (config.width, config.heads, config.drop_path) == (96, 3, 0.0)


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (TokenizerConfig, {"scales": "2 1"}, "shrink"),
        (TokenizerConfig, {"image_channels": 2}, "1 or 3"),
        (TokenizerConfig, {"phi": "some"}, "partial, shared or each"),
        (TokenizerConfig, {"codes": 0}, "codes is 0"),
        (TokenizerConfig, {"blocks": -1}, "blocks is -1"),
        (TokenizerConfig, {"multipliers": ()}, "one or more"),
        (TokenizerConfig, {"multipliers": (1, 0)}, "each >= 1"),
        (TokenizerConfig, {"width": 40}, "40 is not divisible by its 32 groups"),
        (TransformerConfig, {"classes": -1}, "classes is -1"),
        (TransformerConfig, {"depth": 0}, "depth is 0"),
        (TransformerConfig, {"width": 100, "heads": 3}, "100 is not divisible by 3 heads"),
    ],
)
def test_impossible_networks_are_refused(kind, values, said):
    with pytest.raises(UsageError, match=said):
        kind(**values)


def test_configurations_are_frozen():
    with pytest.raises(FrozenInstanceError):
        TokenizerConfig().codes = 2


@pytest.mark.parametrize("model", [None, TransformerConfig(depth=2, classes=0, shared_adaln=True)])
def test_a_whole_configuration_survives_json(model):
    config = ModelConfig(
        tokenizer=TokenizerConfig(scales="1x2 2x3", z_norm=True),
        model=model,
        sampling=SamplingConfig(cfg=2.0, top_k=5),
        tokenizer_hash="abc",
        labels=("a", "b"),
        data="pictures",
        versions={"torch": "2"},
    )
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"colour": 1}, "colour in the checkpoint"),
        ({"tokenizer": {"codes": 8, "collour": 1}}, "collour in tokenizer"),
        ({"model": {"deep": 1}}, "deep in model; known: .*depth"),
        ({"sampling": {"topk": 1}}, "topk in sampling; known: .*top_k"),
        ({"tokenizer": 3}, "tokenizer is 3; a table"),
    ],
)
def test_unknown_keys_are_named_with_their_place(values, said):
    with pytest.raises(UsageError, match=said):
        ModelConfig.from_dict(values)


def test_build_fills_in_defaults():
    assert build(SamplingConfig, {"cfg": 3.0}, "sampling") == SamplingConfig(cfg=3.0)


def test_keys_of_caches_are_those_of_0_1_unless_a_new_option_is_used() -> None:
    old = {
        "scales",
        "image_channels",
        "width",
        "multipliers",
        "blocks",
        "attention",
        "groups",
        "latent",
        "codes",
        "phi",
        "phi_count",
        "phi_ratio",
        "z_norm",
        "commitment",
    }
    assert set(shaping(TokenizerConfig())) == old
    assert set(shaping(TokenizerConfig(code="fsq", levels=(3, 3)))) == {*old, "code", "levels"}
    old = {
        "classes",
        "depth",
        "width",
        "heads",
        "order",
        "adaln",
        "shared_adaln",
        "normalized_attention",
        "mlp_ratio",
        "drop_path",
        "gate_init",
    }
    assert set(shaping(TransformerConfig())) == old
    assert set(shaping(TransformerConfig(norm="rms"))) == {*old, "norm"}
