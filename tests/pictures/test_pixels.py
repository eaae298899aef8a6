"""Pictures become tensors and pictures again without a shift, a bend or a wrong crop."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nextscale.pictures.pixels import cover, crop_to, to_pictures, to_tensor
from tests.data.test_augment import gradient

sides = st.integers(1, 40)


@given(sides, sides, sides, sides)
def test_cover_is_the_smallest_that_covers(height, width, h, w):
    covered = cover(gradient(height, width), h, w)
    assert covered.height >= h
    assert covered.width >= w
    assert covered.height == h or covered.width == w


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_pixels_become_images(channels):
    pixels = np.arange(0, 256, dtype=np.uint8).reshape(1, 16, 16)
    images = to_tensor(pixels, channels)
    assert images.shape == (1, channels, 16, 16)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    assert images.min() == -1
    assert images.max() == 1
    for channel in images[0]:
        back = ((channel + 1) * 127.5).round().numpy()
        np.testing.assert_array_equal(back, pixels[0])


def test_coloured_pictures_become_images():
    pictures = [gradient(4, 6), gradient(4, 6)]
    images = to_tensor(pictures, 3)
    assert images.shape == (2, 3, 4, 6)
    torch.testing.assert_close(images[0, 0, 0], torch.linspace(-1, 1, 6), atol=0.01, rtol=0)
    torch.testing.assert_close(images[1, 1, :, 0], torch.linspace(-1, 1, 4), atol=0.01, rtol=0)


def test_pixels_cover_minus_one_to_one_evenly():
    images = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).view(1, 1, 1, 5)
    (picture,) = to_pictures(images)
    assert np.asarray(picture).tolist() == [[0, 0, 128, 255, 255]]


def test_pictures_are_cut_at_the_centre():
    stripes = np.zeros((4, 12), np.uint8)
    stripes[:, 4:8] = 255
    cut = crop_to(Image.fromarray(stripes), 4, 4)
    assert np.asarray(cut).min() == 255
    enlarged = crop_to(Image.fromarray(stripes.T), 8, 8)
    assert enlarged.size == (8, 8)
    assert np.asarray(enlarged)[1:-1].min() > 200
