"""PatchGAN's losses by hand, and the adaptive weight against gradients taken one at a time."""

import pytest
import torch
from torch import nn

from nextscale.training.discriminator import (
    EPSILON,
    PatchDiscriminator,
    adaptive_weight,
    discriminator_loss,
    generator_loss,
)


def test_hinge_losses_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.5])
    assert discriminator_loss(real, fake).item() == pytest.approx(0.5 * (0.25 + 0.75))
    assert generator_loss(fake).item() == pytest.approx(0.75)


@pytest.mark.parametrize("channels", [1, 3])
def test_judges_patches(channels: int) -> None:
    judge = PatchDiscriminator(channels, width=8, layers=2)
    assert judge(torch.zeros(2, channels, 32, 32)).shape == (2, 1, 6, 6)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in judge.modules())


def test_an_image_is_judged_alike_alone_and_in_a_batch() -> None:
    judge = PatchDiscriminator(1, width=8, layers=2)
    images = torch.randn(4, 1, 32, 32)
    torch.testing.assert_close(judge(images)[1:2], judge(images[1:2]))


def test_adaptive_weight_is_the_ratio_of_gradients() -> None:
    decoder, judge = nn.Conv2d(2, 1, 3, padding=1), PatchDiscriminator(1, width=8, layers=1)
    features, images = torch.randn(2, 2, 8, 8), torch.randn(2, 1, 8, 8)

    def losses() -> tuple[torch.Tensor, torch.Tensor]:
        made = decoder(features)
        return (made - images).square().mean(), generator_loss(judge(made))

    gradients = []
    for chosen in (0, 1):
        decoder.zero_grad()
        losses()[chosen].backward()
        assert decoder.weight.grad is not None
        gradients.append(decoder.weight.grad.norm())
    decoder.zero_grad()
    judge.zero_grad()

    def weight(limit: float) -> torch.Tensor:
        return adaptive_weight(*losses(), decoder.weight, limit, lambda value: value)

    torch.testing.assert_close(weight(1e4), gradients[0] / (gradients[1] + EPSILON))
    assert weight(1e-3).item() == pytest.approx(1e-3)
    assert not weight(1e4).requires_grad
    assert decoder.weight.grad is None


def test_gradients_are_averaged_before_their_norms() -> None:
    weight = torch.ones(2, requires_grad=True)
    seen: list[list[float]] = []

    def average(value: torch.Tensor) -> torch.Tensor:
        seen.append(value.tolist())
        return value * 3

    ratio = adaptive_weight(weight @ torch.tensor([3.0, 4.0]), weight[0], weight, 1e4, average)
    assert seen == [[3.0, 4.0], [1.0, 0.0]]
    assert ratio.item() == pytest.approx(15 / (3 + EPSILON))
