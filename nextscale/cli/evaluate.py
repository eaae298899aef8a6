"""`nextscale evaluate`: the figures of a model, a tokenizer or finished images."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from nextscale.cli.inference import (
    accelerate,
    add_acceleration_arguments,
    add_device_argument,
    add_sampling_arguments,
    given_sampling,
    load_model,
    precision_of,
)
from nextscale.config.evaluation import EvaluationConfig
from nextscale.console.messages import inform
from nextscale.console.options import Parser, add_config, add_dataclass, from_options
from nextscale.console.progress import progress
from nextscale.console.report import check_report, write_report
from nextscale.errors import UsageError

OF_DRAWING = ("count", "seed", "batch", "keep", "classifier", "out", "npz")  # alone
THEMES = {  # groups of the help
    "drawing": "count seed batch keep classifier out npz",
    "reconstructions": "reconstruct perceptual",
    "output": "bounds save_statistics json",
}
ACCELERATION = ("precision", "compile")
NAMES = {  # of figures, in the order and the words of the paper's tables
    "fid": "FID",
    "rfid": "rFID",
    "inception_score": "IS",
    "precision": "precision",
    "recall": "recall",
    "kid": "KID",
    "class_accuracy": "class accuracy",
    "psnr": "PSNR, dB",
    "psnr_of_mean_error": "PSNR of the mean error, dB",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "perceptual_distance": "perceptual distance",
    "floor_fid": "FID of real training images",
    "tokenizer_rfid": "rFID of the tokenizer",
    "images": "images",
    "reference_images": "reference images",
    "parameters": "parameters",
    "steps": "steps",
    "seconds_per_image": "seconds an image",
}
# Figures on the scale of the extractor, with which they are labelled.
BY_EXTRACTOR = (
    *("fid", "rfid", "inception_score", "precision", "recall", "kid"),
    *("floor_fid", "tokenizer_rfid"),
)


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_config(parser)
    what = "model to draw with (as `nextscale sample` takes it), or images: a folder, an .npz file"
    parser.add_argument("what", type=str, help=what + ", fashion-mnist:test or fashion-mnist:train")
    add_dataclass(parser, EvaluationConfig, themes=THEMES)
    add_device_argument(parser)
    add_sampling_arguments(parser)
    add_acceleration_arguments(parser)


def run(options: Namespace) -> int:
    """Judges what is named and writes its report."""
    config = from_options(EvaluationConfig, options)
    what = options.what
    places = [file for file in (config.json, config.npz, config.save_statistics) if file]
    for file in places:
        check_report(file, what, config.reference)
    if len({Path(file).resolve() for file in places}) < len(places):
        raise UsageError(f"two outputs have one name ({', '.join(places)}); give each its own")
    given, finished = given_sampling(options), are_images(what)
    import torch
    from accelerate import PartialState

    from nextscale.evaluation.evaluation import Evaluation
    from nextscale.evaluation.features import CHUNK
    from nextscale.evaluation.report import judge_images, judge_model, judge_tokenizer
    from nextscale.judges.extractors import load_extractor
    from nextscale.machine.devices import usable_device
    from nextscale.storage.weights import hash_weights

    state = PartialState(cpu=not torch.accelerator.is_available())
    device = str(state.device) if options.device == "auto" else str(usable_device(options.device))
    pipe = None if finished else load_model(what, device, precision_of(options))
    drawn = pipe is not None and pipe.maybe_model is not None and not config.reconstruct
    if not drawn:
        refuse_drawing(config, [*given, *(n for n in ACCELERATION if options[n])])
    if (drawn or finished) and config.perceptual != EvaluationConfig.perceptual:
        raise UsageError("nothing is reconstructed here; give --reconstruct or no --perceptual")
    if not config.reference:
        if pipe is None or pipe.config.data != "fashion-mnist":
            raise UsageError("there is nothing to compare with; give --reference, real images")
        config = replace(config, reference=pipe.config.data)
    extractor = load_extractor(config.extractor, device)

    def show(doing: str, images: int) -> AbstractContextManager[Any]:
        if not state.is_main_process:
            return nullcontext(lambda _: None)
        if not sys.stderr.isatty():  # where no bar is seen
            inform(f"{doing}: {images:,} images")
        return progress(doing, images)

    evaluation = Evaluation(config, extractor, state, show)
    places = [config.json] if config.json else []
    if pipe is None:
        report = judge_images(evaluation, what)
    elif drawn:
        sampling = pipe.sampling(given)
        made = {"tokenizer": hash_weights(pipe.tokenizer.state_dict())}
        made |= accelerate(pipe, options, CHUNK, sampling, prints=state.is_main_process)
        try:
            report = judge_model(evaluation, what, pipe, made, sampling)
        except KeyboardInterrupt:
            if state.is_main_process:
                inform("what was drawn is kept; the same command goes on from there")
            raise
        places.append(str(Path(config.out) / "report.json"))
    else:
        report = judge_tokenizer(evaluation, what, pipe)
    if state.is_main_process:
        conclude(report, places)
    return 0


def are_images(what: str) -> bool:
    """Whether this names finished images, not a model."""
    path = Path(what)
    folder = path.is_dir() and not (path / "config.json").is_file()
    return folder or path.suffix == ".npz" or ":" in what


def refuse_drawing(config: EvaluationConfig, given: Sequence[str]) -> None:
    """Raises UsageError at an option that acts on drawing.

    Args:
        given: further ones that stand on the line.
    """
    plain = EvaluationConfig()
    changed = [name for name in OF_DRAWING if getattr(config, name) != getattr(plain, name)]
    if names := [f"--{name.replace('_', '-')}" for name in (*changed, *given)]:
        raise UsageError(f"nothing is drawn here; leave out {', '.join(names)}")


def conclude(report: dict[str, Any], places: list[str]) -> None:
    """Writes the report to files and prints its figures."""
    for place in places:
        write_report(report, place)
    if report.get("note"):
        inform(report["note"])
    figures = report["figures"]
    seen_by = report["extractor_name"]
    shown = {
        f"{name} ({seen_by})" if key in BY_EXTRACTOR else name: figures[key]
        for key, name in NAMES.items()
        if key in figures
    }
    width = max(map(len, shown))
    for name, value in shown.items():
        print(f"{name:<{width}}  {f'{value:,}' if isinstance(value, int) else f'{value:.5g}'}")
