"""What a task will take, before it is started: it runs on tensors that have shapes and no numbers.

torch's fake tensors and memory tracker follow every allocation of a step. On a CPU, what Python and
its libraries hold is added, as this process does; scratch memory within operators is not in it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from nextscale import checkpoint
from nextscale.benchmark.training import Kind, TrainingStep, inputs, objective
from nextscale.complexity import count_flops, drawing_flops, measure_peak, parameters, peak_memory
from nextscale.config.benchmark import EstimateConfig
from nextscale.config.model import ModelConfig
from nextscale.errors import UsageError
from nextscale.models.build import build_model
from nextscale.models.var import VAR
from nextscale.sampling import (
    State,
    keep_top_k,
    keep_top_p,
    last_state,
    scale_by_scale,
    strengths_of,
)
from nextscale.tokenizer.tokenizer import Tokenizer


def estimate(
    config: EstimateConfig,
    device: torch.device,
    advance: Callable[[int], None],
    whole: ModelConfig | None = None,
) -> dict[str, Any]:
    """The report; its `rows` hold a task, batch and precision each.

    Args:
        advance: is told of every row, of `runs(config)` ones.
        whole: the networks; those of the configuration's model unless given.

    Raises:
        UsageError: if the model has no transformer, or a next-token one, and a task needs it.
    """
    whole = whole or checkpoint.config_of(config.model)
    rate = config.rate * 1e9 or measure_peak(device)
    held, rows = peak_memory(device), []
    for task in config.tasks:
        for precision in config.precision:
            for batch in config.batch:
                if task == "sample":
                    found = sampling_needs(whole, precision, batch)
                else:
                    recompute = config.activation_checkpointing if task == "transformer" else 0.0
                    found = training_needs(whole, Kind(task, precision, recompute), batch)
                row = {"task": task, "precision": precision, "batch": batch, **found}
                row["memory_bytes"] = held + row["tensor_bytes"]
                row["seconds_per_image"] = row["flops_per_image"] / rate
                rows.append(row)
                advance(1)
    return {"model": config.model, "rate_gflops": rate / 1e9, "rows": rows}


def runs(config: EstimateConfig) -> int:
    """How often `estimate` tells that it went on."""
    return len(config.tasks) * len(config.precision) * len(config.batch)


def training_needs(whole: ModelConfig, kind: Kind, batch: int) -> dict[str, Any]:
    """Parameters, arithmetic and memory of training a stage, weights and optimizer included."""
    with torch.device("meta"):
        network = objective(whole, kind).train().requires_grad_(True)  # the tracker hooks all
    mode = FakeTensorMode()
    give_weights(network, torch.float32, mode)
    with mode:
        step = TrainingStep(network, inputs(whole, kind, batch), kind)
        flops = count_flops(lambda: step.loss().backward())
        step.optimizer.zero_grad(set_to_none=True)
        with tracked(network, step.optimizer) as peak:
            step.run()
            peak.reset_mod_stats()
            step.run()  # with the optimizer's state
    return {
        "parameters": parameters(network),
        "flops_per_image": flops / batch,
        "tensor_bytes": total(peak),
    }


def sampling_needs(whole: ModelConfig, precision: str, batch: int) -> dict[str, Any]:
    """Parameters, arithmetic and memory of drawing, weights included."""
    if whole.model is None:
        raise UsageError("this is a tokenizer alone; it cannot draw")
    with torch.device("meta"):
        tokenizer = Tokenizer(whole.tokenizer).eval()
        model = build_model(whole.model, whole.tokenizer).eval()
    if not isinstance(model, VAR):
        raise UsageError("drawing of next-token models is not estimated")
    options = whole.sampling
    strengths = strengths_of(model, options.cfg, options.guidance)
    mode, both = FakeTensorMode(), nn.ModuleList([tokenizer, model])
    give_weights(both, getattr(torch, precision), mode)
    with mode, torch.inference_mode(), tracked(both) as peak:
        states = scale_by_scale(
            model,
            tokenizer,
            torch.zeros(batch, dtype=torch.long),
            strengths,
            lambda logits: keep_top_p(keep_top_k(logits, options.top_k), options.top_p),
            smooth=False,
            mean_scales=0,
            generators=None,
            constrain=None,
        )
        maps = last_state(forgetting(peak, states)).accumulated
        images = []
        for part in tokenizer.portions(maps):
            peak.reset_mod_stats()
            images.append(tokenizer.decode_accumulated(part))
    return {
        "parameters": parameters(both),
        "flops_per_image": float(drawing_flops(whole, guided=any(strengths))),
        "tensor_bytes": total(peak),
    }


def forgetting(tracker: MemTracker, states: Iterator[State]) -> Iterator[State]:
    """The states; before the next one, the tracker forgets which modules have been called."""
    for state in states:
        tracker.reset_mod_stats()
        yield state


def give_weights(network: nn.Module, dtype: torch.dtype, mode: FakeTensorMode) -> None:
    """Replaces weights without memory by fake ones, of the device and type that are computed in."""
    with torch.device("cpu"):
        types = {
            name: (value.shape, dtype if value.is_floating_point() else value.dtype)
            for name, value in network.state_dict().items()
        }
        with mode:
            state = {name: torch.empty(shape, dtype=kind) for name, (shape, kind) in types.items()}
    network.load_state_dict(state, assign=True)


@contextmanager
def tracked(*owners: Any) -> Iterator[MemTracker]:
    """Follows memory from what the owners (networks, an optimizer) hold already."""
    tracker = MemTracker()
    tracker.track_external(*owners)
    with tracker:
        yield tracker


def total(tracker: MemTracker) -> int:
    """Bytes at the peak."""
    return sum(parts["Total"] for parts in tracker.get_tracker_snapshot("peak").values())
