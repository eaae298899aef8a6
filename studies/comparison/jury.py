"""Draws what the comparison's networks draw, tunes how, and judges it: all by one extractor."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch._inductor import config as inductor

from nextscale.checkpoints import checkpoint
from nextscale.config.model import SamplingConfig
from nextscale.config.seeds import all_seeds_from
from nextscale.console.progress import progress
from nextscale.cost.flops import parameters
from nextscale.evaluation.chunks import Chunks
from nextscale.evaluation.drawing import make_chunk
from nextscale.evaluation.features import features_of, gathered
from nextscale.evaluation.metrics import Features, compare
from nextscale.evaluation.sets import ImageSet, open_raw
from nextscale.generation.batches import Draw, Draws, Judge, drawing_of
from nextscale.judges.classifiers import load_judge
from nextscale.judges.extractors import Extractor, load_extractor
from nextscale.machine.devices import best_device
from nextscale.machine.instructions import can_compile, made_for
from studies.comparison.contenders import CFG, TOP_K, Row
from studies.comparison.trainings import Judging, fingerprint
from studies.diffusion.denoising import sample
from studies.diffusion.dit import Diffusion, load_diffusion

CHUNK = 250
TUNING_SEED = 99
COLUMNS = ("fid", "is", "precision", "recall")


@dataclass(frozen=True)
class Contender:
    """A trained network that draws.

    Attributes:
        draw: with its options.
        classes: number of classes.
        parameters: of the network that is sampled from, without the tokenizer.
        steps: sequential evaluations of the network that an image takes.
    """

    draw: Draw
    classes: int
    parameters: int
    steps: int


@lru_cache(maxsize=1)  # a row is judged many times, and compiling takes as long as 500 images
def compiled_diffusion(place: Path) -> Diffusion:
    """A diffusion model for thousands of images: compiled where that is possible."""
    network = load_diffusion(place).to(best_device())
    lower(network.transformer)
    if can_compile():
        network.transformer.compile(dynamic=False)
    return network


def drawing_precision() -> str:
    """In what transformers multiply when thousands of images are judged."""
    return "bf16" if made_for("bfloat16", best_device()) else "no"


def lower(transformer: nn.Module) -> None:
    """Lets a transformer multiply in bfloat16 on a device made for it, in half the time."""
    enabled = drawing_precision() == "bf16"
    lowered = torch.autocast(best_device().type, torch.bfloat16, enabled=enabled)
    transformer.forward = lowered(transformer.forward)


def open_contender(
    row: Row, place: Path, options: dict[str, Any], hurried: bool = False
) -> Contender:
    """Loads a row's network from a checkpoint.

    Args:
        hurried: for thousands of images, which are the same but for rounding: in
            `drawing_precision`, diffusion compiled.
    """
    if row.sampler:
        network = (compiled_diffusion if hurried else load_diffusion)(place).to(best_device())

        def draw(labels: Tensor, seeds: Sequence[int] | None) -> list[Tensor]:
            assert seeds is not None
            with inductor.patch(freezing=hurried):  # weights as constants, in the processor's order
                images = sample(
                    network, labels, seeds, steps=row.steps, sampler=row.sampler, **options
                )
            return [images]

        weights = parameters(network.transformer)
        return Contender(draw, network.config.classes, weights, row.steps)
    pipe = checkpoint.load(place).to(best_device())
    if hurried:
        lower(pipe.model.transformer)
    # Guidance that grows with the scales means nothing over tokens in raster order.
    growth = "linear" if pipe.model.order.averages else "constant"
    sampling = SamplingConfig(**{"guidance": growth, **options})
    draw = drawing_of(pipe.model, pipe.tokenizer, sampling)
    return Contender(draw, pipe.model.config.classes, parameters(pipe.model), pipe.model.steps)


def judge_of(row: Row, place: Path, classifier: str) -> Judge | None:
    """What chooses among a row's images, drawn from a checkpoint; None if all are kept."""
    if row.keep == 1:
        return None
    return load_judge(classifier, checkpoint.load(place).to(best_device()))


class Jury:
    """Judges contenders by one extractor, against test images, or training ones while tuning."""

    def __init__(self, comparison: Judging) -> None:
        self.comparison = comparison
        self.state = PartialState(cpu=not torch.accelerator.is_available())
        self.extractor: Extractor = load_extractor(comparison.extractor)
        self.test = self.real("fashion-mnist:test")
        self.training = self.real("fashion-mnist:train")

    def real(self, split: str) -> Features:
        """Features of 10 000 real images."""
        images = ImageSet(open_raw(split), split, self.extractor.channels, limit=10000)
        return features_of(images, self.extractor, self.state)

    def judge(
        self, row: Row, place: Path, options: dict[str, Any], count: int, seed: int, real: Features
    ) -> dict[str, float]:
        """Figures of images that a row draws with these options."""
        contender = open_contender(row, place, options, hurried=True)
        labels = torch.arange(count) % contender.classes
        judge = judge_of(row, place, self.comparison.extractor)
        draws = Draws(labels, all_seeds_from(seed * 10**6), row.keep, judge)
        told: list[Any] = [fingerprint(place), drawing_precision(), self.extractor.identity]
        told += [row.sampler, row.steps, row.keep, options, count, seed]
        name = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
        folder = Path(self.comparison.work) / "drawn" / name
        settings = {"drawn": json.dumps(told)}
        chunks = Chunks(folder, len(draws.given), CHUNK, settings, self.state)
        with progress(f"drawing, {row.title}", len(draws.given)) as advance:
            chunks.fill(
                lambda part: make_chunk(contender.draw, draws, part, self.extractor), advance
            )
        scores = chunks.read("scores").tolist() if judge else []
        chosen = np.array(draws.chosen(scores))
        found = compare(gathered(chunks, self.extractor.identity, chosen), real, COLUMNS)
        right = chunks.read("logits")[chosen].argmax(1) == labels.numpy()
        return {**found, "class_accuracy": float(right.mean())}

    def judge_options(self, row: Row, place: Path, options: dict[str, Any]) -> dict[str, float]:
        """Figures that options are tuned by: of few images, against training ones."""
        count = self.comparison.tuning_count
        return self.judge(row, place, options, count, TUNING_SEED, self.training)

    def tune(self, row: Row, place: Path) -> dict[str, Any]:
        """The options of lowest FID against training images, one after the other."""
        options, tried = {}, []
        for name in row.tuned:
            found = {}
            for value in {"top_k": TOP_K, "cfg": CFG}[name]:
                given = {**options, name: value}
                found[value] = self.judge_options(row, place, given)["fid"]
                tried.append({**given, "fid": found[value]})
            options[name] = min(found, key=found.__getitem__)
        return {"options": options, "tried": tried}
