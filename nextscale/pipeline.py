"""What most people hold: a tokenizer and a transformer that draw and reconstruct pictures.

It knows no files; `checkpoint` fills it.
"""

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from nextscale.acceleration import compile_networks, quantize_linear
from nextscale.config.model import ModelConfig
from nextscale.errors import UsageError
from nextscale.models.build import Model
from nextscale.pixels import crop_to, to_pictures, to_tensor, upright
from nextscale.rejection import candidates, choose, own_class
from nextscale.sampling import State, generate, last_state
from nextscale.scales import describe
from nextscale.tokenizer.tokenizer import Tokenizer

Label = int | str | None
Judge = Callable[[Tensor], Tensor]  # images (B, channels, H, W) in [-1, 1] to log p (B, classes)


class Pipeline:
    """Draws images of classes and reconstructs images.

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
        return self.tokenizer.quantizer.codebook.device

    def to(self, device: torch.device | str) -> "Pipeline":
        """Moves all weights to a device and returns itself."""
        self.tokenizer.to(device)
        if self.maybe_model is not None:
            self.maybe_model.to(device)
        return self

    def compile(self) -> "Pipeline":
        """Runs the networks through torch.compile and returns itself; see `compile_networks`.

        Raises:
            UsageError: if this is a tokenizer alone, or there is no C++ compiler.
        """
        compile_networks(self.model.transformer, self.tokenizer)
        return self

    def quantize(self) -> "Pipeline":
        """Makes the transformer multiply in int8 and returns itself; see `quantize_linear`.

        Fast together with `compile`. It can draw then, not be saved.

        Raises:
            UsageError: if this is a tokenizer alone, or torchao is not installed.
        """
        quantize_linear(self.model.transformer)
        self.quantized = True
        return self

    def label_numbers(self, labels: Sequence[Label]) -> Tensor:
        """Numbers int64 (B,) of labels given by number or name; None means no class.

        Raises:
            UsageError: at a name or number that the model does not know.
        """
        classes, names = self.model.config.classes, self.config.labels
        numbers = []
        for label in labels:
            if label is None:
                numbers.append(classes)
            elif isinstance(label, str) and label.lstrip("-").isdigit():
                numbers.append(int(label))
            elif isinstance(label, str):
                lowered = [name.lower() for name in names]
                if label.lower() not in lowered:
                    known = ", ".join(names) if 0 < len(names) <= 50 else numbered(classes)
                    raise UsageError(f"unknown label {label!r}; the model knows {known}")
                numbers.append(lowered.index(label.lower()))
            else:
                numbers.append(int(label))
        wrong = [n for n in numbers if not 0 <= n <= classes]
        if wrong:
            raise UsageError(
                f"label {wrong[0]} is out of range; the model knows {numbered(classes)}"
            )
        return torch.tensor(numbers, dtype=torch.long, device=self.device)

    def states(
        self,
        labels: Sequence[Label] | Label,
        *,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        **options: Any,
    ) -> Iterator[State]:
        """A state after every scale for one batch; see `sample` for the arguments."""
        numbers = self.label_numbers(as_list(labels))
        if seeds is None and options.get("generator") is None:
            seeds = range(seed, seed + len(numbers))
        sampling = {**vars(self.config.sampling), **options}
        return generate(self.model, self.tokenizer, numbers, seeds=seeds, **sampling)

    def sample(
        self,
        labels: Sequence[Label] | Label,
        *,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        batch: int = 25,
        keep: float = 1.0,
        judge: Judge | None = None,
        tile: int = 0,
        **options: Any,
    ) -> list[Image.Image]:
        """Draws one image a label.

        Args:
            labels: numbers or names; None means no class.
            seed: image i is drawn with seed + i, so it does not depend on the others.
            seeds: one an image, instead of `seed`.
            batch: images drawn at once.
            keep: share of the drawn images that is kept, the ones that `judge` is surest of;
                1 / keep as many are drawn, the seeds running over all of them.
            judge: as `classifiers.load_judge` gives it.
            tile: positions of the map a side, to decode large images in less memory and in parts;
                0 decodes them whole. See `decode_tiled`.
            options: as `sampling.generate`; what is not given is taken from the configuration.

        Raises:
            UsageError: at an unknown label or an option out of its range.
        """
        wanted = self.label_numbers(as_list(labels)).tolist()
        if batch < 1:
            raise UsageError(f"batch is {batch}; it must be at least 1")
        if (keep < 1) != (judge is not None):
            raise UsageError(f"keep is {keep}; below 1 it needs a judge, else none")
        drawn = wanted if judge is None else candidates(wanted, keep)
        if seeds is None and options.get("generator") is None:
            seeds = range(seed, seed + len(drawn))
        if seeds is not None and len(seeds) != len(drawn):
            raise UsageError(f"{len(seeds)} seeds are given for {len(drawn)} labels")
        images: list[Image.Image] = []
        scores: list[float] = []
        for start in range(0, len(drawn), batch):
            part = slice(start, start + batch)
            given = None if seeds is None else seeds[part]
            image = last_state(self.states(drawn[part], seeds=given, **options)).image(tile)
            images += to_pictures(image)
            if judge is not None:
                scores += own_class(judge(image), drawn[part])
        return images if judge is None else [images[i] for i in choose(scores, drawn, wanted)]

    @torch.inference_mode()
    def reconstruct(self, image: Image.Image | Sequence[Image.Image]) -> list[Image.Image]:
        """Encodes and decodes pictures of any size; they are resized and cropped to the model's."""
        pictures = [image] if isinstance(image, Image.Image) else list(image)
        return to_pictures(self.tokenizer.decode(self.tokenizer.encode(self.to_images(pictures))))

    @torch.inference_mode()
    def pyramid(self, image: Image.Image) -> list[Image.Image]:
        """The picture decoded after each of the K scales."""
        tokens = self.tokenizer.encode(self.to_images([image]))
        maps = self.tokenizer.quantizer.accumulated_maps(tokens)
        return to_pictures(self.tokenizer.decode_accumulated(torch.cat(maps)))

    def to_images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Pictures resized, cropped and converted to the tokenizer's input (B, channels, H, W)."""
        config = self.tokenizer.config
        channels, size = config.image_channels, config.image_size
        fitted = [crop_to(upright(picture, channels), *size) for picture in pictures]
        return to_tensor(fitted, channels).to(self.device)

    def __repr__(self) -> str:
        model = self.config.model
        what = "tokenizer alone" if model is None else f"depth {model.depth}, width {model.width}"
        return f"Pipeline({what}, scales {describe(self.tokenizer.config.scales)})"


def as_list(labels: Sequence[Label] | Label) -> list[Label]:
    """One label or several as a list."""
    if labels is None or isinstance(labels, str | Integral):
        return [cast(Label, labels)]
    return list(cast(Sequence[Label], labels))


def numbered(classes: int) -> str:
    """The labels that a model of so many classes knows, in words."""
    if classes == 0:
        return "only none (no classes)"
    return f"{'0' if classes == 1 else f'0 to {classes - 1}'} and none"
