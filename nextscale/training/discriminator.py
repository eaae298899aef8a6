"""PatchGAN, its hinge losses and the adversarial term's adaptive weight (VQGAN, 2012.09841).

It uses GroupNorm instead of BatchNorm, so that gradients do not depend on how a batch is
distributed over processes.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8
EPSILON = 1e-4  # added to the gradient's norm under the adaptive weight, as in VQGAN


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches: images (B, channels, H, W) in [-1, 1] to logits (B, 1, h, w).

    Args:
        image_channels: 1 or 3.
        width: channels of the first layer; each of the next ones doubles it, up to 8 times.
        layers: strided layers after the first.
    """

    def __init__(self, image_channels: int, width: int, layers: int) -> None:
        super().__init__()
        widths = [width * min(2**i, 8) for i in range(layers + 1)]
        body: list[nn.Module] = [
            nn.Conv2d(image_channels, widths[0], 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        for i in range(1, layers + 1):
            stride = 2 if i < layers else 1
            body += [
                nn.Conv2d(widths[i - 1], widths[i], 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(min(GROUPS, widths[i]), widths[i]),
                nn.LeakyReLU(0.2),
            ]
        body.append(nn.Conv2d(widths[-1], 1, 4, stride=1, padding=1))
        self.body = nn.Sequential(*body)
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.02)  # pix2pix, arXiv 1611.07004

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss that the discriminator minimises, of logits of any shape."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_loss(fake: Tensor) -> Tensor:
    """Hinge loss that the generator minimises."""
    return -fake.mean()


def adaptive_weight(
    reconstruction: Tensor,
    adversarial: Tensor,
    last_weight: Tensor,
    limit: float,
    average: Callable[[Tensor], Tensor],
) -> Tensor:
    """Ratio of the two losses' gradients at the decoder's last layer (VQGAN Eq. 7), clamped.

    Args:
        reconstruction, adversarial: scalar losses, both functions of `last_weight`.
        limit: largest weight.
        average: mean of a tensor over processes; gradients are averaged before their norms, so
            that the weight does not depend on how the batch is spread.
    """
    (wanted,) = torch.autograd.grad(reconstruction, last_weight, retain_graph=True)
    (felt,) = torch.autograd.grad(adversarial, last_weight, retain_graph=True)
    ratio = average(wanted).norm() / (average(felt).norm() + EPSILON)
    return ratio.clamp(0, limit).detach()
