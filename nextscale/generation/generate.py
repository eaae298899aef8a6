"""Samples a batch of images step by step: predict, guide, filter, sample, accumulate."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nextscale.config.model import SamplingConfig
from nextscale.cost.room import check_drawing_room
from nextscale.errors import UsageError
from nextscale.generation.sampling import draw, guide, keep_top_k, keep_top_p, soften
from nextscale.machine.devices import constant
from nextscale.models.model import Model
from nextscale.models.orders import Step
from nextscale.scales import Scale, position
from nextscale.tokenizer.tiles import decode_tiled
from nextscale.tokenizer.tokenizer import Tokenizer

Constrain = Callable[[int, Tensor], Tensor]
Generators = Sequence[torch.Generator] | None


@dataclass(frozen=True)
class State:
    """What is known after a scale was sampled. Its tensors are never changed afterwards.

    Attributes:
        scale: (h, w) of the scale sampled last.
        tokens: int64 (B, h, w), this scale's, as sampled.
        accumulated: float32 (B, C, H, W), codes of all scales so far.
        seeds: of the images; empty if a generator samples them.
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


def strengths_of(model: Model, sampling: SamplingConfig) -> list[float]:
    """Guidance t at every step of a model; all 0 where it samples unguided.

    `linear` ramps it from 0 at the first scale to cfg at the last, as the released models do.
    """
    if sampling.guidance == "linear":
        return [sampling.cfg * model.order.progress(step) for step in range(model.steps)]
    return [sampling.cfg * (sampling.guidance == "constant")] * model.steps


def generate(
    model: Model,
    tokenizer: Tokenizer,
    given: Tensor,
    sampling: SamplingConfig | None = None,
    *,
    generator: torch.Generator | None = None,
    seeds: Sequence[int] | None = None,
    constrain: Constrain | None = None,
) -> Iterator[State]:
    """Samples a batch of images; yields a state after every scale.

    Args:
        given: what is wanted, as `model.condition.read` gives it: labels int64 (B,).
        sampling: options; the defaults unless given.
        generator: one for the batch, as the released code samples.
        seeds: one an image; then an image does not depend on the others of its batch.
        constrain: `(k, vectors (B, C, h, w)) -> vectors`, acts on the codes of scale k after each
            of its steps; cells of later steps are zero.

    Raises:
        UsageError: if an option or a label is out of its range, or the batch too large for the
            memory of the machine.
    """
    sampling = sampling or SamplingConfig()
    model.condition.check(given)
    check_sampling(model, sampling)
    if generator is not None and seeds is not None:
        raise UsageError("both generator and seeds are given; give one of them")
    if seeds is not None and len(seeds) != len(given):
        raise UsageError(f"{len(seeds)} seeds are given for {len(given)} labels")
    generators = None if generator is None else [generator]
    if seeds is not None:
        generators = [torch.Generator(given.device).manual_seed(seed) for seed in seeds]
    guided = any(strengths_of(model, sampling))
    check_drawing_room(model, len(given), guided)
    used = () if seeds is None else tuple(map(int, seeds))
    return sample_steps(model, tokenizer, given, sampling, generators, constrain, used)


def sample_steps(
    model: Model,
    tokenizer: Tokenizer,
    given: Tensor,
    sampling: SamplingConfig,
    generators: Generators = None,
    constrain: Constrain | None = None,
    seeds: tuple[int, ...] = (),
) -> Iterator[State]:
    """The loop of `generate`, once its options are checked.

    Args:
        generators: one for the batch, or one an image; None takes torch's global one.
        seeds: of the images, for the states.
    """
    batch, pyramid, order = len(given), tokenizer.quantizer, model.order
    strengths = strengths_of(model, sampling)
    guided = any(strengths)

    with torch.inference_mode():
        predict, x = prepare(model, given, guided)
        accumulated = pyramid.empty(batch)
    tokens = vectors = accumulated  # of the scale that is sampled

    for i, step in enumerate(order.steps):
        scale = model.scales[step.scale]
        with torch.inference_mode():
            logits = predict(x)[:, -len(step.cells) :]  # (B or 2B, l, V)
            if guided:
                logits = guide(*logits.chunk(2), strengths[i])  # (B, l, V)
            codes, mixed = sample(model, tokenizer, logits, sampling, step, generators)
            if step.whole:
                tokens = codes.view(batch, *scale)
                vectors = pyramid.lookup(tokens) if mixed is None else as_map(mixed, scale)
            else:
                if i == 0 or order.steps[i - 1].last:
                    tokens = codes.new_zeros(batch, *scale)
                    vectors = accumulated.new_zeros(batch, pyramid.latent, *scale)
                tokens = tokens.clone()
                vectors = vectors.clone(memory_format=torch.contiguous_format)  # flatten is a view
                cells = constant(step.cells, codes.device)
                tokens.flatten(1)[:, cells] = codes
                found = pyramid.lookup(codes.unsqueeze(1)).squeeze(2)  # (B, C, l)
                vectors.flatten(2)[:, :, cells] = found if mixed is None else mixed.mT
            if constrain is not None:
                vectors = constrain(step.scale, vectors)
            if step.last:
                accumulated = pyramid.accumulate(accumulated, vectors, step.scale)
            if i + 1 < model.steps:
                read = order.step_inputs(i + 1, pyramid, accumulated, vectors)  # (B, l, C)
                x = model.embed(i + 1, read)  # (B, l, D)
                x = x.repeat(2, 1, 1) if guided else x
        if step.last:
            yield State(scale, tokens, accumulated, tokenizer, seeds)


def sample(
    model: Model,
    tokenizer: Tokenizer,
    logits: Tensor,
    sampling: SamplingConfig,
    step: Step,
    generators: Generators,
) -> tuple[Tensor, Tensor | None]:
    """Samples the cells of a step.

    Args:
        logits: guided, (B, l, V).

    Returns:
        codes int64 (B, l); and the mean vectors (B, l, C) that stand for them, where `sampling`
        asks for means.
    """
    count, head = len(model.scales), model.head
    parts = [
        keep_top_p(keep_top_k(part / sampling.temperature, sampling.top_k), sampling.top_p)
        for part in head.split(logits)
    ]
    codes = head.join([draw(part, generators) for part in parts])
    # Cells of a step are sampled independently, so that neighbours may contradict each other; their
    # means do not. The means lack the variety of the scale.
    if step.scale >= count - sampling.mean_scales:
        shares = [part.softmax(-1) for part in parts]
    elif sampling.smooth:
        shares = [soften(part, position(step.scale, count), generators) for part in parts]
    else:
        return codes, None
    return codes, tokenizer.quantizer.code.average(shares)


def as_map(vectors: Tensor, scale: Scale) -> Tensor:
    """Vectors (B, l, C) of all cells of a scale as a map (B, C, h, w)."""
    return vectors.transpose(1, 2).unflatten(2, scale)


def prepare(model: Model, given: Tensor, guided: bool) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Computes once what depends on the condition alone.

    Returns:
        a function from the tokens of each step (B, l, D), in their order, to their logits
        (B, l, V); and the tokens of the first step. Both have 2B rows if guided, the second half
        without a condition.
    """
    everyone = torch.cat([given, model.condition.drop(given)]) if guided else given
    context = model.condition(everyone)
    modulations = model.transformer.modulations(context.vector)
    head_modulations = model.head_modulations(context.vector)
    before = context.slots().shape[1] - 1
    count = before + len(model.order.levels)
    cache = model.transformer.new_cache(len(everyone), count, context.mask)

    def predict(x: Tensor) -> Tensor:
        begin = max(0, cache.length - before)
        end = cache.length + x.shape[1] - before
        rotation = model.rotation(context, begin, end)
        return model.logits(model.step(x, modulations, cache, rotation), head_modulations)

    return predict, model.embed_start(context)


def last_state(states: Iterator[State]) -> State:
    """The state after the finest scale; the ones before are dropped."""
    return deque(states, maxlen=1).pop()


def check_sampling(model: Model, sampling: SamplingConfig) -> None:
    """Raises UsageError at options that a model cannot serve."""
    most = max(model.head.choices)
    if sampling.top_k > most:
        raise UsageError(f"top_k is {sampling.top_k}; it must be from 0 (off) to {most} codes")
    if sampling.mean_scales > len(model.scales):
        raise UsageError(
            f"mean_scales is {sampling.mean_scales}; it must be from 0 (off) to "
            f"{len(model.scales)} scales"
        )
    if (sampling.smooth or sampling.mean_scales) and not model.order.averages:
        name = "smooth" if sampling.smooth else "mean_scales"
        raise UsageError(f"{name} averages codes of whole scales; a next-token model has none")
