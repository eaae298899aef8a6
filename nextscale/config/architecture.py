"""The architecture of tokenizers, transformers and classifiers. No torch.

Every default of the project's networks lives here. Released values are those of arXiv 2404.02905.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from nextscale.config.building import ADDED
from nextscale.config.limits import (
    LARGEST_COUNT,
    LARGEST_DEPTH,
    LARGEST_SIDE,
    LARGEST_WIDTH,
    MOST_LEVELS,
)
from nextscale.config.registry import CODES, CONDITIONS, HEADS, ORDERS
from nextscale.errors import UsageError, check_range, shown
from nextscale.scales import Scales, describe, parse_scales

RELEASED_256 = (
    (1, 1),
    (2, 2),
    (3, 3),
    (4, 4),
    (5, 5),
    (6, 6),
    (8, 8),
    (10, 10),
    (13, 13),
    (16, 16),
)
RELEASED_512 = (
    (1, 1),
    (2, 2),
    (3, 3),
    (4, 4),
    (6, 6),
    (9, 9),
    (13, 13),
    (18, 18),
    (24, 24),
    (32, 32),
)


@dataclass(frozen=True)
class TokenizerConfig:
    """A multi-scale VQ tokenizer (VAR Sec. 3.2); the defaults are the released one at 256 pixels.

    Attributes:
        scales: the pyramid, coarse to fine; the last is the size of the feature map.
        image_channels: of the images, 1 (grey) or 3.
        width: channels at full resolution.
        multipliers: width of each level over `width`; each further level halves the resolution.
        blocks: residual blocks a level in the encoder; the decoder has one more.
        attention: self-attention at the lowest resolution, after each block there.
        groups: groups of every group norm.
        latent: C, channels of the feature map and of a code.
        code: what a token is: `vq`, the nearest of `codes` learned vectors; `fsq`, one of `levels`
            fixed values in each channel.
        codes: V, size of the codebook; with `fsq` the product of the levels.
        levels: of `fsq` and codes like it, one number a channel; they determine `latent` and
            `codes`.
        phi: how the K scales share the convolutions φ: `partial` (`phi_count` of them, the nearest
            is taken), `shared` (one) or `each` (one a scale).
        phi_count: number of φ when they are shared in part.
        phi_ratio: φ(x) = (1 - ratio) x + ratio conv(x).
        z_norm: choose codes by cosine similarity instead of squared distance.
        commitment: β, weight of the commitment term.
    """

    scales: Scales = RELEASED_256
    image_channels: int = 3
    width: int = 160
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    attention: bool = True
    groups: int = 32
    latent: int = 32
    code: str = field(default="vq", metadata=ADDED)
    codes: int = 4096
    levels: tuple[int, ...] = field(default=(), metadata=ADDED)
    phi: Literal["partial", "shared", "each"] = "partial"
    phi_count: int = 4
    phi_ratio: float = 0.5
    z_norm: bool = False
    commitment: float = 0.25

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", parse_scales(self.scales))
        object.__setattr__(self, "multipliers", tuple(int(m) for m in self.multipliers))
        CODES.check(self.code)
        object.__setattr__(self, "levels", tuple(int(level) for level in self.levels))
        wrong = bool(self.levels) if self.code == "vq" else self.code == "fsq" and not self.levels
        if wrong or (self.levels and min(self.levels) < 2):
            raise UsageError(
                f"code is {self.code!r} and levels are {list(self.levels)}; vq takes none, fsq "
                "needs one or more, each at least 2"
            )
        if self.levels:
            object.__setattr__(self, "latent", len(self.levels))
            object.__setattr__(self, "codes", math.prod(self.levels))
        if any(len(scale) != 2 for scale in self.scales):
            raise UsageError(
                f"scales {describe(self.scales)} have not two sides each, as images need"
            )
        if self.image_channels not in (1, 3):
            raise UsageError(f"image_channels is {self.image_channels}; it can be 1 or 3")
        if self.phi not in ("partial", "shared", "each"):
            raise UsageError(f"phi is {self.phi!r}; it can be partial, shared or each")
        check_range(self, "width groups latent", 1, LARGEST_WIDTH)
        check_range(self, "blocks phi_count", 1, LARGEST_DEPTH)
        check_range(self, "codes", 1, LARGEST_COUNT)
        check_range(self, "phi_ratio", 0, 1)
        check_range(self, "commitment", 0, 1e6)
        if not self.multipliers or min(self.multipliers) < 1:
            raise UsageError(
                f"multipliers are {list(self.multipliers)}; give one or more, each >= 1"
            )
        if self.width % self.groups:
            raise UsageError(f"width {self.width} is not divisible by its {self.groups} groups")
        if max(self.multipliers) * self.width > LARGEST_WIDTH:
            raise UsageError(
                f"multipliers are {shown(list(self.multipliers))}; times the width {self.width} "
                f"they must be at most {LARGEST_WIDTH}"
            )
        levels = len(self.multipliers)
        if levels > MOST_LEVELS or max(self.image_size) > LARGEST_SIDE:
            raise UsageError(
                f"scales up to {describe(self.scales[-1:])} and {levels} multipliers make images "
                f"of more than {LARGEST_SIDE} pixels a side; give smaller scales or fewer levels"
            )

    @property
    def alphabet(self) -> tuple[int, ...]:
        """Sizes of the choices that make up a token."""
        return self.levels or (self.codes,)

    @property
    def downsampling(self) -> int:
        """Pixels a token of the finest scale covers along one side, a power of two."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of an image in pixels."""
        height, width = self.scales[-1]
        return height * self.downsampling, width * self.downsampling

    @property
    def phi_modules(self) -> int:
        """How many φ there are."""
        return {"partial": self.phi_count, "shared": 1, "each": len(self.scales)}[self.phi]


@dataclass(frozen=True)
class TransformerConfig:
    """A VAR transformer (VAR Sec. 3.1) or the next-token baseline of its first ablation row.

    Scales, codes and latent channels are its tokenizer's.

    Attributes:
        classes: number of classes; 0 trains without any condition. One more index means "none". A
            training takes the number that its data has.
        depth: number of transformer blocks.
        width: D; 0 means 64 a block, the paper's rule.
        heads: of the attention; 0 means one for every 64 channels of width.
        condition: what images are conditioned on; `class`, or a registered one.
        order: what is predicted at a time: `scales`, each map at once (VAR); `sub-steps`, parts of
            a map; or single tokens of a tokenizer with one scale: `raster`, `spiral` (from the
            centre) or `z-curve`.
        sub_steps: of `sub-steps`: in how many steps each scale is sampled, one number a scale.
        head: `softmax` over all tokens, or `channels`, one softmax a channel of the code; empty
            takes `channels` for codes that have several.
        norm: `layer`, or `rms` (root mean square).
        mlp: `gelu`, or `swiglu` (gated, two thirds as wide).
        positions: `learned`, one embedding a token, or `rotary` in two dimensions.
        adaln: modulate all norms by the condition; without it, only the start token carries it.
        shared_adaln: one AdaLN projection for all blocks plus an offset in each, as at 512 pixels.
        normalized_attention: L2-normalised queries and keys with a learned scale a head.
        mlp_ratio: hidden width of the MLP over D.
        drop_path: stochastic depth of the last block, rising linearly from 0 at the first; a
            negative value means 0.1 depth / 24, the paper's rule.
        gate_init: factor on the initial AdaLN gates; the paper takes 1e-3 (d16) to 5e-6 (d36).
    """

    classes: int = 1000
    depth: int = 16
    width: int = 0
    heads: int = 0
    condition: str = field(default="class", metadata=ADDED)
    order: str = "scales"
    sub_steps: tuple[int, ...] = field(default=(), metadata=ADDED)
    head: str = field(default="", metadata=ADDED)
    norm: Literal["layer", "rms"] = field(default="layer", metadata=ADDED)
    mlp: Literal["gelu", "swiglu"] = field(default="gelu", metadata=ADDED)
    positions: Literal["learned", "rotary"] = field(default="learned", metadata=ADDED)
    adaln: bool = True
    shared_adaln: bool = False
    normalized_attention: bool = True
    mlp_ratio: float = 4.0
    drop_path: float = -1.0
    gate_init: float = 1e-3

    def __post_init__(self) -> None:
        check_range(self, "classes", 0, LARGEST_COUNT)
        check_range(self, "width heads", 0, LARGEST_WIDTH)
        check_range(self, "depth", 1, LARGEST_DEPTH)
        check_range(self, "mlp_ratio", 1e-9, 64)
        check_range(self, "gate_init", 1e-9, 1e3)
        check_range(self, "drop_path", -1, 0.99)
        CONDITIONS.check(self.condition)
        ORDERS.check(self.order)
        if self.head:
            HEADS.check(self.head)
        object.__setattr__(self, "sub_steps", tuple(int(count) for count in self.sub_steps))
        if (self.order == "sub-steps") != bool(self.sub_steps):
            raise UsageError(
                f"order is {self.order!r} and sub_steps are {list(self.sub_steps)}; give both "
                "--model.order sub-steps and one number a scale, or neither"
            )
        if self.shared_adaln and not self.adaln:
            raise UsageError("shared_adaln needs adaln; switch both on or both off")
        width = self.width or 64 * self.depth
        heads = self.heads or max(1, width // 64)
        if width < 1 or heads < 1 or width % heads:
            raise UsageError(f"width {width} is not divisible by {heads} heads")
        if self.positions == "rotary" and width // heads % 4:
            raise UsageError(
                f"rotary positions need heads of a multiple of 4 channels; width {width} gives "
                f"{heads} heads {width // heads} each"
            )
        object.__setattr__(self, "width", width)
        object.__setattr__(self, "heads", heads)
        if self.drop_path < 0:
            object.__setattr__(self, "drop_path", 0.1 * self.depth / 24)


@dataclass(frozen=True)
class ClassifierConfig:
    """A classifier that judges images.

    Attributes:
        classes: number of classes.
        image_size: (height, width) of the images that it was trained on, in pixels.
        image_channels: 1 or 3.
        width: channels at full resolution; each further level doubles them.
        levels: resolutions, each half of the one before.
        blocks: residual blocks a level.
        groups: groups of every group norm.
        labels: names of the classes, in the order of their numbers.
        data: the data set's name.
    """

    classes: int = 10
    image_size: tuple[int, int] = (28, 28)
    image_channels: int = 1
    width: int = 32
    levels: int = 3
    blocks: int = 2
    groups: int = 8
    labels: tuple[str, ...] = ()
    data: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", tuple(self.image_size))
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.image_channels not in (1, 3):
            raise UsageError(f"image_channels is {self.image_channels}; it can be 1 or 3")
        check_range(self, "classes", 1, LARGEST_COUNT)
        check_range(self, "width groups", 1, LARGEST_WIDTH)
        check_range(self, "blocks", 1, LARGEST_DEPTH)
        check_range(self, "levels", 1, MOST_LEVELS)
        if len(self.image_size) != 2 or not all(1 <= n <= LARGEST_SIDE for n in self.image_size):
            raise UsageError(
                f"image_size is {shown(self.image_size)}; it must be height and width, each from 1 "
                f"to {LARGEST_SIDE}"
            )
        if self.width << (self.levels - 1) > LARGEST_WIDTH:
            raise UsageError(
                f"{self.levels} levels double the width {self.width} beyond {LARGEST_WIDTH}; give "
                "fewer"
            )
        if self.width % self.groups:
            raise UsageError(f"width {self.width} is not divisible by its {self.groups} groups")
