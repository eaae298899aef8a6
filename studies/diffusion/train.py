"""The diffusion peer of the comparison (VAR Table 1): DiT, trained by the project's own loop.

`python -m studies diffusion train --tokenizer CHECKPOINT --out RUN`. The network is in `dit`,
sampling in `denoising`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DiTTransformer2DModel
from jsonargparse import Namespace
from torch import Tensor, nn
from torchvision.utils import make_grid

from nextscale.checkpoints import checkpoint
from nextscale.config.run import TrainingConfig
from nextscale.console.options import Parser, from_options
from nextscale.data.images import Batch, to_device
from nextscale.data.order import steps_in_epoch, uniforms
from nextscale.data.record import joined
from nextscale.data.source import open_data
from nextscale.errors import UsageError, check_range
from nextscale.training.command import add_training_arguments, check_run, finish
from nextscale.training.directory import RunDirectory
from nextscale.training.engine import start_accelerator
from nextscale.training.loop import Run
from nextscale.training.processes import Processes
from nextscale.training.stage import Stage, Weights
from studies.diffusion.denoising import build_scheduler, generators_of, noise_of, sample
from studies.diffusion.dit import (
    Diffusion,
    DiffusionConfig,
    DiTConfig,
    build_transformer,
    write_diffusion,
)
from studies.diffusion.latents import Latents, prepare_latents

COMMAND = "train diffusion"
LEVELS = 20  # timesteps of a validation, evenly spread; image i is judged at level i modulo this
PICTURES = {"cfg": 1.5, "steps": 25}  # of the samples during a run, by DDIM


@dataclass(frozen=True)
class DiffusionTraining(DiTConfig, TrainingConfig):
    """`python -m studies diffusion train`.

    Adam's decays and the absence of weight decay are DiT's; its average of the weights, 0.9999, is
    for runs of more than ten thousand steps.

    Attributes:
        tokenizer: checkpoint that holds the tokenizer whose features, or images, are denoised.
        label_drop: rate at which a label is replaced by "none", for guidance.
        cache: directory of the features of the data set; empty is `features` beside the run.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    weight_decay_end: float = 0.0
    ema: float = 0.999
    tokenizer: str = ""
    label_drop: float = 0.1
    cache: str = ""

    def __post_init__(self) -> None:
        DiTConfig.__post_init__(self)
        TrainingConfig.__post_init__(self)
        check_range(self, "label_drop", 0, 1)
        if self.space == "latent" and (self.data.augment != "plain" or self.data.flip):
            raise UsageError(
                "features are encoded once, so images cannot vary; give --data.augment plain and "
                "no --data.flip"
            )


class DiffusionObjective(nn.Module):
    """A network with its loss, as one module that may be distributed."""

    _no_split_modules = ("BasicTransformerBlock",)  # what accelerate shards one by one

    def __init__(self, transformer: DiTTransformer2DModel) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        """Squared error (B,) of the predicted noise, DDPM's simple loss (Eq. 14).

        Args:
            noisy: (B, C, h, w), at timesteps (B,).
            labels: int64 (B,), some of them replaced by "none".
            noise: (B, C, h, w), to be predicted.
        """
        predicted = self.transformer(noisy, timesteps, labels, return_dict=False)[0]
        return (predicted.float() - noise).square().flatten(1).mean(1)


class DiffusionStage(Stage):
    """The training of a diffusion model.

    Args:
        config: of the run.
        architecture: of the model, with the data's classes.
        latents: None in pixels.
    """

    command = COMMAND
    better = "loss"
    file = checkpoint.MODEL
    prefix = ""  # the file holds the objective's names, and the tensors of `latents`

    def __init__(
        self, config: DiffusionTraining, architecture: DiffusionConfig, latents: Latents | None
    ) -> None:
        super().__init__()
        self.config, self.architecture, self.latents = config, architecture, latents
        self.scheduler = build_scheduler(config, "ddpm")
        torch.manual_seed(config.seed)
        self.transformer = build_transformer(architecture)

    def build(self, steps: int, processes: Processes) -> nn.Module:
        """The network with its loss; what encodes and decodes stays outside it."""
        del steps, processes
        return DiffusionObjective(self.transformer)

    def step(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a micro-step at random timesteps, labels dropped by (seed, epoch, sample)."""
        del step
        values = self.inputs(batch)
        draws = uniforms(self.config.seed, batch.part.epoch, batch.part.samples, 1, purpose=1)
        dropped = to_device(torch.from_numpy(draws[:, 0] < self.config.label_drop), values.device)
        labels = batch.labels.masked_fill(dropped, self.architecture.classes)
        timesteps = torch.randint(self.config.timesteps, (len(values),), device=values.device)
        noise = torch.randn_like(values)
        noisy = self.scheduler.add_noise(values, noise, timesteps)
        return network(noisy, timesteps, labels, noise).mean(), {}

    def inputs(self, batch: Batch) -> Tensor:
        """What is denoised: features (B, C, h, w), or images in pixels."""
        inputs = batch.features if self.latents else batch.images
        assert inputs is not None
        return inputs

    @torch.no_grad()
    def validate(
        self, network: nn.Module, batches: Iterable[Batch], processes: Processes
    ) -> dict[str, Any]:
        """Loss with every label known, on unseen images, whose noise is the same every time."""
        device = processes.device
        sums = torch.zeros(2, dtype=torch.double, device=device)  # images, loss
        for batch in batches:
            values, numbers = self.inputs(batch), torch.from_numpy(batch.part.samples)
            timesteps = (2 * (numbers % LEVELS) + 1) * self.config.timesteps // (2 * LEVELS)
            timesteps = timesteps.to(device)
            noise = noise_of(generators_of(numbers.tolist()), self.architecture.shape).to(device)
            noisy = self.scheduler.add_noise(values, noise, timesteps)
            losses = network(noisy, timesteps, batch.labels, noise)  # (B,)
            sums += torch.stack([losses.new_tensor(len(losses)), losses.sum()]).double()
        count, loss = processes.sum(sums).tolist()
        return {"images": int(count), "loss": loss / count}

    def pictures(self, weights: Weights, batch: Batch) -> dict[str, Tensor]:
        """A grid of samples with the labels of a batch, (3, H', W') in [0, 1]."""
        images = sample(self.diffusion(weights), batch.labels, range(len(batch)), **PICTURES)
        return {"samples": make_grid((images + 1) / 2, nrow=8)}

    def diffusion(self, state: Mapping[str, Tensor]) -> Diffusion:
        """The model of a whole state dict of the objective."""
        weights = {name.removeprefix("transformer."): value for name, value in state.items()}
        transformer = build_transformer(self.architecture)
        transformer.load_state_dict(weights, assign=True)
        network = Diffusion(self.architecture, transformer, self.latents)
        return network.to(next(iter(weights.values())).device).eval()

    def write(self, weights: Weights, folder: Path) -> None:
        """Writes the model of a whole state dict into a folder that exists."""
        write_diffusion(self.diffusion(weights), folder)

    def read(self, folder: Path) -> Weights:
        """The trained weights in a folder of `write`."""
        weights = super().read(folder)
        return {name: value for name, value in weights.items() if name.startswith("transformer.")}


def train(config: DiffusionTraining) -> Path:
    """Trains a model and gives the directory of the final one.

    Raises:
        UsageError: if options, tokenizer, data or the run's directory do not fit each other.
        Interrupted: after a signal, once the state is saved.
    """
    check_run(config)
    if not config.tokenizer:
        raise UsageError("diffusion needs a tokenizer; give --tokenizer CHECKPOINT")
    pipe = checkpoint.load(config.tokenizer)
    images = pipe.tokenizer.config
    training, validation = open_data(
        config.data, images.image_size, images.image_channels, config.seed
    )
    shared = {item.name: getattr(config, item.name) for item in fields(DiTConfig)}
    architecture = DiffusionConfig(
        **shared,
        classes=len(training.names),
        tokenizer=images,
        tokenizer_hash=pipe.config.tokenizer_hash,
        labels=training.names,
        data=config.data.path,
    )
    data = joined(training.record, validation.record)
    RunDirectory(Path(config.out), writes=False).check(COMMAND, config, data)
    steps_in_epoch(len(training), config.batch_size)  # both fail before minutes of encoding
    accelerator = start_accelerator(config)
    latents = None
    if config.space == "latent":
        directory = Path(config.cache or Path(config.out).parent / "features")
        pipe.to(accelerator.device)
        latents, training, validation = prepare_latents(pipe, training, validation, directory)
    stage = DiffusionStage(config, architecture, latents)
    return Run(config, stage, training, validation, accelerator).train()


def add_arguments(parser: Parser) -> None:
    """Adds the options of `diffusion train`."""
    add_training_arguments(parser, DiffusionTraining, COMMAND)


def run(options: Namespace) -> int:
    """Trains as the options say; returns 128 + signal where the run was interrupted."""
    return finish(partial(train, from_options(DiffusionTraining, options)))


COMMANDS = {"train": (add_arguments, run)}
