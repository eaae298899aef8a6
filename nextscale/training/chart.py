"""Draws curves as SVG inside an HTML page, without a plotting library."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from nextscale.training.history import Point

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 68, 28, 26
MOST_POINTS = 400  # in a line
LOG_RATIO = 20  # of the largest to the smallest value, above which the axis is logarithmic
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f")


def chart(title: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """Returns a chart of named lines over optimizer steps, or "" if there are no points.

    The value axis is logarithmic where positive values differ by more than a factor of 20.
    """
    lines = {name: thinned(points) for name, points in lines.items() if points}
    if not lines:
        return ""
    steps, values = zip(*(point for points in lines.values() for point in points), strict=True)
    low, high = min(values), max(values)
    logarithmic = low > 0 and high > LOG_RATIO * low
    scaled = math.log10 if logarithmic else float
    across = axis(min(steps), max(steps), LEFT, WIDTH - RIGHT)
    up = axis(scaled(low), scaled(high), HEIGHT - BOTTOM, TOP)
    parts = [text(LEFT, 16, title + (", logarithmic" if logarithmic else ""), "start", "title")]
    for share in (0, 0.5, 1):
        step = min(steps) + share * (max(steps) - min(steps))
        value = scaled(low) + share * (scaled(high) - scaled(low))
        x, y = across(step), up(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(text(LEFT - 5, y + 4, f"{10**value if logarithmic else value:.3g}", "end"))
        parts.append(text(x, HEIGHT - 8, f"{step:.0f}", ("start", "middle", "end")[int(2 * share)]))
    for i, (name, points) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        places = " ".join(f"{across(x):.1f},{up(scaled(y)):.1f}" for x, y in points)
        parts.append(f'<polyline stroke="{colour}" points="{places}"/>')
        if len(points) == 1:
            x, y = places.split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
        mark = text(WIDTH - RIGHT + 6, TOP + 4 + 14 * i, name, "start", colour=colour)
        parts.append(mark if len(lines) > 1 else "")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


def axis(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Returns a function from values to pixels; it maps equal bounds to the middle."""

    def place(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return start + share * (end - start)

    return place


def text(x: float, y: float, words: str, anchor: str, kind: str = "", colour: str = "") -> str:
    """Returns an SVG text element."""
    style = f' class="{kind}"' * bool(kind) + f' fill="{colour}"' * bool(colour)
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(words)}</text>'


def thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Averages neighbouring points so that at most `MOST_POINTS` remain."""
    size = -(-len(points) // MOST_POINTS)
    if size == 1:
        return points
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]
