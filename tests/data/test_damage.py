"""Files of an image folder that cannot be read, before and during training."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from nextscale.data.order import Part
from nextscale.errors import UsageError
from tests.data.folders import all_of, opened, paths, write, zero_bytes


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
        whole = all_of(opened(spoiled)[0])
        assert whole.skipped == 0
        damage(spoiled / "train/a/2.png")
        damage(spoiled / "train/b/2.png")
        mended = all_of(opened(spoiled)[0])
        assert mended.skipped == 2
        neighbours = [0, 1, 3, 3, 4, 0]  # the last one's neighbour is the first
        assert torch.equal(mended.images, whole.images[neighbours])
        assert torch.equal(mended.labels, whole.labels[neighbours])

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_strict_names_the_file(self, spoiled, damage):
        training, _ = opened(spoiled, strict=True)
        damage(spoiled / "train/b/1.png")
        training.load(Part(0, np.array([0, 3])))
        with pytest.raises(UsageError, match=r"train/b/1\.png cannot be read") as caught:
            training.load(Part(0, np.array([3, 4])))
        assert "\n" not in str(caught.value)

    def test_several_in_a_row(self, spoiled):
        for name in ("a/1", "a/2", "b/0"):
            zero_bytes(spoiled / f"train/{name}.png")
        training, _ = opened(spoiled)
        batch = training.load(Part(0, np.array([1, 2, 5])))
        assert batch.skipped == 2
        assert batch.labels.tolist() == [1, 1, 1]
        assert torch.equal(batch.images[0], batch.images[1])

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
        assert all_of(training).skipped == 1
        assert all_of(held_out).skipped == 0
        with pytest.raises(UsageError, match=rf"{before} cannot be read"):
            opened(tmp_path, strict=True)
        for file in tmp_path.iterdir():
            text(file)
        with pytest.raises(UsageError, match="fewer than 2 images that can be read"):
            opened(tmp_path)

    def test_the_first_file_may_be_broken(self, spoiled):
        zero_bytes(spoiled / "train/a/0.png")
        training, _ = opened(spoiled)
        assert training.load(Part(0, np.array([0]))).skipped == 1
        with pytest.raises(UsageError, match=r"train/a/0\.png cannot be read"):
            opened(spoiled, strict=True)

    def test_files_that_vanish_during_training(self, spoiled):
        training, _ = opened(spoiled)
        shutil.rmtree(spoiled / "train")
        with pytest.raises(UsageError, match="none of the 6 image files"):
            training.load(Part(0, np.array([0])))
