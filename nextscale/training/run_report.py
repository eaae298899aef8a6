"""Writes a self-contained HTML page on a run: curves, code use, pictures and hints."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from nextscale.storage.files import write_text
from nextscale.training.chart import chart
from nextscale.training.directory import PICTURES
from nextscale.training.hints import hints
from nextscale.training.history import Entry, History, Point, curve

REPORT = "report.html"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(22rem, 1fr)); gap: 1rem; }
svg { width: 100%; } svg text { font-size: 11px; } svg .title { font-size: 13px; }
polyline { fill: none; stroke-width: 1.5; } .grid { stroke: #ddd; }
img { max-width: 100%; image-rendering: pixelated; } figure { margin: 1rem 0; }
"""


def write_report(folder: Path, command: str, history: History) -> None:
    """Writes `report.html` of a run's directory.

    Args:
        folder: the directory; `pictures/` in it holds those of the validations.
        command: the command that trains.
    """
    write_text(folder / REPORT, page(folder, command, history))


def page(folder: Path, command: str, history: History) -> str:
    """The report as HTML."""
    name = shown(folder.resolve().name)
    lines = "".join(f"<li>{shown(line)}</li>" for line in hints(history))
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>{name}</title><style>{STYLE}</style></head><body>",
            f"<h1>{name}</h1><p>{shown(state(command, history))}</p>",
            f"<h2>Hints</h2><ul>{lines or '<li>none</li>'}</ul>",
            f'<h2>Curves</h2><div class="charts">{"".join(charts(history))}</div>',
            *pictures(folder / PICTURES, history),
            "</body></html>\n",
        ]
    )


def state(command: str, history: History) -> str:
    """Describes the progress of the run in a sentence."""
    steps = history.start.get("steps", "?")
    best = history.best
    line = f"{command}, step {history.done} of {steps}"
    if best is not None:
        line += f"; best validation {history.figure} {best[1]:.4g} at step {best[0]:.0f}"
    if history.finished:
        line += f"; {history.finished.get('stopped') or 'finished'}"
    return line


def charts(history: History) -> Iterable[str]:
    """Charts of the figures that the log holds."""
    steps, validations = history.steps, history.validations

    def both(name: str, trained: str = "") -> dict[str, list[Point]]:
        return {
            "training": curve(steps, trained or name),
            "validation": curve(validations, name),
        }

    yield chart("loss", both("loss"))
    yield chart("squared error of images", both("mse", "l2"))
    yield chart("PSNR, dB", {"validation": curve(validations, "psnr")})
    yield chart("accuracy", both("accuracy"))
    yield chart("share of codes used, by scale", by_scale(validations, "code_use"))
    yield chart("perplexity of codes, by scale", by_scale(validations, "perplexity"))
    yield chart("validation loss, by scale", by_scale(validations, "scale_loss"))
    yield chart("learning rate", {"rate": curve(steps, "learning_rate")})
    yield chart("gradient norm", {"norm": curve(steps, "gradient_norm")})
    yield chart("images a second", {"speed": curve(steps, "images_per_second")})


def by_scale(entries: Sequence[Entry], name: str) -> Mapping[str, list[Point]]:
    """The curve of each scale of a figure."""
    found = [entry[name] for entry in entries if isinstance(entry.get(name), list)]
    count = max(map(len, found), default=0)
    return {f"scale {k + 1}": curve(entries, name, k) for k in range(count)}


def pictures(folder: Path, history: History) -> Iterable[str]:
    """HTML of the newest pictures, those of the best validation, and the first ones."""
    if folder.is_symlink():  # it might lead outside the run
        return
    found = {step_in(file): file for file in folder.glob("*.png") if not file.is_symlink()}
    found.pop(-1, None)
    if not found:
        return
    wanted = {max(found): ["newest"]}
    if history.best is not None and history.best[0] in found:
        wanted.setdefault(int(history.best[0]), []).append("best")
    wanted.setdefault(min(found), ["first"])
    names = history.start.get("shown") or ()
    caption = f", of {', '.join(map(str, names))}" if names else ""
    yield "<h2>Pictures</h2>"
    for step in sorted(wanted, reverse=True):
        file = found[step]
        pixels = base64.b64encode(file.read_bytes()).decode()
        kind = file.name.rpartition("-")[0]
        line = f"{kind}, step {step} ({', '.join(wanted[step])}){caption}"
        image = f'<img alt="" src="data:image/png;base64,{pixels}">'
        yield f"<figure>{image}<figcaption>{shown(line)}</figcaption></figure>"


def picture_name(kind: str, step: int) -> str:
    """File name of a validation's pictures."""
    return f"{kind}-{step:08d}.png"


def step_in(file: Path) -> int:
    """The step in the file name of pictures; -1 for other files."""
    number = file.stem.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdigit() else -1


def shown(words: str) -> str:
    """Escapes text for HTML and replaces unprintable characters."""
    return escape("".join(c if c.isprintable() else "\ufffd" for c in words))
