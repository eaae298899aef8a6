"""What is kept is the image's own at every scale; what is not is drawn. Parity: tests/parity."""

import pytest
import torch

from nextscale.config.model import SamplingConfig
from nextscale.editing.masks import keep_per_scale
from nextscale.editing.tasks import edit, interpolate, redraw
from nextscale.errors import UsageError
from nextscale.generation.generate import generate, last_state

SEEDS = [5, 6]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 1, 8, 8) * 2 - 1


@pytest.fixture
def keep() -> torch.Tensor:
    keep = torch.ones(2, 8, 8)
    keep[0, :, 4:] = 0
    keep[1, 2:6, 2:6] = 0
    return keep


def test_kept_positions_hold_the_image_s_own_codes(model, tokenizer, images, keep) -> None:
    for rule in ("released", "strict"):
        masks = keep_per_scale(keep, model.scales, rule)
        edited = redraw(model, tokenizer, images, masks, seeds=SEEDS)
        own = tokenizer.encode(images)
        for tokens, drawn, kept, before in zip(
            edited.tokens, edited.drawn, edited.kept, own, strict=True
        ):
            assert torch.equal(tokens[kept], before[kept])
            assert torch.equal(tokens[~kept], drawn[~kept])
        torch.testing.assert_close(edited.images, tokenizer.decode(edited.tokens))


def test_all_kept_is_the_reconstruction_and_nothing_kept_a_free_draw(
    model, tokenizer, images
) -> None:
    whole = edit(model, tokenizer, images, torch.ones(4, 4), seeds=SEEDS)
    torch.testing.assert_close(whole, tokenizer.decode(tokenizer.encode(images)))
    labels = torch.tensor([1, 2])
    none = edit(
        model,
        tokenizer,
        images,
        torch.zeros(8, 8),
        labels,
        rule="strict",
        seeds=SEEDS,
        sampling=SamplingConfig(cfg=2.0),
    )
    free = last_state(
        generate(model, tokenizer, labels, seeds=SEEDS, sampling=SamplingConfig(cfg=2.0))
    ).image()
    assert torch.equal(none, free)


def test_labels_and_masks_act_on_their_own_image(model, tokenizer, images, keep) -> None:
    both = edit(model, tokenizer, images, keep, torch.tensor([0, 2]), seeds=SEEDS)
    for i in (0, 1):
        alone = edit(
            model,
            tokenizer,
            images[i : i + 1],
            keep[i],
            torch.tensor([2 * i]),
            seeds=SEEDS[i : i + 1],
        )
        torch.testing.assert_close(alone[0], both[i], rtol=0, atol=1e-5)
    other = edit(model, tokenizer, images, keep, torch.tensor([1, 2]), seeds=SEEDS)
    assert not torch.equal(other[0], both[0])
    assert torch.equal(other[1], both[1])


def test_recoded_positions_mend_what_is_drawn_beside_them(model, tokenizer, images, keep) -> None:
    masks = keep_per_scale(keep, model.scales, "strict")
    own = redraw(model, tokenizer, images, masks, seeds=SEEDS)
    recoded = redraw(model, tokenizer, images, masks, seeds=SEEDS, recode=True)
    torch.testing.assert_close(recoded.images, tokenizer.decode(recoded.tokens))
    features = tokenizer.features(images)
    finest = masks[-1].expand_as(features)

    def drift(edited) -> float:
        accumulated = tokenizer.quantizer.accumulated_maps(edited.tokens)[-1]
        return (accumulated - features)[finest].square().mean().item()

    assert drift(recoded) < drift(own)
    whole = edit(model, tokenizer, images, torch.ones(4, 4), seeds=SEEDS, recode=True)
    torch.testing.assert_close(whole, tokenizer.decode(tokenizer.encode(images)))


def test_a_next_token_model_keeps_what_is_known_too(make_tokenizer, make_model, images) -> None:
    flat = make_tokenizer(scales=(4,))
    model = make_model(flat, order="raster")
    keep = torch.ones(4, 4)
    keep[2:] = 0
    edited = redraw(model, flat, images, keep_per_scale(keep[None], model.scales), seeds=SEEDS)
    own = flat.encode(images)[0]
    assert torch.equal(edited.tokens[0][:, :2], own[:, :2])
    torch.testing.assert_close(edited.images, flat.decode(edited.tokens))
    keep = 1 - keep  # what stands behind in its order is put back and changes nothing before
    behind = redraw(model, flat, images, keep_per_scale(keep[None], model.scales), seeds=SEEDS)
    none = torch.full((2,), model.config.classes)
    free = last_state(generate(model, flat, none, seeds=SEEDS)).tokens
    assert torch.equal(behind.tokens[0][:, :2], free[:, :2])
    assert torch.equal(behind.tokens[0][:, 2:], own[:, 2:])


def test_interpolation_begins_and_ends_with_reconstructions(tokenizer, images) -> None:
    found = interpolate(tokenizer, images[:1], images[1:], 3)
    assert found.shape == (3, 1, 1, 8, 8)
    ends = tokenizer.decode(tokenizer.encode(images))
    torch.testing.assert_close(torch.cat([found[0], found[2]]), ends)
    assert not torch.equal(found[1], found[0])
    with pytest.raises(UsageError, match="steps is 1"):
        interpolate(tokenizer, images[:1], images[1:], 1)


def test_refusals(model, tokenizer, images) -> None:
    with pytest.raises(UsageError, match=r"the mask has the shape \(3, 8, 8\); \(h, w\) or \(2, h"):
        edit(model, tokenizer, images, torch.ones(3, 8, 8))
