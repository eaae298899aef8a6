"""How fast both stages train, and in what memory: the loop's step on inputs without meaning."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from nextscale.acceleration import check_compiler
from nextscale.checkpoints import checkpoint
from nextscale.config.model import ModelConfig
from nextscale.config.run import TokenizerTraining, TrainingConfig
from nextscale.config.speed import PRECISIONS, TrainConfig
from nextscale.cost.flops import count_flops, parameters
from nextscale.errors import UsageError
from nextscale.machine.heap import keep_freed_memory
from nextscale.machine.instructions import made_for
from nextscale.machine.peaks import peak_alone
from nextscale.models.model import build_model
from nextscale.models.orders import build_order
from nextscale.scales import length
from nextscale.speed.timing import Parts, in_turn, machine, peak_of, stopwatch
from nextscale.tokenizer.tokenizer import Tokenizer
from nextscale.training.tokenizer_stage import TokenizerObjective
from nextscale.training.transformer_stage import TransformerObjective


@dataclass(frozen=True)
class Kind:
    """A way of training.

    Attributes:
        stage: tokenizer or transformer.
        precision: float32, or bfloat16 (of the arithmetic; weights stay in float32).
        recompute: share of the blocks whose activations the backward pass computes again.
        compiled: through torch.compile.
    """

    stage: str
    precision: str
    recompute: float = 0.0
    compiled: bool = False


def objective(whole: ModelConfig, kind: Kind) -> nn.Module:
    """A stage's network with its loss, on torch's default device.

    Raises:
        UsageError: if the model has no such stage.
    """
    if kind.stage == "tokenizer":
        config = TokenizerTraining(tokenizer=whole.tokenizer)
        return TokenizerObjective(config, 1, Tokenizer(whole.tokenizer), lambda mean: mean)
    if whole.model is None:
        raise UsageError("this is a tokenizer alone; it holds no transformer to train")
    model = build_model(whole.model, whole.tokenizer)
    model.transformer.recompute = kind.recompute
    return TransformerObjective(model, label_smoothing=0.0)


def inputs(whole: ModelConfig, kind: Kind, batch: int) -> tuple[Any, ...]:
    """What the objective takes, of the right shapes; tokens are cached, as in training."""
    tokenizer = whole.tokenizer
    if kind.stage == "tokenizer":
        return torch.rand(batch, tokenizer.image_channels, *tokenizer.image_size) * 2 - 1, 0
    assert whole.model is not None
    tokens = length(tokenizer.scales)
    read = build_order(whole.model, tokenizer.scales).reads
    return (
        torch.zeros(batch, dtype=torch.long),
        torch.randn(batch, read, tokenizer.latent),
        torch.zeros(batch, tokens, dtype=torch.long),
    )


def loss_of(network: nn.Module, given: tuple[Any, ...], kind: Kind) -> Tensor:
    """Returns an objective's loss, in its kind's precision.

    Args:
        network: an objective.
        given: its arguments, as `inputs` makes them.
        kind: of training.
    """
    lowered = kind.precision == "bfloat16"
    with torch.autocast(given[0].device.type, torch.bfloat16, enabled=lowered):
        return network(*given)[0]


class TrainingStep:
    """The optimizer step of `training.loop`, for one process.

    Args:
        network: an objective in training mode.
        given: what it takes.
        kind: of training.
    """

    def __init__(self, network: nn.Module, given: tuple[Any, ...], kind: Kind) -> None:
        config = TrainingConfig()
        self.network, self.given, self.clip = network, given, config.clip
        self.device = given[0].device
        self.kind = kind
        self.optimizer = AdamW(
            network.parameters(), lr=config.learning_rate, betas=config.betas, fused=True
        )

    def loss(self) -> Tensor:
        """Returns the loss of one pass."""
        return loss_of(self.network, self.given, self.kind)

    def run(self) -> Parts:
        """Updates the weights once, and returns the seconds."""
        begin = stopwatch(self.device)
        self.loss().backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"seconds": stopwatch(self.device) - begin}


def open_step(config: TrainConfig, kind: Kind, batch: int, device: torch.device) -> TrainingStep:
    """A step with fresh weights."""
    keep_freed_memory()
    whole = checkpoint.config_of(config.model)
    torch.manual_seed(0)
    with device:
        network = objective(whole, kind).train()
        given = inputs(whole, kind, batch)
    if kind.compiled:
        check_compiler()
        network.compile()
    return TrainingStep(network, given, kind)


def step_twice(device: str, config: TrainConfig, kind: Kind, batch: int) -> None:
    """Makes a step and runs it; the first run makes the optimizer's state."""
    step = open_step(config, kind, batch, torch.device(device))
    step.run()
    step.run()


def measure(
    config: TrainConfig, device: torch.device, advance: Callable[[int], None]
) -> dict[str, Any]:
    """The report; its `rows` hold a kind of training and a batch each.

    Args:
        advance: receives 1 after each run, of `runs(config)` runs.
    """
    rows = []
    for kind in kinds(config, device):
        for batch in config.batch:
            step = open_step(config, kind, batch, device)
            flops = count_flops(lambda step=step: step.loss().backward()) / batch
            step.optimizer.zero_grad(set_to_none=True)
            took = in_turn({"step": step.run}, config.repeats, advance)["step"]["seconds"]
            row = {
                **vars(kind),
                "batch": batch,
                "parameters": parameters(step.network),
                "seconds_per_step": took.median,
                "spread": took.spread,
                "images_per_second": batch / took.median,
                "flops_per_image": flops,
            }
            del step
            if config.memory:
                row |= peak_alone(step_twice, device, config, kind, batch)
            advance(1)
            rows.append(row)
    about = machine(device)
    for row in rows:
        rate = row["flops_per_image"] * row["images_per_second"]
        row["share_of_peak"] = rate / peak_of(about, row["precision"])
    return {"model": config.model, "rows": rows, **about}


def kinds(config: TrainConfig, device: torch.device) -> list[Kind]:
    """What is measured, one after the other: the networks may be large."""
    possible = tuple(name for name in PRECISIONS if made_for(name, device))
    precisions = config.precision or possible
    return [
        Kind(
            stage,
            precision,
            config.activation_checkpointing if stage == "transformer" else 0.0,
            config.compile,
        )
        for stage in config.stages
        for precision in precisions
    ]


def runs(config: TrainConfig, device: torch.device) -> int:
    """Number of runs of `measure`."""
    return len(kinds(config, device)) * len(config.batch) * (config.repeats + 2)
