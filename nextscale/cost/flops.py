"""Parameters and floating-point operations of networks, counted where they run."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nextscale.config.architecture import TokenizerConfig, TransformerConfig
from nextscale.config.model import ModelConfig
from nextscale.models.model import build_model
from nextscale.tokenizer.pyramid import Pyramid
from nextscale.tokenizer.tokenizer import Tokenizer

COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


def parameters(module: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in module.parameters())


class FlopCounter(TorchDispatchMode):
    """Counts floating-point operations (2 a multiply-add) of products and convolutions.

    Attributes:
        flops: so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.formulas, self.flops = flop_formulas(), 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and torch would import its compiler to leave it out."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        formula = self.formulas.get(func._overloadpacket)
        if formula is None and made_of_others(func):
            with self:
                return func._op_dk(COMPOSITE, *args, **kwargs)
        made = func(*args, **kwargs)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=made)
        return made


@cache
def made_of_others(operator: Any) -> bool:
    """Whether an operator is written in others, which then are counted."""
    name = operator.name()
    return name.startswith("aten::") and torch._C._dispatch_has_kernel_for_dispatch_key(
        name, COMPOSITE
    )


def count_flops(function: Callable[[], object]) -> int:
    """Floating-point operations of products and convolutions in one call."""
    with FlopCounter() as counter:
        function()
    return counter.flops


@cache
def flop_formulas() -> dict[Any, Callable[..., int]]:
    """Torch's formulas of operators, with those of the CPU's fused attention."""
    from torch.utils import flop_counter

    aten = torch.ops.aten

    @flop_counter.register_flop_formula(torch.ops.nextscale.attend_stored)
    def stored(query: torch.Size, key: torch.Size, *rest: Any, **_: Any) -> int:
        end = rest[2] + key[2]  # tokens known, and the new ones
        known = (*key[:2], end, key[3])
        return flop_counter.sdpa_flop_count(query, known, known)

    @flop_counter.register_flop_formula(aten._scaled_dot_product_flash_attention_for_cpu)
    def attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
        return flop_counter.sdpa_flop_count(query, key, value)

    @flop_counter.register_flop_formula(aten._scaled_dot_product_flash_attention_for_cpu_backward)
    def backward(gradient: torch.Size, *inputs: Any, **__: Any) -> int:
        return flop_counter.sdpa_backward_flop_count(gradient, *inputs[:3])

    return flop_counter.flop_registry


def transformer_flops(config: ModelConfig) -> int:
    """Floating-point operations of one pass over all tokens of one image, in the products alone.

    Sampling with a cache costs about the same: only coarse scales, which share a masked attention
    call in this pass, cost less.
    """
    assert config.model is not None
    return pass_flops(config.model, config.tokenizer)


@cache
def pass_flops(config: TransformerConfig, tokenizer: TokenizerConfig) -> int:
    """`transformer_flops`, counted on the meta device."""
    with torch.device("meta"):
        model = build_model(config, tokenizer)
        given = model.condition.read([None], ()).to("meta")
        read = torch.empty(1, model.order.reads, model.latent)
        with torch.inference_mode():
            return count_flops(lambda: model(given, read))


def drawing_flops(config: ModelConfig, guided: bool, decodes: int = 1) -> int:
    """Floating-point operations of sampling one image.

    Args:
        config: of a checkpoint with a transformer.
        guided: whether each image is sampled with and without its condition.
        decodes: pictures decoded on the way, one a scale where it is watched.
    """
    sampled = transformer_flops(config) * (2 if guided else 1) + pyramid_flops(config.tokenizer)
    return sampled + decodes * decoder_flops(config.tokenizer)


@cache
def pyramid_flops(config: TokenizerConfig) -> int:
    """Floating-point operations of accumulating all scales of one image."""
    with torch.device("meta"), torch.inference_mode():
        pyramid = Pyramid(config)
        tokens = [torch.zeros(1, *scale, dtype=torch.long) for scale in config.scales]
        return count_flops(lambda: pyramid.accumulated_maps(tokens))


@cache
def decoder_flops(config: TokenizerConfig) -> int:
    """Floating-point operations of decoding one image, counted on the meta device."""
    with torch.device("meta"), torch.inference_mode():
        tokenizer = Tokenizer(config)
        accumulated = torch.empty(1, config.latent, *config.scales[-1])
        return count_flops(lambda: tokenizer.decode_accumulated(accumulated))
