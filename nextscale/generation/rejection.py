"""Rejection sampling: draw more than needed, keep what a classifier is surest of.

As VQ-VAE-2 (arXiv 1906.00446 Sec. 3.3) and the VAR paper's last row do it. Pure functions; who
draws and who judges is the caller's.
"""

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from nextscale.config.evaluation import MOST_IMAGES
from nextscale.errors import UsageError


def candidates(labels: Sequence[int], keep: float) -> list[int]:
    """Labels to draw, class by class, so that of each class this share is kept.

    Args:
        labels: that are wanted, in any order.
        keep: share of the drawn images, in (0, 1].

    Raises:
        UsageError: if this share cannot be kept, or takes more than `MOST_IMAGES` draws.
    """
    if not 0 < keep <= 1:
        raise UsageError(f"keep is {keep}; it must be above 0 and at most 1 (keeps all)")
    wanted = Counter(labels)
    drawn = {label: math.ceil(round(wanted[label] / keep, 9)) for label in sorted(wanted)}
    if sum(drawn.values()) > MOST_IMAGES:
        raise UsageError(
            f"keep is {keep}, which draws {sum(drawn.values()):,} images for {len(labels):,}; at "
            f"most {MOST_IMAGES:,} can be drawn"
        )
    return [label for label, count in drawn.items() for _ in range(count)]


def choose(scores: Sequence[float], drawn: Sequence[int], labels: Sequence[int]) -> list[int]:
    """Which candidate serves each wanted label: the best of its class first, none twice.

    Args:
        scores: of every candidate, its log-probability of its own label.
        drawn: their labels, from `candidates`.
        labels: that are wanted.

    Returns:
        indices of candidates, one a wanted label. Equal scores keep the order of drawing.
    """
    best_first: dict[int, list[int]] = {label: [] for label in drawn}
    for i in sorted(range(len(drawn)), key=lambda i: -scores[i]):
        best_first[drawn[i]].append(i)
    turns = {label: iter(queue) for label, queue in best_first.items()}
    return [next(turns[label]) for label in labels]


def check_judged(labels: Sequence[int], classes: int) -> None:
    """Raises UsageError at a label that means no class, which no classifier can judge."""
    if max(labels) >= classes:
        raise UsageError("an image without a class cannot be judged; give labels, or keep all")


def own_class(log_probabilities: Tensor, labels: Sequence[int]) -> list[float]:
    """Each image's log-probability of its own label.

    Args:
        log_probabilities: (B, classes).
        labels: (B,).

    Raises:
        UsageError: at a label that means no class.
    """
    check_judged(labels, log_probabilities.shape[1])
    return log_probabilities[torch.arange(len(labels)), torch.tensor(labels)].tolist()
