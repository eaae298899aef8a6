"""What an emoji is called, which concept it shows and which split it belongs to: pure functions.

A concept is a thing however its people look: skin tones, genders, hair and direction are stripped,
so that no picture of the validation split shows what a training picture shows. It is written as a
code, such as `1f9d1-200d-1f33e` for all farmers, or as a word for what has many codes.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

VAL_SHARE = 0.08  # of the concepts, held out in all styles
COMPOSE_SHARE = 0.20  # of the other concepts, held out in one style
COMPOSE_STYLES = 3  # least styles that such a concept has
ALWAYS_TRAINING = ("flag", "keycap", "clock face", "family")

COMPONENT = 2  # emojibase's group of skin tones and hair, which are no pictures by themselves
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")

FLAGS = ("flag", "country-flag", "subdivision-flag")  # subgroups
COUPLES = ("family", "kiss", "couple with heart", "handshake")
JOINER = "-200d-"  # between the parts of a code
PERSON = "1f9d1"
LOOKS = re.compile("-1f3f[b-f]")  # skin tones
DETAILS = re.compile(f"{JOINER}(2640|2642|1f9b[0-3]|27a1)")  # gender signs, hair, "facing right"
WOMAN_OR_MAN = re.compile("1f46[89]")
SAME = {
    "1f934": "1fac5",  # prince: person with crown
    "1f478": "1fac5",  # princess
    # What is the mirror image of another, which a training that mirrors its pictures shows.
    "1f91a": "270b",  # raised back of hand: raised hand
    "1f91c": "1f91b",  # right-facing fist: left-facing fist
    "1f449": "1f448",  # backhand index pointing right: left
    "1faf2": "1faf1",  # leftwards hand: rightwards hand
    "1faf8": "1faf7",  # rightwards pushing hand: leftwards pushing hand
    "2196": "2197",  # up-left arrow: up-right arrow
}


@dataclass(frozen=True)
class Emoji:
    """One emoji of emojibase.

    Attributes:
        code: code points in lower case, without the variation selector fe0f.
        name: as captions say it.
        concept: what it shows, however its people look.
        group: one of nine, such as `food-drink`.
        subgroup: such as `food-fruit`.
        tones: skin tones, in words.
        tags: emojibase's keywords.
    """

    code: str
    name: str
    concept: str
    group: str
    subgroup: str
    tones: tuple[str, ...]
    tags: tuple[str, ...]


def normal_code(code: str) -> str:
    """Code points in lower case without the variation selector: "2764-FE0F" becomes "2764"."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def caption_name(label: str) -> str:
    """A label as captions say it.

    "flag: Norway" becomes "flag of norway", "keycap: 5" becomes "keycap 5", other colons commas.
    """
    name = re.sub("^flag: ", "flag of ", label)
    name = re.sub("^keycap: ", "keycap ", name)
    return name.replace(": ", ", ").lower()


def concept(code: str, label: str, subgroup: str) -> str:
    """What an emoji shows, however its people look.

    Args:
        code: of `normal_code`, of the emoji without skin tones.
        label: emojibase's, of the same.
        subgroup: emojibase's key.
    """
    if subgroup in FLAGS:
        return "flag"
    if subgroup == "keycap":
        return "keycap"
    if label.endswith(("o’clock", "-thirty")):
        return "clock face"
    if label.endswith("holding hands"):
        return "holding hands"
    kind = label.split(":")[0]  # "kiss: woman, man"
    if kind in COUPLES:
        return kind
    bare = DETAILS.sub("", LOOKS.sub("", code))
    return SAME.get(bare, WOMAN_OR_MAN.sub(PERSON, bare))


def emojis(data: Iterable[Mapping[str, Any]], messages: Mapping[str, Any]) -> list[Emoji]:
    """All emojis of emojibase's data and messages, each followed by its skin tones."""
    groups = {entry["order"]: entry["key"] for entry in messages["groups"]}
    subgroups: dict[int, str] = {}
    for entry in messages["subgroups"]:
        subgroups.setdefault(entry["order"], entry["key"])
    found = []
    for entry in data:
        if entry.get("group") in (None, COMPONENT):  # None: letters that flags are spelled of
            continue
        subgroup = subgroups[entry["subgroup"]]
        shown = concept(normal_code(entry["hexcode"]), entry["label"], subgroup)
        for look in [entry, *entry.get("skins", [])]:
            tone = look.get("tone", [])  # a number, or two for a couple
            tones = tone if isinstance(tone, list) else [tone]
            found.append(
                Emoji(
                    normal_code(look["hexcode"]),
                    caption_name(look["label"]),
                    shown,
                    groups[entry["group"]],
                    subgroup,
                    tuple(TONES[number - 1] for number in tones),
                    tuple(entry.get("tags", ())),
                )
            )
    return found


def uniform(key: str) -> float:
    """A number in [0, 1) that the key decides: six bytes of its SHA-256."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48


def split(concept: str, style: str, styles: Iterable[str]) -> str:
    """`train`, `val` (held-out concepts) or `compose` (a concept in a style never shown for it).

    Args:
        styles: all that show this concept.
    """
    if concept in ALWAYS_TRAINING:
        return "train"
    if uniform(f"val|{concept}") < VAL_SHARE:
        return "val"
    ordered = sorted(styles)
    if uniform(f"compose|{concept}") < COMPOSE_SHARE and len(ordered) >= COMPOSE_STYLES:
        held_out = ordered[int(uniform(f"which|{concept}") * len(ordered))]
        return "compose" if style == held_out else "train"
    return "train"
