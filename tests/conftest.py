"""Small networks that every test may build: seeded, in eval mode, with weights far from zero."""

import os
from collections.abc import Callable

import pytest
import torch
from torch import nn

from nextscale.checkpoints import checkpoint
from nextscale.config.architecture import ClassifierConfig, TokenizerConfig, TransformerConfig
from nextscale.config.model import ModelConfig
from nextscale.judges.classifiers import write_classifier
from nextscale.judges.network import Classifier
from nextscale.models.model import Model, build_model
from nextscale.pipeline import Pipeline
from nextscale.tokenizer.tokenizer import Tokenizer

TINY_TOKENIZER = {
    "scales": (1, 2, 4),
    "image_channels": 1,
    "width": 8,
    "multipliers": (1, 2),
    "blocks": 1,
    "groups": 4,
    "latent": 4,
    "codes": 16,
}
LABELS = ("Ankle boot", "bag", "coat")
TINY_TRANSFORMER = {"classes": 3, "depth": 2, "width": 16, "heads": 2}


if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes, one a core
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """A test that draws from torch's global generator draws the same every time."""
    torch.manual_seed(0)


@torch.no_grad()
def randomize(module: nn.Module) -> nn.Module:
    """Fills weights as if trained: gates and a head near zero, as in a fresh VAR, hide faults."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in module.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim == 1 or "embedding" in name or "codebook" in name:
            weight.copy_(0.5 * noise + (name.endswith("weight") and weight.ndim == 1))
        else:
            weight.copy_(noise / (weight.numel() / weight.shape[0]) ** 0.5)
    return module.eval()


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., Tokenizer]:
    """Builds a tiny tokenizer, 8x8 pixels to a 4x4 map; arguments change its configuration."""

    def make(**changes) -> Tokenizer:
        return randomize(Tokenizer(TokenizerConfig(**{**TINY_TOKENIZER, **changes})))

    return make


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Model]:
    """Builds a tiny transformer over a tokenizer's scales and codes."""

    def make(tokenizer: Tokenizer, **changes) -> Model:
        config = TransformerConfig(**{**TINY_TRANSFORMER, **changes})
        return randomize(build_model(config, tokenizer.config))

    return make


@pytest.fixture(scope="session")
def tokenizer(make_tokenizer) -> Tokenizer:
    """One to read from; tests that change weights make their own."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def model(make_model, tokenizer) -> Model:
    return make_model(tokenizer)


@pytest.fixture(scope="session")
def pipe(tokenizer, model) -> Pipeline:
    config = ModelConfig(tokenizer.config, model.config, labels=LABELS)
    return Pipeline(tokenizer, model, config)


@pytest.fixture(scope="session")
def images(tokenizer) -> torch.Tensor:
    """Five smooth pictures (5, 1, 8, 8) in [-1, 1]."""
    noise = torch.randn(5, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    size = tokenizer.config.image_size
    return nn.functional.interpolate(noise, size, mode="bicubic").clamp(-1, 1)


@pytest.fixture(scope="session")
def saved(pipe, tmp_path_factory) -> str:
    """The tiny pipeline (8x8 pixels, 3 named classes) as a checkpoint."""
    directory = tmp_path_factory.mktemp("models") / "tiny"
    checkpoint.save(pipe, directory)
    return str(directory)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory) -> str:
    """A directory with a classifier of the tiny pipeline's images."""
    config = ClassifierConfig(
        classes=3, image_size=(8, 8), width=8, levels=2, blocks=1, groups=4, labels=LABELS
    )
    folder = tmp_path_factory.mktemp("classifier")
    write_classifier(randomize(Classifier(config)), folder)
    return str(folder)
