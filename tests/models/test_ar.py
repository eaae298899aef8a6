"""Next-token prediction: its paths, its causality, and that the cache changes nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nextscale.config.architecture import TransformerConfig
from nextscale.errors import UsageError
from nextscale.generation.generate import prepare
from nextscale.models.model import Model, build_model
from nextscale.models.orders import path_over
from nextscale.scales import parse_scales

ORDERS = ("raster", "spiral", "z-curve")
SCALES = parse_scales("3x4")
TOKENS = 12


def make(order: str = "raster", **options) -> Model:
    config = TransformerConfig(classes=3, depth=2, width=16, heads=2, order=order, **options)
    model = Model(config, SCALES, (8,), latent=4).eval()
    with torch.no_grad():
        model.head.weight.mul_(50)  # a start near zero would hide what logits depend on
    return model


@given(st.sampled_from(ORDERS), st.integers(1, 9), st.integers(1, 9))
def test_every_place_is_passed_once(order: str, height: int, width: int) -> None:
    assert sorted(path_over(order, (height, width))) == list(range(height * width))


def test_paths_as_they_are_known() -> None:
    assert path_over("raster", (2, 3)) == [0, 1, 2, 3, 4, 5]
    assert path_over("spiral", (3, 3)) == [4, 5, 8, 7, 6, 3, 0, 1, 2]
    assert path_over("z-curve", (4, 4)) == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]


@pytest.mark.parametrize("order", ORDERS)
@torch.inference_mode()
def test_a_token_depends_on_those_before_it_alone(order: str) -> None:
    model, labels = make(order), torch.tensor([0, 2])
    inputs = torch.randn(2, TOKENS - 1, 4)
    logits = model(labels, inputs)
    path = path_over(order, SCALES[0])
    for i, place in enumerate(path[:-1]):
        changed = inputs.clone()
        changed[:, i] += 1  # stands for the token at this place
        moved = (model(labels, changed) != logits).any(-1).any(0)
        assert not moved[path[: i + 1]].any()
        assert moved[path[i + 1 :]].all(), place


@pytest.mark.parametrize("adaln", [True, False])
@pytest.mark.parametrize("order", ORDERS)
@torch.inference_mode()
def test_cached_steps_equal_the_full_pass(order: str, adaln: bool) -> None:
    model, labels = make(order, adaln=adaln), torch.tensor([1, 3])
    inputs = torch.randn(2, TOKENS - 1, 4)
    predict, x = prepare(model, labels, guided=False)
    stepped = torch.empty(2, TOKENS, 8)
    for i, place in enumerate(model.order.path):
        stepped[:, place] = predict(x)[:, 0]
        if i + 1 < TOKENS:
            x = model.embed(i + 1, inputs[:, i, None])
    torch.testing.assert_close(stepped, model(labels, inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("adaln", [True, False])
def test_its_trunk_weighs_what_next_scale_weighs(adaln: bool, make_tokenizer) -> None:
    def sizes(order: str, scales: str) -> dict[str, int]:
        config = TransformerConfig(depth=2, width=16, heads=2, order=order, adaln=adaln)
        model = build_model(config, make_tokenizer(scales=scales).config)
        return {name: p.numel() for name, p in model.named_parameters() if "position" not in name}

    ar, var = sizes("raster", "4"), sizes("scales", "1 2 4")
    assert {name: ar[name] for name in ar if name != "level_embedding"} == {
        name: var[name] for name in var if name != "level_embedding"
    }


def test_several_scales_are_refused() -> None:
    config = TransformerConfig(classes=3, depth=1, width=16, order="raster")
    with pytest.raises(UsageError, match="has the scales 1 2; train one with a single scale"):
        Model(config, parse_scales("1 2"), (8,), 4)
    with pytest.raises(UsageError, match="unknown order 'hilbert'"):
        TransformerConfig(order="hilbert")
    with pytest.raises(UsageError, match="shared_adaln needs adaln"):
        TransformerConfig(shared_adaln=True, adaln=False)
