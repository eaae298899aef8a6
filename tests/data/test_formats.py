"""Image files of every kind: whatever is stored, the pixels are upright 8-bit grey or colour."""

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from nextscale.errors import UsageError
from nextscale.pictures.pixels import upright
from nextscale.pictures.reading import EXTENSIONS, decode
from tests.data.folders import all_of, opened, picture, write


class TestFormats:
    """Whatever is stored, the pixels are upright 8-bit grey or colour."""

    def stored(self, tmp_path, image, name="x.png", channels=3, **options):
        image.save(tmp_path / name, **options)
        result = decode(tmp_path / name, channels)
        assert result.mode == ("L" if channels == 1 else "RGB")
        return result

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("extension", [*EXTENSIONS, ".PNG"])
    def test_extensions(self, tmp_path, extension, channels):
        image = Image.new("RGB", (6, 4), (200, 200, 200))
        result = self.stored(tmp_path, image, f"x{extension}", channels)
        assert result.size == (6, 4)
        assert np.abs(np.asarray(result).astype(int) - 200).max() <= 2

    def test_several_pictures_in_one_file_give_the_first(self, tmp_path):
        frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
        for name in ("x.gif", "x.tif", "x.webp", "x.jpg"):
            options = {"format": "MPO"} if name == "x.jpg" else {}
            red = self.stored(
                tmp_path, frames[0], name, save_all=True, append_images=frames[1:], **options
            )
            assert np.asarray(red)[0, 0, 0] > 240
            assert np.asarray(red)[0, 0, 2] < 15

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, tmp_path, orientation):
        upright = np.zeros((4, 6), np.uint8)
        upright[0, 0] = upright[0, 1] = 255
        turns = {
            1: upright,
            2: upright[:, ::-1],
            3: upright[::-1, ::-1],
            4: upright[::-1],
            5: upright.T,
            6: np.rot90(upright, 1),  # shown after a clockwise quarter turn
            7: upright[::-1, ::-1].T,
            8: np.rot90(upright, -1),
        }
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = Image.fromarray(np.ascontiguousarray(turns[orientation]))
        result = self.stored(tmp_path, stored, channels=1, exif=exif)
        np.testing.assert_array_equal(np.asarray(result), upright)

    def test_transparency_is_white(self, tmp_path):
        clear = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
        clear.putpixel((1, 0), (0, 0, 0, 0))
        assert np.asarray(self.stored(tmp_path, clear)).tolist() == [[[255, 0, 0], [255, 255, 255]]]
        grey = Image.new("LA", (2, 1), (0, 255))
        grey.putpixel((1, 0), (0, 51))
        assert np.asarray(self.stored(tmp_path, grey, channels=1)).tolist() == [[0, 204]]

    @pytest.mark.parametrize(("mode", "key"), [("P", 1), ("L", 7), ("RGB", (7, 7, 7))])
    def test_transparent_colours_are_white(self, tmp_path, mode, key):
        if mode == "P":
            image = Image.new("P", (2, 1), 0)
            image.putpalette([10, 20, 30, 40, 50, 60])
            image.putpixel((1, 0), 1)
            shown = [10, 20, 30]
        else:
            image = Image.new(mode, (2, 1), 9 if mode == "L" else (9, 9, 9))
            image.putpixel((1, 0), key)
            shown = [9, 9, 9]
        result = self.stored(tmp_path, image, transparency=key)
        assert np.asarray(result).tolist() == [[shown, [255, 255, 255]]]

    @pytest.mark.parametrize("extension", ["png", "tif"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_sixteen_bits(self, tmp_path, extension, channels):
        deep = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
        result = self.stored(tmp_path, Image.fromarray(deep), f"x.{extension}", channels)
        pixels = np.asarray(result).reshape(4, -1)
        np.testing.assert_array_equal(pixels, np.array([[0, 1, 128, 255]]).T.repeat(channels, 1))

    @pytest.mark.parametrize("extension", ["ppm", "pgm"])
    def test_sixteen_bits_of_portable_maps(self, tmp_path, extension):
        file = tmp_path / f"x.{extension}"
        file.write_bytes(b"P5 3 1 65535\n" + bytes([0, 0, 128, 128, 255, 255]))
        assert np.asarray(decode(file, 1)).tolist() == [[0, 128, 255]]

    @pytest.mark.parametrize("peak", [1.0, 255.0])
    def test_floats(self, tmp_path, peak):
        values = np.array([[0, 0.2 * peak, peak, np.nan]], np.float32)
        result = self.stored(tmp_path, Image.fromarray(values), "x.tif", 1)
        assert np.asarray(result).tolist() == [[0, 51, 255, 0]]

    @pytest.mark.parametrize(
        "values",
        [
            np.array([[-1, 0, 1]], np.float32),
            np.array([[0, 65535]], np.float32),
            np.array([[0, np.inf]], np.float32),
            np.array([[0, 100, 200]], np.int32),
            np.array([[0, 2**31 - 1]], np.int32),
        ],
    )
    def test_numbers_of_no_known_range_are_refused(self, tmp_path, values):
        with pytest.raises(UsageError, match="convert it to 8 bits"):
            self.stored(tmp_path, Image.fromarray(values), "x.tif", 1)

    def test_integers_of_a_known_range_in_memory(self):
        picture = Image.fromarray(np.array([[0, 128 * 257, 65535]], np.int32))
        assert np.asarray(upright(picture, 1)).tolist() == [[0, 128, 255]]
        picture = Image.fromarray(np.array([[0, 65536]], np.int32))
        with pytest.raises(UsageError, match="0 to 65536"):
            upright(picture, 1)

    def test_printing_inks(self, tmp_path):
        for name in ("x.tif", "x.jpg"):
            result = self.stored(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), name)
            red = np.asarray(result)[4, 4].astype(int)
            assert np.abs(red - [255, 0, 0]).max() <= 3

    def test_one_bit(self, tmp_path):
        image = Image.new("1", (2, 1))
        image.putpixel((1, 0), 1)
        assert np.asarray(self.stored(tmp_path, image, channels=1)).tolist() == [[0, 255]]

    def test_colour_becomes_grey_by_luma(self, tmp_path):
        result = self.stored(tmp_path, Image.new("RGB", (1, 1), (0, 255, 0)), channels=1)
        assert np.asarray(result).tolist() == [[150]]

    def test_text_that_would_fill_the_memory(self, tmp_path):
        notes = PngImagePlugin.PngInfo()
        notes.add_text("comment", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
        memory = io.BytesIO()
        picture(0).save(memory, "PNG", pnginfo=notes)
        write(tmp_path, "1.png", "2.png", "3.png")
        (tmp_path / "2.png").write_bytes(memory.getvalue())
        training, validation = opened(tmp_path)
        assert all_of(training).skipped + all_of(validation).skipped == 1
