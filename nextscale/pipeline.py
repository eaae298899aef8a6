"""What most people hold: a tokenizer and a transformer that draw, reconstruct and edit pictures.

It knows no files; `checkpoint` fills it. Its edits stand in `editing.editor`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from nextscale.config.seeds import seeds_from
from nextscale.editing.editor import Editor
from nextscale.errors import UsageError, check_keywords
from nextscale.generation.rejection import candidates, check_judged, choose, own_class
from nextscale.generation.sampling import State, generate, last_state
from nextscale.networks import Label, Pictures, as_list, as_pictures
from nextscale.pictures.pixels import to_pictures

Judge = Callable[[Tensor], Tensor]  # images (B, channels, H, W) in [-1, 1] to log p (B, classes)


class Pipeline(Editor):
    """Draws images of classes, and reconstructs and edits images."""

    def states(
        self,
        labels: Sequence[Label] | Label,
        *,
        seed: int | None = 0,
        seeds: Sequence[int] | None = None,
        **options: Any,
    ) -> Iterator[State]:
        """A state after every scale for one batch; see `sample` for the arguments."""
        check_keywords(options, self.states, generate)
        numbers = self.label_numbers(as_list(labels))
        if seeds is None and options.get("generator") is None:
            seeds = seeds_from(seed, len(numbers))
        sampling = {**vars(self.config.sampling), **options}
        return generate(self.model, self.tokenizer, numbers, seeds=seeds, **sampling)

    def sample(
        self,
        labels: Sequence[Label] | Label,
        *,
        seed: int | None = 0,
        seeds: Sequence[int] | None = None,
        batch: int = 25,
        keep: float = 1.0,
        judge: Judge | None = None,
        tile: int = 0,
        **options: Any,
    ) -> list[Image.Image]:
        """Draws one image a label.

        Args:
            labels: names, or numbers as integers; None means no class. See `labels.label_number`.
            seed: image i is drawn with seed + i, so it does not depend on the others; None draws
                a fresh one.
            seeds: one an image, instead of `seed`.
            batch: images drawn at once.
            keep: share of the drawn images that is kept, the ones that `judge` is surest of;
                1 / keep as many are drawn, the seeds running over all of them.
            judge: as `classifiers.load_judge` gives it.
            tile: positions of the map a side, to decode large images in less memory and in parts;
                0 decodes them whole. See `decode_tiled`.
            options: as `sampling.generate`; what is not given is taken from the configuration.

        Returns:
            pictures; `picture.info["seed"]` holds the seed of each, unless a generator drew them.

        Raises:
            UsageError: at an unknown label, an unknown option, or one out of its range.
        """
        check_keywords(options, self.sample, generate)
        wanted = self.label_numbers(as_list(labels)).tolist()
        if batch < 1:
            raise UsageError(f"batch is {batch}; it must be at least 1")
        if (keep < 1) != (judge is not None):
            raise UsageError(f"keep is {keep}; below 1 it needs a judge, else none")
        if judge is not None and wanted:
            check_judged(wanted, self.model.config.classes)
        drawn = wanted if judge is None else candidates(wanted, keep)
        if seeds is None and options.get("generator") is None:
            seeds = seeds_from(seed, len(drawn))
        if seeds is not None and len(seeds) != len(drawn):
            raise UsageError(f"{len(seeds)} seeds are given for {len(drawn)} labels")
        self.check_pictures(len(drawn))
        images: list[Image.Image] = []
        scores: list[float] = []
        for start in range(0, len(drawn), batch):
            part = slice(start, start + batch)
            given = None if seeds is None else seeds[part]
            state = last_state(self.states(drawn[part], seeds=given, **options))
            image = state.image(tile)
            pictures = to_pictures(image)
            for picture, used in zip(pictures, state.seeds, strict=False):  # empty: a generator's
                picture.info["seed"] = used
            images += pictures
            if judge is not None:
                scores += own_class(judge(image), drawn[part])
        return images if judge is None else [images[i] for i in choose(scores, drawn, wanted)]

    @torch.inference_mode()
    def reconstruct(self, image: Pictures) -> list[Image.Image]:
        """Encodes and decodes pictures of any size; they are resized and cropped to the model's."""
        images = self.to_images(as_pictures(image))
        return to_pictures(self.tokenizer.decode(self.tokenizer.encode(images)))

    @torch.inference_mode()
    def pyramid(self, image: Image.Image) -> list[Image.Image]:
        """The picture decoded after each of the K scales."""
        tokens = self.tokenizer.encode(self.to_images([image]))
        maps = self.tokenizer.quantizer.accumulated_maps(tokens)
        return to_pictures(self.tokenizer.decode_accumulated(torch.cat(maps)))
