"""Features of image sets: extracted once, kept in a cache, read from stored statistics."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray

from nextscale.errors import UsageError
from nextscale.evaluation.chunks import Arrays, Chunks
from nextscale.evaluation.metrics import Features, Statistics
from nextscale.evaluation.sets import ImageSet, Pixels, digest
from nextscale.judges.extractors import Extractor
from nextscale.scales import Scale, describe
from nextscale.storage.arrays import numbers, read_npz
from nextscale.storage.files import cache_folder, replacing_file

CHUNK = 250  # images seen at once; rounding may depend on it
SHOWN = 16  # characters of a hash

Advance = Callable[[int], None]


def quiet(images: int) -> None:
    """Tells nobody how many images are ready."""
    del images


def cache(settings: dict[str, Any]) -> Path:
    """Where features are kept that all these settings shape."""
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:SHOWN]
    return cache_folder("features") / name


def see(extractor: Extractor, pixels: Pixels) -> Arrays:
    """Features (B, F), logits (B, classes) and digests of pixels uint8 (B, H, W, channels)."""
    channels, (height, width) = pixels.shape[3], pixels.shape[1:3]
    check_size(extractor, (height, width))
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # (B, channels, H, W)
    if channels == 1:
        tensor = tensor.expand(-1, extractor.channels, -1, -1)
    elif extractor.channels == 1:
        raise UsageError("the extractor takes grey images; these are in colour")
    values, logits = extractor.extract(tensor.contiguous())
    digests = np.array([list(digest(image)) for image in pixels], np.uint8)  # (B, 16)
    return {"values": values.numpy(), "logits": logits.numpy(), "digests": digests}


def check_size(extractor: Extractor, size: Scale) -> None:
    """Raises UsageError if an extractor takes no images of this size."""
    if extractor.size not in (None, size):
        raise UsageError(
            f"the extractor takes images of {describe((extractor.size,))} pixels; these are "
            f"{describe((size,))}; give another --extractor, of `nextscale train classifier "
            f"--classifier.image-size {size[0]} {size[1]}` perhaps"
        )


def gathered(chunks: Chunks, extractor: str, chosen: NDArray[np.int64] | None = None) -> Features:
    """Features of all images of chunks, or of those chosen, ordered by their pixels."""
    digests = chunks.read("digests")
    chosen = np.arange(len(digests)) if chosen is None else chosen
    order = chosen[np.lexsort(digests[chosen].T[::-1])]
    return Features(extractor, chunks.read("values")[order], chunks.read("logits")[order])


def features_of(
    images: ImageSet, extractor: Extractor, state: PartialState, advance: Advance = quiet
) -> Features:
    """Features of finished images, from the cache or extracted and kept there.

    Raises:
        UsageError: if the extractor takes other images.
    """
    settings = {"images": images.identity, "extractor": extractor.identity}
    chunks = Chunks(cache(settings), len(images), CHUNK, settings, state)
    chunks.fill(lambda part: see(extractor, images.load(part.start, part.stop)), advance)
    return gathered(chunks, extractor.identity)


def write_statistics(features: Features, path: Path) -> None:
    """Stores features with mean and covariance as an `.npz` file that serves as a reference."""
    statistics = features.statistics()
    with replacing_file(path) as file:
        np.savez(
            file,  # pyright: ignore[reportArgumentType]
            extractor=np.array(features.extractor),
            values=features.values,
            logits=features.logits,
            mu=statistics.mean,
            sigma=statistics.covariance,
        )


def read_statistics(path: Path) -> Features | Statistics | None:
    """What `write_statistics` stored, or the `mu` and `sigma` of a published file; None if neither.

    Raises:
        UsageError: if the file is damaged.
    """
    arrays = read_npz(path)
    extractor = ""
    if "extractor" in arrays:
        name = arrays["extractor"]()
        if name.dtype.kind != "U" or name.ndim:
            raise UsageError(f"{path}: extractor is {name.dtype} {name.shape}; a text is needed")
        extractor = str(name)
    if {"extractor", "values", "logits"} <= arrays.keys():
        values, logits = (numbers(arrays[n], 2, f"{path}: {n}") for n in ("values", "logits"))
        if len(values) != len(logits):
            raise UsageError(f"{path} holds {len(values)} values and {len(logits)} logits")
        return Features(extractor, values, logits)
    if {"mu", "sigma"} <= arrays.keys():
        mean = numbers(arrays["mu"], 1, f"{path}: mu").astype(np.float64)
        covariance = numbers(arrays["sigma"], 2, f"{path}: sigma").astype(np.float64)
        if covariance.shape != (len(mean), len(mean)):
            raise UsageError(
                f"{path} holds mu {mean.shape} and sigma {covariance.shape}; "
                "(F,) and (F, F) are needed"
            )
        return Statistics(extractor, mean, covariance)
    return None
