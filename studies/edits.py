"""How well holes are filled: next-scale against free drawing, OpenCV and next-token.

    python -m studies edits run --next-token runs/compare/ar-0-0.003/final
    python -m studies edits table

`run` fills holes of test images and judges them; what is recorded is not made again. `table` writes
docs/results/edits.md and a sheet of pictures. The next-token model is one of `compare run`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor

from nextscale.checkpoints import checkpoint
from nextscale.console.commands import configured
from nextscale.console.messages import inform
from nextscale.console.progress import progress
from nextscale.data.fashion_mnist import LABELS, PARTS, find, read_idx
from nextscale.editing.candidates import Attempt, attempt, best_of
from nextscale.editing.editor import edit_sampling
from nextscale.editing.holes import fill_holes
from nextscale.editing.masks import keep_per_scale
from nextscale.editing.seams import paste
from nextscale.evaluation.features import features_of, see
from nextscale.evaluation.metrics import Features, frechet_distance
from nextscale.evaluation.sets import ImageSet, open_raw
from nextscale.judges.extractors import load_extractor
from nextscale.judges.perceptual import perceptual_distance
from nextscale.pictures.grids import grid
from nextscale.pictures.pixels import to_pictures, to_pixels, to_tensor
from nextscale.pipeline import Pipeline
from nextscale.storage.files import read_json, write_text
from studies.holes import distance_to_hole, known_in

RESULTS = Path(__file__).parents[1] / "docs/results"
KINDS = ("centre", "half", "strokes", "border")
BATCH = 250
CANDIDATES = 4
DISTANCES = (1, 2, 3, 5, 9)  # pixels from the hole at which the drift is told; the last is beyond
SHOWN = 10  # images of the sheet
NEXT_TOKEN = "next-token, knowing what stands before"  # its row

# Images, known pixels and first seed to filled images, raw; the known pixels are put back later.
Method = Callable[[Tensor, Tensor, Sequence[int]], Tensor]


@dataclass(frozen=True)
class Editing:
    """What the commands share.

    Attributes:
        model: that fills.
        next_token: checkpoint of a next-token model; without one its row is left out.
        extractor: classifier that sees and judges all images.
        count: test images.
        records: where the figures are kept.
    """

    model: str = "fashion-mnist"
    next_token: str = ""
    extractor: str = "fashion-mnist"
    count: int = 500
    records: str = str(RESULTS / "edits")


def by_model(pipe: Pipeline, candidates: int = 1, hide: bool = True, **keeping: Any) -> Method:
    """Fills by a model without classes or guidance, from all codes."""
    rule = keeping.pop("rule", "released")
    sampling = edit_sampling(pipe, {"top_p": 0.0})

    def method(images: Tensor, known: Tensor, seeds: Sequence[int]) -> Tensor:
        before = fill_holes(images, known[:, None]) if hide else images
        masks = keep_per_scale(known.float(), pipe.model.scales, rule)
        none = pipe.read(None, len(images))

        def draw(given: Sequence[int]) -> Attempt:
            options = {"seeds": given, "sampling": sampling, **keeping}
            return attempt(pipe.model, pipe.tokenizer, before, masks, none, **options)

        return best_of(draw, candidates, seeds).images[:, 0]

    return method


def by_opencv(algorithm: int) -> Method:
    """Fills by OpenCV, from three pixels around."""

    def method(images: Tensor, known: Tensor, _seeds: Sequence[int]) -> Tensor:
        holes = (~known).numpy().astype(np.uint8)
        pairs = zip(to_pixels(images)[..., 0], holes, strict=True)
        filled = np.stack([cv2.inpaint(pixels, hole, 3, algorithm) for pixels, hole in pairs])
        return to_tensor(filled, 1)

    return method


def freely(pipe: Pipeline) -> Method:
    """Draws whole images and knows nothing, unguided and from all codes too."""
    sampling = edit_sampling(pipe, {"top_p": 0.0})

    def method(images: Tensor, _known: Tensor, seeds: Sequence[int]) -> Tensor:
        *_, state = pipe.states([None] * len(images), seeds=seeds, **vars(sampling))
        return state.image()

    return method


def methods_of(editing: Editing) -> dict[str, Method]:
    """What is compared, by the name of its row."""
    pipe = checkpoint.load(editing.model)
    found = {
        "next-scale": by_model(pipe),
        "next-scale, recoded": by_model(pipe, recode=True),
        f"next-scale, recoded, likeliest of {CANDIDATES}": by_model(
            pipe, candidates=CANDIDATES, recode=True
        ),
        "next-scale, strict rule, recoded": by_model(pipe, rule="strict", recode=True),
        "next-scale that sees the hole, as the published code": by_model(pipe, hide=False),
        "the same, recoded": by_model(pipe, hide=False, recode=True),
        "OpenCV, Telea": by_opencv(cv2.INPAINT_TELEA),
        "OpenCV, Navier-Stokes": by_opencv(cv2.INPAINT_NS),
        "next-scale drawing freely": freely(pipe),
    }
    if editing.next_token:
        found[NEXT_TOKEN] = by_model(checkpoint.load(editing.next_token))
    return found


class Judge:
    """Judges filled test images against 10 000 training images."""

    def __init__(self, editing: Editing) -> None:
        self.extractor = load_extractor(editing.extractor)
        self.distance = perceptual_distance(editing.extractor)
        reference = ImageSet(open_raw("fashion-mnist:train"), "train", 1, limit=10000)
        self.reference = features_of(reference, self.extractor, PartialState(cpu=True))
        raw = open_raw("fashion-mnist:test")
        test = ImageSet(raw, "test", 1, limit=editing.count)
        self.images = to_tensor(test.load(0, len(test)), 1)
        self.labels = read_idx(find(), f"{PARTS['validation']}-{LABELS}")[test.order]
        pipe = checkpoint.load(editing.model)
        self.decoded = torch.cat(
            [pipe.tokenizer.decode(pipe.tokenizer.encode(part)) for part in self.batches()]
        )

    def batches(self) -> Iterator[Tensor]:
        """The test images, some at a time."""
        return iter(self.images.split(BATCH))

    def fid_and_accuracy(self, images: Tensor) -> tuple[float, float]:
        """FID, and the share that the classifier gives its label."""
        parts = [see(self.extractor, to_pixels(part)) for part in images.split(BATCH)]
        values, logits = (np.concatenate([part[k] for part in parts]) for k in ("values", "logits"))
        seen = Features(self.extractor.identity, values, logits)
        right = float((logits.argmax(1) == self.labels).mean())
        return frechet_distance(seen, self.reference), right

    @torch.inference_mode()
    def judge(self, filled: Tensor, known: Tensor) -> dict[str, Any]:
        """Figures of filled images, with known pixels put back but for raw FID and drift."""
        pasted = paste(filled, self.images, known.float())
        fid, accuracy = self.fid_and_accuracy(pasted)
        parts = zip(pasted.split(BATCH), self.batches(), strict=True)
        distances = [float(self.distance(ours, theirs)) for ours, theirs in parts]
        squared = (filled - self.images).square()[:, 0] / 4
        drift = (filled - self.decoded).square()[:, 0] / 4
        steps = distance_to_hole(known, DISTANCES[-1])
        return {
            "fid": fid,
            "raw_fid": self.fid_and_accuracy(filled)[0],
            "class_accuracy": accuracy,
            "hole_psnr": decibels(squared[~known]),
            "perceptual_distance": float(np.mean(distances)),
            "drift_psnr": {
                str(least): decibels(drift[(steps >= least) & (steps < below)])
                for least, below in zip(DISTANCES, [*DISTANCES[1:], 10**6], strict=True)
                if bool(((steps >= least) & (steps < below)).any())
            },
        }


def decibels(squared: Tensor) -> float:
    """PSNR of squared errors of values from 0 to 1."""
    return -10 * float(squared.double().mean().log10())


def run(editing: Editing) -> None:
    """Fills and judges whatever is not recorded yet."""
    judge, methods = Judge(editing), methods_of(editing)
    records = Path(editing.records)
    fid, accuracy = judge.fid_and_accuracy(judge.images)
    keep(records / "images.json", {"count": editing.count, "fid": fid, "class_accuracy": accuracy})
    for kind in KINDS:
        known = known_in(kind, len(judge.images), judge.images.shape[-1])
        for name, method in methods.items():
            place = records / f"{kind}-{slug(name)}.json"
            if place.is_file():
                continue
            filled = []
            with progress(f"{kind}: {name}", len(known)) as advance:
                for begin in range(0, len(known), BATCH):
                    part = slice(begin, begin + BATCH)
                    seeds = range(begin, begin + len(known[part]))
                    filled.append(method(judge.images[part], known[part], seeds))
                    advance(len(filled[-1]))
            figures = judge.judge(torch.cat(filled), known)
            keep(place, {"kind": kind, "method": name, **figures})
            inform(f"{kind}: {name}: FID {figures['fid']:.3f}, hole {figures['hole_psnr']:.2f} dB")


def table(editing: Editing) -> None:
    """Writes the page and the sheet."""
    records = Path(editing.records)
    images = read_json(records / "images.json")
    lines = [
        "# Filling holes",
        "",
        f"{images['count']:,} test images of Fashion-MNIST with masked regions, filled without "
        "the class, against 10,000 training images; features, perceptual distance and accuracy by "
        "the bundled classifier. Models sample unguided, from all codes. "
        "Known pixels are put back before judging, except for `raw FID`; next-"
        "scale does not see the masked region unless its row says so. The images themselves have "
        f"a FID (classifier) of {images['fid']:.3f} and {images['class_accuracy']:.1%} accuracy. "
        "Made by `python -m studies edits run` and `table`.",
    ]
    methods = methods_of(editing)
    names = list(dict.fromkeys([*methods, NEXT_TOKEN]))  # it may be recorded
    for kind in KINDS:
        found = [records / f"{kind}-{slug(name)}.json" for name in names]
        rows = [read_json(place) for place in found if place.is_file()]
        if not rows:
            continue
        lines += [
            "",
            f"## {kind}",
            "",
            "| | FID (classifier) | raw FID (classifier) | class accuracy | hole, dB | "
            "perceptual distance |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['method']} | {row['fid']:.3f} | {row['raw_fid']:.3f} | "
            f"{row['class_accuracy']:.1%} | {row['hole_psnr']:.2f} | "
            f"{row['perceptual_distance']:.4f} |"
            for row in rows
        ]
        drifts = [row for row in rows if row["method"].startswith(("next-scale,", "the same"))]
        drifts += [row for row in rows if row["method"] == "next-scale"]
        steps = sorted({step for row in drifts for step in row["drift_psnr"]}, key=int)
        lines += [
            "",
            "PSNR in dB of known pixels against the tokenizer's reconstruction of the whole image, "
            "by distance from the hole in pixels (the last column is all beyond):",
            "",
            f"| | {' | '.join(steps)} |",
            "|---|" + "---|" * len(steps),
        ]
        lines += [
            f"| {row['method']} | "
            + " | ".join(f"{row['drift_psnr'].get(step, float('nan')):.2f}" for step in steps)
            + " |"
            for row in drifts
        ]
    lines += ["", "![holes and how they are filled](edits.png)", ""]
    shown = {name: methods[name] for name in SHEET if name in methods}
    lines += ["Rows of each kind: images, holes (grey), then " + ", ".join(shown) + "."]
    write_text(RESULTS / "edits.md", "\n".join(lines) + "\n")
    draw_sheet(shown)


SHEET = ("next-scale, recoded", "OpenCV, Telea", NEXT_TOKEN)


def draw_sheet(methods: dict[str, Method]) -> None:
    """Writes the pictures of a few images, filled by some methods."""
    test = ImageSet(open_raw("fashion-mnist:test"), "test", 1, limit=SHOWN)
    images = to_tensor(test.load(0, SHOWN), 1)
    rows = []
    for kind in KINDS:
        known = known_in(kind, SHOWN, images.shape[-1])
        rows += [to_pictures(images), to_pictures(images.masked_fill(~known[:, None], 0))]
        for method in methods.values():
            filled = method(images, known, range(SHOWN))
            rows.append(to_pictures(paste(filled, images, known.float())))
    grid(rows).save(RESULTS / "edits.png")


def slug(name: str) -> str:
    """A method's name as part of a file's."""
    return "_".join(name.replace(",", "").lower().split())


def keep(place: Path, values: dict[str, Any]) -> None:
    """Records figures."""
    place.parent.mkdir(parents=True, exist_ok=True)
    write_text(place, json.dumps(values, indent=2) + "\n")


COMMANDS = {"run": configured(Editing, run), "table": configured(Editing, table)}
