"""What a task will take, before it is started: it runs on tensors that have shapes and no numbers.

torch's fake tensors stand for the network's and a ledger follows their storages through one pass,
which serves batches of any size. On a CPU, what Python and its libraries hold is added, as this
process does; scratch memory within operators is not in it.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from nextscale import checkpoint
from nextscale.benchmark.training import Kind, TrainingStep, inputs, objective
from nextscale.complexity import (
    PEAK_PRODUCTS,
    count_flops,
    drawing_flops,
    measure_peak,
    parameters,
    peak_memory,
)
from nextscale.config.benchmark import EstimateConfig
from nextscale.config.model import ModelConfig
from nextscale.errors import UsageError
from nextscale.models.build import build_model
from nextscale.models.var import VAR
from nextscale.sampling import keep_top_k, keep_top_p, last_state, scale_by_scale, strengths_of
from nextscale.tokenizer.tokenizer import Tokenizer

IMAGES = 9973  # of the one pass; a prime, so that what it divides grows with the batch


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
    rate = config.rate * 1e9 or measure_peak(device, repeats=2, products=PEAK_PRODUCTS[1:])
    held, rows = peak_memory(device), []
    for task in config.tasks:
        for precision in config.precision:
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


def runs(config: EstimateConfig) -> int:
    """How often `estimate` tells that it went on."""
    return len(config.tasks) * len(config.precision) * len(config.batch)


Needs = Callable[[int], dict[str, Any]]  # of a batch: parameters, FLOPs an image, bytes of tensors


def training_needs(whole: ModelConfig, kind: Kind) -> Needs:
    """What training a stage takes, weights and AdamW's two running means included."""
    with torch.device("meta"):
        network = objective(whole, kind).train()
    mode = FakeTensorMode()
    give_weights(network, torch.float32, mode)
    with mode:
        step = TrainingStep(network, inputs(whole, kind, IMAGES), kind)
        flops = 0
        if kind.recompute:  # the counter would keep alive what is computed again
            flops = count_flops(lambda: step.loss().backward())
            step.optimizer.zero_grad(set_to_none=True)
        with Ledger(network, *step.given) as ledger:
            if kind.recompute:
                step.loss().backward()
            else:
                flops = count_flops(lambda: step.loss().backward())
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    means = 2 * sum(weight.numel() * weight.element_size() for weight in trained)
    return lambda batch: {
        "parameters": parameters(network),
        "flops_per_image": flops / IMAGES,
        "tensor_bytes": means + ledger.peak(batch),
    }


def sampling_needs(whole: ModelConfig, precision: str) -> Needs:
    """What sampling takes, weights included."""
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
    with mode, torch.inference_mode(), Ledger(both) as ledger:
        states = scale_by_scale(
            model,
            tokenizer,
            torch.zeros(IMAGES, dtype=torch.long),
            strengths,
            lambda logits: keep_top_p(keep_top_k(logits, options.top_k), options.top_p),
            smooth=False,
            mean_scales=0,
            generators=None,
            constrain=None,
        )
        maps = last_state(states).accumulated
        portion = len(tokenizer.portions(maps)[0])
        size = (whole.tokenizer.image_channels, *whole.tokenizer.image_size)
        finished = torch.empty(IMAGES, *size)
        ledger.decoding = True
        tokenizer.decoder(tokenizer.from_latent(maps.to(getattr(torch, precision))))
    del finished
    return lambda batch: {
        "parameters": parameters(both),
        "flops_per_image": float(drawing_flops(whole, guided=any(strengths))),
        "tensor_bytes": ledger.peak(batch, portion),
    }


class Ledger(TorchDispatchMode):
    """Follows which storages live while a batch of `IMAGES` is computed.

    Args:
        network: whose weights are there before.
        given: what else is.

    Attributes:
        decoding: whether what is made belongs to the images that are decoded at once.
    """

    def __init__(self, network: nn.Module, *given: Any) -> None:
        super().__init__()
        self.decoding = False
        # Bytes that do not grow, bytes an image of the batch, bytes an image decoded at once.
        self.held = [0, 0, 0]
        self.moments: set[tuple[int, ...]] = set()
        self.living: dict[int, weakref.ref[Any]] = {}
        for tensor in (*network.parameters(), *network.buffers(), *given):
            if isinstance(tensor, Tensor):
                self.follow(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, list | tuple) else (made,):
            if isinstance(tensor, Tensor):
                self.follow(tensor)
        return made

    def follow(self, tensor: Tensor) -> None:
        """Counts a tensor's storage, unless it is counted already, for as long as it lives."""
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self.living:
            return
        kind = (2 if self.decoding else 1) if size % IMAGES == 0 else 0
        size = size // IMAGES if kind else size
        self.held[kind] += size
        self.moments.add(tuple(self.held))

        def forget(_: object) -> None:
            self.held[kind] -= size
            del self.living[key]

        self.living[key] = weakref.ref(storage, forget)

    def peak(self, batch: int, portion: int = 0) -> int:
        """Most bytes at a time.

        Args:
            batch: images.
            portion: of them, decoded at once.
        """
        together = min(batch, portion)
        return max(fixed + batch * b + together * d for fixed, b, d in self.moments)


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
