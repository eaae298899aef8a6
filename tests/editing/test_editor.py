"""A pipeline's edits: pictures and masks in, pictures with their likelihood out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nextscale.config.model import SamplingConfig
from nextscale.editing.tasks import edit
from nextscale.errors import UsageError
from nextscale.generation.likelihood import log_likelihood
from nextscale.pictures.pixels import to_pictures, to_tensor
from nextscale.pipeline import Pipeline


@pytest.fixture
def pictures(images) -> list[Image.Image]:
    return to_pictures(images[:2])


@pytest.fixture
def mask() -> Image.Image:
    mask = Image.new("L", (8, 8), 0)
    mask.paste(255, (4, 2, 8, 6))
    return mask


def same(one: list[Image.Image], other: list[Image.Image]) -> bool:
    return [p.tobytes() for p in one] == [p.tobytes() for p in other]


def test_edit_draws_as_the_function_below_it(pipe, pictures, mask) -> None:
    keep = torch.ones(8, 8)
    keep[2:6, 4:8] = 0
    expected = edit(
        pipe.model,
        pipe.tokenizer,
        to_tensor(pictures, 1),
        keep,
        torch.tensor([1, 2]),
        seeds=[3, 4],
        sampling=SamplingConfig(cfg=1.5),
        rule="strict",
    )
    options = {"rule": "strict", "cfg": 1.5, "seed": 3}
    found = pipe.edit(pictures, mask, ["bag", 2], fill=False, **options)
    assert same(found, to_pictures(expected))
    assert not same(found, pipe.edit(pictures, mask, ["bag", 2], **options))  # hidden
    assert same(pipe.edit_class(pictures, mask, "bag"), pipe.edit(pictures, mask, "bag"))
    assert same(pipe.inpaint(pictures, [mask, mask]), pipe.edit(pictures, mask, None, cfg=3.0))


def test_means_of_the_model_s_configuration_are_left_out_unless_asked_for(
    pipe, pictures, mask
) -> None:
    drawn = pipe.inpaint(pictures, mask)
    sampling = replace(pipe.config.sampling, mean_scales=2)
    means = Pipeline(pipe.tokenizer, pipe.model, replace(pipe.config, sampling=sampling))
    assert same(means.inpaint(pictures, mask), drawn)
    assert not same(means.inpaint(pictures, mask, mean_scales=2), drawn)


def test_what_is_hidden_does_not_matter_and_pasted_pixels_come_back(pipe, pictures, mask) -> None:
    scribbled = [picture.copy() for picture in pictures]
    for picture in scribbled:
        picture.paste(77, (4, 2, 8, 6))
    found = pipe.inpaint(scribbled, mask, paste=True)
    assert same(found, pipe.inpaint(pictures, mask, paste=True))
    kept = np.asarray(mask) == 0
    for before, after in zip(pictures, found, strict=True):
        assert (np.asarray(before)[kept] == np.asarray(after)[kept]).all()


def test_candidates_come_likeliest_first_with_seeds_that_repeat_them(pipe, pictures, mask) -> None:
    found = pipe.inpaint(pictures, mask, candidates=3, seed=10)
    assert len(found) == 6
    scores = [picture.info["log_probability"] for picture in found]
    assert scores[:3] == sorted(scores[:3], reverse=True)
    assert scores[3:] == sorted(scores[3:], reverse=True)
    assert sorted(picture.info["seed"] for picture in found[:3]) == [10, 1_000_010, 2_000_010]
    again = pipe.inpaint(pictures[1], mask, seed=found[3].info["seed"])
    assert same(again, found[3:4])


def test_without_a_seed_a_fresh_one_is_drawn(pipe, pictures, mask) -> None:
    one, other = pipe.inpaint(pictures, mask, seed=None)
    assert other.info["seed"] == one.info["seed"] + 1
    assert same(pipe.inpaint(pictures[0], mask, seed=one.info["seed"]), [one])
    assert pipe.vary(pictures[0], 1, seed=None)[0].info["seed"] != one.info["seed"]


def test_outpaint_by_sides_and_by_a_box(pipe, pictures) -> None:
    found = pipe.outpaint(pictures, sides=(0, 0, 4, 8), label="coat")
    assert {picture.size for picture in found} == {(12, 16)}
    assert same([found[0].crop((0, 0, 8, 8))], pictures[:1])
    small = [picture.resize((4, 4)) for picture in pictures]
    framed = pipe.outpaint(small, box=(2, 3, 6, 7))
    assert same([framed[1].crop((2, 3, 6, 7))], small[1:])
    with pytest.raises(UsageError, match="give either the sides to add or the box"):
        pipe.outpaint(pictures)
    with pytest.raises(UsageError, match="give either"):
        pipe.outpaint(pictures, sides=(1, 1, 1, 1), box=(2, 3, 6, 7))
    with pytest.raises(UsageError, match=r"the box 2 3 9 7 .* image of 8x8 pixels"):
        pipe.outpaint(pictures, box=(2, 3, 9, 7))


def test_vary_and_interpolate_end_in_reconstructions(pipe, pictures) -> None:
    assert same(pipe.vary(pictures, 3), pipe.reconstruct(pictures))
    assert same(pipe.vary(pictures, 0, "bag", seed=2), pipe.sample(["bag"] * 2, seed=2, cfg=0.0))
    steps = pipe.interpolate(*pictures, steps=3)
    assert same([steps[0], steps[2]], pipe.reconstruct(pictures))


def test_log_likelihood_of_pictures(pipe, pictures) -> None:
    expected = log_likelihood(
        pipe.model, pipe.tokenizer, to_tensor(pictures, 1), torch.tensor([1, 3])
    )
    assert pipe.log_likelihood(pictures, ["bag", None]) == pytest.approx(expected.tolist())


def test_refusals(pipe, pictures, mask) -> None:
    with pytest.raises(UsageError, match="1 masks are given for 2 images"):
        pipe.inpaint(pictures, [mask])
    with pytest.raises(UsageError, match="3 labels are given for 2 images"):
        pipe.edit_class(pictures, mask, [0, 1, 2])
    with pytest.raises(UsageError, match="unknown label 'boat'"):
        pipe.edit_class(pictures, mask, "boat")
    with pytest.raises(UsageError, match="1 seeds are given for 2 images"):
        pipe.inpaint(pictures, mask, seeds=[1])
    with pytest.raises(UsageError, match="masks of pixels and of the finest scale are mixed"):
        pipe.inpaint(pictures, [mask, np.eye(4)])
    for wrong, found in (("x.png", "str"), ([], "nothing")):
        with pytest.raises(UsageError, match=rf"pictures .* are needed; {found} is given"):
            pipe.inpaint(wrong, mask)
    with pytest.raises(UsageError, match="feather is -1"):
        pipe.inpaint(pictures, mask, paste=True, feather=-1)
    with pytest.raises(UsageError, match="seed is -1"):
        pipe.inpaint(pictures, mask, seed=-1)
    with pytest.raises(UsageError, match="unknown option 'fil'; did you mean 'fill'"):
        pipe.inpaint(pictures, mask, fil=False)
    with pytest.raises(UsageError, match=r"unknown option 'constrain'; known: overlap, .*cfg"):
        pipe.outpaint(pictures, (1, 1, 1, 1), constrain=None)
    with pytest.raises(UsageError, match="unknown option 'rule'; known: candidates"):
        pipe.vary(pictures, 1, rule="strict")
    with pytest.raises(UsageError, match="give seed or seeds"):
        pipe.inpaint(pictures, mask, generator=torch.Generator())
    assert same(pipe.inpaint(pictures, [4, 2, 8, 6]), pipe.inpaint(pictures, mask))
    with pytest.raises(UsageError, match="candidates is 0"):
        pipe.inpaint(pictures, mask, candidates=0)
    with pytest.raises(UsageError, match="keep_scales is 4; it can be from 0 to 3"):
        pipe.vary(pictures, 4)
