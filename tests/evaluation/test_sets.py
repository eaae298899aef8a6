"""Finished images: what is read, in which order, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nextscale.data import fashion_mnist
from nextscale.data.listing import find_files
from nextscale.errors import UsageError
from nextscale.evaluation.sets import ArrayImages, FolderImages, ImageSet, open_raw
from nextscale.storage.arrays import read_npz


def noise(count: int, size: int = 6, channels: int = 1) -> np.ndarray:
    shape = (count, size, size, channels)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, pixels in enumerate(noise(5)):
        place = tmp_path / "images" / f"class{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0]).save(place / f"{i}.png")
    return tmp_path / "images"


def test_names_and_order_of_files_change_nothing(folder: Path, tmp_path: Path) -> None:
    images = ImageSet(open_raw(str(folder)), "images", 1)
    other = tmp_path / "other"
    other.mkdir()
    for i, path in enumerate(sorted(folder.rglob("*.png"), reverse=True)):
        (other / f"{i:03d}.png").write_bytes(path.read_bytes())
    again = ImageSet(open_raw(str(other)), "again", 1)
    assert images.identity == again.identity
    assert np.array_equal(images.load(0, 5), again.load(0, 5))
    array = ImageSet(ArrayImages(noise(5)[::-1]), "array", 1)
    assert array.identity == images.identity
    assert np.array_equal(images.load(1, 3), array.load(1, 3))


def test_other_pixels_are_another_set() -> None:
    pixels = noise(5)
    images = ImageSet(ArrayImages(pixels), "array", 1)
    pixels[0, 0, 0] ^= 1
    assert ImageSet(ArrayImages(pixels), "array", 1).identity != images.identity
    assert len(ImageSet(ArrayImages(pixels), "array", 1, limit=3)) == 3


def test_channels_and_size_are_those_asked_for(folder: Path) -> None:
    images = ImageSet(open_raw(str(folder)), "images", 3, (4, 4))
    assert images.load(0, 2).shape == (2, 4, 4, 3)
    assert images.size == (4, 4)


def test_mixed_sizes_are_refused(folder: Path) -> None:
    Image.fromarray(noise(1, 8)[0, ..., 0]).save(folder / "class0/large.png")
    with pytest.raises(UsageError, match=r"mixed sizes \(.*\); give --size"):
        ImageSet(open_raw(str(folder)), "images", 1)
    assert len(ImageSet(open_raw(str(folder)), "images", 1, (6, 6))) == 6


def test_folders_without_images_are_named_or_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "class2/deeper").mkdir(parents=True)
    images = open_raw(str(folder))
    assert isinstance(images, FolderImages)
    assert images.empty == (str(folder / "class2"),)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no images"):
        ImageSet(open_raw(str(tmp_path / "empty")), "empty", 1)
    with pytest.raises(UsageError, match="there is no nowhere; give a folder"):
        open_raw("nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"no images at '.*notes.txt'; give a folder"):
        open_raw(str(tmp_path / "notes.txt"))


def test_overviews_of_drawn_images_are_none_of_them(folder: Path) -> None:
    drawn = folder / "class0"
    for sheet in ("grid.png", "growing.gif"):
        Image.fromarray(noise(1, 12)[0, ..., 0]).save(drawn / sheet)
    assert len(open_raw(str(folder))) == 7  # a folder of one's own may hold a grid
    (drawn / "samples.json").touch()
    assert len(open_raw(str(folder))) == 5
    assert len(find_files(folder).files) == 5


def test_a_broken_file_is_named(folder: Path) -> None:
    (folder / "class1/broken.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"broken.png cannot be read \(it holds no picture\)"):
        ImageSet(open_raw(str(folder)), "images", 1)


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    np.savez(path, arr_0=noise(3, channels=3))
    assert ImageSet(open_raw(str(path)), "array", 3).load(0, 3).shape == (3, 6, 6, 3)
    np.savez(path, arr_0=noise(3).astype(float))
    with pytest.raises(UsageError, match=r"holds float64 \(3, 6, 6, 1\) as arr_0; uint8"):
        open_raw(str(path))
    np.savez(path, other=noise(3))
    with pytest.raises(UsageError, match="holds no arr_0"):
        open_raw(str(path))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"truncated or no \.npz file"):
        open_raw(str(path))
    np.savez(path, arr_0=np.array([{"runs": "code"}]))
    with pytest.raises(UsageError, match="arr_0 holds values of type object"):
        read_npz(path)["arr_0"]()


@pytest.mark.skipif(not fashion_mnist.PACKAGED.is_dir(), reason="Fashion-MNIST is not here")
def test_splits_of_a_data_set() -> None:
    assert len(open_raw("fashion-mnist")) == len(open_raw("fashion-mnist:test")) == 10000
    assert len(open_raw("fashion-mnist:train")) == 60000
