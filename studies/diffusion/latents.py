"""The space in which latent diffusion works (arXiv 2112.10752): a tokenizer's normalised features.

They are continuous, those before quantization; what is drawn is quantized before it is decoded, as
that paper's VQ variant does.
"""

from copy import deepcopy
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from nextscale.console.messages import inform
from nextscale.data.images import Batch, Source
from nextscale.data.order import Part
from nextscale.data.tokens import CHUNK, cache_key, shape
from nextscale.pipeline import Pipeline
from nextscale.storage.files import replacing_file
from nextscale.storage.weights import read_tensors
from nextscale.tokenizer.tokenizer import Tokenizer

TOLD = 40  # chunks between lines on the progress


class Latents(nn.Module):
    """Features of a tokenizer with mean 0 and variance 1 in every channel, and back to images.

    Args:
        tokenizer: it stays as it is.
        mean, std: of the training images' features, (1, C, 1, 1).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, tokenizer: Tokenizer, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.tokenizer = deepcopy(tokenizer).eval().requires_grad_(False)
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def normalize(self, features: Tensor) -> Tensor:
        """The tokenizer's features (B, C, h, w) in the scale of the noise."""
        return (features - self.mean) / self.std

    def decode(self, x: Tensor) -> Tensor:
        """Images (B, channels, H, W) in [-1, 1] of normalised features (B, C, h, w)."""
        features = x * self.std + self.mean  # (B, C, h, w)
        return self.tokenizer.decode(self.tokenizer.quantizer.encode(features))


class FeatureCache:
    """A `Source` of normalised features in memory, the same in every epoch.

    Args:
        features: float32 (N, C, h, w).
        labels: int64 (N,).
        source: of the images, whose class names and identity are kept.
    """

    reads_files = False

    def __init__(self, features: Tensor, labels: Tensor, source: Source) -> None:
        self.features, self.labels = features, labels
        self.names, self.identity = source.names, f"features of {source.identity}"
        self.record = source.record

    def __len__(self) -> int:
        return len(self.features)

    def load(self, part: Part) -> Batch:
        """Features and labels; nothing is ever skipped."""
        numbers = torch.from_numpy(part.samples)
        return Batch(part=part, features=self.features[numbers], labels=self.labels[numbers])


def prepare_latents(
    pipe: Pipeline, training: Source, validation: Source, directory: Path
) -> tuple[Latents, FeatureCache, FeatureCache]:
    """Encodes both parts of the data, unless that was done before.

    Args:
        pipe: holds the tokenizer, on its device.
        training, validation: images that do not vary.
        directory: of all features on the disk.

    Returns:
        the space, normalised by the training images; the features of both parts.
    """
    features, labels = read_features(pipe, training, directory)
    std, mean = torch.std_mean(features, dim=(0, 2, 3), keepdim=True)  # 2 x (1, C, 1, 1)
    latents = Latents(pipe.tokenizer, mean, std).to(pipe.device)
    unseen, unseen_labels = read_features(pipe, validation, directory)
    return (
        latents,
        FeatureCache((features - mean) / std, labels, training),
        FeatureCache((unseen - mean) / std, unseen_labels, validation),
    )


def read_features(pipe: Pipeline, source: Source, directory: Path) -> tuple[Tensor, Tensor]:
    """Features (N, C, h, w) and labels (N,), from the disk or encoded and put there."""
    key = cache_key(shape(pipe.tokenizer, pipe.config.tokenizer_hash, source, copies=1))
    file = directory / f"{key}.safetensors"
    if not file.is_file():
        features, labels = encode(pipe.tokenizer, source)
        directory.mkdir(parents=True, exist_ok=True)
        with replacing_file(file) as beside:
            beside.write(save({"features": features, "labels": labels}))
    tensors = read_tensors(file)
    return tensors["features"], tensors["labels"]


@torch.no_grad()
def encode(tokenizer: Tokenizer, source: Source) -> tuple[Tensor, Tensor]:
    """Features before quantization (N, C, h, w) and labels (N,) of a source, on the CPU."""
    device, count = tokenizer.device, len(source)
    config = tokenizer.config
    features = torch.empty(count, config.latent, *config.scales[-1])
    labels = torch.empty(count, dtype=torch.int64)
    chunks = torch.arange(count).split(CHUNK)
    for done, chunk in enumerate(chunks, 1):
        batch = source.load(Part(0, chunk.numpy()))
        assert batch.images is not None
        features[chunk] = tokenizer.features(batch.images.to(device)).cpu()
        labels[chunk] = batch.labels
        if done % TOLD == 0:
            inform(f"encoding features: {done} of {len(chunks)} chunks")
    return features, labels
