"""Trains the transformer: cross-entropy of every token given all coarser scales (VAR Eq. 6).

The next-token baseline is trained here too; it differs only in its teacher inputs.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nextscale.checkpoints import checkpoint
from nextscale.config.model import ModelConfig
from nextscale.config.run import VarTraining
from nextscale.data.images import Batch, to_device
from nextscale.data.order import uniforms
from nextscale.generation.generate import generate, last_state
from nextscale.models.model import Model, build_model
from nextscale.pictures.grids import grid
from nextscale.pictures.pixels import to_pictures, to_tensor
from nextscale.pipeline import Pipeline
from nextscale.scales import areas, spans
from nextscale.training.code_use import count_codes, entropy
from nextscale.training.processes import Processes
from nextscale.training.schedule import decays, parameter_groups
from nextscale.training.stage import PipelineStage, Weights, with_weights

Disturb = Callable[[Tensor], Tensor]
COLUMNS = 8  # of the samples at a validation


class TransformerObjective(nn.Module):
    """A transformer with its loss, as one module that may be distributed.

    Args:
        model: the network to train.
        label_smoothing: of the training loss; validation does not smooth.
    """

    _no_split_modules = ("AdaLNBlock",)  # modules that FSDP shards one by one

    def __init__(self, model: Model, label_smoothing: float) -> None:
        super().__init__()
        self.model, self.label_smoothing = model, label_smoothing

    def forward(self, labels: Tensor, teacher_inputs: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """Returns the mean loss, and the loss and the accuracy (K,) of each scale.

        Args:
            labels: int64 (B,), some of them replaced by "none".
            teacher_inputs: of the model.
            tokens: int64 (B, L), the targets.
        """
        logits = self.model(labels, teacher_inputs)  # (B, L, V)
        losses = self.model.head.losses(logits, tokens)  # (B, L)
        loss = losses.mean()
        if self.training and self.label_smoothing:
            loss = self.model.head.losses(logits, tokens, self.label_smoothing).mean()
        right = (self.model.head.likeliest(logits) == tokens).float()  # (B, L)
        return loss, self.by_scale(losses.detach()), self.by_scale(right)

    def by_scale(self, values: Tensor) -> Tensor:
        """Mean (K,) of values (B, L) over each scale."""
        return torch.stack([values[:, a:b].mean() for a, b in spans(self.model.scales)])


class TransformerStage(PipelineStage):
    """The second training stage of a generative model."""

    better = "loss"
    file = checkpoint.MODEL
    prefix = "model."

    def __init__(
        self, config: VarTraining, names: tuple[str, ...], tokenizer: Pipeline, model: Model
    ) -> None:
        """Prepares the stage.

        Args:
            config: of the run.
            names: of the classes.
            tokenizer: pipeline of the tokenizer that makes the tokens.
            model: the transformer to train.
        """
        super().__init__()
        self.config, self.names, self.model = config, names, model
        self.command = "train var" if model.order.averages else "train ar"
        self.tokenizer = tokenizer.tokenizer.eval().requires_grad_(False)
        self.origin = tokenizer.config  # checkpoints record the tokenizer's hash and dtype

    def build(self, steps: int, processes: Processes) -> nn.Module:
        """The transformer with its loss; the tokenizer is outside it, whole on every process."""
        del steps
        self.tokenizer.to(processes.device)
        self.model.transformer.recompute = self.config.activation_checkpointing
        self.objective = TransformerObjective(self.model, self.config.label_smoothing)
        self.sums = torch.zeros(2, len(self.model.scales), device=processes.device)  # (2, K)
        self.micro_steps = 0
        return self.objective

    def parameter_groups(self, objective: nn.Module) -> list[dict[str, Any]]:
        """Decayed and undecayed weights; with Muon, the matrices of the blocks apart."""
        named = dict(objective.named_parameters())
        if self.config.optimizer == "adamw":
            return parameter_groups(named.items())
        blocks = [n for n, p in named.items() if ".blocks." in n and p.ndim == 2 and decays(n, p)]
        matrices = {name: named.pop(name) for name in blocks}
        return [
            *parameter_groups(matrices.items(), muon=True),
            *parameter_groups(named.items(), muon=False),
        ]

    def step(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a micro-step."""
        del step
        loss, losses, right = network(self.labels(batch), *self.inputs(batch, self.disturb))
        self.sums += torch.stack([losses, right])
        self.micro_steps += 1
        return loss, {}

    def labels(self, batch: Batch) -> Tensor:
        """Labels (B,), some of them replaced by "none" as (seed, epoch, sample) decide."""
        draws = uniforms(self.config.seed, batch.part.epoch, batch.part.samples, 1, purpose=1)
        dropped = torch.from_numpy(draws[:, 0] < self.config.label_drop)  # (B,)
        dropped = to_device(dropped, batch.labels.device)
        return self.model.condition.drop(batch.labels, dropped)

    @torch.no_grad()
    def inputs(self, batch: Batch, disturb: Disturb | None = None) -> tuple[Tensor, Tensor]:
        """Teacher inputs of the model and tokens (B, L), of a batch of images or cached tokens.

        Args:
            disturb: changes the token maps that the model reads; only for images.
        """
        quantizer = self.tokenizer.quantizer
        if batch.tokens is None:
            assert batch.images is not None
            features = self.tokenizer.features(batch.images)
            maps, read = quantizer.encode_disturbed(features, disturb or (lambda tokens: tokens))
        else:
            parts = batch.tokens.split(areas(self.model.scales), dim=1)  # K x (B, l)
            maps = [p.unflatten(1, s) for p, s in zip(parts, self.model.scales, strict=True)]
            read = maps
        tokens = torch.cat([token_map.flatten(1) for token_map in maps], 1)  # (B, L)
        return self.model.order.teacher_inputs(quantizer, read), tokens

    def disturb(self, tokens: Tensor) -> Tensor:
        """Replaces a random share of each image's tokens (B, h, w), up to `disturb_tokens`.

        The model learns to correct errors of sampling (Infinity, 2412.04431 Sec. 3.3).
        """
        most = self.config.disturb_tokens
        if not most:
            return tokens
        share = most * torch.rand(len(tokens), 1, 1, device=tokens.device)
        hit = torch.rand(tokens.shape, device=tokens.device) < share
        return torch.where(hit, torch.randint_like(tokens, self.model.codes), tokens)

    def figures(self, processes: Processes) -> dict[str, Any]:
        """Loss in nats and accuracy of each scale since the last call."""
        means = processes.mean(self.sums / max(1, self.micro_steps))
        self.sums.zero_()
        self.micro_steps = 0
        return {"scale_loss": means[0].tolist(), "scale_accuracy": means[1].tolist()}

    @torch.no_grad()
    def validate(
        self, network: nn.Module, batches: Iterable[Batch], processes: Processes
    ) -> dict[str, Any]:
        """Loss in nats per token and accuracy, in all and of each scale; no label is dropped.

        `loss_over_unigram` is the loss over the entropy of the tokens' own frequencies.
        """
        device, count = processes.device, len(self.model.scales)
        sums = torch.zeros(2, count, dtype=torch.double, device=device)  # (2, K)
        images = torch.zeros((), dtype=torch.double, device=device)
        codes = torch.zeros(self.model.codes, dtype=torch.long, device=device)  # (V,)
        for batch in batches:
            teacher_inputs, tokens = self.inputs(batch)
            _, losses, right = network(batch.labels, teacher_inputs, tokens)
            sums += torch.stack([losses, right]).double() * len(batch)
            images += len(batch)
            codes += count_codes([tokens], self.model.codes)[0]
        sums, images, codes = map(processes.sum, (sums, images, codes))
        losses, right = sums / images
        weights = torch.tensor(areas(self.model.scales), dtype=torch.double, device=device)
        weights = weights / weights.sum()  # (K,)
        loss, unigram = (losses * weights).sum().item(), entropy(codes).item()
        relative = {"loss_over_unigram": loss / unigram} if unigram else {}  # 0: a single code
        return {
            "images": int(images),
            "loss": loss,
            "accuracy": (right * weights).sum().item(),
            "unigram_entropy": unigram,
            **relative,
            "scale_loss": losses.tolist(),
            "scale_accuracy": right.tolist(),
        }

    def pictures(self, weights: Weights, batch: Batch) -> dict[str, Tensor]:
        """A grid of samples with the labels of a batch, (3, H', W') in [0, 1]."""
        pipe = self.pipeline(weights)
        labels = batch.labels.to(pipe.device)
        seeds = range(len(labels))
        sampling = self.config.sampling
        states = generate(pipe.model, pipe.tokenizer, labels, sampling, seeds=seeds)
        pictures = to_pictures(last_state(states).image())
        rows = [pictures[i : i + COLUMNS] for i in range(0, len(pictures), COLUMNS)]
        return {"samples": (to_tensor([grid(rows)], 3)[0] + 1) / 2}

    def pipeline(self, weights: Weights) -> Pipeline:
        """The pipeline with an objective's weights."""
        config = self.tokenizer.config
        model = with_weights(lambda: build_model(self.model.config, config), self.stored(weights))
        whole = ModelConfig(
            config,
            self.model.config,
            self.config.sampling,
            tokenizer_hash=self.origin.tokenizer_hash,
            tokenizer_dtype=self.origin.tokenizer_dtype,
            labels=self.names,
            data=self.config.data.path,
        )
        return Pipeline(self.tokenizer, model, whole)
