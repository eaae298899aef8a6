"""What decoding in tiles saves, and how much its pictures differ from those decoded whole.

    python -m studies tiles [--json FILE]

Memory and seconds are those of a map of 512 pixels, decoded by the shape of the released tokenizer;
the difference is that of the bundled one, whose weights are trained, over test images.
"""

from typing import Any

import torch
from jsonargparse import Namespace

from nextscale.checkpoints import checkpoint
from nextscale.console.options import Parser
from nextscale.console.progress import progress
from nextscale.console.report import check_report, conclude
from nextscale.data.fashion_mnist import IMAGES, PARTS, find, read_idx
from nextscale.generation.generate import State
from nextscale.machine.heap import keep_freed_memory
from nextscale.machine.peaks import peak_alone
from nextscale.pictures.pixels import to_tensor
from nextscale.speed.timing import machine, stopwatch
from nextscale.tokenizer.tokenizer import Tokenizer

LARGE, BUNDLED = "var-d36-512", "fashion-mnist"
COUNT = 500  # test images
CPU = torch.device("cpu")


def decode_large(device: str, tile: int) -> float:
    """Decodes one map of the large tokenizer's shape, with fresh weights; gives the seconds."""
    keep_freed_memory()
    torch.manual_seed(0)
    with torch.device(device), torch.inference_mode():
        tokenizer = Tokenizer(checkpoint.config_of(LARGE).tokenizer).eval()
        maps = tokenizer.quantizer.empty(1) + torch.randn(1, 1, *tokenizer.config.scales[-1])
    state = State(tokenizer.config.scales[-1], torch.empty(0), maps, tokenizer)
    state.image(tile)  # warms up
    begin = stopwatch(CPU)
    state.image(tile)
    return stopwatch(CPU) - begin


def decode_once(device: str, tile: int) -> None:
    """`decode_large`, for its memory."""
    decode_large(device, tile)


@torch.inference_mode()
def difference(side: int, large: int, tile: int) -> float:
    """PSNR in dB, a mean over test images, of tiles of the same share of the bundled map."""
    tokenizer = checkpoint.load(BUNDLED).tokenizer
    images = to_tensor(read_idx(find(), f"{PARTS['validation']}-{IMAGES}")[:COUNT], 1)
    maps = tokenizer.quantizer.accumulated_maps(tokenizer.encode(images))[-1]
    state = State(tokenizer.config.scales[-1], torch.empty(0), maps, tokenizer)
    error = ((state.image() - state.image(round(side * tile / large))) / 2).square()
    return float((-10 * error.mean((1, 2, 3)).log10()).mean())


def measure() -> dict[str, Any]:
    """The report; its `rows` hold a size of tile each, 0 for none."""
    large = checkpoint.config_of(LARGE).tokenizer.scales[-1][0]
    side = checkpoint.config_of(BUNDLED).tokenizer.scales[-1][0]
    rows = []
    tiles = (0, 28, 24, 16)
    with progress("measuring", len(tiles), "tiles") as advance:
        for tile in tiles:
            row = {
                "tile": tile,
                "seconds": decode_large("cpu", tile),
                **peak_alone(decode_once, CPU, tile),
                "bundled_tile": round(side * tile / large),
                "psnr_db": difference(side, large, tile) if tile else None,
            }
            rows.append(row)
            advance(1)
    return {"model": LARGE, "bundled": BUNDLED, "images": COUNT, "rows": rows, **machine(CPU)}


def lines(report: dict[str, Any]) -> list[dict[str, str]]:
    """The report as rows of a table."""
    return [
        {
            "tile": str(row["tile"] or "whole"),
            "seconds": f"{row['seconds']:.2f}",
            "peak, GiB": f"{row['peak_memory_bytes'] / 2**30:.2f}",
            "tile of the bundled map": str(row["bundled_tile"] or "whole"),
            "PSNR to the whole, dB": "" if row["psnr_db"] is None else f"{row['psnr_db']:.1f}",
        }
        for row in report["rows"]
    ]


def add_arguments(parser: Parser) -> None:
    """Adds the options of `tiles`."""
    parser.add_argument("--json", type=str, default="", help="file of the report")


def run(options: Namespace) -> None:
    """Measures and prints."""
    check_report(options.json)
    report = measure()
    conclude(report, options.json, lines(report))
