"""Edits of pictures that no model was trained for (VAR Sec. 5.3): fill, extend, change, vary.

All sample by `sampling.generate`, some of whose codes are put back; `masks` decides which.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from nextscale.config.seeds import seeds_from
from nextscale.editing.candidates import Attempt, attempt, best_of
from nextscale.editing.canvas import Sides, outpaint
from nextscale.editing.holes import fill_holes
from nextscale.editing.marks import Box, Masks, check_box, keep_of
from nextscale.editing.masks import Rule, first_scales, keep_per_scale
from nextscale.editing.seams import at_size
from nextscale.editing.seams import paste as paste_back
from nextscale.editing.tasks import interpolate, redraw
from nextscale.errors import UsageError, check_keywords
from nextscale.generation.likelihood import log_likelihood
from nextscale.generation.sampling import generate
from nextscale.networks import Label, Networks, Pictures, as_pictures
from nextscale.pictures.pixels import to_pictures

INTERNAL = ("generator", "constrain", "labels")  # options of drawing that edits set themselves


class Editor(Networks):
    """Networks that edit pictures."""

    def edit(
        self,
        image: Pictures,
        mask: Masks = None,
        label: Sequence[Label] | Label = None,
        *,
        rule: Rule = "released",
        fill: bool = True,
        recode: bool = False,
        paste: bool = False,
        feather: int = 0,
        **drawing: Any,
    ) -> list[Image.Image]:
        """Redraws what is marked of pictures: fills holes or, with a label, changes a class.

        Args:
            image: pictures of any size; they are resized and cropped to the model's.
            mask: of all, or a list of one each: white, or inside a box, is redrawn; None redraws
                what is transparent. See `keep_of`.
            label: of all, or one each; None draws without a class.
            rule: by which a scale's positions are kept; see `keep_per_scale`.
            fill: whether what is marked is hidden from the model behind a smooth continuation of
                its surroundings. Otherwise coarse scales know it, as in the published code.
            recode: whether kept codes mend what is drawn beside them; see `redraw`.
            paste: whether pixels that are not marked are put back as they were.
            feather: then, width in pixels of the seam in which they fade.
            drawing: `seed`, `seeds`, `candidates` as `ranked`, and options of
                `sampling.generate`, of which `cfg` and `mean_scales` are 0 unless given.

        Returns:
            `candidates` pictures of each image, likeliest first, image by image. `picture.info`
            holds the `log_probability` of the tokens that were drawn, in nats, and the `seed`.

        Raises:
            UsageError: if something does not fit, is out of its range, or is an unknown option.
        """
        self.check_drawing(self.edit, drawing)
        pictures = as_pictures(image)
        images, keep = self.to_images(pictures), self.kept(mask, pictures)
        hidden = fill_holes(images, at_size(keep, images) == 1) if fill else images
        masks = keep_per_scale(keep, self.tokenizer.config.scales, rule)

        def draw(labels: Tensor, seeds: Sequence[int], **options: Any) -> Attempt:
            given = {"labels": labels, "seeds": seeds, "recode": recode, **options}
            found = attempt(self.model, self.tokenizer, hidden, masks, **given)
            if not paste:
                return found
            return found._replace(images=paste_back(found.images, images, keep, feather))

        return self.ranked(draw, label, len(pictures), **drawing)

    def inpaint(self, image: Pictures, mask: Masks = None, **options: Any) -> list[Image.Image]:
        """Fills what is marked of pictures; see `edit`."""
        return self.edit(image, mask, **options)

    def edit_class(
        self,
        image: Pictures,
        mask: Masks,
        label: Sequence[Label] | Label,
        **options: Any,
    ) -> list[Image.Image]:
        """Makes what is marked of pictures one of another class; see `edit`."""
        return self.edit(image, mask, label, **options)

    def outpaint(
        self,
        image: Pictures,
        sides: Sequence[int] | None = None,
        box: Box | None = None,
        label: Sequence[Label] | Label = None,
        *,
        overlap: float = 0.5,
        rule: Rule = "released",
        recode: bool = False,
        feather: int = 0,
        **drawing: Any,
    ) -> list[Image.Image]:
        """Continues pictures beyond their sides; give either `sides` or `box`.

        Args:
            image: pictures of any size; once resized and cropped, all their pixels are kept but
                for the seam.
            sides: pixels to add left, top, right and bottom of pictures that are resized and
                cropped to the model's size. The result is larger than the model's images.
            box: left, top, right and bottom in an image of the model's size, into which pictures
                are resized and cropped; all around them is drawn.
            label: of all, or one each; None draws without a class.
            overlap: share of a window of the model's size that its neighbour knows.
            rule, recode, feather, drawing: as in `edit`.

        Returns:
            as `edit`.

        Raises:
            UsageError: if something does not fit or is out of its range.
        """
        self.check_drawing(self.outpaint, drawing)
        images, added = self.place(as_pictures(image), sides, box)

        def draw(labels: Tensor, seeds: Sequence[int], **options: Any) -> Attempt:
            return outpaint(
                self.model,
                self.tokenizer,
                images,
                added,
                labels,
                seeds=seeds,
                overlap=overlap,
                rule=rule,
                recode=recode,
                feather=feather,
                **options,
            )

        return self.ranked(draw, label, len(images), **drawing)

    def place(
        self, pictures: Sequence[Image.Image], sides: Sequence[int] | None, box: Box | None
    ) -> tuple[Tensor, Sides]:
        """Pictures as they lie in the canvas of `outpaint`, and how much larger it is."""
        height, width = self.tokenizer.config.image_size
        if box is not None and sides is None:
            check_box(box, width, height)
            left, top, right, bottom = box
            added = Sides(left, top, width - right, height - bottom)
            return self.to_images(pictures, (bottom - top, right - left)), added
        if sides is not None and box is None:
            return self.to_images(pictures), Sides.of(sides)
        raise UsageError("give either the sides to add or the box that the image fills")

    def vary(
        self,
        image: Pictures,
        keep_scales: int,
        label: Sequence[Label] | Label = None,
        **drawing: Any,
    ) -> list[Image.Image]:
        """Pictures like the given ones: their first scales are kept, the finer ones drawn anew.

        Args:
            image: pictures of any size; they are resized and cropped to the model's.
            keep_scales: k; few keep the layout alone, all but one keep all but the texture.
            label: of all, or one each; None draws without a class.
            drawing: as in `edit`.

        Returns:
            as `edit`.

        Raises:
            UsageError: if k is out of range.
        """
        self.check_drawing(self.vary, drawing)
        images = self.to_images(as_pictures(image))
        masks = first_scales(keep_scales, self.tokenizer.config.scales, self.device)

        def draw(labels: Tensor, seeds: Sequence[int], **options: Any) -> Attempt:
            return attempt(
                self.model, self.tokenizer, images, masks, labels, seeds=seeds, **options
            )

        return self.ranked(draw, label, len(images), **drawing)

    def interpolate(
        self, first: Image.Image, second: Image.Image, steps: int = 5
    ) -> list[Image.Image]:
        """Pictures from one to another, through what their tokens add up to.

        Args:
            first, second: of any size; their reconstructions are the ends.
            steps: pictures in all.
        """
        ends = self.to_images([first]), self.to_images([second])
        return to_pictures(interpolate(self.tokenizer, *ends, steps).flatten(0, 1))

    def log_likelihood(self, image: Pictures, label: Sequence[Label] | Label = None) -> list[float]:
        """Log-probability in nats of the tokens of each picture.

        Args:
            image: pictures of any size; they are resized and cropped to the model's.
            label: of all, or one each; None is without a class.
        """
        images = self.to_images(as_pictures(image))
        labels = self.labels_of(label, len(images))
        return log_likelihood(self.model, self.tokenizer, images, labels).tolist()

    def ranked(
        self,
        draw: Callable[..., Attempt],
        label: Sequence[Label] | Label,
        count: int,
        *,
        candidates: int = 1,
        seed: int | None = 0,
        seeds: Sequence[int] | None = None,
        **options: Any,
    ) -> list[Image.Image]:
        """Pictures of edits, likeliest first.

        Args:
            draw: an edit of each of `count` images, of `labels`, by `seeds` and sampling options.
            candidates: n, edits of each image.
            seed: image i has the seed `seed` + i; candidates are `CANDIDATE_STEP` apart. None
                draws a fresh one.
            seeds: one an image, instead of `seed`.
        """
        seeds = seeds_from(seed, count) if seeds is None else seeds
        if min(seeds) < 0:
            raise UsageError(f"seed is {min(seeds)}; it must be at least 0")
        if len(seeds) != count:
            raise UsageError(f"{len(seeds)} seeds are given for {count} images")
        labels = self.labels_of(label, count)
        sampling = self.edit_sampling(options)
        found = best_of(lambda given: draw(labels, given, **sampling), candidates, seeds)
        pictures = to_pictures(found.images.flatten(0, 1))
        scores, used = found.log_probabilities.flatten().tolist(), found.seeds.flatten().tolist()
        for picture, score, its_seed in zip(pictures, scores, used, strict=True):
            picture.info |= {"log_probability": score, "seed": its_seed}
        return pictures

    def check_drawing(self, edit: Callable[..., object], given: Mapping[str, Any]) -> None:
        """Raises UsageError at an option that neither an edit nor its drawing takes."""
        if "generator" in given:
            raise UsageError("edits are drawn by seeds, not by a generator; give seed or seeds")
        check_keywords(given, edit, self.ranked, redraw, generate, hidden=INTERNAL)

    def edit_sampling(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Options of `sampling.generate` that an edit is drawn with.

        The model's own, but neither guidance nor scales of means (whose tokens, by which edits are
        ranked, do not stand in the image), unless `given`.
        """
        return {**vars(self.config.sampling), "cfg": 0.0, "mean_scales": 0, **given}

    def kept(self, mask: Masks, pictures: Sequence[Image.Image]) -> Tensor:
        """What is kept of pictures, (B, h, w), by one mask for all or one each."""
        config = self.tokenizer.config
        if isinstance(mask, list) and all(isinstance(side, int) for side in mask):
            mask = cast(Box, tuple(mask))
        masks = list(mask) if isinstance(mask, list) else [mask] * len(pictures)
        if len(masks) != len(pictures):
            raise UsageError(f"{len(masks)} masks are given for {len(pictures)} images")
        found = [
            keep_of(each, picture, config.image_size, config.scales[-1])
            for each, picture in zip(masks, pictures, strict=True)
        ]
        if len({keep.shape for keep in found}) > 1:
            raise UsageError("masks of pixels and of the finest scale are mixed; give one kind")
        return torch.stack(found).to(self.device)
