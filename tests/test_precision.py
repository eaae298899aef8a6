"""Every option in float32, bfloat16 and float16: finite, in range, and close to float32."""

import math
from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nextscale.app.codes import code_colours
from nextscale.checkpoints import checkpoint
from nextscale.config.model import ModelConfig, SamplingConfig
from nextscale.evaluation.drawing import make_chunk, reconstruct
from nextscale.generation.batches import Draws, drawing_of
from nextscale.generation.generate import State, generate, last_state
from nextscale.generation.likelihood import class_log_probabilities, token_log_probabilities
from nextscale.judges.classifiers import load_judge
from nextscale.judges.extractors import load_extractor
from nextscale.pictures.pixels import to_pictures, to_pixels
from nextscale.pipeline import Pipeline

DTYPES = {torch.float32: 0.0, torch.float16: 0.03, torch.bfloat16: 0.2}  # to what images may differ
LABELS = torch.tensor([0, 1, 2, 3] * 2)  # 3 is "none"
KINDS = {  # of the tokenizer, of the model
    "adaln": ({}, {}),
    "shared": ({"phi": "each"}, {"shared_adaln": True, "normalized_attention": False}),
    "plain": ({"z_norm": True, "attention": False, "image_channels": 3}, {"adaln": False}),
    "next-token": ({"scales": "4"}, {"order": "spiral", "classes": 0}),
}
SAMPLING = (
    {},
    {"cfg": 2.0, "top_k": 8, "top_p": 0.9, "temperature": 0.8},
    {"cfg": 1.0, "guidance": "constant"},
    {"smooth": True, "cfg": 1.0},
    {"mean_scales": 1, "top_k": 5},
    {"mean_scales": 1, "smooth": True},
)
EDITS = (
    lambda pipe, pictures: pipe.edit(pictures, (0, 0, 4, 8), candidates=2),
    lambda pipe, pictures: pipe.edit(pictures, (0, 0, 4, 8), None, fill=False, rule="strict"),
    lambda pipe, pictures: pipe.edit_class(pictures, (0, 0, 4, 8), 0, recode=True, cfg=1.0),
    lambda pipe, pictures: pipe.inpaint(pictures, (0, 0, 3, 8), paste=True, feather=1),
    lambda pipe, pictures: pipe.outpaint(pictures, (0, 2, 2, 0), overlap=0.75, feather=1),
    lambda pipe, pictures: pipe.outpaint(pictures, box=(0, 0, 6, 6), recode=True),
    lambda pipe, pictures: pipe.vary(pictures, len(pipe.model.scales) - 1),
    lambda pipe, pictures: pipe.interpolate(*pictures[:2], 3),
    lambda pipe, pictures: pipe.reconstruct(pictures),
    lambda pipe, pictures: pipe.pyramid(pictures[0]),
)


@pytest.fixture(scope="module", params=KINDS)
def kind(request, make_tokenizer, make_model) -> Pipeline:
    """A tiny pipeline whose weights every dtype holds exactly, so that arithmetic alone differs."""
    tokenizer, model = KINDS[request.param]
    made = make_tokenizer(**tokenizer)
    networks = [rounded(network) for network in (made, make_model(made, **model))]
    return Pipeline(*networks, ModelConfig(made.config, networks[1].config))


def rounded(network: nn.Module) -> nn.Module:
    """The network with weights of few bits."""
    return network.bfloat16().to(torch.float16).float()


def cast(pipe: Pipeline, dtype: torch.dtype) -> Pipeline:
    """A copy in a dtype."""
    tokenizer, model = (deepcopy(part).to(dtype) for part in (pipe.tokenizer, pipe.model))
    return Pipeline(tokenizer, model, pipe.config)


def same_tokens(ours: Sequence[State], theirs: Sequence[State]) -> Tensor:
    """Whether the same was drawn of each image, bool (B,)."""
    pairs = zip(ours, theirs, strict=True)
    return torch.stack([(a.tokens == b.tokens).flatten(1).all(1) for a, b in pairs]).all(0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sampling(kind: Pipeline, dtype: torch.dtype) -> None:
    low, classes = cast(kind, dtype), kind.model.config.classes
    labels = LABELS.clamp(max=classes)
    for options in SAMPLING:
        if kind.model.config.order != "scales" and {"smooth", "mean_scales"} & {*options}:
            continue  # a next-token model has no scales to average
        theirs, ours = (
            list(
                generate(
                    p.model,
                    p.tokenizer,
                    labels,
                    SamplingConfig(**options),
                    seeds=range(len(labels)),
                )
            )
            for p in (kind, low)
        )
        assert all(state.accumulated.dtype == torch.float32 for state in ours)
        same = same_tokens(ours, theirs)
        for tile in (0, 4):
            wanted, images = theirs[-1].image(tile), ours[-1].image(tile)
            assert images.dtype == torch.float32
            assert images.isfinite().all()
            assert images.abs().max() <= 1
            assert same.float().mean() >= 0.4, "too little is compared"
            error = (images - wanted)[same].abs()
            assert error.mean() <= DTYPES[dtype], options


@pytest.mark.parametrize("dtype", DTYPES)
def test_editing(kind: Pipeline, images: Tensor, dtype: torch.dtype) -> None:
    low, count = cast(kind, dtype), kind.config.tokenizer.image_channels
    pictures = to_pictures(images[:3].expand(-1, count, -1, -1))
    for edit in EDITS:
        theirs, ours = edit(kind, pictures), edit(low, pictures)
        assert len(ours) == len(theirs)
        errors = []
        for a, b in zip(ours, theirs, strict=True):
            assert (a.size, a.mode) == (b.size, b.mode)
            errors.append(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean() / 127.5)
            assert math.isfinite(a.info.get("log_probability", 0.0))
        assert np.median(errors) <= DTYPES[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_likelihood(kind: Pipeline, images: Tensor, dtype: torch.dtype) -> None:
    low, classes = cast(kind, dtype), kind.model.config.classes
    images = images.expand(-1, kind.config.tokenizer.image_channels, -1, -1)
    tokens, labels = kind.tokenizer.encode(images), LABELS[: len(images)].clamp(max=classes)
    theirs, ours = (
        token_log_probabilities(p.model, p.tokenizer, tokens, labels) for p in (kind, low)
    )
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=0, atol=5 * DTYPES[dtype])
    assert all(map(math.isfinite, low.log_likelihood(to_pictures(images))))
    if classes:
        shares = class_log_probabilities(low.model, low.tokenizer, images).exp()
        torch.testing.assert_close(shares.sum(1), torch.ones(len(images)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_evaluation(pipe: Pipeline, images: Tensor, classifier: str, dtype: torch.dtype) -> None:
    exact = Pipeline(*map(rounded, deepcopy((pipe.tokenizer, pipe.model))), pipe.config)
    low = cast(exact, dtype)
    extractor, pixels = load_extractor(classifier, "cpu"), to_pixels(images)
    made = []
    for p in (exact, low):
        judge = load_judge(classifier, p)
        draws = Draws(torch.tensor([0, 1, 2] * 2), range(12), keep=0.5, judge=judge)
        draw = drawing_of(p.model, p.tokenizer, SamplingConfig(mean_scales=1))
        found = make_chunk(draw, draws, range(len(draws.given)), extractor)
        found |= {f"again_{k}": v for k, v in reconstruct(p, pixels, extractor, brightness).items()}
        assert all(np.isfinite(values).all() for values in found.values())
        made.append(found)
        assert len(p.sample([0, 1], keep=0.5, judge=judge, tile=4)) == 2
        assert code_colours(p.tokenizer.quantizer.code.vectors().detach()).dtype == torch.uint8
    theirs, ours = made
    assert theirs.keys() == ours.keys()
    assert abs(theirs["again_mse"] - ours["again_mse"]).mean() <= DTYPES[dtype]
    assert abs(theirs["again_ssim"] - ours["again_ssim"]).mean() <= 2 * DTYPES[dtype]


def brightness(first: Tensor, second: Tensor) -> Tensor:
    """A distance of two batches that takes float32 alone, as perceptual networks do."""
    assert first.dtype == second.dtype == torch.float32
    return (first - second).abs().mean()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_bundled_model_draws_in_half(precision: str) -> None:
    """Its two finest scales take means, which once ended in a traceback."""
    low = checkpoint.load("fashion-mnist", dtype=getattr(torch, precision))
    states = low.states([0, 1, "Bag"], seed=0)
    exact = checkpoint.load("fashion-mnist").states([0, 1, "Bag"], seed=0)
    ours, theirs = last_state(states).image(), last_state(exact).image()
    assert (ours - theirs).abs().mean() <= 0.3  # of other images 0.6
