"""The pyramid's sides, and what follows from them alone: areas, spans, positions (VAR Sec. 3.2).

Nothing here knows torch. A scale is a tuple (h, w); other files count tokens through this one.

Shape legend, used in the whole package:
    B batch            L tokens of all scales     l tokens of one scale
    D width            C latent channels          V codes in the codebook
    K scales           (h, w) one scale           (H, W) the finest scale, or pixels of images
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from nextscale.errors import UsageError, shown

Scale = tuple[int, int]
Scales = tuple[Scale, ...]

MOST_SCALES = 256
LARGEST_SIDE = 16384  # positions of a token map


def parse_scales(value: Iterable[int | str | Sequence[int]] | str) -> Scales:
    """Reads scales written as sides or pairs: `1 2 3`, `[1, [2, 3]]`, `"1x1 2x3"`.

    Raises:
        UsageError: if an entry is no side or the scales do not increase.
    """
    if not isinstance(value, str | Iterable) or isinstance(value, Mapping | bytes):
        raise UsageError(f"scales {shown(value)} are no list of sides")
    entries = value.replace(",", " ").split() if isinstance(value, str) else list(value)
    if len(entries) > MOST_SCALES:
        raise UsageError(f"{len(entries)} scales are given; at most {MOST_SCALES} are taken")
    scales = tuple(_parse_scale(entry) for entry in entries)
    check_increasing(scales)
    return scales


def _parse_scale(entry: int | str | Sequence[int]) -> Scale:
    try:
        sides = entry.split("x") if isinstance(entry, str) else entry
        given = [sides] if isinstance(sides, int) else list(sides)
        numbers = [int(side) for side in given]
        height, width = numbers * 2 if len(numbers) == 1 else numbers
        if any(str(a) != str(b) for a, b in zip(given, numbers, strict=True)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"scale {shown(entry)} is neither a side nor a pair (h, w)") from None
    return height, width


def check_increasing(scales: Scales) -> None:
    """Raises UsageError unless each scale has more tokens than the last and no side shrinks."""
    if not scales:
        raise UsageError("no scales given; at least one is needed, for instance 1 2 4")
    sides = [side for scale in scales for side in scale]
    if min(sides) < 1 or max(sides) > LARGEST_SIDE:
        wrong = shown(min(sides) if min(sides) < 1 else max(sides))
        raise UsageError(f"a side of scales is {wrong}; it must be from 1 to {LARGEST_SIDE}")
    for (h, w), (next_h, next_w) in pairwise(scales):
        if next_h < h or next_w < w or next_h * next_w == h * w:
            raise UsageError(
                f"scales {describe(scales)} do not increase: {next_h}x{next_w} follows {h}x{w}"
            )


def describe(scales: Scales) -> str:
    """Writes scales as a user types them: `1 2 3` or `1x2 2x4`."""
    return " ".join(str(h) if h == w else f"{h}x{w}" for h, w in scales)


def areas(scales: Scales) -> tuple[int, ...]:
    """Tokens of each scale."""
    return tuple(h * w for h, w in scales)


def length(scales: Scales) -> int:
    """L, the tokens of all scales."""
    return sum(areas(scales))


def spans(scales: Scales) -> tuple[tuple[int, int], ...]:
    """First token and the one after the last of each scale, in the order of all L tokens."""
    ends = [sum(areas(scales[: k + 1])) for k in range(len(scales))]
    return tuple(zip([0, *ends[:-1]], ends, strict=True))


def position(k: int, count: int) -> float:
    """Where scale k (from 0) of `count` sits between the coarsest, 0, and the finest, 1.

    Guidance, smooth sampling and the choice of φ ramp along it. A single scale sits at 0.
    """
    return k / (count - 1) if count > 1 else 0.0
