"""Networks that turn images into features and class scores, by name.

The published Inception of torch-fidelity by default; the project's classifiers; registered ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.error import URLError

import torch
from torch import Tensor

from nextscale.errors import UsageError, to_install, unknown
from nextscale.judges.classifiers import classifier_names, is_classifier, load_classifier
from nextscale.scales import Scale
from nextscale.storage.weights import identify

INCEPTION_LAYERS = ["2048", "logits_unbiased"]  # features of FID; of the Inception score

Extract = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Extractor:
    """A network that judges images.

    Attributes:
        identity: kind and a hash of the weights; features of two of them are never compared.
        channels: of the images that it takes.
        size: (height, width) that it takes; None takes any.
        labels: names of the classes of its logits; empty if they have none here.
        extract: pixels uint8 (B, channels, H, W) to features (B, F) and logits (B, classes),
            float32 on the CPU.
        title: what figures are labelled with, such as `Inception`; figures of two extractors are
            on different scales.
    """

    identity: str
    channels: int
    size: Scale | None
    labels: tuple[str, ...]
    extract: Extract
    title: str = ""


_BUILDERS: dict[str, Callable[[torch.device], Extractor]] = {}


def register(name: str, build: Callable[[torch.device], Extractor]) -> None:
    """Makes an extractor known by a name.

    Args:
        build: gives it on a device, weights included.

    Raises:
        UsageError: if the name is taken.
    """
    if name in extractor_names():
        raise UsageError(f"an extractor {name!r} is registered already")
    _BUILDERS[name] = build


def extractor_names() -> list[str]:
    """What `load_extractor` knows by name."""
    return ["inception", *classifier_names(), *_BUILDERS]


def load_extractor(name: str, device: torch.device | str = "cpu") -> Extractor:
    """The extractor of a name, or of a directory that `nextscale train classifier` has written.

    Raises:
        UsageError: if there is none, or its weights cannot be had.
    """
    if name in _BUILDERS:
        built = _BUILDERS[name](torch.device(device))
        return built if built.title else replace(built, title=name)
    if name == "inception":
        return inception(torch.device(device))
    if is_classifier(name):
        return of_classifier(name, torch.device(device))
    names = extractor_names()
    allowed = f"give one of {', '.join(names)}, or a directory of `nextscale train classifier`"
    raise unknown("extractor", name, names, allowed)


def of_classifier(name: str, device: torch.device) -> Extractor:
    """A classifier of this project: its penultimate features and its logits."""
    network = load_classifier(name).to(device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def extract(pixels: Tensor) -> tuple[Tensor, Tensor]:
        images = pixels.to(device, torch.float32, memory_format=torch.channels_last) / 127.5 - 1
        features = network.features(images)  # (B, F)
        return features.cpu(), network.head(features).cpu()

    of = network.config
    identity = identify("classifier", network)
    title = f"{name} classifier" if name in classifier_names() else f"classifier {name}"
    return Extractor(identity, of.image_channels, of.image_size, of.labels, extract, title)


def inception(device: torch.device) -> Extractor:
    """torch-fidelity's port of the published Inception v3 (arXiv 1512.00567), downloaded once.

    Raises:
        UsageError: if torch-fidelity is not installed or the weights cannot be had.
    """
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as published
    except ImportError as error:
        told = f"the Inception extractor needs torch-fidelity; {to_install('eval')}"
        raise UsageError(told) from error
    url = published.URL_INCEPTION_V3
    try:  # read here first, where a file that would run code is refused
        torch.hub.load_state_dict_from_url(url, progress=False, weights_only=True)
        network = published.FeatureExtractorInceptionV3("inception", INCEPTION_LAYERS)
    except (URLError, OSError) as error:
        raise UsageError(
            f"Inception's weights cannot be downloaded ({error}); put {url} into "
            f"{torch.hub.get_dir()}/checkpoints, or give another --extractor "
            f"({', '.join(extractor_names()[1:])})"
        ) from error
    except Exception as error:  # a broken file makes the reader raise almost anything
        raise UsageError(
            f"Inception's weights in {torch.hub.get_dir()}/checkpoints are damaged; remove them "
            "to download them again"
        ) from error
    network.to(device)

    @torch.inference_mode()
    def extract(pixels: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = network(pixels.to(device))
        return features.cpu(), logits.cpu()

    return Extractor(identify("inception", network), 3, None, (), extract, "Inception")
