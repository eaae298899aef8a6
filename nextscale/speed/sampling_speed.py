"""How long drawing takes, transformer and decoder apart, beside what the machine can multiply."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nextscale.acceleration import can_quantize
from nextscale.checkpoints import checkpoint
from nextscale.config.speed import MODES, SampleConfig
from nextscale.cost.flops import decoder_flops, drawing_flops, parameters
from nextscale.cost.room import check_room
from nextscale.errors import UsageError
from nextscale.generation.generate import generate, last_state, strengths_of
from nextscale.machine.heap import keep_freed_memory
from nextscale.machine.instructions import can_compile, drawing_precision, made_for
from nextscale.machine.peaks import peak_alone
from nextscale.models.model import build_model
from nextscale.pipeline import Pipeline
from nextscale.speed.timing import Parts, in_turn, machine, peak_of, stopwatch
from nextscale.tokenizer.tokenizer import Tokenizer


def open_pipeline(config: SampleConfig, device: torch.device, mode: str) -> Pipeline:
    """The model, or one of its shape with fresh weights, in a mode of drawing.

    Compiled and int8 modes compute as `--compile` and `--compile --precision int8` do.
    """
    keep_freed_memory()
    dtype = getattr(torch, precision_of(mode, device))
    if config.random_weights:
        pipe = random_pipeline(config.model, device, dtype)
    else:
        pipe = checkpoint.load(config.model, device=device, dtype=dtype)
    if mode == "int8":
        pipe.quantize()
    return pipe if mode == "exact" else pipe.compile()


def precision_of(mode: str, device: torch.device) -> str:
    """In which precision a mode holds the weights."""
    return drawing_precision(mode == "compiled", device)


def random_pipeline(name: str, device: torch.device, dtype: torch.dtype) -> Pipeline:
    """A pipeline of a model's shape with fresh weights."""
    whole = checkpoint.config_of(name)
    shape = whole.model
    if shape is None:
        raise UsageError(f"{name} is a tokenizer alone; drawing needs a transformer too")
    check_room(lambda: build_model(shape, whole.tokenizer), name, copies=1)
    torch.manual_seed(0)
    with device:
        tokenizer, model = Tokenizer(whole.tokenizer), build_model(shape, whole.tokenizer)
    return Pipeline(tokenizer.to(dtype), model.to(dtype), whole)


def labels_of(pipe: Pipeline, batch: int) -> Tensor:
    """All classes in turn."""
    return (torch.arange(batch) % max(1, pipe.model.config.classes)).to(pipe.device)


def drawing(pipe: Pipeline, batch: int) -> Callable[[], Parts]:
    """Draws a batch as the model's configuration says, and returns the seconds of its parts."""
    labels = labels_of(pipe, batch)
    sampling = pipe.config.sampling

    def run() -> Parts:
        begin = stopwatch(pipe.device)
        state = last_state(
            generate(pipe.model, pipe.tokenizer, labels, sampling, seeds=range(batch))
        )
        between = stopwatch(pipe.device)
        state.image()
        end = stopwatch(pipe.device)
        return {"seconds": end - begin, "transformer": between - begin, "decoder": end - between}

    return run


def agreement(exact: Pipeline, other: Pipeline, batch: int) -> float:
    """Share of tokens that another mode draws as the exact one, given the latter's coarser maps.

    All are drawn: averaged codes are no tokens, so they cannot be replayed.
    """
    labels = labels_of(exact, batch)
    sampling = replace(exact.config.sampling, smooth=False, mean_scales=0)
    drawn = [
        state.tokens
        for state in generate(exact.model, exact.tokenizer, labels, sampling, seeds=range(batch))
    ]

    def forced(k: int, vectors: Tensor) -> Tensor:
        return other.tokenizer.quantizer.lookup(drawn[k]).to(vectors.dtype)

    states = generate(
        other.model, other.tokenizer, labels, sampling, seeds=range(batch), constrain=forced
    )
    same = [(state.tokens == tokens).flatten() for state, tokens in zip(states, drawn, strict=True)]
    return torch.cat(same).double().mean().item()


def draw_once(device: str, config: SampleConfig, mode: str, batch: int) -> None:
    """Opens a model and draws a batch."""
    drawing(open_pipeline(config, torch.device(device), mode), batch)()


def measure(
    config: SampleConfig, device: torch.device, advance: Callable[[int], None]
) -> dict[str, Any]:
    """The report; its `rows` hold a mode and batch each.

    Args:
        advance: receives 1 after each run, of `runs(config)` runs.
    """
    each = [(mode, batch) for mode in modes(config, device) for batch in config.batch]
    peaks = {}
    for mode, batch in each if config.memory else ():  # before this process holds a model too
        peaks[mode, batch] = peak_alone(draw_once, device, config, mode, batch)
        advance(1)
    pipes = {mode: open_pipeline(config, device, mode) for mode in modes(config, device)}
    pipe = next(iter(pipes.values()))
    measured = {(mode, batch): drawing(pipes[mode], batch) for mode, batch in each}
    found = in_turn(measured, config.repeats, advance)
    about = machine(device)
    options = pipe.config.sampling
    guided = any(strengths_of(pipe.model, options))
    flops = drawing_flops(pipe.config, guided)
    rows = []
    for mode, batch in each:
        took = found[mode, batch]
        seconds = took["seconds"].median / batch
        row = {
            "mode": mode,
            "batch": batch,
            "seconds_per_image": seconds,
            "transformer_seconds": took["transformer"].median / batch,
            "decoder_seconds": took["decoder"].median / batch,
            "spread": took["seconds"].spread,
            "share_of_peak": flops / seconds / peak_of(about, precision_of(mode, device)),
        }
        comparable = "exact" in pipes and pipe.model.order.averages and not config.random_weights
        if mode != "exact" and comparable:
            row["token_agreement"] = agreement(pipes["exact"], pipes[mode], batch)
        rows.append(row | peaks.get((mode, batch), {}))
    return {
        "model": config.model,
        "random_weights": config.random_weights,
        "parameters": parameters(pipe.model) + parameters(pipe.tokenizer),
        "sampling": vars(pipe.config.sampling),
        "flops_per_image": flops,
        "decoder_flops": decoder_flops(pipe.config.tokenizer),
        "rows": rows,
        **about,
    }


def modes(config: SampleConfig, device: torch.device) -> tuple[str, ...]:
    """Those that are asked for, or all that device and installation are made for."""
    possible = {
        "exact": True,
        "compiled": can_compile(),
        "int8": can_compile() and can_quantize() and made_for("int8", device),
    }
    return config.modes or tuple(mode for mode in MODES if possible[mode])


def runs(config: SampleConfig, device: torch.device) -> int:
    """Number of runs of `measure`."""
    return len(modes(config, device)) * len(config.batch) * (config.repeats + 1 + config.memory)
