"""What a training says of its data before it begins."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nextscale.config.run import DataConfig
from nextscale.data import fashion_mnist
from nextscale.data.source import open_data
from nextscale.data.summary import summary
from tests.data.folders import picture, write, zero_bytes


def told(root: Path | str, size: int = 8, channels: int = 3, **options) -> list[str]:
    config = DataConfig(path=str(root), **options)
    training, validation = open_data(config, (size, size), channels, 0)
    return summary(config, training, validation, (size, size), channels)


def test_a_folder_with_parts(tmp_path: Path) -> None:
    root = write(tmp_path, *(f"Train/{c}/{i}.png" for c in "abc" for i in range(ord(c) - 95)))
    picture(0, (40, 7)).save(root / "Train/b/large.png")
    write(root, "valid/a/1.png", "test/a/1.png", "extra/1.png")
    for name in ("Train/metadata.jsonl", "Train/a/x.TXT", "Train/a/.DS_Store", "valid/list.csv"):
        (root / name).touch()
    (root / "Train/none").mkdir()
    (root / "LICENSE").touch()
    assert told(root) == [
        f"data: {root}/Train, 10 images in 3 classes, 2 (a) to 4 (b)",
        f"held out: 1 image in {root}/valid",
        f"left out in {root}/Train: 1 .jsonl, 1 .txt, 1 hidden",
        f"no images and so no class in {root}/Train: none",
        f"left out in {root}/valid: 1 .csv",
        f"not used: test, extra in {root}",
        "beside them: 1 without ending",
        "sizes: 12x10 to 40x7, 1 smaller than 8x8 (enlarged)",
    ]


def test_a_folder_that_is_split(tmp_path: Path) -> None:
    write(tmp_path, *(f"{i}.png" for i in range(10)))
    assert told(tmp_path, validation=0.2, share=0.5) == [
        f"data: {tmp_path}, 8 images without classes",
        "used of these: 4 images (data.share 0.5)",
        "held out: 2 images, split off by the seed (0.2 of all)",
        "sizes: 12x10",
    ]


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    write(tmp_path, *(f"train/{i}.png" for i in range(4)), "val/1.png")
    zero_bytes(tmp_path / "train/2.png")
    assert told(tmp_path)[-1] == "sizes: 12x10; 1 file cannot be opened"


def test_a_folder_around_the_classes(tmp_path: Path) -> None:
    write(tmp_path, *(f"pictures/{c}/{i}.png" for c in "ab" for i in range(3)))
    assert f"if its folders are the classes, give {tmp_path}/pictures" in "".join(told(tmp_path))


@pytest.mark.parametrize(
    ("colour", "channels", "line"),
    [
        (False, 3, "the images are grey, the network is for colour"),
        (True, 1, "the images are in colour, the network is for grey"),
        (True, 3, ""),
        (False, 1, ""),
    ],
)
def test_colours_that_differ(tmp_path: Path, colour: bool, channels: int, line: str) -> None:
    for i in range(3):
        grey = np.full((8, 8, 3), 40 * i, np.uint8)
        (picture(i) if colour else Image.fromarray(grey)).save(tmp_path / f"{i}.png")
    lines = told(tmp_path, channels=channels)
    assert (line in "".join(lines)) if line else not any("network" in one for one in lines)


@pytest.mark.skipif(not fashion_mnist.PACKAGED.is_dir(), reason="Fashion-MNIST is not here")
def test_fashion_mnist() -> None:
    assert told("fashion-mnist", 28, 1) == [
        "data: fashion-mnist, 60,000 images in 10 classes, 6,000 each",
        "held out: 10,000 test images",
    ]
