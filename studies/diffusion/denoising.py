"""Removes noise through `diffusers`' schedulers: DDPM (arXiv 2006.11239), DDIM (arXiv 2010.02502).

Every image has a seed of its own, so that it does not depend on what is drawn beside it.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from nextscale.cost.flops import count_flops
from nextscale.errors import UsageError
from nextscale.generation.sampling import guide
from studies.diffusion.dit import Diffusion, DiTConfig

Sampler = Literal["ddpm", "ddim"]
Generators = list[torch.Generator]

SCHEDULERS = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}
FIRST_BETA, LAST_BETA = 1e-4, 0.02  # DDPM Sec. 4, and DiT
BATCH, CPU_BATCH = 250, 50  # images denoised at once; so few stay in a CPU's cache


def build_scheduler(config: DiTConfig, sampler: Sampler) -> DDPMScheduler | DDIMScheduler:
    """The noise of every timestep, and one way to take it off.

    The predicted image is clipped to [-1, 1] in pixels; features have no bounds.
    """
    return SCHEDULERS[sampler](
        num_train_timesteps=config.timesteps,
        beta_start=FIRST_BETA,
        beta_end=LAST_BETA,
        beta_schedule="linear",
        clip_sample=config.space == "pixels",
    )


def generators_of(seeds: Iterable[int]) -> Generators:
    """A generator for every image, on the CPU, whose draws are the same on any device."""
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def noise_of(generators: Generators, shape: tuple[int, int, int]) -> Tensor:
    """Standard normal noise (B, C, h, w), each image's from its own generator."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


@torch.inference_mode()
def sample(
    network: Diffusion,
    labels: Tensor,
    seeds: Sequence[int],
    cfg: float = 0.0,
    steps: int = 50,
    sampler: Sampler = "ddim",
) -> Tensor:
    """Draws images (B, channels, H, W) in [-1, 1], on the network's device.

    Args:
        labels: int64 (B,); the number of classes means none.
        seeds: one an image, of its first noise and, in DDPM, of the noise added after every step.
        cfg: strength t of guidance, (1 + t) conditional - t unconditional; 0 is off and evaluates
            the conditional half alone.
        steps: evaluations of the network, at most the timesteps of training.
        sampler: `ddpm` with the smaller of its two variances, or `ddim` without noise (eta = 0).

    Raises:
        UsageError: if an option or a label is out of its range.
    """
    check_options(network, labels, seeds, cfg, steps, sampler)
    batch = CPU_BATCH if network.device.type == "cpu" else BATCH
    parts = [slice(start, start + batch) for start in range(0, len(labels), batch)]
    return torch.cat(
        [denoise(network, labels[part], seeds[part], cfg, steps, sampler) for part in parts]
    )


def denoise(
    network: Diffusion,
    labels: Tensor,
    seeds: Sequence[int],
    cfg: float,
    steps: int,
    sampler: Sampler,
) -> Tensor:
    """The loop of `sample`, for one batch and once its options are checked."""
    scheduler, generators = build_scheduler(network.config, sampler), generators_of(seeds)
    scheduler.set_timesteps(steps)
    labels = labels.to(network.device)
    none = torch.full_like(labels, network.config.classes)
    everyone = torch.cat([labels, none]) if cfg else labels  # (B or 2B,)
    x = noise_of(generators, network.config.shape).to(network.device)  # (B, C, h, w)
    for timestep in scheduler.timesteps:
        noisy = x.repeat(2, 1, 1, 1) if cfg else x  # (B or 2B, C, h, w)
        noise = network(noisy, timestep.to(network.device).expand(len(noisy)), everyone).float()
        if cfg:
            noise = guide(*noise.chunk(2), cfg)
        # A list of generators reaches `randn_tensor`, which draws each image's noise by itself.
        x = scheduler.step(noise, timestep, x, generator=generators, return_dict=False)[0]
    return network.decode(x)


def sampling_flops(network: Diffusion) -> int:
    """Floating-point operations of one evaluation of the network for one image.

    An image takes `steps` of them, guided twice as many; in latents one decoding beside.
    """
    x = torch.zeros(1, *network.config.shape, device=network.device)
    number = torch.zeros(1, dtype=torch.int64, device=network.device)
    with torch.no_grad():
        return count_flops(lambda: network(x, number, number))


def check_options(
    network: Diffusion,
    labels: Tensor,
    seeds: Sequence[int],
    cfg: float,
    steps: int,
    sampler: str,
) -> None:
    """Raises UsageError at a label or a sampling option out of its range."""
    classes, timesteps = network.config.classes, network.config.timesteps
    if labels.numel() == 0:
        raise UsageError("no labels are given; give at least one")
    if int(labels.min()) < 0 or int(labels.max()) > classes:
        bad = labels[(labels < 0) | (labels > classes)][0].item()
        raise UsageError(f"label {bad} is out of range; the model knows 0 to {classes} (= none)")
    if len(seeds) != len(labels):
        raise UsageError(f"{len(seeds)} seeds are given for {len(labels)} labels")
    if not 0 <= cfg < math.inf:
        raise UsageError(f"cfg is {cfg}; it must be 0 (off) or more")
    if not 1 <= steps <= timesteps:
        raise UsageError(f"steps is {steps}; it must be from 1 to {timesteps}")
    if sampler not in SCHEDULERS:
        raise UsageError(f"sampler is {sampler!r}; it can be {' or '.join(SCHEDULERS)}")
