"""What all kinds of evaluation share: the reference, who sees it, and the bounds of its figures."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from nextscale.config.building import shaping
from nextscale.config.evaluation import METRICS, EvaluationConfig
from nextscale.data.layout import TEST, TRAIN, VALIDATION, entries_of, split_of
from nextscale.errors import UsageError
from nextscale.evaluation.chunks import Chunks
from nextscale.evaluation.drawing import reconstruct
from nextscale.evaluation.features import (
    CHUNK,
    Advance,
    cache,
    features_of,
    gathered,
    read_statistics,
    write_statistics,
)
from nextscale.evaluation.metrics import (
    SERVED_BY_STATISTICS,
    Features,
    Statistics,
    check_counts,
    compare,
    frechet_distance,
)
from nextscale.evaluation.sets import FolderImages, ImageSet, is_array, open_raw
from nextscale.judges.extractors import Extractor
from nextscale.machine.memory import check_memory
from nextscale.machine.peaks import processor
from nextscale.pipeline import Pipeline
from nextscale.scales import Scale, describe
from nextscale.storage.arrays import read_npz
from nextscale.storage.weights import HASH_SHOWN, hash_weights, identify

Report = dict[str, Any]
Show = Callable[[str, int], AbstractContextManager[Advance]]  # what is done, on how many images
Reference = ImageSet | Features | Statistics

TRAINING_SPLIT = {
    "fashion-mnist": "fashion-mnist:train",
    "fashion-mnist:test": "fashion-mnist:train",
}


def splits_of(reference: str) -> tuple[str, str]:
    """The reference that is meant, and its training images; empty where they are not known.

    Of a folder with `train/` and `val/` (or `test/`) the reference is `val/`. A folder of that name
    beside `train/` is the reference itself.
    """
    path = Path(reference)
    if reference in TRAINING_SPLIT or not reference or not path.is_dir():
        return reference, TRAINING_SPLIT.get(reference, "")
    is_split = split_of(path.absolute().name) in (VALIDATION, TEST)
    root = path.absolute().parent if is_split else path
    below = {split_of(name): name for name in reversed(entries_of(root)[0])}
    held_out = below.get(VALIDATION) or below.get(TEST)
    if TRAIN not in below or held_out is None:
        return reference, ""
    training = str((path.parent if is_split else path) / below[TRAIN])
    return reference if is_split else str(path / held_out), training


class Evaluation:
    """What all kinds of evaluation share: reference, extractor, processes.

    Args:
        config: of the evaluation; its reference is named.
        extractor: that sees all images.
        state: accelerate's processes.
        show: opens a progress bar.

    Raises:
        UsageError: if the reference cannot be had, or is another extractor's.
    """

    def __init__(
        self, config: EvaluationConfig, extractor: Extractor, state: PartialState, show: Show
    ) -> None:
        held_out, self.training = splits_of(config.reference)
        self.notes: list[str] = []
        if held_out != config.reference:
            self.notes.append(f"the reference is {held_out}")
        self.config = config = replace(config, reference=held_out)
        self.extractor, self.state, self.show = extractor, state, show
        self.metrics = config.metrics  # without those that the reference cannot serve
        self.statistics: Statistics | None = None  # of more real images than the reference has
        self.reference = self.open_reference()

    def open_reference(self) -> Reference:
        """Real images, or what was stored of them."""
        path = Path(self.config.reference)
        stored = read_statistics(path) if is_array(path) else None
        if stored is None:
            return self.open_images(self.config.reference)
        if stored.extractor not in ("", self.extractor.identity):
            raise UsageError(
                f"{path} was made by the extractor {stored.extractor}; this one is "
                f"{self.extractor.identity}; give the extractor of the reference"
            )
        if isinstance(stored, Features):
            return stored
        if "arr_0" in read_npz(path):
            self.statistics = stored
            return self.open_images(self.config.reference)
        needy = [metric for metric in self.metrics if metric not in SERVED_BY_STATISTICS]
        self.metrics = tuple(metric for metric in self.metrics if metric in SERVED_BY_STATISTICS)
        told = f"{path} holds mean and covariance alone, and {', '.join(needy)} need images"
        if not self.metrics:
            raise UsageError(f"{told}; give --metrics {' '.join(SERVED_BY_STATISTICS)}")
        self.notes += [f"{told}; they are left out"] if needy else []
        return stored

    def open_images(
        self, name: str, limit: int = 0, channels: int = 0, size: Scale | None = None
    ) -> ImageSet:
        """Finished images, by default with the channels that the extractor takes."""
        if size is None and self.config.size:
            size = (self.config.size, self.config.size)
        raw = open_raw(name, self.config.root)
        if isinstance(raw, FolderImages) and raw.empty:
            self.note(f"no images in {', '.join(raw.empty)}")
        if isinstance(raw, FolderImages) and limit:
            raw.thin_to(limit)
        return ImageSet(raw, name, channels or self.extractor.channels, size, limit)

    def note(self, line: str) -> None:
        """Puts a line into the report, once."""
        if line not in self.notes:
            self.notes.append(line)

    def note_colours(self, what: str, grey: bool) -> None:
        """Notes if what is judged is grey and the reference is not, or the other way round."""
        if isinstance(self.reference, ImageSet) and self.reference.grey() != grey:
            kinds = ("grey", "in colour") if grey else ("in colour", "grey")
            self.note(f"{what} are {kinds[0]}, the reference images {kinds[1]}")

    def features(self, images: ImageSet, what: str) -> Features:
        """Features of finished images, cached."""
        with self.show(what, len(images)) as advance:
            return features_of(images, self.extractor, self.state, advance)

    def seen_reference(self) -> Features | Statistics:
        """The reference as figures take it."""
        if isinstance(self.reference, ImageSet):
            self.check_count(len(self.reference), "reference images")
            return self.features(self.reference, "reference")
        return self.reference

    def check_count(self, count: int, what: str = "images") -> None:
        """Raises UsageError if this number of images is too small, before any is made.

        KID, which needs most, is left out with a note unless `metrics` were chosen.
        """
        subset = self.config.kid_subset
        if "kid" in self.metrics and self.config.metrics == METRICS and count < subset:
            self.metrics = tuple(metric for metric in self.metrics if metric != "kid")
            self.notes.append(f"KID needs {subset:,} {what} (--kid-subset) and is left out")
        check_counts(count, what, self.metrics, subset)

    def check_features(self, count: int, reference: Features | Statistics) -> None:
        """Raises UsageError if this machine's memory cannot hold features of `count` images."""
        known = reference.values if isinstance(reference, Features) else reference.mean
        needed = 2 * count * known.shape[-1] * 4  # float32, by chunks and joined
        check_memory(needed, f"the features of {count:,} images", "give a smaller --count")

    def compare(self, images: Features, reference: Features | Statistics) -> dict[str, Any]:
        """Figures of images."""
        config = self.config
        found: dict[str, Any] = compare(images, reference, self.metrics, config.kid_subset)
        if self.statistics is not None and "fid" in found:
            found["fid"] = frechet_distance(images, self.statistics)
        found["images"] = len(images)
        if isinstance(reference, Features):
            found["reference_images"] = len(reference)
        if config.save_statistics and self.state.is_main_process:
            write_statistics(images, Path(config.save_statistics))
        return found

    def bounds(
        self, count: int, tokenizer: Pipeline | None, reference: Features | Statistics
    ) -> dict[str, Any]:
        """FID of as many real training images as are judged, and of reconstructions.

        Fewer images have a larger FID, whatever drew them. Of a folder the training images are
        taken at even distances, so that each class has its share.
        """
        found: dict[str, Any] = {}
        wanted = self.config.bounds and "fid" in self.metrics and self.training
        if not wanted or not isinstance(self.reference, ImageSet):
            return found
        training = self.open_images(self.training, count, size=self.reference.size)
        if len(training) < count:
            self.notes.append(
                f"{self.training} has {len(training):,} images, fewer than are judged; the FID of "
                "real training images is larger by that"
            )
        check_counts(len(training), "training images", ("fid",), self.config.kid_subset)
        features = self.features(training, "training images")
        found["floor_fid"] = compare(features, reference, ("fid",))["fid"]
        if tokenizer is not None and self.reference.size == tokenizer.tokenizer.config.image_size:
            what = "reconstructing for the tokenizer's rFID, which --no-bounds leaves out"
            chunks = self.reconstructions(tokenizer, None, what)
            seen = gathered(chunks, self.extractor.identity)
            found["tokenizer_rfid"] = compare(seen, reference, ("fid",))["fid"]
        return found

    def reconstructions(
        self, pipe: Pipeline, perceptual: torch.nn.Module | None, what: str = "reconstructing"
    ) -> Chunks:
        """Figures of `drawing.reconstruct` on the reference's images, cached.

        Args:
            what: is shown meanwhile.
        """
        images, architecture = self.reference, pipe.tokenizer.config
        if not isinstance(images, ImageSet):
            raise UsageError("reconstructions need images; the reference is stored statistics")
        if images.size != architecture.image_size:
            raise UsageError(
                f"the reference has images of {describe((images.size,))} pixels, the tokenizer "
                f"takes {describe((architecture.image_size,))}; give --size"
            )
        if images.channels != architecture.image_channels:
            name = self.config.reference
            images = self.open_images(name, channels=architecture.image_channels)
        settings = {
            "tokenizer": hash_weights(pipe.tokenizer.state_dict()),
            "architecture": shaping(architecture),  # z-norm and φ's ratio are in no weight
            "images": images.identity,
            "extractor": self.extractor.identity,
            "perceptual": "" if perceptual is None else identify("perceptual", perceptual),
        }
        chunks = Chunks(cache(settings), len(images), CHUNK, settings, self.state)
        with self.show(what, len(images)) as advance:
            chunks.fill(
                lambda part: reconstruct(
                    pipe, images.load(part.start, part.stop), self.extractor, perceptual
                ),
                advance,
            )
        return chunks

    def report(self, figures: dict[str, Any], **shaped: Any) -> Report:
        """Figures and all that shaped them, as JSON takes it."""
        config, reference = self.config, self.reference
        if isinstance(reference, ImageSet):
            identity = reference.identity
        else:
            digest = hashlib.sha256(Path(config.reference).read_bytes()).hexdigest()
            identity = f"stored statistics {digest[:HASH_SHOWN]}"
        return {
            "figures": figures,
            **shaped,
            "reference": {"name": config.reference, "identity": identity, "size": config.size},
            "extractor": self.extractor.identity,
            "extractor_name": self.extractor.title,
            "note": "; ".join(self.notes),
            "kid_subset": config.kid_subset,
            "processes": self.state.num_processes,
            "processor": processor(),
            "date": datetime.now(UTC).date().isoformat(),
            "versions": {name: metadata.version(name) for name in ("nextscale", "torch")},
        }
