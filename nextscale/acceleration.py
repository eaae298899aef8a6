"""What makes drawing faster than the networks as written: compiled blocks, int8, kept memory.

Compiling changes rounding alone; int8 is an approximation. Both act on networks in place.
"""

import logging
import os
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch

from nextscale.errors import UsageError
from nextscale.machine.instructions import can_compile
from nextscale.models.model import Model
from nextscale.models.trunk import Transformer
from nextscale.storage.files import cache_folder
from nextscale.tokenizer.tokenizer import Tokenizer

MOST_STEPS = 64  # that are compiled one by one
GRAPHS = 1024  # that a process may compile blocks for: models, or scales times sizes of batch


def compile_networks(model: Model, tokenizer: Tokenizer) -> None:
    """Runs every block, and on an accelerator the decoder, through torch.compile.

    The first image takes longer; kernels are kept on disk, in `kernels()`.

    Raises:
        UsageError: if there is nothing to compile with, or a model of many steps would run on an
            accelerator.
    """
    check_compiler()
    keep_kernels()
    if next(model.parameters()).device.type == "cpu":
        compile_for_any_size(model.transformer)
    else:
        compile_for_each_size(model, tokenizer)


def check_compiler() -> None:
    """Raises UsageError if there is nothing to compile with."""
    if not can_compile():
        raise UsageError("compiling needs a C++ compiler (g++) and the headers of Python")


def compile_for_any_size(transformer: Transformer) -> None:
    """One graph with symbolic sizes for all scales, batches and blocks.

    A single token and a single row are cases of their own. The decoder stays as it is, which
    measured faster on a CPU than compiled.
    """
    from torch.fx.experimental import _config as symbols

    # Else a batch of as many images as heads would be a graph of its own. The whole process takes
    # it: torch asks whenever it compiles.
    symbols.use_duck_shape = False
    for block in transformer.blocks:
        block.compile(fullgraph=True, dynamic=True, recompile_limit=GRAPHS)


def compile_for_each_size(model: Model, tokenizer: Tokenizer) -> None:
    """A graph of fixed sizes for every scale and size of batch, replayed as CUDA graphs.

    They are parted at the attention, whose cache is written in place.

    Raises:
        UsageError: if the model has too many steps.
    """
    if model.steps > MOST_STEPS:
        raise UsageError(
            f"on an accelerator every step is compiled by itself, and this model has {model.steps} "
            "steps; leave --compile out"
        )
    limits = torch._dynamo.config
    limits.accumulated_recompile_limit = max(GRAPHS, limits.accumulated_recompile_limit)
    for network in (*model.transformer.blocks, tokenizer.decoder):
        network.compile(
            fullgraph=True, dynamic=False, mode="reduce-overhead", recompile_limit=GRAPHS
        )
    # Replayed graphs write where they wrote before. What one block gives must last until the next
    # has read it, so steps of sampling are marked; so is decoding, of which
    # `from_latent` is the first part. Cache, logits and images are copies that outlive a step.
    for first in (model.transformer, tokenizer.from_latent):
        first.register_forward_pre_hook(begin_step)


def begin_step(*_: object) -> None:
    """Lets CUDA graphs overwrite what those of the step before gave."""
    torch.compiler.cudagraph_mark_step_begin()


def keep_kernels() -> None:
    """Tells torch where compiled kernels are kept, before it takes a place of its own."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(kernels()))


def kernels() -> Path:
    """Where compiled kernels are kept, unless TORCHINDUCTOR_CACHE_DIR names another place."""
    given = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    return Path(given) if given else cache_folder("kernels")


def quantize_linear(transformer: Transformer) -> None:
    """Makes the blocks' large linear maps multiply in int8 (torchao): weights by row, tokens each.

    What the condition alone decides, once an image, keeps its precision; so does the head.

    Raises:
        UsageError: if torchao is not installed.
    """
    # torchao calls what torch calls deprecated, and lacks what compiling it asks for; users cannot
    # mend either.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "Int8Tensor does not implement _stable_hash_for_caching")
    keep_kernels()  # torchao imports the compiler
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError as error:
        raise UsageError("int8 needs torchao; `pip install torchao` brings it") from error
    for block in transformer.typed_blocks():
        for part in (block.attention, block.mlp):
            quantize_(part, Int8DynamicActivationInt8WeightConfig())


def can_quantize() -> bool:
    """Whether torchao, which multiplies in int8, is installed."""
    return find_spec("torchao") is not None
