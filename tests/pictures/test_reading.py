"""Picture files from anyone: a picture, or one line that names the file; nothing else."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from nextscale.cli.editing import read_pictures
from nextscale.cli.reconstruct import read_images
from nextscale.errors import UsageError
from nextscale.evaluation.sets import FolderImages
from nextscale.pictures.pixels import is_grey, to_mode
from nextscale.pictures.reading import decode
from tests.data.folders import picture

PICTURES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif", "GIF": "gif", "PPM": "ppm"}
MUTATIONS = 60  # of each format


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(*chunks: bytes) -> bytes:
    """A picture with further chunks behind its header."""
    memory = io.BytesIO()
    picture(0).save(memory, "PNG")
    content = memory.getvalue()
    return content[:33] + b"".join(chunks) + content[33:]


def seen(path: Path) -> list[object]:
    """What each reader makes of a file: a picture or its error."""
    readers = (
        lambda: read_images([path], 3, (8, 8))[0],
        lambda: read_pictures([path])[0],
        lambda: FolderImages(path.parent).load(0),
    )
    found: list[object] = []
    for reader in readers:
        try:
            found.append(to_mode(reader(), "RGB"))
        except UsageError as error:
            found.append(error)
    told = [str(one) for one in found if isinstance(one, UsageError)]
    assert all(path.name in line and "\n" not in line for line in told)
    return found


@pytest.mark.filterwarnings("ignore")  # Pillow's own remarks, which a command hides
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0garbage", b"MM\0*\xff\xff\xff\xff", b"x"])
def test_damaged_exif_says_nothing(tmp_path: Path, kind: str, exif: bytes) -> None:
    file = tmp_path / f"x.{PICTURES[kind]}"
    picture(0).save(file, kind, exif=exif)
    assert all(isinstance(one, Image.Image) for one in seen(file))
    assert decode(file, 3).size == (12, 10)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_text_beyond_the_limit_is_refused(tmp_path: Path, kind: bytes) -> None:
    text = zlib.compress(b"x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1))
    head = b"note\0\0" if kind == b"zTXt" else b"note\0\1\0\0\0"
    (tmp_path / "x.png").write_bytes(png_with(chunk(kind, head + text)))
    assert all("x.png cannot be read" in str(one) for one in seen(tmp_path / "x.png"))


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))
    assert all(isinstance(one, UsageError) for one in seen(tmp_path / "x.png"))


def test_a_program_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    assert all("it holds no picture" in str(one) for one in seen(tmp_path / "x.png"))


@pytest.mark.filterwarnings("ignore")  # Pillow's own remarks
@pytest.mark.parametrize("kind", PICTURES)
def test_damaged_files_are_pictures_or_one_line(tmp_path: Path, kind: str) -> None:
    """Bytes are changed, cut off and put in, under fixed seeds."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "what it shows"
    memory = io.BytesIO()
    options = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    picture(1).save(memory, kind, **options)
    whole, file = memory.getvalue(), tmp_path / f"x.{PICTURES[kind]}"
    refused = 0
    for seed in range(MUTATIONS):
        chance, content = random.Random(seed), bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            content[chance.randrange(min(len(content), 200))] = chance.randrange(256)
        if seed % 3 == 0:
            content = content[: chance.randrange(len(content))]
        if seed % 5 == 0:
            place = chance.randrange(len(content) + 1)
            content[place:place] = chance.randbytes(20)
        file.write_bytes(content)
        refused += sum(isinstance(one, UsageError) for one in seen(file))
    assert 0 < refused <= 3 * MUTATIONS


def test_grey_and_colour_are_told_apart(tmp_path: Path) -> None:
    assert is_grey(Image.new("RGB", (3, 3), (9, 9, 9)))
    assert is_grey(Image.fromarray(np.zeros((3, 3), np.uint8)))
    assert not is_grey(Image.new("RGB", (3, 3), (9, 9, 8)))


def test_a_photograph_with_further_views_is_its_first(tmp_path: Path) -> None:
    further = {"format": "MPO", "save_all": True, "append_images": [picture(1)], "quality": 95}
    picture(0).save(tmp_path / "x.jpg", **further)
    seen_by_all = [np.asarray(one) for one in seen(tmp_path / "x.jpg")]
    assert all(one.shape[2] == 3 for one in seen_by_all)
    again = Image.open(io.BytesIO((tmp_path / "x.jpg").read_bytes()))
    assert np.array_equal(seen_by_all[1], np.asarray(again.convert("RGB")))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_its_first_picture_or_refused(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"x.{PICTURES[kind]}"
    picture(0).save(file, kind, save_all=True, append_images=[picture(1)])
    read, edited, judged = seen(file)
    assert isinstance(read, Image.Image)
    assert "is animated; give a single picture" in str(edited)
    assert isinstance(judged, Image.Image)
