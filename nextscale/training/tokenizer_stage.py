"""Trains the tokenizer: reconstruction, codebook, perceptual and adversarial terms (VAR Eq. 5).

The published code leaves this stage out; the loss is VQGAN's (arXiv 2012.09841, Eq. 5-7).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from nextscale.checkpoints import checkpoint
from nextscale.config.model import ModelConfig
from nextscale.config.run import TokenizerTraining
from nextscale.cost.room import TRAINED, check_room
from nextscale.data.images import Batch
from nextscale.errors import UsageError
from nextscale.judges.classifiers import classifier_names
from nextscale.judges.perceptual import PerceptualUnavailable, perceptual_distance
from nextscale.pipeline import Pipeline
from nextscale.storage.weights import read_tensors
from nextscale.tokenizer.quantizer import Quantized
from nextscale.tokenizer.tokenizer import Tokenizer
from nextscale.training.discriminator import (
    PatchDiscriminator,
    adaptive_weight,
    discriminator_loss,
    generator_loss,
)
from nextscale.training.schedule import parameter_groups

if TYPE_CHECKING:  # `estimate` needs the objectives alone, at once
    from accelerate import Accelerator

DISCRIMINATOR_BETAS = (0.5, 0.9)  # VQGAN


class TokenizerObjective(nn.Module):
    """Tokenizer and discriminator with their losses, as one module that may be distributed.

    The generator's pass sees the discriminator's weights detached and the discriminator's pass the
    images detached, so that one backward of the sum serves both.

    Args:
        config: weights of the terms.
        steps: optimizer steps of the whole run; the adversarial start is a share of them.
        tokenizer: the network that is trained.
        average: mean of a tensor over processes.
    """

    def __init__(
        self,
        config: TokenizerTraining,
        steps: int,
        tokenizer: Tokenizer,
        average: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.loss, self.average = config.loss, average
        self.tokenizer = tokenizer
        for i, phi in enumerate(tokenizer.quantizer.phis):  # DDP waits for every gradient
            phi.requires_grad_(i in tokenizer.quantizer.phi_of_scale)
        self.perceptual = None
        if self.loss.perceptual > 0:
            self.perceptual = perceptual_distance(self.loss.perceptual_network)
        self.discriminator = None
        if self.loss.adversarial > 0:
            self.discriminator = PatchDiscriminator(
                config.tokenizer.image_channels,
                self.loss.discriminator_width,
                self.loss.discriminator_layers,
            )
        self.felt_from = round(steps * self.loss.adversarial_start)
        self.judged_from = max(0, self.felt_from - round(steps * self.loss.adversarial_warmup))

    def forward(self, images: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor], Quantized]:
        """Loss, its terms, and the quantizer's pass for images (B, channels, H, W)."""
        reconstruction, quantized = self.tokenizer(images)
        reconstruction = reconstruction.float()
        l1, l2 = F.l1_loss(reconstruction, images), F.mse_loss(reconstruction, images)
        image_loss = self.loss.l1 * l1 + self.loss.l2 * l2
        terms = {"l1": l1, "l2": l2}
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(reconstruction, images)
            image_loss = image_loss + self.loss.perceptual * terms["perceptual"]
        commitment = self.tokenizer.config.commitment
        loss = image_loss + quantized.codebook_loss + commitment * quantized.commitment_loss
        terms["codebook"] = quantized.codebook_loss
        if self.discriminator is not None:
            loss = loss + self.adversarial(images, reconstruction, image_loss, step, terms)
        return loss, {name: term.detach() for name, term in terms.items()}, quantized

    def adversarial(
        self,
        images: Tensor,
        reconstruction: Tensor,
        image_loss: Tensor,
        step: int,
        terms: dict[str, Tensor],
    ) -> Tensor:
        """Generator's term, weighted, plus the discriminator's own loss; `terms` receives both."""
        assert self.discriminator is not None
        if step < self.judged_from:  # touch its weights: every process expects their gradients
            return 0 * torch.stack([p.sum() for p in self.discriminator.parameters()]).sum()
        real = self.discriminator(images)
        fake = self.discriminator(reconstruction.detach())
        loss = terms["discriminator"] = discriminator_loss(real.float(), fake.float())
        if step >= self.felt_from and torch.is_grad_enabled():
            frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
            judged = functional_call(self.discriminator, frozen, (reconstruction,)).float()
            felt = terms["adversarial"] = generator_loss(judged)
            weight = terms["adaptive_weight"] = adaptive_weight(
                image_loss,
                felt,
                self.tokenizer.decoder.last_weight,
                self.loss.adaptive_limit,
                self.average,
            )
            loss = loss + self.loss.adversarial * weight * felt
        return loss


class CodeUse:
    """Counts how often each scale uses each code."""

    def __init__(self, scales: int, codes: int, device: torch.device) -> None:
        self.counts = torch.zeros(scales, codes, dtype=torch.long, device=device)  # (K, V)

    def add(self, tokens: list[Tensor]) -> None:
        """Counts K token maps (B, h, w)."""
        codes = self.counts.shape[1]
        self.counts += torch.stack([t.flatten().bincount(minlength=codes) for t in tokens])

    def used(self, counts: Tensor) -> list[float]:
        """Share of the codes that each scale uses, of counts (K, V) summed over processes."""
        return (counts > 0).double().mean(1).tolist()

    def perplexity(self, counts: Tensor) -> list[float]:
        """Exponential of each scale's code entropy."""
        return entropy(counts).exp().tolist()


def entropy(counts: Tensor) -> Tensor:
    """Entropy in nats of counts (..., V)."""
    shares = counts.double() / counts.sum(-1, keepdim=True).clamp(min=1)
    return -torch.special.xlogy(shares, shares).sum(-1)


class TokenizerStage:
    """The first training stage, as `loop.Run` runs it."""

    command = "train tokenizer"
    better = "mse"  # the validation figure that decides which checkpoint is best

    def __init__(self, config: TokenizerTraining, start: Pipeline | None) -> None:
        """Prepares the stage.

        Args:
            config: of the run.
            start: a pipeline whose tokenizer is continued.
        """
        self.config = config
        torch.manual_seed(config.seed)
        if start is None:
            check_room(lambda: Tokenizer(config.tokenizer), "training this tokenizer", TRAINED)
        self.tokenizer = Tokenizer(config.tokenizer) if start is None else start.tokenizer.train()
        self.notes: list[str] = []

    def build(self, steps: int, accelerator: "Accelerator") -> nn.Module:
        """The module to train, on the accelerator's device.

        Raises:
            UsageError: under FSDP; validation and the revival of codes need whole weights. If the
                weights of the perceptual network cannot be had and it is not optional.
        """
        if accelerator.distributed_type.value == "FSDP":
            raise UsageError("a tokenizer is not sharded; start its training with DDP, not FSDP")

        def average(value: Tensor) -> Tensor:
            return cast(Tensor, accelerator.reduce(value, "mean"))

        loss = self.config.loss
        try:
            objective = TokenizerObjective(self.config, steps, self.tokenizer, average)
        except PerceptualUnavailable as error:
            if not loss.perceptual_optional:
                raise UsageError(
                    f"{error}, and loss.perceptual is {loss.perceptual:g}; give another "
                    f"--loss.perceptual-network ({', '.join(classifier_names())}, a directory of "
                    "`nextscale train classifier`), --loss.perceptual 0, or "
                    "--loss.perceptual-optional to train without where it is missing"
                ) from error
            self.notes.append(f"{error}; the perceptual term is off")
            without = replace(self.config, loss=replace(loss, perceptual=0.0))
            objective = TokenizerObjective(without, steps, self.tokenizer, average)
        self.objective = objective.to(memory_format=torch.channels_last)
        config = self.config.tokenizer
        self.use = CodeUse(len(config.scales), config.codes, accelerator.device)
        self.since_revival = torch.zeros(config.codes, dtype=torch.long, device=accelerator.device)
        self.revive_before = round(steps * loss.revive_until)
        self.revived = 0
        return self.objective

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Decayed and undecayed weights of the tokenizer; the discriminator's apart."""
        groups = parameter_groups(self.objective.tokenizer.named_parameters())
        if self.objective.discriminator is not None:
            parameters = list(self.objective.discriminator.parameters())
            groups.append({"params": parameters, "decays": False, "betas": DISCRIMINATOR_BETAS})
        return groups

    def step(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and terms of a micro-step; counts the codes used."""
        images = batch.values.contiguous(memory_format=torch.channels_last)
        loss, terms, quantized = network(images, step)
        self.use.add(quantized.tokens)
        if self.config.loss.revive_every:
            self.since_revival += torch.cat([t.flatten() for t in quantized.tokens]).bincount(
                minlength=len(self.since_revival)
            )
            self.vectors = torch.cat([r.flatten(2) for r in quantized.residuals], 2)  # (B, C, L)
        return loss, terms

    @torch.no_grad()
    def after_step(self, step: int, optimizer: Optimizer, accelerator: "Accelerator") -> None:
        """Moves codes that were not used since the last time onto residuals of this batch."""
        every = self.config.loss.revive_every
        if not every or (step + 1) % every or step + 1 > self.revive_before:
            return
        used = accelerator.reduce(self.since_revival, "sum")
        vectors = accelerator.gather(self.vectors)  # (B, C, L) of all processes, in their order
        assert isinstance(used, Tensor)
        assert isinstance(vectors, Tensor)
        dead = (used == 0).nonzero().flatten()
        candidates = vectors.transpose(1, 2).flatten(0, 1)  # (B L, C)
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        rows = torch.randint(len(candidates), (len(dead),), generator=generator)
        codebook = self.objective.tokenizer.quantizer.codebook
        codebook[dead] = candidates[rows.to(candidates.device)]
        for moment in optimizer.state[codebook].values():
            if moment.shape == codebook.shape:
                moment[dead] = 0
        self.revived += len(dead)
        self.since_revival.zero_()

    def figures(self, accelerator: "Accelerator") -> dict[str, Any]:
        """Code use and perplexity a scale since the last call."""
        counts = accelerator.reduce(self.use.counts, "sum")
        assert isinstance(counts, Tensor)
        figures: dict[str, Any] = {
            "code_use": self.use.used(counts),
            "perplexity": self.use.perplexity(counts),
        }
        if self.config.loss.revive_every:
            figures["revived"] = self.revived
        self.use.counts.zero_()
        self.revived = 0
        return figures

    @torch.no_grad()
    def validate(
        self, network: nn.Module, batches: Iterable[Batch], accelerator: "Accelerator"
    ) -> dict[str, Any]:
        """Errors of clamped reconstructions, PSNR in dB, and code use a scale, on unseen images."""
        del network  # the tokenizer itself gives the same, whether or not it is wrapped
        device, tokenizer = accelerator.device, self.objective.tokenizer
        config = self.config.tokenizer
        sums = torch.zeros(4, dtype=torch.double, device=device)  # images, mse, l1, psnr
        use = CodeUse(len(config.scales), config.codes, device)
        for batch in batches:
            images = batch.values.to(device).contiguous(memory_format=torch.channels_last)
            tokens = tokenizer.encode(images)
            error = tokenizer.decode(tokens) - images
            mse = error.square().mean((1, 2, 3)).double()  # (B,)
            sums[0] += len(images)
            sums[1] += mse.sum()
            sums[2] += error.abs().mean((1, 2, 3)).double().sum()
            sums[3] += (10 * torch.log10(4 / mse.clamp(min=1e-12))).sum()  # range 2, squared
            use.add(tokens)
        total, counts = accelerator.reduce((sums, use.counts), "sum")  # pyright: ignore
        count, mse, l1, psnr = total.tolist()
        return {
            "images": int(count),
            "mse": mse / count,
            "l1": l1 / count,
            "psnr": 10 * math.log10(4 * count / mse),  # of the mean error
            "psnr_of_images": psnr / count,  # mean over images
            "code_use": use.used(counts),
            "perplexity": use.perplexity(counts),
            "unigram_entropy": entropy(counts.sum(0)).item(),
        }

    @torch.no_grad()
    def pictures(self, weights: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """A sheet of images (top) and reconstructions (below), (channels, 2 H, n W) in [0, 1]."""
        pipe = self.pipeline(weights)
        images = batch.values[:16].to(pipe.device)
        rows = [images, pipe.tokenizer.decode(pipe.tokenizer.encode(images))]
        sheet = torch.cat([torch.cat(list(row), -1) for row in rows], -2)
        return {"reconstructions": (sheet + 1) / 2}

    def pipeline(self, state: Mapping[str, Tensor]) -> Pipeline:
        """The pipeline of a whole state dict of the objective."""
        prefix = "tokenizer."
        weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        with torch.device("meta"):
            tokenizer = Tokenizer(self.config.tokenizer)
        tokenizer.load_state_dict(weights, assign=True)
        config = ModelConfig(self.config.tokenizer, data=self.config.data.path)
        return Pipeline(tokenizer, None, config)

    def write(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Writes a checkpoint of a whole state dict into a folder that exists."""
        checkpoint.write(self.pipeline(weights), folder)

    def read(self, folder: Path) -> dict[str, Tensor]:
        """Reads what `write` has written."""
        weights = read_tensors(folder / checkpoint.TOKENIZER)
        return {f"tokenizer.{name}": value for name, value in weights.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Counts that a continuation needs; over several processes they are to be summed."""
        return {"since_revival": self.since_revival}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self.since_revival.copy_(state["since_revival"])
