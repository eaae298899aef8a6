"""Parameters and floating-point operations of networks; the machine's product peak and memory."""

import platform
import resource
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nextscale.config.model import ModelConfig, TokenizerConfig
from nextscale.memory import check_memory
from nextscale.scales import areas, length, spans
from nextscale.tokenizer.autoencoder import SpatialAttention
from nextscale.tokenizer.tokenizer import Tokenizer

FLOAT = 4  # bytes of a float32
TRAINED = 4  # copies of the weights in training: themselves, gradients, two moments
# Products whose better rate is called the peak: (m, k, n).
PEAK_PRODUCTS = ((2048, 2048, 2048), (512, 1024, 4096))
QUICK_PRODUCT = (512, 1024, 2048)  # of a rate that is needed at once
LARGE_PRODUCT = (8192, 8192, 8192)  # of an accelerator, which the others leave mostly waiting


def parameters(module: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_flops(function: Callable[[], object]) -> int:
    """Floating-point operations (2 a multiply-add) of products and convolutions in one call."""
    from torch.utils.flop_counter import FlopCounterMode

    flop_formulas()
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


@cache
def flop_formulas() -> dict[Any, Callable[..., int]]:
    """Torch's formulas of operators, with those of the CPU's fused attention."""
    from torch.utils import flop_counter

    aten = torch.ops.aten

    @flop_counter.register_flop_formula(aten._scaled_dot_product_flash_attention_for_cpu)
    def attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
        return flop_counter.sdpa_flop_count(query, key, value)

    @flop_counter.register_flop_formula(aten._scaled_dot_product_flash_attention_for_cpu_backward)
    def backward(gradient: torch.Size, *inputs: Any, **__: Any) -> int:
        return flop_counter.sdpa_backward_flop_count(gradient, *inputs[:3])

    return flop_counter.flop_registry


def transformer_flops(config: ModelConfig) -> int:
    """Floating-point operations of one pass over all tokens of one image, in the products alone.

    Drawing with a cache costs the same.
    """
    assert config.model is not None
    width, depth = config.model.width, config.model.depth
    scales, latent, codes = config.tokenizer.scales, config.tokenizer.latent, config.tokenizer.codes
    tokens, hidden = length(scales), round(width * config.model.mlp_ratio)
    if config.model.order == "scales":
        pairs = sum((end - begin) * end for begin, end in spans(scales))  # queries times keys
        start = areas(scales)[0]
    else:
        pairs, start = tokens * (tokens + 1) // 2, 1
    block = tokens * (4 * width * width + 2 * width * hidden) + 2 * width * pairs
    modulation = 6 * width * width * (1 if config.model.shared_adaln else depth)
    modulation = (modulation + 2 * width * width) * config.model.adaln
    words = (tokens - start) * latent * width
    head = tokens * width * codes
    return 2 * (depth * block + modulation + words + head)


def drawing_flops(config: ModelConfig, guided: bool, decodes: int = 1) -> int:
    """Floating-point operations of drawing one image.

    Args:
        config: of a checkpoint with a transformer.
        guided: whether each image is drawn with and without its class.
        decodes: pictures decoded on the way, one a scale where it is watched.
    """
    scales, latent = config.tokenizer.scales, config.tokenizer.latent
    phis = 2 * len(scales) * areas(scales)[-1] * 9 * latent * latent
    drawn = transformer_flops(config) * (2 if guided else 1) + phis
    return drawn + decodes * decoder_flops(config.tokenizer)


def decoder_flops(config: TokenizerConfig, tokenizer: Tokenizer | None = None) -> int:
    """Floating-point operations of decoding one image, in convolutions and attention alone.

    Args:
        config: of the tokenizer.
        tokenizer: if it has been built already.
    """

    def weights(*modules: nn.Module) -> int:
        parts = [part for module in modules for part in module.modules()]
        return sum(part.weight.numel() for part in parts if isinstance(part, nn.Conv2d))

    if tokenizer is None:
        with torch.device("meta"):
            tokenizer = Tokenizer(config)
    decoder, area = tokenizer.decoder, areas(config.scales)[-1]
    products = area * weights(tokenizer.from_latent, decoder.conv_in, decoder.middle)
    for i, level in enumerate(decoder.levels):
        pixels = area * 4 ** (len(decoder.levels) - 1 - i)
        products += pixels * weights(level)
        if i > 0:
            products += 4 * pixels * weights(decoder.upsamples[str(i)])
    products += area * config.downsampling**2 * weights(decoder.conv_out)
    for part in decoder.modules():
        if isinstance(part, SpatialAttention):
            products += 2 * area * area * part.norm.num_channels
    return 2 * products


def drawing_bytes(config: ModelConfig, batch: int, guided: bool, itemsize: int) -> int:
    """Least memory in bytes that drawing a batch takes beside the weights.

    The keys and values of all tokens, and the logits of the finest scale, once as they are and once
    filtered. What `benchmark.estimate` predicts is exact and takes seconds.

    Args:
        config: of a checkpoint with a transformer.
        batch: images drawn at once.
        guided: whether each image is drawn with and without its class.
        itemsize: bytes of a number of the transformer's weights.
    """
    assert config.model is not None
    scales, codes = config.tokenizer.scales, config.tokenizer.codes
    cache = 2 * config.model.depth * length(scales) * config.model.width * itemsize
    drawn = areas(scales)[-1] if config.model.order == "scales" else 1  # tokens at once
    return batch * (2 if guided else 1) * (cache + 2 * drawn * codes * FLOAT)


def check_drawing_room(config: ModelConfig, batch: int, guided: bool, like: Tensor) -> None:
    """Raises UsageError if a batch has no room in this machine's memory, before it is drawn.

    Args:
        config, batch, guided: as in `drawing_bytes`.
        like: a weight of the transformer. An accelerator complains of its own memory.
    """
    if like.device.type == "cpu":
        needed = drawing_bytes(config, batch, guided, like.itemsize)
        check_memory(needed, f"drawing {batch:,} images at once", "give a smaller batch")


def processor() -> str:
    """The processor's name, from the operating system."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = dict(line.rstrip().split("\t: ", 1) for line in file if "\t: " in line)
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return lines.get("model name", platform.machine())


def measure_peak(
    device: torch.device,
    repeats: int = 5,
    products: Sequence[tuple[int, int, int]] = PEAK_PRODUCTS,
    dtype: torch.dtype = torch.float32,
) -> float:
    """FLOP/s of the best matrix product on this device, right now."""
    best = 0.0
    products = products if device.type == "cpu" else (*products, LARGE_PRODUCT)
    for m, k, n in products:
        a, b = (torch.randn(shape, device=device).to(dtype) for shape in ((m, k), (k, n)))
        for i in range(repeats + 1):
            start = time.perf_counter()
            product = a @ b
            product[0, 0].item()  # waits for the device
            if i > 0:  # the first call warms up
                best = max(best, 2 * m * k * n / (time.perf_counter() - start))
    return best


def peak_memory(device: torch.device) -> int:
    """Largest memory in bytes so far: of the device, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():  # rusage would begin with the peak of the process that started this one
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def check_room(make: Callable[[], nn.Module], what: str, copies: int) -> None:
    """Raises UsageError if a network has no room in this machine's memory, before it is made.

    Args:
        make: builds it.
        what: would take the memory, for the complaint.
        copies: of the weights that are held on a CPU: themselves, gradients, moments.
    """
    with torch.random.fork_rng(devices=()), torch.device("meta"):
        network = make()
    size = sum(weight.numel() * weight.itemsize for weight in network.parameters())
    held = 1 if torch.accelerator.is_available() else copies  # they are made on the CPU
    check_memory(held * size, what, "give a smaller width, depth, or number of codes")
