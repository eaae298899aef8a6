"""Many images: batches of consecutive numbers, a seed an image, rejection by a judge.

Image i has the seed `seeds[i]`, so that it depends on its own seed alone, whatever batches or
processes sample the others. Rejection keeps the images of which a judge is surest, as VQ-VAE-2
(arXiv 1906.00446 Sec. 3.3) and the last row of the VAR paper's ablation do.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nextscale.config.model import SamplingConfig
from nextscale.generation.generate import generate
from nextscale.generation.rejection import candidates, choose, own_class
from nextscale.models.model import Model
from nextscale.tokenizer.tokenizer import Tokenizer

# What is wanted (B, ...) and a seed an image to images (B, channels, H, W) in [-1, 1]: after every
# scale that is watched, the finished ones last.
Draw = Callable[[Tensor, Sequence[int] | None], list[Tensor]]
Judge = Callable[[Tensor], Tensor]  # images (B, channels, H, W) in [-1, 1] to log p (B, classes)


@dataclass(frozen=True)
class Draws:
    """Which images are sampled, and which of them are kept.

    Attributes:
        wanted: what each image shall show, as a condition reads it, (n, ...).
        seeds: of the sampled images, at least as many; None leaves chance to a generator.
        keep: share of the sampled images that is kept, those of which the judge is surest.
        judge: log-probabilities of the classes; None where all are kept.
        given: what each sampled image shall show.
    """

    wanted: Tensor
    seeds: Sequence[int] | None
    keep: float = 1.0
    judge: Judge | None = None
    given: Tensor = field(init=False)

    def __post_init__(self) -> None:
        given = self.wanted
        if self.judge is not None:
            labels = candidates(self.wanted.tolist(), self.keep)
            given = torch.tensor(labels, dtype=torch.long)
        object.__setattr__(self, "given", given)

    def parts(self, batch: int) -> list[range]:
        """Numbers of the sampled images in batches."""
        count = len(self.given)
        return [range(i, min(i + batch, count)) for i in range(0, count, batch)]

    def chosen(self, scores: Sequence[float]) -> list[int]:
        """Which of the sampled images serve the wanted ones, in the order of these.

        Args:
            scores: of all sampled images; empty where all are kept.
        """
        if self.judge is None:
            return list(range(len(self.wanted)))
        return choose(scores, self.given.tolist(), self.wanted.tolist())


@dataclass(frozen=True)
class Drawn:
    """A batch of sampled images.

    Attributes:
        part: their numbers.
        images: (B, channels, H, W) in [-1, 1] after every scale that was watched.
        scores: the judge's log-probability of each image's own class; empty without a judge.
    """

    part: range
    images: list[Tensor]
    scores: list[float]


def draw_many(draw: Draw, draws: Draws, parts: Iterable[range]) -> Iterator[Drawn]:
    """Samples batches of images, one after the other.

    Args:
        draw: samples one batch.
        draws: all images.
        parts: numbers of the images of each batch.
    """
    for part in parts:
        span = slice(part.start, part.stop)
        given = draws.given[span]
        images = draw(given, None if draws.seeds is None else draws.seeds[span])
        scores = []
        if draws.judge is not None:
            scores = own_class(draws.judge(images[-1]), given.tolist())
        yield Drawn(part, images, scores)


def drawing_of(
    model: Model,
    tokenizer: Tokenizer,
    sampling: SamplingConfig,
    *,
    generator: torch.Generator | None = None,
    grow: bool = False,
    tile: int = 0,
) -> Draw:
    """How a model samples a batch.

    Args:
        generator: one for all images, where they have no seeds.
        grow: whether images are decoded after every scale.
        tile: see `tokenizer.tiles.decode_tiled`.
    """

    def draw(given: Tensor, seeds: Sequence[int] | None) -> list[Tensor]:
        grown, state = [], None
        given = given.to(tokenizer.device)
        for state in generate(model, tokenizer, given, sampling, generator=generator, seeds=seeds):
            if grow:
                grown.append(state.image(tile))
        assert state is not None
        return grown or [state.image(tile)]

    return draw
