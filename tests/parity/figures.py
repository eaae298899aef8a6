"""What the published implementation computed, how its weights are rebuilt, and what ours computes.

The whole figures lie in ../shared/parity, beside the repository. `python -m tests.parity.figures`
thins those of the tiny models into tests/parity/published, so that any clone proves parity.
"""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nextscale.checkpoints.published.var import from_released
from nextscale.config.architecture import RELEASED_256
from nextscale.config.model import SamplingConfig
from nextscale.editing.masks import keep_per_scale
from nextscale.editing.tasks import redraw
from nextscale.generation.generate import generate
from nextscale.pipeline import Pipeline
from nextscale.scales import Scales, areas, parse_scales

SHARED = Path(__file__).parents[2] / ".." / "shared" / "parity"
COPY = Path(__file__).parent / "published"
TINY = ("tiny", "tiny_shared_adaln", "tiny_phi_shared", "tiny_phi_each")
ENTRIES = 192  # that a thinned tensor keeps, roughly

DRAWS: dict[str, dict[str, Any]] = {
    "sample": {"seed": 0, "cfg": 1.5},
    "sample_filtered": {"seed": 1, "cfg": 4.0, "top_k": 20, "top_p": 0.9},
    "sample_smooth": {"seed": 2, "cfg": 3.0, "top_p": 0.95, "smooth": True},
}
EDITS = ("edit_inpaint", "edit_outpaint", "edit_class")
EDIT_DRAW = {"seed": 3, "cfg": 3.0, "top_k": 20, "top_p": 0.95}


@dataclass(frozen=True)
class Figures:
    """One file: inputs and outputs by key, and how the model was built."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    @property
    def scales(self) -> Scales:
        """The pyramid; only the d16 file leaves it at the released one."""
        return parse_scales(json.loads(self.metadata["kw"]).get("patch_nums", RELEASED_256))

    def state(self, part: str) -> dict[str, Tensor]:
        """The published state dict of `tokenizer` or `transformer`, rebuilt by the fill rule."""
        shapes = json.loads(self.metadata[f"{part}_shapes"])
        return {key: fill(key, shape, self.scales) for key, shape in shapes.items()}

    def pipeline(self) -> Pipeline:
        """Our networks with the published weights."""
        return from_released(self.state("tokenizer"), self.state("transformer"))

    def image(self) -> Tensor:
        """The picture that was encoded, in [-1, 1]; the files hold the same one."""
        pixels, batch = int(self.metadata["px"]), len(self.tensors["labels"])
        noise = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1234))
        return F.interpolate(noise, (pixels, pixels), mode="bilinear") * 2 - 1


def load(path: Path) -> Figures:
    """Reads one file of figures."""
    with safe_open(path, "pt") as file:
        return Figures({key: file.get_tensor(key) for key in file.keys()}, file.metadata())  # noqa: SIM118


def fill(key: str, shape: list[int], scales: Scales) -> Tensor:
    """One published tensor, as the README of the parity data says."""
    if key.endswith("lvl_1L"):
        levels = torch.arange(len(scales))
        return levels.repeat_interleave(torch.tensor(areas(scales))).view(shape)
    if key.endswith(("attn_bias_for_masking", "zero_k_bias", "ema_vocab_hit_SV")):
        return torch.zeros(shape)
    r = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    if key.endswith("scale_mul_1H11"):
        return math.log(4) + 0.1 * r
    if len(shape) == 1:
        return 1 + 0.1 * r if key.endswith("weight") else 0.1 * r
    if key == "quantize.embedding.weight" or key.startswith(("pos_", "lvl_embed", "class_emb")):
        return 0.5 * r
    return r / math.sqrt(r.numel() / shape[0])


def thin(x: Tensor) -> Tensor:
    """Whole numbers and small tensors as they are, floats at an odd stride, to meet every axis."""
    if not x.is_floating_point() or x.numel() <= ENTRIES:
        return x
    return x.flatten()[:: (x.numel() // ENTRIES) | 1].clone()


def flat(tokens: list[Tensor]) -> Tensor:
    """Token maps as published: (B, L), all scales in order."""
    return torch.cat([token_map.flatten(1) for token_map in tokens], 1)


@torch.inference_mode()
def compute_forward(pipe: Pipeline, image: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Encoding, decoding and the teacher-forced pass, by the keys of the files."""
    tokenizer, model = pipe.tokenizer, pipe.model
    tokens = tokenizer.encode(image)
    inputs = tokenizer.quantizer.teacher_inputs(tokens)
    logits = model(labels, inputs)
    return {
        "image": image,
        "features": tokenizer.features(image),
        "tokens": flat(tokens),
        "accumulated": torch.stack(tokenizer.quantizer.accumulated_maps(tokens), 1),
        "reconstruction": tokenizer.decode(tokens),
        "teacher_inputs": inputs,
        "logits": logits,
        "logits_unconditional": model(model.condition.drop(labels), inputs),
        "loss": F.cross_entropy(logits.flatten(0, 1), flat(tokens).flatten()).view(1),
    }


def compute_training(pipe: Pipeline, features: Tensor) -> dict[str, Tensor]:
    """The quantizer's training forward and its gradients."""
    quantizer = pipe.tokenizer.quantizer
    features = features.clone().requires_grad_()
    codebook = quantizer.codebook
    result = quantizer(features)
    loss = result.codebook_loss + pipe.tokenizer.config.commitment * result.commitment_loss
    noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(7))
    total = (result.output * noise).sum() + loss
    grad_features, grad_codebook = torch.autograd.grad(total, [features, codebook])
    return {
        "output": result.output.detach(),
        "loss": loss.detach().view(1),
        "grad_features": grad_features,
        "grad_codebook": grad_codebook,
    }


def compute_sample(
    pipe: Pipeline, labels: Tensor, seed: int, **options: Any
) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] and the tokens drawn for them (B, L)."""
    generator = torch.Generator().manual_seed(seed)
    sampling = SamplingConfig(**options)
    drawn = generate(pipe.model, pipe.tokenizer, labels, sampling, generator=generator)
    states = list(drawn)
    return (states[-1].image() + 1) / 2, flat([state.tokens for state in states])


def compute_edit(
    pipe: Pipeline, image: Tensor, labels: Tensor, keep: Tensor, seed: int, **options: Any
) -> tuple[Tensor, Tensor]:
    """Edited images in [0, 1] and the tokens as drawn (B, L), before kept ones were put back."""
    generator = torch.Generator().manual_seed(seed)
    masks = keep_per_scale(keep.expand(len(image), -1, -1), pipe.model.scales)
    sampling = SamplingConfig(**options)
    edited = redraw(
        pipe.model, pipe.tokenizer, image, masks, labels, generator=generator, sampling=sampling
    )
    return (edited.images + 1) / 2, flat(edited.drawn)


@cache
def compute_tiny(name: str) -> dict[str, Tensor]:
    """Everything a tiny file holds, computed by our code from the copy's inputs."""
    figures = load(COPY / f"{name}.safetensors")
    pipe, image = figures.pipeline(), figures.image()
    given = figures.tensors
    ours = compute_forward(pipe, image, given["labels"])
    training = compute_training(pipe, ours["features"])
    ours |= {f"quantizer.{key}": value for key, value in training.items()}
    for key, options in DRAWS.items():
        ours[f"{key}.image"], ours[f"{key}.tokens"] = compute_sample(
            pipe, given["labels"], **options
        )
    for key in EDITS:
        ours[f"{key}.image"], ours[f"{key}.sampled_tokens"] = compute_edit(
            pipe, image, given[f"{key}.labels"], given[f"{key}.mask"], **EDIT_DRAW
        )
    return ours


def write_copy() -> None:
    """Thins the tiny figures of ../shared into the repository."""
    COPY.mkdir(exist_ok=True)
    for name in TINY:
        figures = load(SHARED / f"{name}.safetensors")
        thinned = {key: thin(value) for key, value in figures.tensors.items()}
        save_file(thinned, COPY / f"{name}.safetensors", dict(figures.metadata))


if __name__ == "__main__":
    write_copy()
