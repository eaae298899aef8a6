"""Draws token maps scale by scale: filter, guide, draw, accumulate (VAR Sec. 3.1, App.).

Pure functions outside the networks; `generate` joins a transformer and a tokenizer.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from nextscale.config.model import LEAST_TEMPERATURE, ModelConfig
from nextscale.cost.room import check_drawing_room
from nextscale.errors import UsageError
from nextscale.models.ar import AR
from nextscale.models.build import Model
from nextscale.models.var import VAR
from nextscale.scales import Scale, length, position
from nextscale.tokenizer.tiles import decode_tiled
from nextscale.tokenizer.tokenizer import Tokenizer

Guidance = Literal["linear", "constant", "off"]
Constrain = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class State:
    """What is known after a scale was drawn. Its tensors are never changed afterwards.

    Attributes:
        scale: (h, w) of the scale drawn last.
        tokens: int64 (B, h, w), this scale's, as drawn.
        accumulated: float32 (B, C, H, W), codes of all scales so far.
        seeds: of the images; empty if they are drawn by a generator.
    """

    scale: Scale
    tokens: Tensor
    accumulated: Tensor
    tokenizer: Tokenizer
    seeds: tuple[int, ...] = ()

    def image(self, tile: int = 0) -> Tensor:
        """The picture so far, float32 (B, channels, H, W) in [-1, 1].

        Args:
            tile: side of the tiles it is decoded in, see `decode_tiled`; 0 decodes it whole.
        """
        with torch.inference_mode():
            if tile:
                return decode_tiled(self.tokenizer, self.accumulated, tile)
            return self.tokenizer.decode_accumulated(self.accumulated)


def guidance_at(k: int, scales: int, cfg: float, guidance: Guidance) -> float:
    """Strength t at scale k: `linear` ramps it from 0 to cfg as the released models do."""
    return {"linear": cfg * position(k, scales), "constant": cfg, "off": 0.0}[guidance]


def strengths_of(model: Model, cfg: float, guidance: Guidance) -> list[float]:
    """Of guidance at every step of a model; all 0 where it draws unguided."""
    return [guidance_at(step, model.steps, cfg, guidance) for step in range(model.steps)]


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
    """Draws codes int64 (B, l) from logits (B, l, V).

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


def soften(
    logits: Tensor, codebook: Tensor, ratio: float, generators: Sequence[torch.Generator] | None
) -> Tensor:
    """Smooth mode: the codebook's average under gumbel-softmax, vectors (B, l, C). Pictures only.

    Args:
        logits: filtered, float32 (B, l, V).
        codebook: (V, C).
        ratio: position of the scale; noise falls and contrast rises along it.
        generators: as in `draw`.
    """
    temperature = max(0.27 * (1 - 0.95 * ratio), 0.005)  # released sampler

    def noise(part: Tensor, generator: torch.Generator | None) -> Tensor:
        return -torch.empty_like(part).exponential_(generator=generator).log()

    gumbel = for_each_generator(noise, logits.flatten(0, 1), generators).view(logits.shape)
    return ((logits * (1 + ratio) + gumbel) / temperature).softmax(-1) @ codebook.float()


def expected(logits: Tensor, codebook: Tensor) -> Tensor:
    """The codes' mean under filtered logits float32 (B, l, V), vectors (B, l, C).

    Tokens of a scale are drawn independently, so that neighbours may contradict each other; their
    means do not. What is lost is the variety of the scale.
    """
    return logits.softmax(-1) @ codebook.float()


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


def generate(
    model: Model,
    tokenizer: Tokenizer,
    labels: Tensor,
    *,
    cfg: float = 0.0,
    guidance: Guidance = "linear",
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 0.0,
    smooth: bool = False,
    mean_scales: int = 0,
    generator: torch.Generator | None = None,
    seeds: Sequence[int] | None = None,
    constrain: Constrain | None = None,
) -> Iterator[State]:
    """Draws a batch of images; gives a state after every scale.

    Args:
        labels: int64 (B,); the number of classes means none.
        cfg: strength of classifier-free guidance at the finest scale; 0 is off.
        guidance: how the strength runs over scales; see `guidance_at`.
        temperature: logits are divided by it, > 0.
        top_k, top_p: filters; 0 is off.
        smooth: use Gumbel-softmax mixtures of codes instead of sampled ones; see `soften`.
        mean_scales: number of finest scales that use expected codes, smooth or not; see `expected`.
        generator: one for the batch, as the released code draws.
        seeds: one an image; then an image does not depend on what is drawn beside it.
        constrain: `(k, vectors (B, C, h, w)) -> vectors`, acts on the codes after the draw.

    Raises:
        UsageError: if an option or a label is out of its range, or the batch too large for the
            memory of the machine.
    """
    check_options(model, labels, cfg, guidance, temperature, top_k, top_p, smooth, mean_scales)
    if generator is not None and seeds is not None:
        raise UsageError("both generator and seeds are given; give one of them")
    if seeds is not None and len(seeds) != len(labels):
        raise UsageError(f"{len(seeds)} seeds are given for {len(labels)} labels")
    generators = None if generator is None else [generator]
    if seeds is not None:
        generators = [torch.Generator(labels.device).manual_seed(seed) for seed in seeds]

    def filtered(logits: Tensor) -> Tensor:
        return keep_top_p(keep_top_k(logits / temperature, top_k), top_p)

    strengths = strengths_of(model, cfg, guidance)
    both = ModelConfig(tokenizer.config, model.config)
    check_drawing_room(both, len(labels), any(strengths), model.head.weight)
    if isinstance(model, AR):
        states = token_by_token(
            model, tokenizer, labels, strengths, filtered, generators, constrain
        )
    else:
        states = scale_by_scale(
            model,
            tokenizer,
            labels,
            strengths,
            filtered,
            smooth,
            mean_scales,
            generators,
            constrain,
        )
    used = () if seeds is None else tuple(map(int, seeds))
    return (replace(state, seeds=used) for state in states)


def prepare(
    model: Model, labels: Tensor, guided: bool
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """All that depends on the condition alone, computed once.

    Returns:
        a function from tokens (B, l, D) to their logits (B, l, V), which remembers what came
        before, and the tokens to start with; both of 2B, the second half without a class, if
        guided.
    """
    everyone = torch.cat([labels, model.condition.none_like(labels)]) if guided else labels
    condition = model.condition(everyone)  # (B or 2B, D)
    modulations = model.transformer.modulations(condition)
    head_modulations = model.head_modulations(condition)
    cache = model.transformer.new_cache(len(everyone), length(model.scales))

    def predict(x: Tensor) -> Tensor:
        return model.logits(model.step(x, modulations, cache), head_modulations)

    return predict, model.embed_start(condition)


def scale_by_scale(
    model: VAR,
    tokenizer: Tokenizer,
    labels: Tensor,
    strengths: Sequence[float],
    filtered: Callable[[Tensor], Tensor],
    smooth: bool,
    mean_scales: int,
    generators: Sequence[torch.Generator] | None,
    constrain: Constrain | None,
) -> Iterator[State]:
    """The loop of `generate`, once its options are checked.

    Args:
        strengths: of guidance, one a scale; all 0 leaves the unconditional half out.
        filtered: what is drawn from, of guided logits (B, l, V).
    """
    batch, quantizer, count = labels.shape[0], tokenizer.quantizer, len(model.scales)
    guided = any(strengths)

    with torch.inference_mode():
        predict, x = prepare(model, labels, guided)
        accumulated = quantizer.empty(batch)

    for k, scale in enumerate(model.scales):
        with torch.inference_mode():
            logits = predict(x)
            if guided:
                logits = guide(*logits.chunk(2), strengths[k])  # (B, l, V)
            logits = filtered(logits)
            tokens = draw(logits, generators).view(batch, *scale)
            soft = None  # (B, l, C)
            if k >= count - mean_scales:
                soft = expected(logits, quantizer.codebook)
            elif smooth:
                soft = soften(logits, quantizer.codebook, position(k, count), generators)
            if soft is None:
                vectors = quantizer.lookup(tokens)  # (B, C, h, w)
            else:
                vectors = soft.transpose(1, 2).unflatten(2, scale)
            if constrain is not None:
                vectors = constrain(k, vectors)
            accumulated = quantizer.accumulate(accumulated, vectors, k)
            if k + 1 < count:
                x = model.embed(k + 1, quantizer.shrink(accumulated, model.scales[k + 1]))
                x = x.repeat(2, 1, 1) if guided else x
        yield State(scale, tokens, accumulated, tokenizer)


def token_by_token(
    model: AR,
    tokenizer: Tokenizer,
    labels: Tensor,
    strengths: Sequence[float],
    filtered: Callable[[Tensor], Tensor],
    generators: Sequence[torch.Generator] | None,
    constrain: Constrain | None,
) -> Iterator[State]:
    """The loop of `generate` for next-token models; one state, when the map is whole.

    Args:
        strengths: of guidance, one a token.
        filtered: what is drawn from, of guided logits (B, 1, V).
        constrain: acts after every token on all vectors drawn so far; the rest of them is zero.
    """
    batch, quantizer, (scale,) = labels.shape[0], tokenizer.quantizer, model.scales
    guided = any(strengths)

    with torch.inference_mode():
        predict, x = prepare(model, labels, guided)
        tokens = labels.new_zeros(batch, length(model.scales))  # (B, L)
        vectors = quantizer.empty(batch)  # (B, C, h, w)
        for i, place in enumerate(model.path):
            logits = predict(x)
            if guided:
                logits = guide(*logits.chunk(2), strengths[i])  # (B, 1, V)
            tokens[:, place : place + 1] = draw(filtered(logits), generators)
            row, column = divmod(place, scale[1])
            drawn = quantizer.lookup(tokens[:, place, None, None])  # (B, C, 1, 1)
            vectors[:, :, row : row + 1, column : column + 1] = drawn
            if constrain is not None:
                vectors = constrain(0, vectors).clone()
            if i + 1 < len(strengths):
                x = model.embed(i + 1, vectors[:, None, :, row, column])
                x = x.repeat(2, 1, 1) if guided else x
        accumulated = quantizer.accumulate(quantizer.empty(batch), vectors, 0)
    yield State(scale, tokens.view(batch, *scale), accumulated, tokenizer)


def last_state(states: Iterator[State]) -> State:
    """The state after the finest scale; the ones before are drawn and forgotten."""
    return deque(states, maxlen=1).pop()


def check_options(
    model: Model,
    labels: Tensor,
    cfg: float,
    guidance: str,
    temperature: float,
    top_k: int,
    top_p: float,
    smooth: bool,
    mean_scales: int,
) -> None:
    """Raises UsageError at a label or an option of `generate` that the model cannot serve."""
    classes = model.config.classes
    if labels.numel() == 0:
        raise UsageError("no labels are given; give at least one")
    if int(labels.min()) < 0 or int(labels.max()) > classes:
        bad = labels[(labels < 0) | (labels > classes)][0].item()
        raise UsageError(f"label {bad} is out of range; the model knows 0 to {classes} (= none)")
    if guidance not in ("linear", "constant", "off"):
        raise UsageError(f"guidance is {guidance!r}; it can be linear, constant or off")
    if not LEAST_TEMPERATURE <= temperature < math.inf:
        raise UsageError(f"temperature is {temperature}; it must be at least {LEAST_TEMPERATURE}")
    if not 0 <= top_p <= 1:
        raise UsageError(f"top_p is {top_p}; it must be from 0 (off) to 1")
    if not 0 <= top_k <= model.codes:
        raise UsageError(f"top_k is {top_k}; it must be from 0 (off) to {model.codes} codes")
    if not 0 <= mean_scales <= len(model.scales):
        raise UsageError(
            f"mean_scales is {mean_scales}; it must be from 0 (off) to {len(model.scales)} scales"
        )
    if (smooth or mean_scales) and isinstance(model, AR):
        name = "smooth" if smooth else "mean_scales"
        raise UsageError(f"{name} averages codes of whole scales; a next-token model has none")
    if not 0 <= cfg < math.inf:
        raise UsageError(f"cfg is {cfg}; it must be 0 (off) or more")
