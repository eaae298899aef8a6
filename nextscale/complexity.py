"""Parameters and floating-point operations of networks, and the machine's matrix-product peak."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nextscale.config.model import ModelConfig
from nextscale.scales import length, spans
from nextscale.tokenizer.tokenizer import Tokenizer

# Products whose better rate is called the peak: (m, k, n).
PEAK_PRODUCTS = ((2048, 2048, 2048), (512, 1024, 4096))


def parameters(module: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_flops(function: Callable[[], object]) -> int:
    """Floating-point operations (2 a multiply-add) of products and convolutions in one call."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def transformer_flops(config: ModelConfig) -> int:
    """Floating-point operations of one pass over all tokens of one image, in the products alone.

    Drawing with a cache costs the same. `count_flops` does not see fused attention on the CPU.
    """
    assert config.model is not None
    width, depth = config.model.width, config.model.depth
    scales, latent, codes = config.tokenizer.scales, config.tokenizer.latent, config.tokenizer.codes
    tokens, hidden = length(scales), round(width * config.model.mlp_ratio)
    pairs = sum((end - begin) * end for begin, end in spans(scales))  # queries times their keys
    block = tokens * (4 * width * width + 2 * width * hidden) + 2 * width * pairs
    modulation = 6 * width * width * (1 if config.model.shared_adaln else depth)
    words = length(scales[1:]) * latent * width
    head = tokens * width * codes + 2 * width * width
    return 2 * (depth * block + modulation + words + head)


def drawing_flops(config: ModelConfig, guided: bool, decodes: int = 1) -> int:
    """Floating-point operations of drawing one image.

    Args:
        config: of a checkpoint with a transformer.
        guided: whether each image is drawn with and without its class.
        decodes: pictures decoded on the way, one a scale where it is watched.
    """
    with torch.device("meta"), torch.inference_mode():
        tokenizer = Tokenizer(config.tokenizer)
        quantizer = tokenizer.quantizer
        full = quantizer.empty(1)  # (B, C, H, W)
        accumulating = count_flops(lambda: quantizer.accumulate(full, full, 0))
        decoding = count_flops(lambda: tokenizer.decode_accumulated(full))
    once = accumulating * len(config.tokenizer.scales) + decoding * decodes
    return transformer_flops(config) * (2 if guided else 1) + once


def measure_peak(
    device: torch.device,
    repeats: int = 5,
    products: Sequence[tuple[int, int, int]] = PEAK_PRODUCTS,
) -> float:
    """FLOP/s of the best fp32 matrix product on this device, right now."""
    best = 0.0
    for m, k, n in products:
        a, b = torch.randn(m, k, device=device), torch.randn(k, n, device=device)
        for i in range(repeats + 1):
            start = time.perf_counter()
            product = a @ b
            product[0, 0].item()  # waits for the device
            if i > 0:  # the first call warms up
                best = max(best, 2 * m * k * n / (time.perf_counter() - start))
    return best
