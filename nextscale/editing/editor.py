"""Edits of pictures that no model was trained for (VAR Sec. 5.3): fill, extend, change, vary.

Each takes a pipeline, of which it is a method, and samples by `generation.generate`; some of
whose codes are put back. `masks` decides which.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from nextscale.config.model import SamplingConfig
from nextscale.config.seeds import seeds_from
from nextscale.editing import canvas, tasks
from nextscale.editing.candidates import Attempt, attempt, best_of
from nextscale.editing.canvas import Sides
from nextscale.editing.holes import fill_holes
from nextscale.editing.marks import Box, Masks, check_box, keep_of
from nextscale.editing.masks import Rule, first_scales, keep_per_scale
from nextscale.editing.seams import at_size
from nextscale.editing.seams import paste as paste_back
from nextscale.errors import UsageError, check_keywords
from nextscale.generation import likelihood
from nextscale.networks import Label, Networks, Pictures, as_pictures
from nextscale.pictures.pixels import to_pictures


def edit(
    pipe: Networks,
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
        drawing: `seed`, `seeds`, `candidates`, `watch` as `ranked`, and fields of
            `SamplingConfig`, of which `cfg` and `mean_scales` are 0 unless given.

    Returns:
        `candidates` pictures of each image, likeliest first, image by image. `picture.info`
        holds the `log_probability` of the tokens that were drawn, in nats, and the `seed`.

    Raises:
        UsageError: if something does not fit, is out of its range, or is an unknown option.
    """
    check_drawing(edit, drawing)
    pictures = as_pictures(image)
    images, keep = pipe.to_images(pictures), kept(pipe, mask, pictures)
    hidden = fill_holes(images, at_size(keep, images) == 1) if fill else images
    masks = keep_per_scale(keep, pipe.tokenizer.config.scales, rule)

    def draw(labels: Tensor, **options: Any) -> Attempt:
        found = attempt(pipe.model, pipe.tokenizer, hidden, masks, labels, recode=recode, **options)
        if not paste:
            return found
        return found._replace(images=paste_back(found.images, images, keep, feather))

    return ranked(pipe, draw, label, len(pictures), **drawing)


def inpaint(
    pipe: Networks, image: Pictures, mask: Masks = None, **options: Any
) -> list[Image.Image]:
    """Fills what is marked of pictures; see `edit`."""
    return edit(pipe, image, mask, **options)


def edit_class(
    pipe: Networks,
    image: Pictures,
    mask: Masks,
    label: Sequence[Label] | Label,
    **options: Any,
) -> list[Image.Image]:
    """Makes what is marked of pictures one of another class; see `edit`."""
    return edit(pipe, image, mask, label, **options)


def outpaint(
    pipe: Networks,
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
    check_drawing(outpaint, drawing)
    images, added = place(pipe, as_pictures(image), sides, box)

    def draw(labels: Tensor, **options: Any) -> Attempt:
        return canvas.outpaint(
            pipe.model,
            pipe.tokenizer,
            images,
            added,
            labels,
            overlap=overlap,
            rule=rule,
            recode=recode,
            feather=feather,
            **options,
        )

    return ranked(pipe, draw, label, len(images), **drawing)


def place(
    pipe: Networks, pictures: Sequence[Image.Image], sides: Sequence[int] | None, box: Box | None
) -> tuple[Tensor, Sides]:
    """Pictures as they lie in the canvas of `outpaint`, and how much larger it is."""
    height, width = pipe.tokenizer.config.image_size
    if box is not None and sides is None:
        check_box(box, width, height)
        left, top, right, bottom = box
        added = Sides(left, top, width - right, height - bottom)
        return pipe.to_images(pictures, (bottom - top, right - left)), added
    if sides is not None and box is None:
        return pipe.to_images(pictures), Sides.of(sides)
    raise UsageError("give either the sides to add or the box that the image fills")


def vary(
    pipe: Networks,
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
    check_drawing(vary, drawing)
    images = pipe.to_images(as_pictures(image))
    masks = first_scales(keep_scales, pipe.tokenizer.config.scales, pipe.device)

    def draw(labels: Tensor, **options: Any) -> Attempt:
        return attempt(pipe.model, pipe.tokenizer, images, masks, labels, **options)

    return ranked(pipe, draw, label, len(images), **drawing)


def interpolate(
    pipe: Networks, first: Image.Image, second: Image.Image, steps: int = 5
) -> list[Image.Image]:
    """Pictures from one to another, through what their tokens add up to.

    Args:
        first, second: of any size; their reconstructions are the ends.
        steps: pictures in all.
    """
    ends = pipe.to_images([first]), pipe.to_images([second])
    return to_pictures(tasks.interpolate(pipe.tokenizer, *ends, steps).flatten(0, 1))


def log_likelihood(
    pipe: Networks, image: Pictures, label: Sequence[Label] | Label = None
) -> list[float]:
    """Log-probability in nats of the tokens of each picture.

    Args:
        image: pictures of any size; they are resized and cropped to the model's.
        label: of all, or one each; None is without a class.
    """
    images = pipe.to_images(as_pictures(image))
    labels = pipe.read(label, len(images))
    return likelihood.log_likelihood(pipe.model, pipe.tokenizer, images, labels).tolist()


def ranked(
    pipe: Networks,
    draw: Callable[..., Attempt],
    label: Sequence[Label] | Label,
    count: int,
    *,
    candidates: int = 1,
    seed: int | None = 0,
    seeds: Sequence[int] | None = None,
    watch: Callable[[], None] | None = None,
    **options: Any,
) -> list[Image.Image]:
    """Pictures of edits, likeliest first.

    Args:
        draw: an edit of each of `count` images, of labels, with `seeds`, `sampling` and `watch`.
        candidates: n, edits of each image.
        seed: image i has the seed `seed` + i; candidates are `CANDIDATE_STEP` apart. None samples
            a fresh one.
        seeds: one an image, instead of `seed`.
        watch: called after every scale; what it raises ends the work.
        options: of sampling; see `edit_sampling`.
    """
    seeds = seeds_from(seed, count) if seeds is None else seeds
    if min(seeds) < 0:
        raise UsageError(f"seed is {min(seeds)}; it must be at least 0")
    if len(seeds) != count:
        raise UsageError(f"{len(seeds)} seeds are given for {count} images")
    labels, sampling = pipe.read(label, count), edit_sampling(pipe, options)
    found = best_of(
        lambda given: draw(labels, seeds=given, sampling=sampling, watch=watch), candidates, seeds
    )
    pictures = to_pictures(found.images.flatten(0, 1))
    scores, used = found.log_probabilities.flatten().tolist(), found.seeds.flatten().tolist()
    for picture, score, its_seed in zip(pictures, scores, used, strict=True):
        picture.info |= {"log_probability": score, "seed": its_seed}
    return pictures


def check_drawing(edit: Callable[..., object], given: Mapping[str, Any]) -> None:
    """Raises UsageError at an option that neither an edit nor its sampling takes."""
    if "generator" in given:
        raise UsageError("edits are sampled by seeds, not by a generator; give seed or seeds")
    check_keywords(given, edit, ranked, SamplingConfig)


def edit_sampling(pipe: Networks, given: Mapping[str, Any]) -> SamplingConfig:
    """Options of sampling of an edit: the checkpoint's, without guidance, unless `given`.

    Scales of means are off, too: edits are ranked by tokens, and tokens whose mean is shown do not
    stand in the image.
    """
    return pipe.sampling({"cfg": 0.0, "mean_scales": 0, **given})


def kept(pipe: Networks, mask: Masks, pictures: Sequence[Image.Image]) -> Tensor:
    """What is kept of pictures, (B, h, w), by one mask for all or one each."""
    config = pipe.tokenizer.config
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
    return torch.stack(found).to(pipe.device)
