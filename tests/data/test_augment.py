"""Augmentation is a function of picture and draws, and its crops cover what they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from nextscale.data.augment import Augmentation, augment
from nextscale.pictures.pixels import cover, crop_to

sides = st.integers(1, 40)


def gradient(height, width):
    """Red tells the column, green the row."""
    rows = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    columns = np.linspace(0, 255, width)[None].repeat(height, 0)
    return Image.fromarray(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8))


@settings(deadline=None)
@given(
    sides,
    sides,
    st.integers(1, 24),
    st.integers(1, 24),
    st.lists(st.floats(0, 0.999), min_size=3, max_size=3),
)
@pytest.mark.parametrize("kind", ["released", "plain", "shift"])
def test_the_result_has_the_size(kind, height, width, h, w, draws):
    result = augment(gradient(height, width), (h, w), kind, True, np.array(draws))
    assert result.size == (w, h)
    assert result.mode == "RGB"


def test_released_crops_reach_every_position():
    """A 32×64 picture for 16×16 is enlarged to 18×36 and cut at 3×21 positions."""
    picture, size = gradient(32, 64), (16, 16)
    enlarged = cover(picture, 18, 18)
    assert enlarged.size == (36, 18)
    expected = {
        enlarged.crop((left, top, left + 16, top + 16)).tobytes()
        for top in range(3)
        for left in range(21)
    }
    draws = np.random.default_rng(0).random((2000, 3))
    found = {augment(picture, size, "released", False, d).tobytes() for d in draws}
    assert found == expected


def test_released_enlarges_by_an_eighth():
    """At the corners the draws cut the corners of the picture resized to 1.125 of the size."""
    picture = gradient(100, 100)
    enlarged = picture.resize((36, 36), Image.Resampling.LANCZOS)
    first = augment(picture, (32, 32), "released", False, np.array([0.0, 0.0, 0.0]))
    last = augment(picture, (32, 32), "released", False, np.array([0.9999, 0.9999, 0.0]))
    assert first.tobytes() == enlarged.crop((0, 0, 32, 32)).tobytes()
    assert last.tobytes() == enlarged.crop((4, 4, 36, 36)).tobytes()


def test_plain_is_the_centre_that_the_pipeline_takes():
    picture = gradient(30, 50)
    result = augment(picture, (16, 24), "plain", False, np.zeros(3))
    assert result.tobytes() == crop_to(picture, 16, 24).tobytes()


@pytest.mark.parametrize(("flip", "draw", "mirrored"), [(1, 0.49, 1), (1, 0.5, 0), (0, 0.1, 0)])
def test_mirroring(flip, draw, mirrored):
    picture = gradient(16, 16)
    result = augment(picture, (16, 16), "plain", bool(flip), np.array([0, 0, draw]))
    assert result.tobytes() == (ImageOps.mirror(picture) if mirrored else picture).tobytes()


def test_half_are_mirrored():
    draws = Augmentation((8, 8), 1, flip=True).draws(0, np.arange(10_000))
    assert abs((draws[:, 2] < 0.5).mean() - 0.5) < 0.02


def test_identity_names_what_changes_pixels():
    plain = Augmentation((8, 8), 1, seed=1)
    assert plain.identity == Augmentation((8, 8), 1, seed=2).identity
    others = [
        Augmentation((8, 9), 1),
        Augmentation((8, 8), 3),
        Augmentation((8, 8), 1, flip=True, seed=1),
        Augmentation((8, 8), 1, flip=True, seed=2),
        Augmentation((8, 8), 1, "released", seed=1),
    ]
    assert len({one.identity for one in [plain, *others]}) == 6
    assert Augmentation((8, 8), 1, "released", True, 1).unvaried() == plain


def test_a_shift_reaches_two_pixels_of_28_and_brings_in_black():
    picture = gradient(28, 28)
    draws = np.random.default_rng(0).random((2000, 3))
    found = {augment(picture, (28, 28), "shift", False, d).tobytes() for d in draws}
    expected = {
        picture.crop((left, top, left + 28, top + 28)).tobytes()
        for top in range(-2, 3)
        for left in range(-2, 3)
    }
    assert found == expected
