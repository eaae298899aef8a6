"""Parameters and floating-point operations of networks; the machine's product peak and memory."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from nextscale.config.model import ModelConfig, TokenizerConfig
from nextscale.scales import areas, length, spans
from nextscale.tokenizer.autoencoder import SpatialAttention
from nextscale.tokenizer.tokenizer import Tokenizer


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
