"""Trains the classifier that judges images: cross-entropy of labelled images."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.config.run import ClassifierTraining
from nextscale.cost.room import TRAINED, check_room
from nextscale.data.images import Batch
from nextscale.judges.classifiers import CLASSIFIER, write_classifier
from nextscale.judges.network import Classifier
from nextscale.training.processes import Processes
from nextscale.training.stage import Stage, Weights, with_weights


class ClassifierStage(Stage):
    """The training of a classifier.

    Args:
        config: of the run; its classifier has the data's classes.
    """

    command = "train classifier"
    better = "error"
    file = CLASSIFIER
    prefix = ""

    def __init__(self, config: ClassifierTraining) -> None:
        super().__init__()
        self.config = config
        torch.manual_seed(config.seed)
        check_room(lambda: Classifier(config.classifier), "training this classifier", TRAINED)
        self.classifier = Classifier(config.classifier)

    def build(self, steps: int, processes: Processes) -> nn.Module:
        """The classifier itself; its loss is computed outside it."""
        del steps, processes
        return self.classifier.to(memory_format=torch.channels_last)

    def step(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and accuracy of a micro-step."""
        del step
        assert batch.images is not None
        images = batch.images.contiguous(memory_format=torch.channels_last)
        logits = network(images).float()  # (B, classes)
        smoothing = self.config.label_smoothing
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
        return loss, {"accuracy": (logits.argmax(1) == batch.labels).float().mean()}

    @torch.no_grad()
    def validate(
        self, network: nn.Module, batches: Iterable[Batch], processes: Processes
    ) -> dict[str, Any]:
        """Loss in nats, accuracy, and error rate on unseen images."""
        sums = torch.zeros(3, dtype=torch.double, device=processes.device)  # images, loss, right
        for batch in batches:
            assert batch.images is not None
            logits = network(batch.images).float()  # (B, classes)
            loss = F.cross_entropy(logits, batch.labels, reduction="sum")
            right = (logits.argmax(1) == batch.labels).sum()
            sums[0] += len(batch)
            sums[1:] += torch.stack([loss, right]).double()
        count, loss, right = processes.sum(sums).tolist()
        accuracy = right / count
        return {
            "images": int(count),
            "loss": loss / count,
            "accuracy": accuracy,
            "error": 1 - accuracy,
        }

    def write(self, weights: Weights, folder: Path) -> None:
        """Writes the classifier with an objective's weights into a folder that exists."""
        network = with_weights(lambda: Classifier(self.config.classifier), self.stored(weights))
        write_classifier(network, folder)


def fitted_to(config: ClassifierTraining, labels: tuple[str, ...]) -> ClassifierTraining:
    """Returns the configuration with a classifier for the data's classes."""
    data = config.data.path
    classifier = replace(config.classifier, classes=len(labels), labels=labels, data=data)
    return replace(config, classifier=classifier)
