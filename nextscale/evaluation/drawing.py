"""Images that are made to be judged: sampled by a transformer, or reconstructed by a tokenizer.

Chunk by chunk, each image with its own seed; so they do not depend on the number of processes.
"""

import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nextscale.evaluation.chunks import Arrays, Chunks
from nextscale.evaluation.features import see
from nextscale.evaluation.sets import Pixels
from nextscale.generation.batches import Draw, Draws, draw_many
from nextscale.judges.extractors import Extractor
from nextscale.pictures.pixels import to_pixels, to_tensor
from nextscale.pipeline import Pipeline
from nextscale.storage.files import check_no_link, disk_errors, replacing_file, reserve


def make_chunk(draw: Draw, draws: Draws, part: range, extractor: Extractor) -> Arrays:
    """A chunk: pixels, features, and the seconds and the judge's scores of making them."""
    begin = time.perf_counter()
    (drawn,) = draw_many(draw, draws, [part])
    pixels = to_pixels(drawn.images[-1])
    seconds = time.perf_counter() - begin
    arrays = {"scores": np.array(drawn.scores)} if draws.judge is not None else {}
    arrays["seconds"] = np.full(len(part), seconds / len(part))
    return {"pixels": pixels, **see(extractor, pixels), **arrays}


@torch.inference_mode()
def reconstruct(
    pipe: Pipeline,
    pixels: Pixels,
    extractor: Extractor,
    perceptual: nn.Module | None,
) -> Arrays:
    """A chunk: features of reconstructions of pixels, error and SSIM of each image, their distance.

    Args:
        perceptual: distance of two batches, a scalar that each image of the chunk is given; None
            leaves it out.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    channels = pipe.tokenizer.config.image_channels
    images = to_tensor(pixels, channels).to(pipe.device)
    made = to_pixels(pipe.tokenizer.decode(pipe.tokenizer.encode(images)))
    again = to_tensor(made, channels).to(pipe.device)
    mse = (again - images).square().mean((1, 2, 3)).double()  # (B,)
    unit, unit_again = (images + 1) / 2, (again + 1) / 2  # SSIM depends on where black lies
    ssim = structural_similarity_index_measure(unit_again, unit, data_range=1.0, reduction="none")
    assert isinstance(ssim, Tensor)
    arrays = {
        **see(extractor, made),
        "mse": mse.cpu().numpy(),
        "ssim": ssim.double().flatten().cpu().numpy(),  # (B,)
    }
    if perceptual is not None:
        arrays["perceptual"] = np.full(len(made), float(perceptual(again, images)))
    return arrays


def write_npz(chunks: Chunks, chosen: NDArray[np.int64], path: Path) -> None:
    """Writes the chosen images as OpenAI's evaluator reads them: uint8 NHWC, RGB, `arr_0`.

    One chunk is in memory at a time.
    """
    beside = path.with_name(f".{path.name}.npy")
    first = chunks.read_chunk(0, "pixels")
    shape = (len(chosen), *first.shape[1:3], 3)
    check_no_link(path)
    beside.unlink(missing_ok=True)
    try:
        with disk_errors(path):
            np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape).flush()
        reserve(beside)
        array = np.lib.format.open_memmap(beside, mode="r+")
        for number in range(len(chunks)):
            begin = number * chunks.size
            pixels = first if number == 0 else chunks.read_chunk(number, "pixels")
            inside = (chosen >= begin) & (chosen < begin + len(pixels))
            array[inside] = pixels[chosen[inside] - begin]  # grey is repeated for RGB
        array.flush()
        del array
        with (
            replacing_file(path) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
            beside.open("rb") as source,
            archive.open("arr_0.npy", "w", force_zip64=True) as target,
        ):
            shutil.copyfileobj(source, target)
    finally:
        beside.unlink(missing_ok=True)
