import io

import pytest
from PIL import Image

from nextscale.pictures.grids import GAP, enlarge, grid, square, write_animation


def plain(shade, size=(8, 6), mode="L"):
    return Image.new(mode, size, shade)


def test_a_grid_shows_its_rows_on_white():
    whole = grid([[plain(10), plain(20)], [plain(30)]])
    assert whole.size == (2 * 32 + GAP, 2 * 24 + GAP)  # enlarged four times
    across, down = 32 + GAP, 24 + GAP
    places = [(0, 0), (across, 0), (0, down), (across, down), (33, 0)]
    assert [whole.getpixel(place) for place in places] == [10, 20, 30, 255, 255]


def test_large_colour_pictures_keep_their_size():
    whole = grid([[plain("red", (64, 16), "RGB")] * 3])
    assert (whole.mode, whole.size) == ("RGB", (3 * 64 + 2 * GAP, 16))


def test_tiny_pictures_grow_to_squares():
    picture = Image.new("L", (2, 1))
    picture.putpixel((1, 0), 200)
    large = enlarge(picture)
    assert large.size == (8, 4)
    assert [large.getpixel((x, 3)) for x in (0, 3, 4, 7)] == [0, 0, 200, 200]


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (10, 10), (16, 4), (17, 5), (100, 10)])
def test_columns_of_a_grid(count, columns):
    assert square(count) == columns


def test_an_animation_holds_its_last_frame():
    file = io.BytesIO()
    write_animation(file, [plain(0), plain(100), plain(200)])
    with Image.open(file) as animation:
        assert animation.n_frames == 3
        assert animation.info["loop"] == 0
        shown = []
        for frame in range(3):
            animation.seek(frame)
            shown.append((animation.convert("L").getpixel((0, 0)), animation.info["duration"]))
    assert shown == [(0, 500), (100, 500), (200, 2500)]
