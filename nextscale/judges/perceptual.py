"""Distances of images in a network's features: LPIPS (arXiv 1801.03924), a classifier, another."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from nextscale.errors import UsageError, unknown
from nextscale.judges.classifiers import classifier_names, is_classifier, load_classifier
from nextscale.judges.network import Classifier

FeatureNetwork = Callable[[], nn.Module]

_NETWORKS: dict[str, FeatureNetwork] = {}


class PerceptualUnavailable(UsageError):
    """The weights of a perceptual network cannot be had here."""


def register(name: str, build: FeatureNetwork) -> None:
    """Makes a network usable as `perceptual_network`.

    Args:
        build: gives a module that maps images (B, channels, H, W) in [-1, 1] to one feature map
            (B, F, ...) or several; weights included.

    Raises:
        UsageError: if the name is taken.
    """
    if name == "lpips" or name in _NETWORKS or is_classifier(name):
        raise UsageError(f"a perceptual network {name!r} is registered already")
    _NETWORKS[name] = build


class FeatureDistance(nn.Module):
    """Mean squared distance of a network's features, each normalised over channels as in LPIPS."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, reference: Tensor) -> Tensor:
        """A scalar for two batches (B, channels, H, W) in [-1, 1]."""
        total = images.new_zeros(())
        pairs = zip(self.maps(images), self.maps(reference), strict=True)
        for ours, theirs in pairs:
            total = total + (unit(ours) - unit(theirs)).square().sum(1).mean()
        return total

    def maps(self, images: Tensor) -> Sequence[Tensor]:
        """The network's features, as a list even where it gives a single one."""
        features = self.network(images)
        return [features] if isinstance(features, Tensor) else list(features)


class ClassifierMaps(nn.Module):
    """A classifier of this project as a perceptual network: its maps behind every level."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.classifier.maps(images)  # (B, width 2^i, H / 2^i, W / 2^i) each


class LPIPS(nn.Module):
    """torchmetrics' LPIPS (VGG) as a loss; a single channel is repeated to the three it expects."""

    def __init__(self) -> None:
        super().__init__()
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        self.distance = LearnedPerceptualImagePatchSimilarity(net_type="vgg")

    def forward(self, images: Tensor, reference: Tensor) -> Tensor:
        """A scalar for two batches (B, channels, H, W) in [-1, 1]."""
        channels = (-1, 3, -1, -1)
        pair = images.clamp(-1, 1).expand(channels), reference.clamp(-1, 1).expand(channels)
        return self.distance.net(*pair, normalize=False).mean()


def unit(features: Tensor) -> Tensor:
    """Features (B, F, ...) of length 1 over channels."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


def perceptual_distance(name: str) -> nn.Module:
    """The frozen distance of a name: `lpips`, a classifier of this project or a registered network.

    Raises:
        PerceptualUnavailable: if LPIPS' weights can neither be found nor downloaded.
        UsageError: if no network of that name is registered.
    """
    if name == "lpips":
        try:
            distance: nn.Module = LPIPS()
        except (OSError, ImportError, ValueError) as error:
            raise PerceptualUnavailable(
                f"LPIPS' weights cannot be had ({type(error).__name__})"
            ) from error
    elif name in _NETWORKS:
        distance = FeatureDistance(_NETWORKS[name]())
    elif is_classifier(name):
        distance = FeatureDistance(ClassifierMaps(load_classifier(name)))
    else:
        known = ["lpips", *classifier_names(), *sorted(_NETWORKS)]
        raise unknown("perceptual network", name, known)
    return distance.eval().requires_grad_(False)
