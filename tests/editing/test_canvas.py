"""Windows cover the canvas from the known outwards; what was known stays."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nextscale.editing.canvas import Sides, outpaint, windows
from nextscale.errors import UsageError

SEEDS = [5, 6]


@given(
    st.integers(8, 40), st.integers(8, 40), st.data(), st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.95])
)
def test_windows_cover_everything_and_always_touch_what_is_known(height, width, data, overlap):
    top, left = data.draw(st.integers(0, height - 8)), data.draw(st.integers(0, width - 8))
    places = windows((height, width), (top, left), (8, 8), overlap)
    assert places[0] == (top, left)
    known = torch.zeros(height, width, dtype=torch.bool)
    known[top : top + 8, left : left + 8] = True
    for row, column in places:
        assert 0 <= row <= height - 8
        assert 0 <= column <= width - 8
        part = known[row : row + 8, column : column + 8]
        assert part.any()
        part[:] = True
    assert known.all()


def test_a_larger_canvas_keeps_the_image_s_pixels(model, tokenizer, images) -> None:
    images, labels = images[:2], torch.tensor([0, 3])
    sides = Sides(3, 0, 8, 5)
    found = outpaint(model, tokenizer, images, sides, labels, seeds=SEEDS)
    assert found.images.shape == (2, 1, 13, 19)
    assert torch.equal(found.images[:, :, :8, 3:11], images)
    assert found.images[:, :, 8:].std() > 0
    alone = outpaint(model, tokenizer, images[1:], sides, labels[1:], seeds=SEEDS[1:])
    torch.testing.assert_close(alone.images[0], found.images[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(alone.log_probabilities[0], found.log_probabilities[1])
    other = outpaint(model, tokenizer, images, sides, labels, seeds=[5, 7])
    assert torch.equal(other.images[0], found.images[0])
    assert not torch.equal(other.images[1], found.images[1])


def test_the_seam_alone_changes_the_image(model, tokenizer, images) -> None:
    labels = torch.tensor([0, 3])
    sides = Sides(right=4)
    found = outpaint(model, tokenizer, images[:2], sides, labels, seeds=SEEDS, feather=2).images
    assert torch.equal(found[..., :6], images[:2, ..., :6])
    assert not torch.equal(found[..., 6:8], images[:2, ..., 6:])


def test_a_small_image_in_a_frame_is_one_window(model, tokenizer, images) -> None:
    small, labels = images[:2, :, 2:6, 2:5], torch.tensor([0, 3])
    found = outpaint(model, tokenizer, small, Sides(1, 2, 4, 2), labels, seeds=SEEDS)
    assert found.images.shape == (2, 1, 8, 8)
    assert torch.equal(found.images[:, :, 2:6, 1:4], small)


@pytest.mark.parametrize(
    ("sides", "overlap", "complaint"),
    [
        ((0, 0, 0, 0), 0.5, r"the sides are 0 0 0 0 \(left, top, right, bottom\)"),
        ((1, -1, 0, 0), 0.5, "none may be negative"),
        ((1, 0, 0, 0), 0.0, "overlap is 0.0; it must be above 0 and below 1"),
        ((1, 0, 0, 0), 1.0, "overlap is 1.0"),
        ((0, 0, 200, 0), 0.5, "the canvas would have 208x8 pixels; it can have from 8x8 to 128x1"),
    ],
)
def test_refusals(model, tokenizer, images, sides, overlap, complaint) -> None:
    with pytest.raises(UsageError, match=complaint):
        outpaint(
            model,
            tokenizer,
            images[:1],
            Sides.of(sides),
            torch.tensor([0]),
            seeds=[1],
            overlap=overlap,
        )


def test_four_sides_are_needed() -> None:
    with pytest.raises(UsageError, match="3 sides are given; left, top, right, bottom are needed"):
        Sides.of([1, 2, 3])
