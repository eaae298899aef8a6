"""What most people hold: a tokenizer and a transformer that sample, reconstruct and edit pictures.

It knows no files; `checkpoints` fills it. It delegates: edits are functions of `editing.editor`,
images are sampled by `generation.batches`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from nextscale.config.model import SamplingConfig
from nextscale.config.seeds import seeds_from
from nextscale.editing import editor
from nextscale.errors import UsageError, check_keywords
from nextscale.generation.batches import Draws, Judge, draw_many, drawing_of
from nextscale.generation.generate import State, generate
from nextscale.generation.rejection import check_judged
from nextscale.models.labels import Label
from nextscale.networks import Networks, Pictures, as_pictures
from nextscale.pictures.pixels import to_pictures


class Pipeline(Networks):
    """Samples images of classes, and reconstructs and edits images."""

    edit, inpaint, edit_class = editor.edit, editor.inpaint, editor.edit_class
    outpaint, vary, interpolate = editor.outpaint, editor.vary, editor.interpolate
    log_likelihood = editor.log_likelihood

    def states(
        self,
        labels: Sequence[Label] | Label,
        *,
        seed: int | None = 0,
        seeds: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> Iterator[State]:
        """A state after every scale for one batch; see `sample` for the arguments."""
        check_keywords(options, self.states, SamplingConfig)
        given = self.read(labels)
        if seeds is None and generator is None:
            seeds = seeds_from(seed, len(given))
        sampling = self.sampling(options)
        return generate(
            self.model, self.tokenizer, given, sampling, generator=generator, seeds=seeds
        )

    def sample(
        self,
        labels: Sequence[Label] | Label,
        *,
        seed: int | None = 0,
        seeds: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
        batch: int = 25,
        keep: float = 1.0,
        judge: Judge | None = None,
        tile: int = 0,
        **options: Any,
    ) -> list[Image.Image]:
        """Samples one image a label.

        Args:
            labels: names, or numbers as integers; None means no class. See `labels.label_number`.
            seed: image i is drawn with seed + i, so it does not depend on the others; None draws
                a fresh one.
            seeds: one an image, instead of `seed`.
            generator: one for all images, instead of seeds; as the released code samples.
            batch: images sampled at once.
            keep: share of the drawn images that is kept, the ones that `judge` is surest of;
                1 / keep as many are drawn, the seeds running over all of them.
            judge: as `classifiers.load_judge` gives it.
            tile: positions of the map a side, to decode large images in less memory and in parts;
                0 decodes them whole. See `decode_tiled`.
            options: fields of `SamplingConfig`; those not given are the checkpoint's.

        Returns:
            pictures; `picture.info["seed"]` holds the seed of each, unless a generator drew them.

        Raises:
            UsageError: at an unknown label, an unknown option, or one out of its range.
        """
        check_keywords(options, self.sample, SamplingConfig)
        wanted = self.read(labels).cpu()
        if batch < 1:
            raise UsageError(f"batch is {batch}; it must be at least 1")
        if (keep < 1) != (judge is not None):
            raise UsageError(f"keep is {keep}; below 1 it needs a judge, else none")
        if judge is not None and len(wanted):
            check_judged(wanted.tolist(), self.model.config.classes)
        draws = Draws(wanted, seeds, keep, judge)
        if seeds is None and generator is None:
            draws = replace(draws, seeds=seeds_from(seed, len(draws.given)))
        if draws.seeds is not None and len(draws.seeds) != len(draws.given):
            raise UsageError(f"{len(draws.seeds)} seeds are given for {len(draws.given)} labels")
        self.check_pictures(len(draws.given))
        draw = drawing_of(
            self.model, self.tokenizer, self.sampling(options), generator=generator, tile=tile
        )
        images: list[Image.Image] = []
        scores: list[float] = []
        for drawn in draw_many(draw, draws, draws.parts(batch)):
            pictures = to_pictures(drawn.images[-1])
            for number, picture in zip(drawn.part, pictures, strict=True):
                if draws.seeds is not None:
                    picture.info["seed"] = draws.seeds[number]
            images += pictures
            scores += drawn.scores
        return [images[i] for i in draws.chosen(scores)]

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
