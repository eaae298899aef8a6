"""Judges a model, a tokenizer or finished images; gives the figures and all that shaped them."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nextscale.config.building import shaping
from nextscale.config.model import SamplingConfig
from nextscale.config.seeds import all_seeds_from
from nextscale.cost.flops import parameters
from nextscale.cost.room import check_drawing_room
from nextscale.errors import UsageError
from nextscale.evaluation.chunks import Chunks
from nextscale.evaluation.drawing import make_chunk, write_npz
from nextscale.evaluation.evaluation import Evaluation, Report
from nextscale.evaluation.features import check_size, gathered
from nextscale.generation.batches import Draws, drawing_of
from nextscale.generation.generate import strengths_of
from nextscale.judges.classifiers import classifier_names, is_classifier, judge_identity, load_judge
from nextscale.judges.perceptual import PerceptualUnavailable, perceptual_distance
from nextscale.pipeline import Pipeline
from nextscale.storage.weights import hash_weights, identify


def judge_model(
    run: Evaluation, name: str, pipe: Pipeline, made: dict[str, Any], sampling: SamplingConfig
) -> Report:
    """Draws images of all classes in turn and judges them.

    Args:
        run: reference, extractor, processes.
        name: of the model, for the report.
        pipe: the model.
        made: hashes of its weights, and how it computes, for the report.
        sampling: how they are sampled.

    Raises:
        UsageError: if there are too few images, or extractor, classifier and model do not fit.
    """
    config, extractor = run.config, run.extractor
    classes = pipe.model.config.classes
    if config.count < classes:
        raise UsageError(
            f"--count {config.count} leaves some of the {classes} classes without a sample; give "
            f"at least {classes}"
        )
    if more := config.count % max(1, classes):
        told = f"the first {more} have one image more than the others"
        run.notes.append(f"--count {config.count} is no multiple of {classes} classes: {told}")
    run.check_count(config.count)
    check_size(extractor, pipe.tokenizer.config.image_size)
    run.note_colours("the model's images", pipe.tokenizer.config.image_channels == 1)
    classifier = config.classifier or (config.extractor if is_classifier(config.extractor) else "")
    if config.keep < 1 and not classifier:
        raise UsageError("--keep needs a classifier; give --classifier")
    judge = load_judge(classifier, pipe) if config.keep < 1 else None
    guided = any(strengths_of(pipe.model, sampling))
    at_once = min(config.batch, config.count)
    check_drawing_room(pipe.model, at_once, guided)
    reference = run.seen_reference()  # its faults are reported before hours of sampling
    bounds = run.bounds(config.count, pipe, reference)
    turn = pipe.model.condition.all()
    wanted = turn[[i % len(turn) for i in range(config.count)]]
    draws = Draws(wanted, all_seeds_from(config.seed), config.keep, judge)
    drawn = len(draws.given)
    run.check_features(drawn, reference)
    settings = {
        "model": name,
        **made,
        "architecture": {
            "tokenizer": shaping(pipe.tokenizer.config),
            **shaping(pipe.model.config),
        },
        "sampling": vars(sampling),
        "wanted": config.count,
        "seed": config.seed,
        "keep": config.keep,
        "classifier": judge_identity(classifier) if judge else "",
        "extractor": extractor.identity,
        "device": pipe.device.type,
        "threads": torch.get_num_threads(),  # on a CPU, rounding depends on it
    }
    chunks = Chunks(Path(config.out), drawn, config.batch, settings, run.state)
    draw = drawing_of(pipe.model, pipe.tokenizer, sampling)
    with run.show("sampling", drawn) as advance:
        chunks.fill(lambda part: make_chunk(draw, draws, part, extractor), advance)
    scores = chunks.read("scores").tolist() if judge else []
    chosen = np.array(draws.chosen(scores))
    figures = run.compare(gathered(chunks, extractor.identity, chosen), reference)
    if classes and extractor.labels == pipe.config.labels:
        right = chunks.read("logits")[chosen].argmax(1) == wanted.numpy()
        figures["class_accuracy"] = float(right.mean())
    figures |= {
        "steps": pipe.model.steps,
        "seconds_per_image": float(chunks.read("seconds").sum() / len(chosen)),
        "parameters": parameters(pipe.model),
    }
    figures |= bounds
    if config.npz and run.state.is_main_process:
        write_npz(chunks, chosen, Path(config.npz))
    return run.report(figures, **settings)


def judge_tokenizer(run: Evaluation, name: str, pipe: Pipeline) -> Report:
    """Reconstructs the reference's images and judges them: rFID, PSNR, SSIM, LPIPS.

    LPIPS is left out, and the report says so, where its weights cannot be had and nobody asked.

    Raises:
        UsageError: if the perceptual network that was asked for cannot be had.
    """
    figures: dict[str, Any] = {}
    run.note_colours("the tokenizer's images", pipe.tokenizer.config.image_channels == 1)
    asked, perceptual = run.config.perceptual, None
    network = "lpips" if asked == "auto" else asked
    try:
        perceptual = perceptual_distance(network).to(pipe.device)
    except PerceptualUnavailable as error:
        if asked != "auto":
            raise UsageError(
                f"{error}; give another --perceptual ({', '.join(classifier_names())}, a directory "
                "of `nextscale train classifier`), or leave it out"
            ) from error
        run.notes.append(f"{error}; no perceptual distance is measured")
    reference = run.seen_reference()
    chunks = run.reconstructions(pipe, perceptual)
    seen = gathered(chunks, run.extractor.identity)
    compared = run.compare(seen, reference)
    figures |= {("rfid" if key == "fid" else key): value for key, value in compared.items()}
    mse = chunks.read("mse")
    figures["psnr"] = float((10 * torch.log10(4 / torch.from_numpy(mse).clamp(min=1e-12))).mean())
    figures["psnr_of_mean_error"] = 10 * math.log10(4 / max(mse.mean(), 1e-12))
    figures["ssim"] = float(chunks.read("ssim").mean())
    if perceptual is not None:
        distance = "lpips" if network == "lpips" else "perceptual_distance"
        figures[distance] = float(chunks.read("perceptual").mean())
    figures |= {"parameters": parameters(pipe.tokenizer), **run.bounds(len(seen), None, reference)}
    return run.report(
        figures,
        model=name,
        tokenizer=hash_weights(pipe.tokenizer.state_dict()),
        architecture=asdict(pipe.tokenizer.config),
        perceptual="" if perceptual is None else identify(network, perceptual),
    )


def judge_images(run: Evaluation, name: str) -> Report:
    """Judges finished images of a folder, an array or a split."""
    images = run.open_images(name)
    run.check_count(len(images))
    run.note_colours("the images", images.grey())
    reference = run.seen_reference()
    seen = run.features(images, "images")
    figures = run.compare(seen, reference) | run.bounds(len(seen), None, reference)
    return run.report(figures, images={"name": name, "identity": images.identity})
