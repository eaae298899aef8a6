"""Several edits of each image, ranked by how likely the model takes what it drew."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nextscale.editing.tasks import Edited, redraw
from nextscale.errors import UsageError
from nextscale.likelihood import token_log_probabilities
from nextscale.models.var import VAR
from nextscale.tokenizer.tokenizer import Tokenizer


def hole_log_probability(
    model: VAR, tokenizer: Tokenizer, edited: Edited, labels: Tensor
) -> Tensor:
    """Log-probability in nats of the tokens that were drawn into the holes, (B,).

    Exact, from one teacher-forced pass over all tokens that stand in the images.

    Args:
        labels: int64 (B,) that they were drawn with.
    """
    found = token_log_probabilities(model, tokenizer, edited.tokens, labels)  # (B, L)
    kept = torch.cat([mask.flatten(1) for mask in edited.kept], 1)  # (B, L)
    return found.masked_fill(kept, 0).sum(1)


def best_of(
    model: VAR,
    tokenizer: Tokenizer,
    images: Tensor,
    masks: Sequence[Tensor],
    labels: Tensor,
    candidates: int,
    seeds: Sequence[int],
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Edits of each image, likeliest first, and their log-probabilities.

    Args:
        images: (B, channels, H, W) in [-1, 1].
        masks: K of kept positions, bool (B, 1, h, w).
        labels: int64 (B,); the number of classes means none.
        candidates: n, edits of each image.
        seeds: one an image; candidate i of an image with seed s has the seed s + i · (number of
            images), so that consecutive seeds never meet.
        options: as `sampling.generate`.

    Returns:
        (B, n, channels, H, W) and (B, n).

    Raises:
        UsageError: if there is no candidate, or an option is out of its range.
    """
    if candidates < 1:
        raise UsageError(f"candidates is {candidates}; it must be at least 1")
    pictures, scores = [], []
    for i in range(candidates):
        given = [seed + i * len(images) for seed in seeds]
        edited = redraw(model, tokenizer, images, masks, labels, seeds=given, **options)
        pictures.append(edited.images)
        scores.append(hole_log_probability(model, tokenizer, edited, labels))
    order = torch.stack(scores, 1).argsort(1, descending=True)  # (B, n)
    rows = torch.arange(len(images), device=order.device)[:, None]
    return torch.stack(pictures, 1)[rows, order], torch.stack(scores, 1)[rows, order]
