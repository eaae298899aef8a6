"""Several edits of each image, ranked by how likely the model takes what it drew."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nextscale.editing.tasks import Edited, redraw
from nextscale.errors import UsageError, shown
from nextscale.generation.likelihood import token_log_probabilities
from nextscale.machine.memory import check_memory
from nextscale.models.model import Model
from nextscale.tokenizer.tokenizer import Tokenizer

MOST = 1000  # candidates of an image
CANDIDATE_STEP = 1_000_000  # between the seeds of an image's candidates, beyond other images' seeds


class Attempt(NamedTuple):
    """One edit of each image.

    Attributes:
        images: (B, channels, H, W) in [-1, 1].
        log_probabilities: in nats, of the tokens that were drawn, (B,).
    """

    images: Tensor
    log_probabilities: Tensor


class Ranked(NamedTuple):
    """n edits of each image, likeliest first.

    Attributes:
        images: (B, n, channels, H, W) in [-1, 1].
        log_probabilities: in nats, (B, n).
        seeds: that each was drawn with, int64 (B, n).
    """

    images: Tensor
    log_probabilities: Tensor
    seeds: Tensor


def attempt(
    model: Model,
    tokenizer: Tokenizer,
    images: Tensor,
    masks: Sequence[Tensor],
    labels: Tensor,
    **options: Any,
) -> Attempt:
    """One edit of each image, as `redraw`, and how likely it is."""
    edited = redraw(model, tokenizer, images, masks, labels, **options)
    return Attempt(edited.images, hole_log_probability(model, tokenizer, edited, labels))


def hole_log_probability(
    model: Model, tokenizer: Tokenizer, edited: Edited, labels: Tensor
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
    draw: Callable[[Sequence[int]], Attempt], candidates: int, seeds: Sequence[int]
) -> Ranked:
    """Draws edits of each image and ranks them.

    Args:
        draw: an edit of each image, by seeds of which each has one.
        candidates: n, edits of each image.
        seeds: one an image; candidate i of an image with seed s has the seed s + i ·
            `CANDIDATE_STEP`, whatever other images there are.

    Raises:
        UsageError: if there is no candidate, or they have no room in this machine's memory.
    """
    if not 1 <= candidates <= MOST:
        raise UsageError(f"candidates is {shown(candidates)}; it must be from 1 to {MOST}")
    given = [[seed + i * CANDIDATE_STEP for seed in seeds] for i in range(candidates)]
    drawn = [draw(given[0])]
    images = drawn[0].images
    if images.device.type == "cpu":
        needed = 2 * candidates * images.nbytes  # one by one, and stacked
        check_memory(needed, f"{candidates:,} candidates of {len(images):,} images", "give fewer")
    drawn += [draw(each) for each in given[1:]]
    scores = torch.stack([found.log_probabilities for found in drawn], 1)  # (B, n)
    order = scores.argsort(1, descending=True)
    rows = torch.arange(len(seeds), device=order.device)[:, None]
    return Ranked(
        torch.stack([found.images for found in drawn], 1)[rows, order],
        scores[rows, order],
        torch.tensor(given, device=order.device).T[rows, order],
    )
