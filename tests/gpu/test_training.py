"""Training on a GPU: batches are pinned, and a step neither waits for the device nor differs."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from nextscale.config.model import ModelConfig
from nextscale.config.run import VarTraining
from nextscale.data.images import Batch, batches
from nextscale.data.order import Part
from nextscale.pipeline import Pipeline
from nextscale.training.code_use import count_codes
from nextscale.training.engine import deterministic
from nextscale.training.processes import Processes
from nextscale.training.transformer_stage import TransformerStage

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

pytestmark = pytest.mark.gpu
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NAMES = ("a", "b", "c")


class Pictures:
    """A source of the same five images in every epoch."""

    names = NAMES
    identity = "pictures"
    reads_files = False

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def load(self, part: Part) -> Batch:
        numbers = torch.from_numpy(part.samples)
        return Batch(part=part, images=self.images[numbers], labels=numbers % len(NAMES))


@pytest.fixture
def batch(images: Tensor) -> Batch:
    return Pictures(images).load(Part(0, np.arange(len(images))))


@contextmanager
def without_waiting() -> Iterator[None]:
    """Raises RuntimeError where the CPU waits for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def stage_on(device: torch.device, make_tokenizer, make_model, **options) -> TransformerStage:
    tokenizer = make_tokenizer()
    pipe = Pipeline(tokenizer, None, ModelConfig(tokenizer.config))
    config = VarTraining(label_drop=0.5, cache_tokens=0, **options)
    stage = TransformerStage(config, NAMES, pipe, make_model(tokenizer, drop_path=0.0))
    stage.build(10, Processes(device)).to(device)
    return stage


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_pins_batches(workers: int, images: Tensor) -> None:
    parts = [Part(0, np.array([0, 1])), Part(0, np.array([2]))]
    for batch in batches(Pictures(images), parts, workers, pin=True):
        assert batch.images is not None
        assert batch.images.is_pinned()
        assert batch.labels.is_pinned()
        with without_waiting():
            moved = batch.to(CUDA)
        assert torch.equal(moved.images.cpu(), images[batch.part.samples])


def test_what_a_step_adds_to_the_network_does_not_wait(make_tokenizer, make_model, batch) -> None:
    stage = stage_on(CUDA, make_tokenizer, make_model, disturb_tokens=0.5)
    moved = batch.pin_memory().to(CUDA)
    maps = [torch.randint(16, (5, s, s), device=CUDA) for s in (1, 2, 4)]
    with deterministic():
        stage.labels(moved), stage.disturb(maps[2]), count_codes(maps, 16)  # allocate
        with without_waiting():
            labels, counts = stage.labels(moved), count_codes(maps, 16)
            stage.disturb(maps[2])
    assert torch.equal(labels.cpu(), stage.labels(batch))
    assert torch.equal(counts.cpu(), count_codes([m.cpu() for m in maps], 16))


def test_a_step_gives_the_loss_of_the_cpu(make_tokenizer, make_model, batch) -> None:
    losses = []
    for device in (CPU, CUDA):
        stage = stage_on(device, make_tokenizer, make_model)
        loss, _ = stage.step(stage.objective, batch.to(device), 0)
        loss.backward()
        losses.append(loss.detach().cpu())
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)
