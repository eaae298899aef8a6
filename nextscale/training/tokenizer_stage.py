"""Trains the tokenizer: reconstruction, codebook, perceptual and adversarial terms (VAR Eq. 5).

The published code does not include this stage; the loss is VQGAN's (arXiv 2012.09841, Eq. 5-7).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

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
from nextscale.tokenizer.pyramid import Quantized
from nextscale.tokenizer.tokenizer import Tokenizer
from nextscale.training.code_use import CodeUse, entropy, perplexity, used_share
from nextscale.training.discriminator import (
    PatchDiscriminator,
    adaptive_weight,
    discriminator_loss,
    generator_loss,
)
from nextscale.training.processes import Processes
from nextscale.training.schedule import parameter_groups
from nextscale.training.stage import PipelineStage, Weights, with_weights

DISCRIMINATOR_BETAS = (0.5, 0.9)  # VQGAN
SHOWN = 16  # images of the pictures at a validation


class TokenizerObjective(nn.Module):
    """Tokenizer and discriminator with their losses, as one module that may be distributed.

    The generator's pass sees the discriminator's weights detached and the discriminator's pass the
    images detached, so that one backward of the sum serves both.

    Args:
        config: of the run, with the weights of the terms.
        steps: optimizer steps of the whole run; the adversarial start is a share of them.
        tokenizer: the network to train.
        average: returns the mean of a tensor over processes.
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
        """Returns loss, terms, and the quantizer's result for images (B, channels, H, W)."""
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
        """Weighted loss of the generator plus that of the discriminator; adds both to `terms`."""
        assert self.discriminator is not None
        if step < self.judged_from:  # DDP expects gradients of its weights
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


class TokenizerStage(PipelineStage):
    """The first training stage of a generative model."""

    command = "train tokenizer"
    better = "mse"
    file = checkpoint.TOKENIZER
    prefix = "tokenizer."

    def __init__(self, config: TokenizerTraining, start: Pipeline | None) -> None:
        """Prepares the stage.

        Args:
            config: of the run.
            start: a pipeline with the tokenizer to start from; None for new weights.
        """
        super().__init__()
        self.config = config
        torch.manual_seed(config.seed)
        if start is None:
            check_room(lambda: Tokenizer(config.tokenizer), "training this tokenizer", TRAINED)
        self.tokenizer = Tokenizer(config.tokenizer) if start is None else start.tokenizer.train()

    def build(self, steps: int, processes: Processes) -> nn.Module:
        """The tokenizer with its losses.

        Raises:
            UsageError: under FSDP, as validation and the revival of codes need whole weights; if
                the weights of the perceptual network are missing and it is not optional.
        """
        if processes.sharded:
            raise UsageError("a tokenizer is not sharded; start its training with DDP, not FSDP")
        loss = self.config.loss
        try:
            objective = TokenizerObjective(self.config, steps, self.tokenizer, processes.mean)
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
            objective = TokenizerObjective(without, steps, self.tokenizer, processes.mean)
        self.objective = objective.to(memory_format=torch.channels_last)
        config = self.config.tokenizer
        self.use = CodeUse(len(config.scales), config.codes, processes.device)
        self.since_revival = torch.zeros(config.codes, dtype=torch.long, device=processes.device)
        self.revive_before = round(steps * loss.revive_until)
        self.revived = 0
        return self.objective

    def parameter_groups(self, objective: nn.Module) -> list[dict[str, Any]]:
        """Decayed and undecayed weights of the tokenizer; those of the discriminator apart."""
        del objective
        groups = parameter_groups(self.objective.tokenizer.named_parameters())
        if self.objective.discriminator is not None:
            parameters = list(self.objective.discriminator.parameters())
            groups.append({"params": parameters, "decays": False, "betas": DISCRIMINATOR_BETAS})
        return groups

    def step(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns loss and terms of a micro-step; counts the used codes."""
        loss, terms, quantized = network(channels_last(batch), step)
        counts = self.use.add(quantized.tokens)  # (K, V)
        if self.config.loss.revive_every:
            self.since_revival += counts.sum(0)
            self.vectors = torch.cat([r.flatten(2) for r in quantized.residuals], 2)  # (B, C, L)
        return loss, terms

    @torch.no_grad()
    def after_step(self, step: int, optimizer: Optimizer, processes: Processes) -> None:
        """Moves codes that were not used since the last revival onto residuals of this batch."""
        every = self.config.loss.revive_every
        if not every or (step + 1) % every or step + 1 > self.revive_before:
            return
        used = processes.sum(self.since_revival)
        vectors = processes.gather(self.vectors)  # (B, C, L) of all processes
        dead = (used == 0).nonzero().flatten()
        candidates = vectors.transpose(1, 2).flatten(0, 1)  # (B L, C)
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        rows = torch.randint(len(candidates), (len(dead),), generator=generator)
        code = self.objective.tokenizer.quantizer.code
        codebook = code.replace(dead, candidates[rows.to(candidates.device)])
        if codebook is None:
            return
        for moment in optimizer.state[codebook].values():
            if moment.shape == codebook.shape:
                moment[dead] = 0
        self.revived += len(dead)
        self.since_revival.zero_()

    def figures(self, processes: Processes) -> dict[str, Any]:
        """Code use and perplexity of each scale since the last call."""
        counts = processes.sum(self.use.counts)
        figures: dict[str, Any] = {
            "code_use": used_share(counts),
            "perplexity": perplexity(counts),
        }
        if self.config.loss.revive_every:
            figures["revived"] = self.revived
        self.use.counts.zero_()
        self.revived = 0
        return figures

    @torch.no_grad()
    def validate(
        self, network: nn.Module, batches: Iterable[Batch], processes: Processes
    ) -> dict[str, Any]:
        """Errors and PSNR in dB of clamped reconstructions, and code use of each scale."""
        del network  # it wraps this tokenizer
        device, tokenizer = processes.device, self.objective.tokenizer
        config = self.config.tokenizer
        sums = torch.zeros(4, dtype=torch.double, device=device)  # images, mse, l1, psnr
        use = CodeUse(len(config.scales), config.codes, device)
        for batch in batches:
            images = channels_last(batch)
            tokens = tokenizer.encode(images)
            error = tokenizer.decode(tokens) - images
            mse = error.square().mean((1, 2, 3)).double()  # (B,)
            sums[0] += len(images)
            sums[1] += mse.sum()
            sums[2] += error.abs().mean((1, 2, 3)).double().sum()
            sums[3] += (10 * torch.log10(4 / mse.clamp(min=1e-12))).sum()  # range 2, squared
            use.add(tokens)
        count, mse, l1, psnr = processes.sum(sums).tolist()
        counts = processes.sum(use.counts)
        return {
            "images": int(count),
            "mse": mse / count,
            "l1": l1 / count,
            "psnr": 10 * math.log10(4 * count / mse),  # of the mean error
            "psnr_of_images": psnr / count,  # mean over images
            "code_use": used_share(counts),
            "perplexity": perplexity(counts),
            "unigram_entropy": entropy(counts.sum(0)).item(),
        }

    @torch.no_grad()
    def pictures(self, weights: Weights, batch: Batch) -> dict[str, Tensor]:
        """A sheet of images (top) and reconstructions (below), (channels, 2 H, n W) in [0, 1]."""
        pipe = self.pipeline(weights)
        assert batch.images is not None
        images = batch.images[:SHOWN].to(pipe.device)
        rows = [images, pipe.tokenizer.decode(pipe.tokenizer.encode(images))]
        sheet = torch.cat([torch.cat(list(row), -1) for row in rows], -2)
        return {"reconstructions": (sheet + 1) / 2}

    def pipeline(self, weights: Weights) -> Pipeline:
        """The pipeline with an objective's weights."""
        config = self.config.tokenizer
        tokenizer = with_weights(lambda: Tokenizer(config), self.stored(weights))
        return Pipeline(tokenizer, None, ModelConfig(config, data=self.config.data.path))

    def state_dict(self) -> dict[str, Tensor]:
        """How often each code was used since the last revival."""
        return {"since_revival": self.since_revival}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores the counts of `state_dict`."""
        self.since_revival.copy_(state["since_revival"])


def channels_last(batch: Batch) -> Tensor:
    """A batch's images in the memory layout in which convolutions are fast."""
    assert batch.images is not None
    return batch.images.contiguous(memory_format=torch.channels_last)
