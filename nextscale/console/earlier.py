"""What an earlier run left in an output directory, so that a second one does not mix with it."""

import re
from collections.abc import Iterable
from pathlib import Path

from nextscale.errors import UsageError
from nextscale.storage.files import read_json

# Records that commands write beside their pictures: who writes them, and how it names pictures.
RECORDS = {
    "samples.json": ("sample", r"\d{4,}-.+\.png"),
    "edits.json": ("edit", r".+-(inpaint|class|outpaint|vary|interpolate)-\d+\.png"),
    "reconstructions.json": ("reconstruct", r".+-(reconstruction|pyramid)\.png"),
}


def earlier_files(directory: Path, record: str, inputs: Iterable[Path] = ()) -> list[Path]:
    """Files of an earlier run of the same command, which a new one replaces.

    They are the ones that its record lists and that the command names so, and its overviews.

    Args:
        directory: that is written to; it may be missing.
        record: name of the file that records the new run, of `RECORDS`.
        inputs: files that the new run reads.

    Raises:
        UsageError: if another command's run lies there, the record is damaged, or an input is one
            of the files.
    """
    for other, (command, _) in RECORDS.items():
        if other != record and (directory / other).is_file():
            raise UsageError(
                f"{directory} holds the output of `nextscale {command}`; give another --out"
            )
    if not (directory / record).is_file():
        return []
    _, pattern = RECORDS[record]
    entries = read_json(directory / record).get("images")
    entries = entries if isinstance(entries, list) else []
    listed = [entry.get("file") for entry in entries if isinstance(entry, dict)]
    names = {name for name in listed if isinstance(name, str) and re.fullmatch(pattern, name)}
    there = [path for path in directory.iterdir() if path.is_file() or path.is_symlink()]
    found = [path for path in there if path.name in names.union(SHEETS[record])]
    read = {path.resolve() for path in inputs}
    for path in found:
        if path.resolve() in read:
            raise UsageError(
                f"{path} is an input, and of an earlier run that would be replaced; give another "
                "--out"
            )
    return found


def other_pictures(directory: Path, written: Iterable[str]) -> int:
    """How many pictures lie in a directory beside those that a run wrote."""
    from nextscale.pictures.reading import EXTENSIONS

    names = {path.name for path in directory.iterdir()}.difference(written)
    return sum(name.lower().endswith(EXTENSIONS) and not name.startswith(".") for name in names)


# What commands write beside their images, as patterns, by the file that describes these.
SHEETS = {
    "samples.json": ("grid.png", "growing.gif"),
    "edits.json": ("sheet.png",),
    "reconstructions.json": ("sheet.png", "*-pyramid.png"),
}
