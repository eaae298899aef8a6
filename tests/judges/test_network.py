"""Shapes of the classifier's maps, features and logits, for any size."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nextscale.config.architecture import ClassifierConfig
from nextscale.errors import UsageError
from nextscale.judges.network import Classifier, ConvBlock


@pytest.mark.parametrize("size", [(28, 28), (33, 20)])
def test_shapes(size: tuple[int, int]) -> None:
    config = ClassifierConfig(classes=3, image_channels=3, width=8, blocks=1, groups=4)
    network = Classifier(config)
    images = torch.randn(2, 3, *size)
    halves = [tuple(-(-side // 2**level) for side in size) for level in range(3)]
    assert [tuple(m.shape) for m in network.maps(images)] == [
        (2, 8 * 2**level, *half) for level, half in enumerate(halves)
    ]
    assert network.features(images).shape == (2, 32)
    assert torch.equal(network(images), network.head(network.features(images)))


def test_a_shortcut_is_a_strided_convolution_without_being_one() -> None:
    """PyTorch's own crashes on CPUs in channels-last; see `ConvBlock`."""
    block, x = ConvBlock(4, 6, 2, 2), torch.randn(2, 4, 7, 8)
    nn.init.zeros_(block.conv2.weight)
    assert block.shortcut is not None
    assert block.shortcut.stride == (1, 1)
    expected = F.conv2d(F.relu(block.norm1(x)), block.shortcut.weight, stride=2)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    ("values", "told"),
    [({"image_channels": 2}, "1 or 3"), ({"levels": 0}, "levels"), ({"width": 12}, "groups")],
)
def test_impossible_networks_are_refused(values: dict[str, int], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        ClassifierConfig(**values)
