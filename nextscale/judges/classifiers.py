"""Classifiers by name: bundled ones, directories of `nextscale train classifier`, torchvision's.

A directory holds `config.json` and `classifier.safetensors`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from nextscale.checkpoints.checkpoint import BUNDLED, CONFIG
from nextscale.checkpoints.runs import best_of
from nextscale.config.architecture import ClassifierConfig
from nextscale.config.building import build
from nextscale.errors import UsageError, did_you_mean, to_install, unknown
from nextscale.judges.network import Classifier
from nextscale.pipeline import Judge, Pipeline
from nextscale.scales import describe
from nextscale.storage.files import read_json, to_json
from nextscale.storage.weights import (
    identify,
    load_weights,
    placed,
    read_tensors,
    stored,
    write_tensors,
)

CLASSIFIER = "classifier.safetensors"
CLASSIFIERS = BUNDLED / "classifiers"


def classifier_names() -> list[str]:
    """Names of the classifiers inside the package."""
    return sorted(config.parent.name for config in CLASSIFIERS.glob(f"*/{CONFIG}"))


def is_classifier(name: str) -> bool:
    """Whether `load_classifier` finds something under this name."""
    if name in classifier_names():
        return True
    return (best_of(Path(name), CLASSIFIER) / CLASSIFIER).is_file()


def load_classifier(name: str) -> Classifier:
    """A classifier of this project, in eval mode.

    Args:
        name: of a bundled one, or a directory of `nextscale train classifier`, its run's too.

    Raises:
        UsageError: if there is none, or it is damaged.
    """
    if not is_classifier(name):
        names = classifier_names()
        raise UsageError(
            f"{name!r} is no classifier{did_you_mean(name, names) or ';'} give {', '.join(names)}, "
            "or a directory that `nextscale train classifier` has written"
        )
    bundled = name in classifier_names()
    folder = CLASSIFIERS / name if bundled else best_of(Path(name), CLASSIFIER)
    values = read_json(folder / CONFIG)
    try:
        config = build(ClassifierConfig, values, "the classifier")
    except UsageError as error:
        raise UsageError(f"{folder / CONFIG}: {error}") from error
    with torch.device("meta"):
        network = Classifier(config)
    tensors = read_tensors(folder / CLASSIFIER)
    load_weights(network, placed(tensors, "cpu", torch.float32), f"classifier in {folder}")
    return network.eval().requires_grad_(False)


def write_classifier(network: Classifier, folder: Path) -> None:
    """Writes a classifier's files into a folder that exists, in the dtype of its weights."""
    (folder / CONFIG).write_text(to_json(asdict(network.config)), encoding="utf-8")
    write_tensors(stored(network, None), folder / CLASSIFIER)


def load_judge(name: str, pipe: Pipeline) -> Judge:
    """Scores how likely a pipeline's images show their class, for rejection sampling.

    Args:
        name: as `load_classifier` takes it, or a torchvision model (`resnet101`) with its
            published ImageNet weights, downloaded once.
        pipe: whose images are judged, on whose device.

    Raises:
        UsageError: if there is no such classifier, its weights cannot be had, or it knows other
            classes or images.
    """
    if is_classifier(name):
        classifier = load_classifier(name)
        of, images = classifier.config, pipe.tokenizer.config
        if (of.image_channels, of.image_size) != (images.image_channels, images.image_size):
            raise UsageError(
                f"the classifier {name} judges images of {of.image_channels} channels and "
                f"{describe((of.image_size,))} pixels; the model draws {images.image_channels} "
                f"and {describe((images.image_size,))}"
            )
        classes, network = of.classes, classifier.to(pipe.device)
        order = order_of(of.labels, pipe.config.labels, name)
    else:
        classes, network = published(name, pipe.device)
        order = None
    if classes != pipe.model.config.classes:
        raise UsageError(
            f"the classifier {name} knows {classes} classes, the model "
            f"{pipe.model.config.classes}; give a classifier of the same data"
        )

    @torch.inference_mode()
    def judge(images: Tensor) -> Tensor:
        found = network(images).float().log_softmax(-1)
        return found if order is None else found[:, order]

    return judge


def order_of(judged: Sequence[str], wanted: Sequence[str], name: str) -> list[int] | None:
    """Where a classifier has the classes of a model; None if their names do not determine it.

    Raises:
        UsageError: if it knows classes of other names.
    """
    if not judged or not wanted or len(judged) != len(wanted) or judged == wanted:
        return None
    other = [label for label in wanted if label not in judged]
    if other:
        raise UsageError(
            f"the classifier {name} does not know the model's class {other[0]!r}; give a "
            "classifier of the same data"
        )
    return [judged.index(label) for label in wanted]


def judge_identity(name: str) -> str:
    """Identity of the classifier of a name that `load_judge` takes: its weights."""
    if is_classifier(name):
        return identify("classifier", load_classifier(name))
    from torchvision.models import get_model_weights

    return Path(get_model_weights(name)["DEFAULT"].url).name  # it ends in a hash


def published(name: str, device: torch.device) -> tuple[int, Callable[[Tensor], Tensor]]:
    """A torchvision classifier: its classes, and logits of images (B, 1 or 3, H, W) in [-1, 1].

    Raises:
        UsageError: as `load_judge`.
    """
    try:
        from torchvision import models
    except ImportError as error:
        told = f"the classifier {name!r} needs torchvision; {to_install('train')}"
        raise UsageError(told) from error
    if name not in models.list_models(module=models):
        bundled = classifier_names()
        allowed = (
            f"give {', '.join(bundled)}, a directory of `nextscale train classifier`, or a "
            "torchvision model such as resnet101"
        )
        known = [*bundled, *models.list_models(module=models)]
        raise unknown("classifier", name, known, allowed)
    weights = models.get_model_weights(name)["DEFAULT"]
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        network = models.get_model(name, weights=None)
        network.load_state_dict(state)
    except Exception as error:  # no network, a broken file, a file that would run code
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the weights of {name} cannot be had ({reason}); put {weights.url} into "
            f"{torch.hub.get_dir()}/checkpoints, or give another classifier"
        ) from error
    network.eval().requires_grad_(False).to(device)
    prepare, classes = weights.transforms(), len(weights.meta["categories"])
    return classes, lambda images: network(prepare((images.expand(-1, 3, -1, -1) + 1) / 2))
