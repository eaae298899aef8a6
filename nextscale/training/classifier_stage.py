"""Trains the classifier that judges images: cross-entropy of labelled images."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from nextscale.config.run import ClassifierTraining
from nextscale.cost.room import TRAINED, check_room
from nextscale.data.images import Batch
from nextscale.judges.classifiers import CLASSIFIER, write_classifier
from nextscale.judges.network import Classifier
from nextscale.storage.weights import read_tensors
from nextscale.training.schedule import parameter_groups


class ClassifierStage:
    """The training of a classifier, as `loop.Run` runs it.

    Args:
        config: of the run; its classifier has the data's classes.
    """

    command = "train classifier"
    better = "error"

    def __init__(self, config: ClassifierTraining) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        check_room(lambda: Classifier(config.classifier), "training this classifier", TRAINED)
        self.classifier = Classifier(config.classifier)
        self.notes: list[str] = []

    def build(self, steps: int, accelerator: Accelerator) -> nn.Module:
        """The module to train."""
        del steps, accelerator
        return self.classifier.to(memory_format=torch.channels_last)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Decayed and undecayed weights."""
        return parameter_groups(self.classifier.named_parameters())

    def step(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and accuracy of a micro-step."""
        del step
        logits = network(batch.values.contiguous(memory_format=torch.channels_last)).float()
        smoothing = self.config.label_smoothing
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
        return loss, {"accuracy": (logits.argmax(1) == batch.labels).float().mean()}

    def after_step(self, step: int, optimizer: Optimizer, accelerator: Accelerator) -> None:
        """Nothing is left to do."""

    def figures(self, accelerator: Accelerator) -> dict[str, Any]:
        """Nothing beside the terms of the loss."""
        del accelerator
        return {}

    @torch.no_grad()
    def validate(
        self, network: nn.Module, batches: Iterable[Batch], accelerator: Accelerator
    ) -> dict[str, Any]:
        """Loss in nats, accuracy, and error rate on unseen images."""
        device = accelerator.device
        sums = torch.zeros(3, dtype=torch.double, device=device)  # images, loss, right
        for batch in batches:
            labels = batch.labels.to(device)
            logits = network(batch.values.to(device)).float()  # (B, classes)
            loss = F.cross_entropy(logits, labels, reduction="sum")
            right = (logits.argmax(1) == labels).sum()
            sums += torch.stack([loss.new_tensor(len(labels)), loss, right]).double()
        total = accelerator.reduce(sums, "sum")
        assert isinstance(total, Tensor)
        count, loss, right = total.tolist()
        accuracy = right / count
        return {
            "images": int(count),
            "loss": loss / count,
            "accuracy": accuracy,
            "error": 1 - accuracy,
        }

    def pictures(self, weights: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """A classifier draws none."""
        del weights, batch
        return {}

    def write(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Writes the classifier of a whole state dict into a folder that exists."""
        with torch.device("meta"):
            classifier = Classifier(self.config.classifier)
        classifier.load_state_dict(dict(weights), assign=True)
        write_classifier(classifier, folder)

    def read(self, folder: Path) -> dict[str, Tensor]:
        """Reads what `write` has written."""
        return read_tensors(folder / CLASSIFIER)

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing beside weights and optimizer."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`."""


def fitted_to(config: ClassifierTraining, labels: tuple[str, ...]) -> ClassifierTraining:
    """The configuration with a classifier of the data's classes."""
    data = config.data.path
    classifier = replace(config.classifier, classes=len(labels), labels=labels, data=data)
    return replace(config, classifier=classifier)
