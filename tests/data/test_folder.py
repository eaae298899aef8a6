"""Image folders: layouts, splits, files of every kind, and files that cannot be read."""

import io
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from nextscale.config.run import DataConfig
from nextscale.data.augment import Augmentation
from nextscale.data.folder import EXTENSIONS, Listing, decode, open_folder, split
from nextscale.data.images import batches
from nextscale.data.order import training_parts
from nextscale.data.source import open_data
from nextscale.errors import UsageError

PLAIN = Augmentation((8, 8), 3)
VARIED = Augmentation((8, 8), 3, "released", True)


def picture(number, size=(12, 10)):
    """Noise that differs from number to number."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def write(root, *names):
    """Different pictures under the given names."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(root / name)
    return root


def all_of(source, epoch=0):
    return source.load(epoch, np.arange(len(source)))


def paths(source):
    return [os.fsdecode(bytes(path)) for path in source.listing.paths]


def opened(root, augmentation=PLAIN, validation=0.05, strict=False):
    return open_folder(root, augmentation, validation, strict)


class TestLayouts:
    def test_train_and_val_with_classes(self, tmp_path):
        write(tmp_path, "train/b/1.png", "train/a/deep/2.png", "train/c/3.JPG", "val/c/4.png")
        training, validation = opened(tmp_path)
        assert training.names == validation.names == ("a", "b", "c")
        assert paths(training) == ["a/deep/2.png", "b/1.png", "c/3.JPG"]
        assert all_of(training)[1].tolist() == [0, 1, 2]
        assert paths(validation) == ["c/4.png"]
        assert all_of(validation)[1].tolist() == [2]

    def test_train_and_val_unlabelled(self, tmp_path):
        write(tmp_path, "train/1.png", "train/2.png", "val/3.png")
        training, validation = opened(tmp_path)
        assert training.names == validation.names == ()
        assert all_of(training)[1].tolist() == [0, 0]
        assert paths(validation) == ["3.png"]

    def test_train_alone_is_split(self, tmp_path):
        write(tmp_path, *(f"train/{c}/{i}.png" for c in "ab" for i in range(4)), "test/a/x.png")
        training, validation = opened(tmp_path, validation=0.25)
        assert training.names == validation.names == ("a", "b")
        assert (len(training), len(validation)) == (6, 2)

    def test_classes_at_the_root(self, tmp_path):
        write(tmp_path, *(f"{c}/{i}.png" for c in ("dog", "cat") for i in range(3)))
        training, validation = opened(tmp_path)
        assert training.names == validation.names == ("cat", "dog")
        assert (len(training), len(validation)) == (5, 1)
        assert sorted(paths(training) + paths(validation))[0] == "cat/0.png"

    def test_plain_files(self, tmp_path):
        write(tmp_path, *(f"{i}.png" for i in range(5)))
        training, validation = opened(tmp_path)
        assert training.names == ()
        assert (len(training), len(validation)) == (4, 1)

    def test_what_is_no_image_is_left_out(self, tmp_path):
        write(tmp_path, "a/1.png", "a/2.png", ".trash/3.png", "a/._1.png")
        (tmp_path / "readme.txt").write_text("text")
        (tmp_path / "empty").mkdir()
        training, validation = opened(tmp_path)
        assert training.names == ("a",)
        assert sorted(paths(training) + paths(validation)) == ["a/1.png", "a/2.png"]

    def test_links_are_followed_but_not_around(self, tmp_path):
        write(tmp_path / "elsewhere", "1.png", "2.png")
        (tmp_path / "data").mkdir()
        (tmp_path / "data/a").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere/back").symlink_to(tmp_path / "data")
        training, validation = opened(tmp_path / "data")
        assert sorted(paths(training) + paths(validation)) == ["a/1.png", "a/2.png"]

    def test_names_of_any_bytes(self, tmp_path):
        write(tmp_path, "ä b/ü.png", "ä b/2.png", "c/日本.png")
        with open(os.fsencode(tmp_path) + b"/c/\xff.png", "wb") as file:
            picture(1).save(file, "PNG")
        training, validation = opened(tmp_path, strict=True)
        assert training.names == ("c", "ä b")
        assert len(all_of(training)[0]) + len(all_of(validation)[0]) == 4


class TestRefusals:
    @pytest.mark.parametrize("strict", [False, True])
    @pytest.mark.parametrize(
        ("names", "said"),
        [
            ([], "holds no images"),
            (["notes.txt"], "holds no images"),
            (["train/a/1.png", "train/a/2.png", "val/notes.txt"], "val holds no images"),
            (["1.png"], "holds fewer than 2 images"),
            (["a/1.png", "2.png", "b/3.png"], "holds both images \\(2.png\\) and folders"),
            (["train/a/1.png", "val/b/1.png"], "val has the class 'b' but .*train has only a"),
            (["train/a/1.png", "val/1.png"], "val has no classes"),
            (["train/1.png", "val/a/1.png"], "val has the class 'a' but .*train has none"),
            (["train/1.png", "car/1.png"], "has the folders car, train"),
            (["val/1.png"], "has the folders val"),
        ],
    )
    def test_what_cannot_be_understood(self, tmp_path, names, said, strict):
        for number, name in enumerate(names):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".png"):
                picture(number).save(tmp_path / name)
            else:
                (tmp_path / name).write_text("text")
        with pytest.raises(UsageError, match=said) as caught:
            opened(tmp_path, strict=strict)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("path", ["missing", "", "1.png", "mnist"])
    def test_what_is_no_data(self, tmp_path, monkeypatch, path):
        monkeypatch.chdir(write(tmp_path, "1.png"))
        with pytest.raises(UsageError, match="give fashion-mnist or an existing folder"):
            open_data(DataConfig(path=path), (8, 8), 3, 0)

    def test_batch_larger_than_the_data(self, tmp_path):
        training, _ = opened(write(tmp_path, *(f"{i}.png" for i in range(4))))
        parts = training_parts(0, len(training), 4, 1, 0, 1, 0, 1)
        with pytest.raises(UsageError, match="batch_size 4 is larger than the data \\(3 images\\)"):
            list(batches(training, parts, workers=0, pin=False))


class TestSplit:
    @staticmethod
    def listing(tmp_path, names, labels=None):
        count = len(names)
        labels = np.zeros(count, np.int64) if labels is None else np.array(labels)
        encoded = np.array([name.encode() for name in names])
        return Listing(tmp_path, (), encoded, np.zeros(count, np.int64), labels)

    @given(
        st.sets(st.text("abcxyz/.", min_size=1, max_size=8), min_size=2, max_size=60),
        st.floats(0.001, 0.999),
        st.integers(0, 2**32),
    )
    def test_both_parts_get_their_share(self, tmp_path_factory, names, share, seed):
        held = split(self.listing(tmp_path_factory.getbasetemp(), sorted(names)), share, seed)
        assert 1 <= held.sum() <= len(names) - 1
        assert abs(held.sum() - share * len(names)) <= 1

    @given(st.permutations([f"{i}.png" for i in range(30)]), st.integers(0, 2**32))
    def test_nothing_but_names_and_seed_decides(self, tmp_path_factory, names, seed):
        root = tmp_path_factory.getbasetemp()
        held = split(self.listing(root, names), 0.3, seed)
        first = split(self.listing(root / "moved", sorted(names)), 0.3, seed)
        chosen = {name for name, taken in zip(names, held, strict=True) if taken}
        assert chosen == {n for n, taken in zip(sorted(names), first, strict=True) if taken}

    def test_every_class_gives_its_share(self, tmp_path):
        labels = np.repeat(np.arange(10), 40)
        names = [f"{label}/{i}.png" for i, label in enumerate(labels)]
        held = split(self.listing(tmp_path, names, labels), 0.1, 3)
        assert np.bincount(labels[held]).tolist() == [4] * 10

    def test_seeds_hold_out_different_files(self, tmp_path):
        listing = self.listing(tmp_path, [f"{i}.png" for i in range(200)])
        parts = {tuple(np.flatnonzero(split(listing, 0.1, seed))) for seed in range(10)}
        assert len(parts) == 10
        assert len(set().union(*parts)) > 100  # the hash spreads them over the whole folder

    def test_a_folder_is_divided(self, tmp_path):
        write(tmp_path, *(f"{i}.png" for i in range(20)))
        training, validation = opened(tmp_path, validation=0.2)
        assert (len(training), len(validation)) == (16, 4)
        assert not set(paths(training)) & set(paths(validation))
        again = opened(tmp_path, VARIED, validation=0.2)
        assert [paths(part) for part in again] == [paths(training), paths(validation)]


def zero_bytes(path):
    path.write_bytes(b"")


def truncated(path):
    path.write_bytes(path.read_bytes()[:-150])


def text(path):
    path.write_text("<html>404</html>")


def broken_chunk(path):
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)


def bomb(path):
    Image.new("1", (2000, 1000)).save(path)


def dangling(path):
    path.unlink()
    path.symlink_to(path.parent / "gone")


def unreadable_script(path):
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")


DAMAGES = [zero_bytes, truncated, text, broken_chunk, bomb, dangling, unreadable_script]


@pytest.fixture
def spoiled(tmp_path, monkeypatch):
    """Six training files of two classes, which the test spoils, and one for validation."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    names = [f"train/{c}/{i}.png" for c in "ab" for i in range(3)]
    return write(tmp_path, *names, "val/a/v.png")


class TestDamage:
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_the_next_file_takes_the_place(self, spoiled, damage):
        whole, labels, skipped = all_of(opened(spoiled)[0])
        assert skipped == 0
        damage(spoiled / "train/a/2.png")
        damage(spoiled / "train/b/2.png")
        images, replaced, skipped = all_of(opened(spoiled)[0])
        assert skipped == 2
        neighbours = [0, 1, 3, 3, 4, 0]  # the last one's neighbour is the first
        assert torch.equal(images, whole[neighbours])
        assert torch.equal(replaced, labels[neighbours])

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_strict_names_the_file(self, spoiled, damage):
        training, _ = opened(spoiled, strict=True)
        damage(spoiled / "train/b/1.png")
        training.load(0, np.array([0, 3]))
        with pytest.raises(UsageError, match=r"train/b/1\.png cannot be read") as caught:
            training.load(0, np.array([3, 4]))
        assert "\n" not in str(caught.value)

    def test_several_in_a_row(self, spoiled):
        for name in ("a/1", "a/2", "b/0"):
            zero_bytes(spoiled / f"train/{name}.png")
        training, _ = opened(spoiled)
        images, labels, skipped = training.load(0, np.array([1, 2, 5]))
        assert skipped == 2
        assert labels.tolist() == [1, 1, 1]
        assert torch.equal(images[0], images[1])

    @pytest.mark.parametrize("part", ["train", "val"])
    def test_no_readable_image(self, spoiled, part):
        for path in (spoiled / part).rglob("*.png"):
            truncated(path)
        with pytest.raises(UsageError, match=r"none of the \d image files in .* can be read"):
            opened(spoiled)

    def test_a_held_out_file_that_is_broken_leaves_its_place_to_another(self, tmp_path):
        (before,) = paths(opened(write(tmp_path, *(f"{i}.png" for i in range(4))))[1])
        text(tmp_path / before)
        training, held_out = opened(tmp_path)
        assert len(training) == 3
        assert before in paths(training)
        assert all_of(training)[2] == 1
        assert all_of(held_out)[2] == 0
        with pytest.raises(UsageError, match=rf"{before} cannot be read"):
            opened(tmp_path, strict=True)
        for file in tmp_path.iterdir():
            text(file)
        with pytest.raises(UsageError, match="fewer than 2 images that can be read"):
            opened(tmp_path)

    def test_the_first_file_may_be_broken(self, spoiled):
        zero_bytes(spoiled / "train/a/0.png")
        training, _ = opened(spoiled)
        assert training.load(0, np.array([0]))[2] == 1
        with pytest.raises(UsageError, match=r"train/a/0\.png cannot be read"):
            opened(spoiled, strict=True)

    def test_files_that_vanish_during_training(self, spoiled):
        training, _ = opened(spoiled)
        shutil.rmtree(spoiled / "train")
        with pytest.raises(UsageError, match="none of the 6 image files"):
            training.load(0, np.array([0]))


class TestReading:
    def test_draws_belong_to_the_sample(self, tmp_path):
        training, _ = opened(write(tmp_path, *(f"{i}.png" for i in range(12))), VARIED)
        count = len(training)
        together = all_of(training, epoch=3)[0]
        for samples in (np.array([5]), np.arange(count)[::-1].copy(), np.array([7, 7, 0])):
            images, _, _ = training.load(3, samples)
            assert torch.equal(images, together[samples])
        assert torch.equal(all_of(training, epoch=3)[0], together)
        assert not torch.equal(all_of(training, epoch=4)[0], together)
        other = opened(tmp_path, Augmentation((8, 8), 3, "released", True, seed=1))[0]
        assert not torch.equal(other.load(3, np.arange(3))[0], together[:3])

    def test_validation_is_never_varied(self, tmp_path):
        _, validation = opened(write(tmp_path, *(f"{i}.png" for i in range(8))), VARIED, 0.5)
        assert torch.equal(all_of(validation, 0)[0], all_of(validation, 1)[0])
        _, plain = opened(tmp_path, PLAIN, 0.5)
        assert torch.equal(all_of(validation)[0], all_of(plain)[0])

    def test_identity(self, tmp_path):
        first = opened(write(tmp_path / "a", "x/1.png", "y/2.png"), validation=0.5)
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        moved = opened(tmp_path / "b", validation=0.5)
        assert [s.identity for s in moved] == [s.identity for s in first]
        assert first[0].identity != first[1].identity
        assert opened(tmp_path / "a", VARIED, 0.5)[0].identity != first[0].identity
        picture(0, (30, 30)).save(tmp_path / "b/x/1.png")
        picture(0, (30, 30)).save(tmp_path / "b/y/2.png")
        assert opened(tmp_path / "b", validation=0.5)[0].identity != first[0].identity

    def test_a_source_can_be_sent_to_workers(self, tmp_path):
        training, _ = opened(write(tmp_path, "a/1.png", "a/2.png", "b/3.png"), VARIED)
        copy = pickle.loads(pickle.dumps(training))
        assert copy.names == training.names
        assert torch.equal(all_of(copy)[0], all_of(training)[0])

    def test_workers_change_nothing(self, tmp_path):
        root = write(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(6)))
        zero_bytes(root / "a/3.png")
        zero_bytes(root / "b/5.png")
        training, _ = opened(root, VARIED)

        def read(workers):
            parts = training_parts(0, len(training), 4, 2, 0, 5, 0, 1)
            return list(batches(training, parts, workers, pin=False))

        alone, shared = read(0), read(2)
        assert len(alone) == len(shared) == 10
        assert sum(batch.skipped for batch in alone) > 0
        for one, other in zip(alone, shared, strict=True):
            assert torch.equal(one.values, other.values)
            assert torch.equal(one.labels, other.labels)
            assert one.part.samples.tolist() == other.part.samples.tolist()
            assert (one.part.epoch, one.skipped) == (other.part.epoch, other.skipped)


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

    def test_sixteen_bits_of_portable_maps(self, tmp_path):
        (tmp_path / "x.ppm").write_bytes(b"P5 3 1 65535\n" + bytes([0, 0, 128, 128, 255, 255]))
        assert np.asarray(decode(tmp_path / "x.ppm", 1)).tolist() == [[0, 128, 255]]

    @pytest.mark.parametrize("peak", [1.0, 255.0])
    def test_floats(self, tmp_path, peak):
        values = np.array([[0, 0.2 * peak, peak, -peak, np.nan]], np.float32)
        result = self.stored(tmp_path, Image.fromarray(values), "x.tif", 1)
        assert np.asarray(result).tolist() == [[0, 51, 255, 0, 0]]

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
        assert all_of(training)[2] + all_of(validation)[2] == 1
