"""Fashion-MNIST from wherever its files lie; the real ones where they are at hand."""

import gzip
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from nextscale.config.run import DataConfig
from nextscale.data import fashion_mnist
from nextscale.data.augment import Augmentation
from nextscale.data.fashion_mnist import FashionMNIST, find
from nextscale.data.order import Part
from nextscale.data.source import open_data
from nextscale.errors import UsageError

PACKAGED = fashion_mnist.PACKAGED
real = pytest.mark.skipif(not PACKAGED.is_dir(), reason=f"Fashion-MNIST is not in {PACKAGED}")


def write_files(directory, packed=True, count=12):
    """Small files in the published format."""
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for name in fashion_mnist.FILES:
        if "images" in name:
            values = random.integers(0, 256, (count, 28, 28), np.uint8)
        else:
            values = (np.arange(count) % 10).astype(np.uint8)
        data = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
        data += values.tobytes()
        if packed:
            (directory / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (directory / name).write_bytes(data)
    return directory


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """Neither packaged nor cached."""
    monkeypatch.setattr(fashion_mnist, "PACKAGED", tmp_path / "packaged")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def publish(monkeypatch, dataset):
    """Puts a stand-in at the place of torchvision's class."""
    module = types.ModuleType("torchvision.datasets")
    module.FashionMNIST = dataset
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)


@pytest.mark.parametrize("below", ["", "FashionMNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_files_are_found_below_the_root(nowhere, below, packed):
    write_files(nowhere / "given" / below, packed)
    directory = find(str(nowhere / "given"))
    assert directory == nowhere / "given" / below
    assert len(FashionMNIST(directory, "train", Augmentation((28, 28), 1))) == 12


def test_root_goes_before_packaged_before_cached(nowhere):
    write_files(fashion_mnist.cache())
    assert find() == fashion_mnist.cache()
    write_files(nowhere / "packaged")
    assert find(str(nowhere / "missing")) == nowhere / "packaged"
    write_files(nowhere / "given")
    assert find(str(nowhere / "given")) == nowhere / "given"


def test_download_goes_to_the_cache(nowhere, monkeypatch):
    def dataset(root, download):
        assert download
        write_files(Path(root) / "FashionMNIST" / "raw")

    publish(monkeypatch, dataset)
    assert find() == fashion_mnist.cache()
    assert len(list(fashion_mnist.cache().parent.rglob("*.gz"))) == 4
    publish(monkeypatch, None)
    assert find() == fashion_mnist.cache()  # a second time without asking


def test_failing_download_is_one_line(nowhere, monkeypatch):
    def dataset(root, download):
        raise RuntimeError("Error downloading\ntrain-images")

    publish(monkeypatch, dataset)
    with pytest.raises(UsageError, match=r"Error downloading train-images.*--data\.root") as caught:
        open_data(DataConfig(), (28, 28), 1, 0)
    assert "\n" not in str(caught.value)
    assert not fashion_mnist.cache().exists()


def test_missing_torchvision_is_said(nowhere, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[train\]'"):
        find()


EMPTY = gzip.compress(b"\0\0\x08\x03", mtime=0)  # without a time, which would name another test


@pytest.mark.parametrize("content", [b"", b"not gzip", EMPTY, "cut"])
def test_broken_file(tmp_path, content):
    path = write_files(tmp_path) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:1000] if content == "cut" else content)
    with pytest.raises(UsageError, match=r"train-images-idx3-ubyte\.gz is not a whole"):
        FashionMNIST(tmp_path, "train", Augmentation((28, 28), 1))


def test_labels_of_another_data_set(tmp_path):
    write_files(tmp_path, count=12)
    small = write_files(tmp_path / "small", count=5) / "train-labels-idx1-ubyte.gz"
    small.replace(tmp_path / small.name)
    with pytest.raises(UsageError, match="images and labels disagree"):
        FashionMNIST(tmp_path, "train", Augmentation((28, 28), 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_fast_path_equals_the_one_through_pictures(tmp_path, monkeypatch, channels):
    source = FashionMNIST(
        write_files(tmp_path), "train", Augmentation((28, 28), channels, flip=True)
    )
    samples = np.array([3, 1, 11, 0, 5, 2, 9])
    batch = source.load(Part(2, samples))
    draws = source.augmentation.draws(2, samples)
    assert 0 < (draws[:, 2] < 0.5).sum() < 7
    for i, sample in enumerate(samples):
        picture = fashion_mnist.Image.fromarray(source.images[sample])
        varied = np.asarray(source.augmentation.apply(picture, draws[i]), np.float32)
        for channel in batch.images[i]:
            np.testing.assert_allclose(channel, varied / 127.5 - 1, atol=1e-6)
    assert batch.labels.tolist() == (samples % 10).tolist()
    assert batch.labels.dtype == torch.int64
    assert batch.skipped == 0


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (16, 24)])
@pytest.mark.parametrize("kind", ["plain", "released"])
def test_any_size(tmp_path, size, kind):
    source = FashionMNIST(write_files(tmp_path), "train", Augmentation(size, 3, kind, True))
    images = source.load(Part(0, np.arange(5))).images
    assert images.shape == (5, 3, *size)
    alone = torch.cat([source.load(Part(0, np.array([i]))).images for i in range(5)])
    assert torch.equal(images, alone)
    later = source.load(Part(1, np.arange(5))).images
    assert not torch.equal(images, later)


def test_identity_tells_parts_and_pixels_apart(tmp_path):
    augmentation = Augmentation((28, 28), 1)
    write_files(tmp_path / "a")
    write_files(tmp_path / "b", packed=False)
    write_files(tmp_path / "c", count=13)
    a, b, c = (FashionMNIST(tmp_path / d, "train", augmentation).identity for d in "abc")
    assert a == b != c
    assert FashionMNIST(tmp_path / "a", "validation", augmentation).identity != a


@real
def test_the_real_data():
    training, validation = open_data(DataConfig(augment="released"), (28, 28), 1, 0)
    assert (len(training), len(validation)) == (60_000, 10_000)
    assert training.names[0] == "T-shirt/top"
    assert training.names[9] == "Ankle boot"
    assert training.names == validation.names
    batch = validation.load(Part(0, np.arange(1000)))
    images, labels = batch.images, batch.labels
    assert images.shape == (1000, 1, 28, 28)
    assert (images.min(), images.max()) == (-1, 1)
    assert labels[:5].tolist() == [9, 2, 1, 1, 6]
    assert set(labels.tolist()) == set(range(10))
    assert torch.equal(images, validation.load(Part(7, np.arange(1000))).images)
    first, second = (training.load(Part(epoch, np.arange(9))).images for epoch in (0, 1))
    assert not torch.equal(first, second)
