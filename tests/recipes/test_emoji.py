"""The recipe of emoji pictures: names, concepts and splits of examples, without packages."""

import build
import numpy as np
import packages
import pytest
from names import caption_name, concept, emojis, normal_code, split, uniform
from numpy.typing import NDArray
from pictures import Picture, nearest, svg

STYLES = ("blob", "fluent-3d", "fluent-flat", "noto", "twemoji")

MESSAGES = {
    "groups": [{"key": "people-body", "order": 1}, {"key": "flags", "order": 9}],
    "subgroups": [
        {"key": "person-role", "order": 25},
        {"key": "hands", "order": 20},
        {"key": "country-flag", "order": 98},
    ],
}
FARMER = {
    "label": "woman farmer",
    "hexcode": "1F469-200D-1F33E",
    "tags": ["gardener"],
    "group": 1,
    "subgroup": 25,
    "skins": [
        {
            "label": "woman farmer: dark skin tone",
            "hexcode": "1F469-1F3FF-200D-1F33E",
            "tone": 5,
        }
    ],
}
HANDSHAKE = {
    "label": "handshake",
    "hexcode": "1F91D",
    "group": 1,
    "subgroup": 20,
    "skins": [
        {
            "label": "handshake: light skin tone, dark skin tone",
            "hexcode": "1FAF1-1F3FB-200D-1FAF2-1F3FF",
            "tone": [1, 5],
        }
    ],
}
LETTER = {"label": "regional indicator A", "hexcode": "1F1E6"}
TONE = {"label": "dark skin tone", "hexcode": "1F3FF", "group": 2, "subgroup": 32}


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("flag: Norway", "flag of norway"),
        ("keycap: 5", "keycap 5"),
        ("waving hand: light skin tone", "waving hand, light skin tone"),
        ("kiss: woman, man", "kiss, woman, man"),
    ],
)
def test_captions(label: str, name: str) -> None:
    assert caption_name(label) == name


@pytest.mark.parametrize(
    ("code", "label", "subgroup", "expected"),
    [
        ("1f469-200d-1f33e", "woman farmer", "person-role", "1f9d1-200d-1f33e"),
        ("1f9d1-200d-1f33e", "farmer", "person-role", "1f9d1-200d-1f33e"),
        ("1f6b6-200d-2640-200d-27a1", "woman walking: facing right", "person-activity", "1f6b6"),
        ("1f469-200d-1f9b0", "woman: red hair", "person", "1f9d1"),
        ("1f478", "princess", "person-role", "1fac5"),
        ("1f91c", "right-facing fist", "hand-fingers-closed", "1f91b"),
        ("2196", "up-left arrow", "arrow", "2197"),
        ("1f9d1-200d-1f384", "Mx Claus", "person-fantasy", "1f9d1-200d-1f384"),
        ("1f468-200d-1f469-200d-1f466", "family: man, woman, boy", "family", "family"),
        ("1f46c", "men holding hands", "family", "holding hands"),
        (
            "1f468-200d-2764-200d-1f468",
            "couple with heart: man, man",
            "family",
            "couple with heart",
        ),
        ("1f48b", "kiss mark", "emotion", "1f48b"),
        ("1f618", "kissing face", "face-affection", "1f618"),
        ("1f1f3-1f1f4", "flag: Norway", "country-flag", "flag"),
        ("1f3c1", "chequered flag", "flag", "flag"),
        ("35-20e3", "keycap: 5", "keycap", "keycap"),
        ("1f55b", "twelve o’clock", "time", "clock face"),
        ("1f567", "twelve-thirty", "time", "clock face"),
        ("23f0", "alarm clock", "time", "23f0"),
    ],
)
def test_concepts(code: str, label: str, subgroup: str, expected: str) -> None:
    assert concept(code, label, subgroup) == expected


def test_emojis_carry_tones_and_share_the_concept_of_their_base() -> None:
    found = emojis([LETTER, TONE, FARMER, HANDSHAKE], MESSAGES)
    assert [(e.code, e.name, e.tones, e.concept) for e in found] == [
        ("1f469-200d-1f33e", "woman farmer", (), "1f9d1-200d-1f33e"),
        ("1f469-1f3ff-200d-1f33e", "woman farmer, dark skin tone", ("dark",), "1f9d1-200d-1f33e"),
        ("1f91d", "handshake", (), "handshake"),
        (
            "1faf1-1f3fb-200d-1faf2-1f3ff",
            "handshake, light skin tone, dark skin tone",
            ("light", "dark"),
            "handshake",
        ),
    ]
    assert found[0].group == "people-body"
    assert found[0].tags == ("gardener",)
    assert normal_code("2764-FE0F") == "2764"


def test_uniform_is_the_documented_hash() -> None:
    # python -c "import hashlib; print(hashlib.sha256(b'val|1f436').hexdigest()[:12])"
    assert uniform("val|1f436") == int("13e0b55aa2b2", 16) / 2**48


def test_no_concept_stands_in_two_of_train_and_val() -> None:
    concepts = [f"{0x1F300 + i:x}" for i in range(1000)]
    splits = {c: {split(c, style, STYLES) for style in STYLES} for c in concepts}
    held_out = [c for c in concepts if "val" in splits[c]]
    assert all(splits[c] == {"val"} for c in held_out)
    assert 50 < len(held_out) < 110  # 8 % of 1000
    composed = [c for c in concepts if "compose" in splits[c]]
    assert all(splits[c] == {"compose", "train"} for c in composed)
    assert 140 < len(composed) < 230  # 20 % of the other 920


def test_a_concept_lacks_at_most_one_style_and_only_where_it_has_three() -> None:
    concepts = [f"{0x1F300 + i:x}" for i in range(1000)]
    for c in concepts:
        assert [split(c, style, STYLES) for style in STYLES].count("compose") <= 1
        assert "compose" not in {split(c, style, STYLES[:2]) for style in STYLES[:2]}


@pytest.mark.parametrize("name", ["flag", "keycap", "clock face", "family"])
def test_what_is_alike_is_always_training(name: str) -> None:
    assert {split(name, style, STYLES) for style in STYLES} == {"train"}


def test_an_svg_is_square_and_follows_mirrored_aliases() -> None:
    icons = {
        "width": 36,
        "height": 36,
        "icons": {"melon": {"body": "<path/>", "height": 24}},
        "aliases": {
            "left": {"parent": "melon", "hFlip": True},
            "twice": {"parent": "left", "hFlip": True},
        },
    }
    assert 'viewBox="0.0 -6.0 36.0 36.0"' in svg(icons, "melon")
    assert 'viewBox="-2.0 -8.0 40.0 40.0"' in svg(icons, "melon", margin=1 / 20)
    assert "translate(36 0) scale(-1 1)" in svg(icons, "left")
    assert "scale" not in svg(icons, "twice")


def test_nearest_finds_the_same_picture_in_other_pixels() -> None:
    generator = np.random.default_rng(0)
    training = [random_picture(generator) for _ in range(5)]
    noisy = np.clip(training[3].astype(int) + generator.integers(-9, 10, (64, 64, 3)), 0, 255)
    held_out = [noisy.astype(np.uint8), random_picture(generator), training[1]]
    psnr, numbers = nearest(held_out, training)
    assert numbers[0] == 3
    assert psnr[0] > 30
    assert psnr[1] < 30
    assert (numbers[2], psnr[2]) == (1, np.inf)


def random_picture(generator: np.random.Generator) -> NDArray[np.uint8]:
    """A picture of 8x8 squares of random colours."""
    squares = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return squares.repeat(8, 0).repeat(8, 1)


def test_the_check_refuses_a_leak() -> None:
    found = emojis([FARMER, HANDSHAKE], MESSAGES)
    pixels = random_picture(np.random.default_rng(0))
    shown = Picture(found[0], "noto", pixels)
    with pytest.raises(SystemExit, match="concepts stand in train and val: 1f9d1-200d-1f33e"):
        build.check({"train": [shown], "val": [Picture(found[0], "blob", pixels)]})
    other = Picture(found[-1], "blob", pixels)
    mirrored = Picture(found[-1], "blob", pixels[:, ::-1])
    for leak in (other, mirrored):
        with pytest.raises(SystemExit, match=r"handshake.*woman farmer"):
            build.check({"train": [shown], "val": [leak]})
    different = Picture(found[-1], "blob", random_picture(np.random.default_rng(1)))
    build.check({"train": [shown], "val": [different]})


def test_a_package_of_other_bytes_is_refused(tmp_path) -> None:
    (tmp_path / packages.EMOJILIB.file).write_bytes(b"something else")
    with pytest.raises(SystemExit, match="SHA-512"):
        packages.Archive(packages.EMOJILIB, tmp_path)
    assert packages.EMOJILIB.file == "emojilib-4.0.3.tgz"
    assert packages.TWEMOJI.file == "iconify-json-twemoji-1.2.5.tgz"
