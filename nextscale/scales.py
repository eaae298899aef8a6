"""The pyramid's sides, and what follows from them alone: areas, spans, positions (VAR Sec. 3.2).

Nothing here knows torch. A scale is a tuple of sides, (h, w) of images; other files count tokens
through this one, which takes any number of sides.

Shape legend, used in the whole package:
    B batch            L tokens of all scales     l tokens of one scale
    D width            C latent channels          V codes in the codebook
    K scales           (h, w) one scale           (H, W) the finest scale, or pixels of images
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import prod

from nextscale.errors import UsageError, shown

Scale = tuple[int, ...]
Scales = tuple[Scale, ...]

MOST_SCALES = 256
LARGEST_SIDE = 16384  # positions of a token map


def parse_scales(value: Iterable[int | str | Sequence[int]] | str) -> Scales:
    """Reads scales written as sides, of squares, or as tuples: `1 2 3`, `[1, [2, 3]]`, `"1x1 2x3"`.

    Raises:
        UsageError: if an entry is no side, or the scales shrink or differ in dimension.
    """
    if not isinstance(value, str | Iterable) or isinstance(value, Mapping | bytes):
        raise UsageError(f"scales {shown(value)} are no list of sides")
    entries = value.replace(",", " ").split() if isinstance(value, str) else list(value)
    if len(entries) > MOST_SCALES:
        raise UsageError(f"{len(entries)} scales are given; at most {MOST_SCALES} are taken")
    scales = tuple(_parse_scale(entry) for entry in entries)
    check_growing(scales)
    return scales


def _parse_scale(entry: int | str | Sequence[int]) -> Scale:
    try:
        sides = entry.split("x") if isinstance(entry, str) else entry
        given = [sides] if isinstance(sides, int) else list(sides)
        numbers = [int(side) for side in given]
        if not numbers:
            raise ValueError
        if any(str(a) != str(b) for a, b in zip(given, numbers, strict=True)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"scale {shown(entry)} is neither a side nor a pair (h, w)") from None
    return tuple(numbers * 2 if len(numbers) == 1 else numbers)


def check_growing(scales: Scales) -> None:
    """Raises UsageError if a side shrinks, or scales differ in dimension; equal ones may follow."""
    if not scales:
        raise UsageError("no scales given; at least one is needed, for instance 1 2 4")
    sides = [side for scale in scales for side in scale]
    if min(sides) < 1 or max(sides) > LARGEST_SIDE:
        wrong = shown(min(sides) if min(sides) < 1 else max(sides))
        raise UsageError(f"a side of scales is {wrong}; it must be from 1 to {LARGEST_SIDE}")
    for scale, finer in pairwise(scales):
        if len(finer) != len(scale) or any(b < a for a, b in zip(scale, finer, strict=True)):
            raise UsageError(
                f"scales {describe(scales)} shrink: {describe((finer,))} follows "
                f"{describe((scale,))}; no side may be smaller than before"
            )


def describe(scales: Scales) -> str:
    """Writes scales as a user types them: `1 2 3` or `1x2 2x4`."""
    return " ".join(
        str(scale[0]) if scale == (scale[0],) * 2 else "x".join(map(str, scale)) for scale in scales
    )


def areas(scales: Scales) -> tuple[int, ...]:
    """Tokens of each scale."""
    return tuple(map(prod, scales))


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
