"""The verbs of sampling: guide, filter, sample, average (VAR Sec. 3.1, App.).

Pure functions on logits; `generate` joins them with a model and a tokenizer.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def guide(conditional: Tensor, unconditional: Tensor, strength: float) -> Tensor:
    """Classifier-free guidance on logits (B, l, V): (1 + t) c - t u, where t = 0 is off."""
    return (1 + strength) * conditional - strength * unconditional  # released order of rounding


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Sets logits below the k-th largest of their row to -inf; 0 keeps all."""
    if not 0 < top_k < logits.shape[-1]:
        return logits
    least = logits.topk(top_k, sorted=False).values.amin(-1, keepdim=True)
    return logits.masked_fill(logits < least, -torch.inf)


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Keeps the likeliest entries that hold at least probability p; 0 and 1 keep all."""
    if not 0 < top_p < 1:
        return logits
    ascending, order = logits.sort(dim=-1)
    drop = ascending.softmax(-1).cumsum(-1) <= 1 - top_p
    drop[..., -1] = False  # the likeliest always stays
    return logits.masked_fill(drop.scatter(-1, order, drop), -torch.inf)


def draw(logits: Tensor, generators: Sequence[torch.Generator] | None) -> Tensor:
    """Samples codes int64 (B, l) from logits (B, l, V).

    Args:
        logits: already filtered.
        generators: one for the whole batch, or one an image; None takes torch's global one.
    """
    rows = logits.softmax(-1).flatten(0, 1)  # (B l, V)
    return for_each_generator(
        lambda part, generator: torch.multinomial(part, 1, True, generator=generator),
        rows,
        generators,
    ).view(logits.shape[:2])


def soften(logits: Tensor, ratio: float, generators: Sequence[torch.Generator] | None) -> Tensor:
    """Smooth mode: shares (B, l, V) of the codes by Gumbel-softmax. For pictures only.

    Args:
        logits: filtered, float32 (B, l, V).
        ratio: position of the scale; noise falls and contrast rises along it.
        generators: as in `draw`.
    """
    temperature = max(0.27 * (1 - 0.95 * ratio), 0.005)  # released sampler

    def noise(part: Tensor, generator: torch.Generator | None) -> Tensor:
        return -torch.empty_like(part).exponential_(generator=generator).log()

    gumbel = for_each_generator(noise, logits.flatten(0, 1), generators).view(logits.shape)
    return ((logits * (1 + ratio) + gumbel) / temperature).softmax(-1)


def for_each_generator(
    function: Callable[[Tensor, torch.Generator | None], Tensor],
    rows: Tensor,
    generators: Sequence[torch.Generator] | None,
) -> Tensor:
    """Applies a random function to rows, split evenly among generators; None is the global one."""
    if generators is None:
        return function(rows, None)
    parts = rows.chunk(len(generators))
    drawn = [function(part, g) for part, g in zip(parts, generators, strict=True)]
    return drawn[0] if len(drawn) == 1 else torch.cat(drawn)
