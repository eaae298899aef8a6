"""Orders: which cells are sampled together, given what.

A step is one evaluation of the network. It reads tokens and predicts some cells of one scale; the
first step reads the condition alone. All orders share one network and one loop of sampling.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nextscale.config.architecture import TransformerConfig
from nextscale.config.registry import ORDERS
from nextscale.errors import UsageError
from nextscale.machine.devices import constant
from nextscale.models.attention import Piece, causal_pieces
from nextscale.scales import Scale, Scales, areas, describe, position, spans

if TYPE_CHECKING:
    from nextscale.tokenizer.pyramid import Pyramid

LATTICE = (0.7548776662466927, 0.5698402909980532)  # 1 / p and 1 / p^2 of the plastic number p


@dataclass(frozen=True)
class Step:
    """What one evaluation of the network predicts.

    Attributes:
        scale: k.
        cells: numbers in rows of the cells that are predicted.
        whole: whether these are all cells of the scale.
        last: whether the scale is complete afterwards.
    """

    scale: int
    cells: tuple[int, ...]
    whole: bool
    last: bool


class Order(ABC):
    """What every order offers over a pyramid of L tokens.

    Attributes:
        scales: the pyramid.
        steps: in their order.
        spans: first token that each step reads, and the one after its last; of N tokens in all.
        levels: scale of each of the N tokens.
        cells: where each of them stands: a number among the L tokens in rows.
        positions: its number among the L position embeddings.
        known: whether it stands for a sampled cell instead of one to be predicted.
        predictors: which of the N tokens predicts each of the L tokens.
        averages: whether all cells of a scale are there before the next step reads them.
    """

    steps: list[Step]
    spans: list[tuple[int, int]]
    levels: list[int]
    cells: list[int]
    positions: list[int]
    known: list[bool]
    predictors: list[int]
    averages = True

    def __init__(self, config: TransformerConfig, scales: Scales) -> None:
        del config
        self.scales = scales

    @property
    def start(self) -> int:
        """Tokens that are predicted from the condition alone."""
        return len(self.steps[0].cells)

    @property
    def reads(self) -> int:
        """Tokens that it reads behind the start in a pass over all."""
        return len(self.levels) - self.start

    @cached_property
    def coordinates(self) -> tuple[float, ...]:
        """Row and column of each of the N tokens in units of the finest scale, one by one."""
        first = [begin for begin, _ in spans(self.scales)]
        found: list[float] = []
        for level, cell in zip(self.levels, self.cells, strict=True):
            scale = self.scales[level]
            sides = zip(divmod(cell - first[level], scale[1]), scale, self.scales[-1], strict=True)
            found += [index * finest / side for index, side, finest in sides]
        return tuple(found)

    def progress(self, step: int) -> float:
        """Where a step sits between the coarsest scale, 0, and the finest, 1; for guidance."""
        return position(self.steps[step].scale, len(self.scales))

    def pieces(self, before: int, device: torch.device) -> list[Piece]:
        """Attention calls of a pass over all N tokens, behind `before` tokens of the condition."""
        return causal_pieces(self.behind(before), device)

    def behind(self, before: int) -> list[tuple[int, int]]:
        """The spans behind `before` tokens, which the first step reads too."""
        shifted = [(begin + before, end + before) for begin, end in self.spans]
        return [(0, shifted[0][1]), *shifted[1:]]

    @abstractmethod
    def teacher_inputs(self, pyramid: "Pyramid", tokens: list[Tensor]) -> Tensor:
        """What the network reads in training behind the start, (B, N - start, C).

        Args:
            tokens: K maps int64 (B, h, w).
        """

    @abstractmethod
    def step_inputs(
        self, step: int, pyramid: "Pyramid", accumulated: Tensor, vectors: Tensor
    ) -> Tensor:
        """What a step > 0 reads, (B, l, C).

        Args:
            accumulated: (B, C, H, W), the sum over all complete scales.
            vectors: (B, C, h, w) of the scale that the step before predicted; zero where unknown.
        """


class NextScale(Order):
    """Each whole map at once, from all coarser ones (VAR Sec. 3.1)."""

    def __init__(self, config: TransformerConfig, scales: Scales) -> None:
        super().__init__(config, scales)
        sizes = areas(scales)
        self.steps = [Step(k, tuple(range(size)), True, True) for k, size in enumerate(sizes)]
        self.spans = list(spans(scales))
        self.levels = [k for k, size in enumerate(sizes) for _ in range(size)]
        self.cells = self.positions = self.predictors = list(range(sum(sizes)))
        self.known = [False] * sum(sizes)

    def teacher_inputs(self, pyramid: "Pyramid", tokens: list[Tensor]) -> Tensor:
        return pyramid.teacher_inputs(tokens)

    def step_inputs(
        self, step: int, pyramid: "Pyramid", accumulated: Tensor, vectors: Tensor
    ) -> Tensor:
        del vectors
        shrunk = pyramid.shrink(accumulated, self.scales[self.steps[step].scale])
        return shrunk.flatten(2).transpose(1, 2)  # (B, l, C)


class SubSteps(Order):
    """Next-scale prediction whose scales are sampled in several steps, each seeing the ones before.

    A step reads the vectors of the cells that the step before sampled, at their places, and then
    the accumulated map at the cells that it predicts. Cells of a step lie apart from each other.

    Raises:
        UsageError: if `sub_steps` does not fit the scales.
    """

    def __init__(self, config: TransformerConfig, scales: Scales) -> None:
        super().__init__(config, scales)
        counts, sizes = config.sub_steps, areas(scales)
        fits = len(counts) == len(sizes) and all(
            1 <= count <= size for count, size in zip(counts, sizes, strict=True)
        )
        if not fits or counts[0] != 1:
            raise UsageError(
                f"sub_steps are {' '.join(map(str, counts))} and the scales {describe(scales)}; "
                "give one number a scale, 1 for the first, none above its number of tokens"
            )
        self.steps, self.spans, self.levels, self.known = [], [], [], []
        self.cells = self.positions = []
        self.predictors = [0] * sum(sizes)
        for k, (first, _) in enumerate(spans(scales)):
            before: tuple[int, ...] = ()
            for j, cells in enumerate(scattered(scales[k], counts[k])):
                self.steps.append(Step(k, cells, counts[k] == 1, j + 1 == counts[k]))
                begin = len(self.levels)
                for i, cell in enumerate((*before, *cells)):
                    self.known.append(i < len(before))
                    if not self.known[-1]:
                        self.predictors[first + cell] = len(self.levels)
                    self.levels.append(k)
                    self.cells.append(first + cell)
                self.spans.append((begin, len(self.levels)))
                before = cells

    def teacher_inputs(self, pyramid: "Pyramid", tokens: list[Tensor]) -> Tensor:
        empty = pyramid.empty(len(tokens[0]))
        maps = [empty, *pyramid.accumulated_maps(tokens[:-1], len(tokens))]
        inputs = [empty.flatten(2)[:, :, :0].mT]
        for i, step in enumerate(self.steps[1:], 1):
            vectors = pyramid.lookup(tokens[self.steps[i - 1].scale])
            inputs.append(self.step_inputs(i, pyramid, maps[step.scale], vectors))
        return torch.cat(inputs, 1)

    def step_inputs(
        self, step: int, pyramid: "Pyramid", accumulated: Tensor, vectors: Tensor
    ) -> Tensor:
        now, before = self.steps[step], self.steps[step - 1]
        read = pyramid.shrink(accumulated, self.scales[now.scale]).flatten(2)  # (B, C, hw)
        if not now.whole:
            read = read[:, :, constant(now.cells, read.device)]
        if not before.last:
            known = vectors.flatten(2)[:, :, constant(before.cells, read.device)]
            read = torch.cat([known, read], 2)
        return read.transpose(1, 2)  # (B, l, C)


class NextToken(Order):
    """Single tokens of a single map along a path, each from those before it (VAR Sec. 3.1).

    Raises:
        UsageError: if the pyramid has more than one scale.
    """

    averages = False

    def __init__(self, config: TransformerConfig, scales: Scales) -> None:
        super().__init__(config, scales)
        if len(scales) != 1:
            raise UsageError(
                f"order {config.order} predicts the tokens of a single map, but the tokenizer has "
                f"the scales {describe(scales)}; train one with a single scale"
            )
        self.path = path_over(config.order, scales[0])
        count = len(self.path)
        self.steps = [
            Step(0, (cell,), count == 1, i + 1 == count) for i, cell in enumerate(self.path)
        ]
        self.spans = [(i, i + 1) for i in range(count)]
        self.levels, self.cells = [0] * count, self.path
        self.positions, self.known = list(range(count)), [False] * count  # along the path
        self.predictors = sorted(range(count), key=self.path.__getitem__)

    def progress(self, step: int) -> float:
        return position(step, len(self.path))

    def pieces(self, before: int, device: torch.device) -> list[Piece]:
        return causal_pieces(self.behind(before), device, before + len(self.path))

    def teacher_inputs(self, pyramid: "Pyramid", tokens: list[Tensor]) -> Tensor:
        vectors = pyramid.lookup(tokens[0]).flatten(2).transpose(1, 2)  # (B, L, C)
        return vectors[:, constant(self.path[:-1], vectors.device)]

    def step_inputs(
        self, step: int, pyramid: "Pyramid", accumulated: Tensor, vectors: Tensor
    ) -> Tensor:
        del pyramid, accumulated
        return vectors.flatten(2)[:, None, :, self.path[step - 1]]  # (B, 1, C)


def build_order(config: TransformerConfig, scales: Scales) -> Order:
    """The order that a configuration names, over a pyramid."""
    return ORDERS.load(config.order)(config, scales)


def scattered(scale: Scale, count: int) -> list[tuple[int, ...]]:
    """The cells of a map in `count` groups of about equal size, each spread over the map.

    Groups are slices of a rank-1 lattice, which gives neighbours distant ranks.
    """
    height, width = scale

    def rank(cell: int) -> float:
        y, x = divmod(cell, width)
        return (y * LATTICE[0] + x * LATTICE[1]) % 1

    ranked = sorted(range(height * width), key=rank)
    bounds = [len(ranked) * j // count for j in range(count + 1)]
    return [tuple(sorted(ranked[a:b])) for a, b in pairwise(bounds)]


def path_over(order: str, scale: Scale) -> list[int]:
    """The map's tokens, numbered in rows, in the order in which they are predicted.

    Args:
        order: `raster` goes by rows; `spiral` from the centre outwards, clockwise; `z-curve` by the
            interleaved bits of row and column.
        scale: (h, w).
    """
    height, width = scale
    places = [(y, x) for y in range(height) for x in range(width)]
    if order == "spiral":
        places = spiral(height, width)
    elif order == "z-curve":
        places.sort(key=lambda place: interleaved(*place))
    return [y * width + x for y, x in places]


def spiral(height: int, width: int) -> list[tuple[int, int]]:
    """All places (row, column), from the centre outwards."""
    y, x, inside = (height - 1) // 2, (width - 1) // 2, []
    dy, dx, run = 0, 1, 1
    while len(inside) < height * width:
        for _ in range(2):  # two runs of every length
            for _ in range(run):
                if 0 <= y < height and 0 <= x < width:
                    inside.append((y, x))
                y, x = y + dy, x + dx
            dy, dx = dx, -dy
        run += 1
    return inside


def interleaved(y: int, x: int) -> int:
    """Morton code: the bits of row and column in turn."""
    bits = max(y, x).bit_length()
    return sum((x >> b & 1) << 2 * b | (y >> b & 1) << 2 * b + 1 for b in range(bits))
