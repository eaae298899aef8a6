"""The diffusion peer's network: DiT (arXiv 2212.09748) as `diffusers` has it, and its checkpoints.

It predicts the noise in noisy images (DDPM, arXiv 2006.11239) or in a tokenizer's noisy features
(latent diffusion, arXiv 2112.10752). DiT's learned variance is left out: it needs a second,
variational loss, and DDIM does not use it.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from diffusers import DiTTransformer2DModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import save_file
from torch import Tensor, nn

from nextscale.checkpoints.checkpoint import CONFIG, MODEL, best_of
from nextscale.config.architecture import TokenizerConfig
from nextscale.config.building import build
from nextscale.errors import UsageError, check_range
from nextscale.storage.files import read_json
from nextscale.storage.weights import load_weights, placed, read_tensors, stored
from nextscale.tokenizer.tokenizer import Tokenizer
from studies.diffusion.latents import Latents

EMBEDDING_STD = 0.02  # released DiT: start of the class table and the timestep's two layers


@dataclass(frozen=True)
class DiTConfig:
    """What is denoised, and by which transformer.

    Attributes:
        space: `latent` denoises the tokenizer's features before quantization, `pixels` images.
        patch: side of the square that becomes a token, in features or pixels.
        depth: number of transformer blocks.
        heads: of the attention.
        head_width: channels of a head; the transformer's width is heads times this.
        timesteps: levels of noise in training; their variances rise linearly as in DDPM.
    """

    space: Literal["latent", "pixels"] = "latent"
    patch: int = 1
    depth: int = 6
    heads: int = 4
    head_width: int = 64
    timesteps: int = 1000

    def __post_init__(self) -> None:
        if self.space not in ("latent", "pixels"):
            raise UsageError(f"space is {self.space!r}; it can be latent or pixels")
        check_range(self, "patch depth heads head_width", 1)
        check_range(self, "timesteps", 2)
        if self.width % 4:  # sines and cosines of two axes
            raise UsageError(f"the width {self.width} (heads x head_width) is no multiple of 4")

    @property
    def width(self) -> int:
        """D, channels of the transformer."""
        return self.heads * self.head_width


@dataclass(frozen=True)
class DiffusionConfig(DiTConfig):
    """All that a checkpoint tells of itself, the content of its `config.json`.

    Attributes:
        classes: number of classes; one more index means "none".
        tokenizer: of the features; in pixels, it gives the images' size and channels alone.
        tokenizer_hash: of the tokenizer as it was stored.
        labels: names of the classes, in the order of their numbers.
        data: the data set's name.
    """

    classes: int = 10
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    tokenizer_hash: str = ""
    labels: tuple[str, ...] = ()
    data: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "labels", tuple(self.labels))
        _, height, width = self.shape
        if height != width or height % self.patch:
            raise UsageError(
                f"patch is {self.patch}, but {self.space} of {height}x{width} are denoised; DiT "
                "takes squares that whole patches cover"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, h, w) of what is denoised."""
        tokenizer = self.tokenizer
        if self.space == "latent":
            return tokenizer.latent, *tokenizer.scales[-1]
        return tokenizer.image_channels, *tokenizer.image_size


class Diffusion(nn.Module):
    """A network that predicts noise, with what turns its space into images.

    Args:
        config: of both.
        transformer: made by `build_transformer`.
        latents: None in pixels.
    """

    def __init__(
        self, config: DiffusionConfig, transformer: DiTTransformer2DModel, latents: Latents | None
    ) -> None:
        super().__init__()
        self.config, self.transformer, self.latents = config, transformer, latents

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.transformer.device

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """The noise (B, C, h, w) in what is noisy.

        Args:
            noisy: (B, C, h, w).
            timesteps: int64 (B,), from 0, the least noise.
            labels: int64 (B,); the number of classes means none.
        """
        return self.transformer(noisy, timesteps, labels, return_dict=False)[0]

    def decode(self, x: Tensor) -> Tensor:
        """Images (B, channels, H, W) in [-1, 1] of what is free of noise, (B, C, h, w)."""
        return x.clamp(-1, 1) if self.latents is None else self.latents.decode(x)


def build_transformer(config: DiffusionConfig) -> DiTTransformer2DModel:
    """DiT as `diffusers` builds it, ready for training.

    Every block has timestep and class embeddings of its own, where the paper's share one. Those of
    classes would also drop labels by themselves while training, every block others; here labels
    are dropped once, by whoever trains, so that "none" means the same in all blocks.
    """
    channels, side, _ = config.shape
    transformer = DiTTransformer2DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.head_width,
        in_channels=channels,
        num_layers=config.depth,
        sample_size=side,
        patch_size=config.patch,
        num_embeds_ada_norm=config.classes,
    )
    for block in transformer.transformer_blocks:
        block.norm1.emb.class_embedder.dropout_prob = 0.0
        # Of so few tokens a CPU is faster with plain products than with the fused operator.
        block.attn1.set_processor(AttnProcessor())
    initialize(transformer)
    return transformer


@torch.no_grad()
def initialize(transformer: DiTTransformer2DModel) -> None:
    """The start that DiT was trained from (Sec. 3.2: adaLN-Zero), which `diffusers` leaves out.

    Every block is the identity and the predicted noise zero.
    """
    for module in transformer.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight.flatten(1))
            nn.init.zeros_(module.bias)
    for block in transformer.transformer_blocks:
        embedding = block.norm1.emb
        nn.init.normal_(embedding.class_embedder.embedding_table.weight, std=EMBEDDING_STD)
        nn.init.normal_(embedding.timestep_embedder.linear_1.weight, std=EMBEDDING_STD)
        nn.init.normal_(embedding.timestep_embedder.linear_2.weight, std=EMBEDDING_STD)
        nn.init.zeros_(block.norm1.linear.weight)
    nn.init.zeros_(transformer.proj_out_1.weight)
    nn.init.zeros_(transformer.proj_out_2.weight)


def load_diffusion(directory: str | os.PathLike[str]) -> Diffusion:
    """A trained model in eval mode, on the CPU, in float32.

    Args:
        directory: of a run, of which the best checkpoint is taken, or one of its checkpoints.

    Raises:
        UsageError: if it holds none, or a damaged one.
    """
    folder = best_of(Path(directory), MODEL)
    values = read_json(folder / CONFIG)
    if values.get("tokenizer") is not None:
        values["tokenizer"] = build(TokenizerConfig, values["tokenizer"], "tokenizer")
    config = build(DiffusionConfig, values, str(folder / CONFIG))
    latents = None
    if config.space == "latent":
        each = torch.ones(1, config.tokenizer.latent, 1, 1)  # its weights follow
        latents = Latents(Tokenizer(config.tokenizer), each, each)
    network = Diffusion(config, build_transformer(config), latents)
    tensors = placed(read_tensors(folder / MODEL), "cpu", torch.float32)
    load_weights(network, tensors, f"diffusion model in {folder}")
    return network.eval().requires_grad_(False)


def write_diffusion(network: Diffusion, folder: Path) -> None:
    """Writes a model's files into a folder that exists, in the dtype of its weights."""
    text = json.dumps(asdict(network.config), indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    save_file(stored(network, None), folder / MODEL)
