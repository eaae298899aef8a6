"""Builds a folder of 15.7 thousand captioned pictures of emojis in five styles.

    pip install resvg-py==0.5.0      # renders SVG; only this recipe needs it
    python recipes/emoji/build.py emoji
    python recipes/emoji/build.py emoji-groups --layout group

npm downloads 36.5 MB of packages once, which are verified by their SHA-512; then it takes four
minutes of one core. `--layout style` writes `SPLIT/STYLE/CODE.png` and `SPLIT/metadata.jsonl`,
which the imagefolder of `datasets` reads. `--layout group` writes `train/GROUP/STYLE-CODE.png` and
`val/GROUP/...`, whose nine groups `nextscale train` reads as classes; `compose` is left out there.

`val` holds concepts that training never shows, `compose` concepts in a style that training never
shows them in. Result: 13,928 training, 1,276 `val` and 542 `compose` pictures.

Licences: ATTRIBUTION.md, written beside the pictures, names their artists. Twemoji is CC-BY-4.0,
which requires attribution wherever its pictures are shown; the other art is MIT or Apache-2.0.
"""

import argparse
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import names
import packages
from names import Emoji
from packages import Archive
from pictures import LEAK_PSNR, LEAK_SIDE, STYLES, Picture, nearest, pictures
from PIL import Image

SPLITS = ("train", "val", "compose")
KEYWORD = re.compile(r"[a-z0-9][a-z0-9 '’-]+")  # leaves out emoticons such as ":D"


def main() -> None:
    """Builds the folder and prints what it holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder to write; it must not exist")
    parser.add_argument("--layout", choices=("style", "group"), default="style")
    parser.add_argument(
        "--packages", type=Path, default=Path("runs/emoji-packages"), help="folder of the packages"
    )
    parser.add_argument("--side", type=int, choices=(32, 64, 128), default=64, help="in pixels")
    parser.add_argument("--styles", nargs="+", choices=STYLES, default=list(STYLES))
    arguments = parser.parse_args()
    if arguments.out.exists():
        raise SystemExit(f"{arguments.out} exists; delete it or name another folder")
    base = Archive(packages.EMOJIBASE, arguments.packages)
    emojis = names.emojis(base.json("en/data.json"), base.json("en/messages.json"))
    drawn = pictures(emojis, arguments.packages, arguments.side, arguments.styles)
    splits = into_splits(list(drawn))
    check(splits)
    if arguments.layout == "group":
        write_groups(splits, arguments.out)
    else:
        write_styles(splits, keywords(emojis, arguments.packages), arguments.out)
    (arguments.out / "ATTRIBUTION.md").write_text(attribution())
    report(splits)


def into_splits(drawn: Sequence[Picture]) -> dict[str, list[Picture]]:
    """The pictures of each split, in their order."""
    styles = defaultdict(set)
    for picture in drawn:
        styles[picture.emoji.concept].add(picture.style)
    splits: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    for picture in drawn:
        concept = picture.emoji.concept
        splits[names.split(concept, picture.style, styles[concept])].append(picture)
    return splits


def check(splits: dict[str, list[Picture]]) -> None:
    """Stops if the validation split shows what training shows, as it is or mirrored.

    Raises:
        SystemExit: naming a concept or a pair of pictures that stand in both.
    """
    concepts = {split: {p.emoji.concept for p in splits[split]} for split in ("train", "val")}
    if both := concepts["train"] & concepts["val"]:
        raise SystemExit(f"concepts stand in train and val: {', '.join(sorted(both))}")
    pixels = {split: [p.pixels for p in splits[split]] for split in ("train", "val")}
    mirrored = [picture[:, ::-1] for picture in pixels["train"]]
    psnr, numbers = nearest(pixels["val"], pixels["train"] + mirrored)
    worst = int(psnr.argmax())
    held_out = splits["val"][worst]
    training = splits["train"][numbers[worst] % len(mirrored)]
    pair = f"{held_out.emoji.name} ({held_out.style}) and {training.emoji.name} ({training.style})"
    print(f"most similar pictures of val and train: {pair}, {psnr[worst]:.1f} dB at {LEAK_SIDE} px")
    if psnr[worst] > LEAK_PSNR:
        raise SystemExit(f"val shows what train shows: {pair} are above {LEAK_PSNR} dB")


def keywords(emojis: Sequence[Emoji], folder: Path) -> dict[str, list[str]]:
    """Words that describe each emoji beside its name, by code; tones have those of their base.

    Args:
        folder: of the packages.
    """
    lib = Archive(packages.EMOJILIB, folder).json("dist/emoji-en-US.json")
    cldr = Archive(packages.CLDR, folder).json("annotations/en/annotations.json")
    described: dict[str, list[str]] = defaultdict(list)
    for emoji, words in lib.items():
        described[code_of(emoji)] += [word.replace("_", " ") for word in words]
    for emoji, entry in cldr["annotations"]["annotations"].items():
        described[code_of(emoji)] += entry.get("default", [])
    found = {}
    for emoji in emojis:
        words = [*emoji.tags, *described[bare(emoji.code)]]
        distinct = dict.fromkeys(word.lower() for word in words)
        found[emoji.code] = [w for w in distinct if KEYWORD.fullmatch(w) and w != emoji.name]
    return found


def code_of(emoji: str) -> str:
    """Code points of a string, as `Emoji.code` has them."""
    return names.normal_code("-".join(f"{ord(character):x}" for character in emoji))


def bare(code: str) -> str:
    """A code without skin tones."""
    return names.LOOKS.sub("", code)


def caption(emoji: Emoji, style: str) -> str:
    """Name and style in words."""
    return f"{emoji.name}, {STYLES[style].words}"


def write_styles(splits: dict[str, list[Picture]], words: dict[str, list[str]], out: Path) -> None:
    """Writes `SPLIT/STYLE/CODE.png` and `SPLIT/metadata.jsonl`."""
    for split, members in splits.items():
        rows = []
        for picture in members:
            name = f"{picture.style}/{picture.emoji.code}.png"
            save(picture, out / split / name)
            rows.append(json.dumps(row(picture, name, words), ensure_ascii=False))
        (out / split / "metadata.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def row(picture: Picture, name: str, words: dict[str, list[str]]) -> dict[str, Any]:
    """What `metadata.jsonl` says about a picture."""
    emoji = picture.emoji
    return {
        "file_name": name,
        "text": caption(emoji, picture.style),
        "name": emoji.name,
        "style": picture.style,
        "keywords": words[emoji.code],
        "tones": emoji.tones,
        "group": emoji.group,
        "subgroup": emoji.subgroup,
        "code": emoji.code,
        "concept": emoji.concept,
        "license": STYLES[picture.style].package.license,
    }


def write_groups(splits: dict[str, list[Picture]], out: Path) -> None:
    """Writes `train/GROUP/STYLE-CODE.png` and `val/GROUP/STYLE-CODE.png`."""
    for split in ("train", "val"):
        for picture in splits[split]:
            name = f"{picture.style}-{picture.emoji.code}.png"
            save(picture, out / split / picture.emoji.group / name)


def save(picture: Picture, path: Path) -> None:
    """Writes a picture as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.pixels).save(path)


def attribution() -> str:
    """Whose work the pictures and words are."""
    lines = ["# Attribution", "", "The pictures are resized; their content is unchanged.", ""]
    lines += ["| style | package | licence | work |", "|---|---|---|---|"]
    for style, kind in STYLES.items():
        lines.append(entry(style, kind.package))
    for package in (packages.EMOJIBASE, packages.EMOJILIB, packages.CLDR):
        lines.append(entry("(names, keywords)", package))
    lines += ["", "CC-BY-4.0: https://creativecommons.org/licenses/by/4.0/"]
    return "\n".join(lines) + "\n"


def entry(style: str, package: packages.Package) -> str:
    """A row of the table of attributions."""
    return f"| {style} | {package.name} {package.version} | {package.license} | {package.credit} |"


def report(splits: dict[str, list[Picture]]) -> None:
    """Prints counts, and a digest of all pixels by which two builds can be compared."""
    digest = hashlib.sha256()
    for split, members in splits.items():
        concepts = {picture.emoji.concept for picture in members}
        groups = Counter(picture.emoji.group for picture in members)
        print(f"{split}: {len(members)} pictures of {len(concepts)} concepts; {dict(groups)}")
        for picture in members:
            digest.update(f"{split}/{picture.style}/{picture.emoji.code}".encode())
            digest.update(picture.pixels.tobytes())
    print(f"digest of all pixels: {digest.hexdigest()[:16]}")


if __name__ == "__main__":
    main()
