"""Classifiers on disk, as `nextscale train classifier` writes them.

A directory holds `config.json` and `classifier.safetensors`.
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from nextscale.checkpoint import CONFIG, placed, read_tensors, stored
from nextscale.config.model import ClassifierConfig, build
from nextscale.errors import UsageError
from nextscale.files import read_json
from nextscale.models.classifier import Classifier
from nextscale.released import fill

CLASSIFIER = "classifier.safetensors"


def load_classifier(name: str) -> Classifier:
    """A classifier of this project, in eval mode.

    Args:
        name: a directory of `nextscale train classifier`.

    Raises:
        UsageError: if there is none, or it is damaged.
    """
    folder = Path(name)
    if not (folder / CLASSIFIER).is_file():
        raise UsageError(
            f"{name!r} is no classifier; give a directory that `nextscale train classifier` has "
            "written"
        )
    config = build(ClassifierConfig, read_json(folder / CONFIG), str(folder / CONFIG))
    with torch.device("meta"):
        network = Classifier(config)
    tensors = read_tensors(folder / CLASSIFIER)
    fill(network, placed(tensors, "cpu", torch.float32), f"classifier in {folder}")
    return network.eval().requires_grad_(False)


def write_classifier(network: Classifier, folder: Path) -> None:
    """Writes a classifier's files into a folder that exists, in the dtype of its weights."""
    text = json.dumps(asdict(network.config), indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    save_file(stored(network, None), folder / CLASSIFIER)
