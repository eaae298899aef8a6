"""Predicts what sampling or a training step takes, without doing it at its real size.

A ledger follows the storages of two small batches through one pass and draws a line through them.
Small networks compute that pass, in less time than torch needs to import its fake tensors; larger
ones run it on fake tensors, which have shapes and no numbers. On a CPU, the memory that this
process holds is added; scratch memory within operators is not counted.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nextscale.checkpoints import checkpoint
from nextscale.config.model import ModelConfig
from nextscale.config.speed import PRECISIONS, EstimateConfig
from nextscale.cost.flops import (
    FlopCounter,
    parameters,
)
from nextscale.errors import UsageError
from nextscale.generation.generate import last_state, sample_steps
from nextscale.machine.instructions import made_for
from nextscale.machine.peaks import QUICK_PRODUCT, measure_peak, peak_memory
from nextscale.models.model import build_model
from nextscale.scales import length
from nextscale.speed.training_speed import Kind, inputs, loss_of, objective
from nextscale.tokenizer.tokenizer import Tokenizer

CPU = torch.device("cpu")
BATCHES = (2, 3)  # whose memory determines that of every batch; one image alone skips copies
SMALL_FLOPS = 12e9  # an image: a CPU core computes BATCHES in less than a second
SMALL_WEIGHTS = 30e6


def estimate(
    config: EstimateConfig,
    device: torch.device,
    advance: Callable[[int], None],
    whole: ModelConfig | None = None,
) -> dict[str, Any]:
    """Returns the report; its `rows` hold one task, precision and batch each.

    Args:
        advance: receives 1 after each row, of `runs(config, device)` rows.
        whole: the networks; those of the configuration's model unless given.

    Raises:
        UsageError: if the model has no transformer and a task needs it.
    """
    whole = whole or checkpoint.config_of(config.model)
    rate = config.rate * 1e9 or measure_peak(device, repeats=2, products=[QUICK_PRODUCT])
    held, rows = peak_memory(device), []
    for task in config.tasks:
        for precision in precisions(config, device):
            if task == "sample":
                needs = sampling_needs(whole, precision)
            else:
                recompute = config.activation_checkpointing if task == "transformer" else 0.0
                needs = training_needs(whole, Kind(task, precision, recompute))
            for batch in config.batch:
                row = {"task": task, "precision": precision, "batch": batch, **needs(batch)}
                row["memory_bytes"] = held + row["tensor_bytes"]
                row["seconds_per_image"] = row["flops_per_image"] / rate
                rows.append(row)
                advance(1)
    return {"model": config.model, "rate_gflops": rate / 1e9, "rows": rows}


def precisions(config: EstimateConfig, device: torch.device) -> tuple[str, ...]:
    """The precisions asked for, or those for which the device has instructions."""
    return config.precision or tuple(name for name in PRECISIONS if made_for(name, device))


def runs(config: EstimateConfig, device: torch.device) -> int:
    """Number of rows."""
    return len(config.tasks) * len(precisions(config, device)) * len(config.batch)


Needs = Callable[[int], dict[str, Any]]  # of a batch: parameters, FLOPs an image, bytes of tensors


def training_needs(whole: ModelConfig, kind: Kind) -> Needs:
    """Returns what training a stage takes, weights and AdamW's two running means included."""
    with torch.device("meta"):
        network = objective(whole, kind).train()
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    means = 2 * sum(weight.numel() * weight.element_size() for weight in trained)
    scales = whole.tokenizer.scales
    transformer = kind.stage == "transformer"  # most weights of a tokenizer see few pixels
    places = length(scales) if transformer else prod(whole.tokenizer.image_size) // 8
    ledgers = []
    with simulated(network, torch.float32, kind.precision, 3 * places):
        for batch in BATCHES:
            given = inputs(whole, kind, batch)
            with Ledger(network, *given) as ledger:
                loss_of(network, given, kind).backward()
            network.zero_grad(set_to_none=True)
            ledgers.append(ledger)
    return lambda batch: {
        "parameters": parameters(network),
        "flops_per_image": ledgers[-1].flops / BATCHES[-1],
        "tensor_bytes": means + peak(ledgers, batch),
    }


def sampling_needs(whole: ModelConfig, precision: str) -> Needs:
    """Returns what sampling takes, weights included."""
    if whole.model is None:
        raise UsageError("this is a tokenizer alone; it cannot draw")
    with torch.device("meta"):
        tokenizer = Tokenizer(whole.tokenizer).eval()
        model = build_model(whole.model, whole.tokenizer).eval()
    dtype = getattr(torch, precision)
    sampling = replace(whole.sampling, smooth=False, mean_scales=0)
    both, ledgers = nn.ModuleList([tokenizer, model]), []
    portion, places = 1, 2 * len(model.order.levels)
    with simulated(both, dtype, precision, places), torch.inference_mode():
        for batch in BATCHES:
            with Ledger(both) as ledger:
                given = model.condition.drop(torch.zeros(batch, dtype=torch.long))
                states = sample_steps(model, tokenizer, given, sampling)
                maps = last_state(states).accumulated
                portion = tokenizer.at_once(maps)
                size = (whole.tokenizer.image_channels, *whole.tokenizer.image_size)
                finished = torch.empty(batch, *size)
                ledger.decoding = True
                tokenizer.decoder(tokenizer.from_latent(maps.to(dtype)))
            del finished, maps, states
            ledgers.append(ledger)
    return lambda batch: {
        "parameters": parameters(both),
        "flops_per_image": ledgers[-1].flops / BATCHES[-1],
        "tensor_bytes": peak(ledgers, batch, min(batch, portion)),
    }


@contextmanager
def simulated(
    network: nn.Module, dtype: torch.dtype, precision: str, places: int
) -> Iterator[None]:
    """Gives weights to a network without memory, on which it then runs.

    Args:
        network: whose weights are on the meta device.
        dtype: of its weights.
        precision: that it computes in.
        places: of an image, which most weights serve; few let the weights be real, not fake.
    """
    weights = parameters(network)
    small = 2 * weights * places < SMALL_FLOPS and weights < SMALL_WEIGHTS
    real = small and made_for(precision, CPU)  # what a CPU emulates is slow
    types = {
        name: (value.shape, dtype if value.is_floating_point() else value.dtype)
        for name, value in network.state_dict().items()
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more would mostly wait for each other
    try:
        with torch.random.fork_rng(devices=()), nullcontext() if real else FakeTensorMode():
            state = {name: torch.zeros(shape, dtype=kind) for name, (shape, kind) in types.items()}
            network.load_state_dict(state, assign=True)
            del state
            yield
    finally:
        torch.set_num_threads(threads)


class Ledger(FlopCounter):
    """Follows which storages live while a batch is computed, and counts FLOPs.

    Args:
        network: whose weights exist before.
        given: tensors that exist before.

    Attributes:
        decoding: whether new storages belong to the images that are decoded at once.
        held: living bytes of the batch, and of the images decoded at once.
        moments: `held` after each new storage.
    """

    def __init__(self, network: nn.Module, *given: Any) -> None:
        super().__init__()
        self.decoding = False
        self.held = [0, 0]
        self.moments: list[tuple[int, int]] = []
        self.living: dict[int, weakref.ref[Any]] = {}
        for tensor in (*network.parameters(), *network.buffers(), *given):
            if isinstance(tensor, Tensor):
                self.follow(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = super().__torch_dispatch__(func, types, args, kwargs)
        for tensor in made if isinstance(made, list | tuple) else (made,):
            if isinstance(tensor, Tensor):
                self.follow(tensor)
        return made

    def follow(self, tensor: Tensor) -> None:
        """Counts a tensor's storage, unless it is counted already, for as long as it lives."""
        storage = tensor.untyped_storage()
        key, size, part = id(storage), storage.nbytes(), int(self.decoding)
        if key in self.living:
            return
        self.held[part] += size
        self.moments.append((self.held[0], self.held[1]))

        def forget(_: object) -> None:
            self.held[part] -= size
            del self.living[key]

        self.living[key] = weakref.ref(storage, forget)


def peak(ledgers: list[Ledger], batch: int, decoded: int = 0) -> int:
    """Largest number of bytes at a moment of a batch, on the lines through those of `BATCHES`.

    Args:
        ledgers: of `BATCHES`.
        batch: images.
        decoded: of them, decoded at once.
    """
    first, step = BATCHES[0], BATCHES[1] - BATCHES[0]

    def line(low: int, high: int, images: int) -> int:
        return low + (high - low) * (images - first) // step

    low, high = (ledger.moments for ledger in ledgers)
    return max(
        line(a, c, batch) + (line(b, d, decoded) if d else 0)
        for (a, b), (c, d) in zip(low, high, strict=True)
    )
