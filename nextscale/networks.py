"""A tokenizer and a transformer that belong together, with what both need to meet people.

What users want is read here, and pictures become tensors. What is done with both is described in
`editing.editor` and `pipeline`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, Self, cast

import torch
from PIL import Image
from torch import Tensor

from nextscale.acceleration import compile_networks, quantize_linear
from nextscale.config.model import ModelConfig, SamplingConfig
from nextscale.errors import UsageError
from nextscale.machine.devices import usable_device
from nextscale.machine.memory import check_memory
from nextscale.models.labels import Label
from nextscale.models.model import Model
from nextscale.pictures.pixels import crop_to, is_grey, recoloured, to_tensor, upright
from nextscale.scales import describe
from nextscale.tokenizer.tokenizer import Tokenizer

Pictures = Image.Image | Sequence[Image.Image]


class Networks:
    """Both networks, where they run, and how labels and pictures reach them.

    Args:
        tokenizer: in eval mode.
        model: in eval mode; None for a tokenizer alone.
        config: of both, with label names and sampling defaults.
    """

    def __init__(self, tokenizer: Tokenizer, model: Model | None, config: ModelConfig) -> None:
        self.tokenizer = tokenizer.eval()
        self.maybe_model = None if model is None else model.eval()
        self.config = config
        self.quantized = False

    @property
    def model(self) -> Model:
        """The transformer. Raises UsageError if this is a tokenizer alone."""
        if self.maybe_model is None:
            raise UsageError(
                "this checkpoint holds a tokenizer alone; drawing needs a transformer too"
            )
        return self.maybe_model

    @property
    def device(self) -> torch.device:
        """Where the tokenizer's weights are."""
        return self.tokenizer.device

    def to(self, device: torch.device | str) -> Self:
        """Moves all weights to a device and returns itself; `auto` takes an accelerator if any."""
        device = usable_device(device)
        self.tokenizer.to(device)
        if self.maybe_model is not None:
            self.maybe_model.to(device)
        return self

    def compile(self) -> Self:
        """Runs the networks through torch.compile and returns itself; see `compile_networks`.

        Raises:
            UsageError: if this is a tokenizer alone, or there is no C++ compiler.
        """
        compile_networks(self.model, self.tokenizer)
        return self

    def quantize(self) -> Self:
        """Makes the transformer multiply in int8 and returns itself; see `quantize_linear`.

        Fast together with `compile`. It can draw then, not be saved.

        Raises:
            UsageError: if this is a tokenizer alone, or torchao is not installed.
        """
        quantize_linear(self.model.transformer)
        self.quantized = True
        return self

    def read(self, wanted: Sequence[Label] | Label, count: int | None = None) -> Tensor:
        """What users want as the model takes it, (B, ...), on the device.

        Args:
            wanted: one for all or one each: names of classes, or numbers as integers; None means
                no class. See `Condition.read`.
            count: number of images; that of what is wanted unless given.

        Raises:
            UsageError: at what the model does not know, or if the numbers do not fit.
        """
        read = self.model.condition.read(as_list(wanted), self.config.labels).to(self.device)
        if count is None:
            return read
        if len(read) not in (1, count):
            raise UsageError(f"{len(read)} labels are given for {count} images")
        return read.expand(count, *read.shape[1:])

    def say(self, given: Tensor) -> list[tuple[int | None, str]]:
        """The number of each class, None for none, and the text that `read` takes for it."""
        return self.model.condition.say(given, self.config.labels)

    def sampling(self, given: Mapping[str, Any]) -> SamplingConfig:
        """The checkpoint's options of sampling, with some replaced."""
        return replace(self.config.sampling, **given)

    def to_images(
        self, pictures: Sequence[Image.Image], size: tuple[int, int] | None = None
    ) -> Tensor:
        """Pictures resized, cropped and converted to tensors (B, channels, H, W) in [-1, 1].

        Args:
            size: (H, W); that of the tokenizer's input unless given.

        Raises:
            UsageError: if there are too many to be encoded in this machine's memory.
        """
        config = self.tokenizer.config
        channels, size = config.image_channels, size or config.image_size
        if self.device.type == "cpu":  # an accelerator complains of its own memory
            encoded = config.width * math.prod(size) * self.tokenizer.from_latent.weight.itemsize
            what = f"encoding {len(pictures):,} pictures at once"
            check_memory(len(pictures) * encoded, what, "give a smaller batch")
        fitted = [crop_to(upright(picture, channels), *size) for picture in pictures]
        return to_tensor(fitted, channels).to(self.device)

    def check_pictures(self, count: int) -> None:
        """Raises UsageError if this machine's memory cannot hold `count` pictures at a time."""
        config = self.tokenizer.config
        size = math.prod(config.image_size) * config.image_channels
        check_memory(count * size, f"{count:,} pictures in memory", "draw fewer")

    def changes(self, picture: Image.Image) -> list[str]:
        """What `to_images` does to a picture, in words; empty if it fits as it is."""
        config, found = self.tokenizer.config, []
        height, width = config.image_size
        if picture.size != (width, height):
            found.append(f"resized and cut to {width}x{height}")
        colours = recoloured(is_grey(picture), config.image_channels)
        return [*found, *[colours] * bool(colours)]

    def __repr__(self) -> str:
        model = self.config.model
        what = "tokenizer alone" if model is None else f"depth {model.depth}, width {model.width}"
        return f"{type(self).__name__}({what}, scales {describe(self.tokenizer.config.scales)})"


def as_pictures(image: Pictures) -> list[Image.Image]:
    """One picture or several as a list. Raises UsageError if there are none, or other things."""
    pictures = [image] if isinstance(image, Image.Image) else list(image)
    wrong = [picture for picture in pictures if not isinstance(picture, Image.Image)]
    if not pictures or wrong:
        found = type(wrong[0]).__name__ if wrong else "nothing"
        raise UsageError(f"pictures (PIL.Image.Image) are needed; {found} is given")
    return pictures


def as_list(labels: Sequence[Label] | Label) -> list[Label]:
    """One label or several as a list."""
    if labels is None or isinstance(labels, str | Integral | float):  # a float is then refused
        return [cast(Label, labels)]
    return list(cast(Sequence[Label], labels))
