"""Whatever users mark white is what is not kept."""

import numpy as np
import pytest
import torch
from PIL import Image

from nextscale.editing.marks import keep_of
from nextscale.errors import UsageError

SIZE, FINEST = (8, 8), (4, 4)


@pytest.fixture
def picture() -> Image.Image:
    return Image.new("L", (8, 8), 90)


@pytest.fixture
def expected() -> torch.Tensor:
    keep = torch.ones(8, 8)
    keep[2:5, 1:4] = 0  # rows 2 to 4, columns 1 to 3
    return keep


def test_every_kind_of_mask_says_the_same(picture, expected) -> None:
    white = Image.fromarray(((1 - expected) * 255).to(torch.uint8).numpy())
    clear = picture.copy()
    clear.putalpha(white.point(lambda value: 255 - value))
    strokes = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    strokes.paste("white", mask=white)
    kinds = [
        (white, picture),
        (white.convert("RGB"), picture),
        (strokes, picture),
        (np.asarray(white), picture),
        (np.asarray(white) > 0, picture),
        (1 - expected, picture),
        (np.asarray(white) // 255, picture),
        ((1, 2, 4, 5), picture),
        (None, clear),
    ]
    for mask, image in kinds:
        assert torch.equal(keep_of(mask, image, SIZE, FINEST), expected)


def test_masks_are_resized_and_cut_with_the_picture_or_have_the_finest_scale() -> None:
    wide = Image.new("RGB", (32, 16))
    keep = keep_of((16, 0, 32, 16), wide, SIZE, FINEST)
    assert keep.shape == (8, 8)
    assert keep[:, :3].min() > 0.9
    assert keep[:, 5:].max() < 0.1
    tokens = np.zeros((4, 4), bool)
    tokens[0] = True
    keep = keep_of(tokens, wide, SIZE, FINEST)
    assert keep.tolist() == [[0] * 4] + [[1] * 4] * 3


def test_soft_edges_stay_soft(picture) -> None:
    soft = np.zeros((8, 8), np.uint8)
    soft[0] = 51
    soft[1] = 255
    assert keep_of(soft, picture, SIZE, FINEST)[:3, 0].tolist() == pytest.approx([0.8, 0, 1])


@pytest.mark.parametrize(
    ("mask", "complaint"),
    [
        (Image.new("L", (9, 8)), "the mask has 9x8 pixels and the image 8x8; both must have one"),
        (np.zeros((8, 8)), "the mask is empty"),
        (np.ones((4, 4)), "the mask is full"),
        (np.zeros((8, 8, 3)), r"has the shape \(8, 8, 3\); \(height, width\) is needed"),
        (np.full((8, 8), 1.5), "values must be bools, integers to 255 or floats to 1"),
        (np.full((8, 8), 300), "values must be bools"),
        ((0, 0, 9, 4), "the box 0 0 9 4 .* does not lie in the image of 8x8 pixels"),
        ((3, 3, 3, 5), "does not lie in"),
        ((1, 2, 3), "the box has 3 numbers"),
        ("mask.png", "the mask is a str; give a picture, an array or a box"),
        (None, "no mask is given, and nothing of the image is transparent"),
    ],
)
def test_refusals(picture, mask, complaint) -> None:
    with pytest.raises(UsageError, match=complaint):
        keep_of(mask, picture, SIZE, FINEST)
