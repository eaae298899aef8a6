"""What makes drawing faster than the networks as written: compiled blocks, int8, kept memory.

Compiling changes rounding alone; int8 is an approximation. Both act on networks in place.
"""

import ctypes
import logging
import os
import platform
import shutil
import sysconfig
from pathlib import Path

import torch

from nextscale.errors import UsageError
from nextscale.files import cache_folder
from nextscale.models.transformer import Transformer
from nextscale.tokenizer.tokenizer import Tokenizer

# glibc's mallopt (malloc.h): sizes from which memory is mapped afresh, and is given back.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
GRAPHS = 64  # that a process may compile blocks for: models, or scales times kinds of batch
EMULATED = "this device has no instructions for {} and emulates it, many times slower than float32"
KEPT = 2**30  # bytes of the largest tensor whose memory is kept


def can_compile() -> bool:
    """Whether torch.compile finds what it builds with: a C++ compiler and Python's headers."""
    compilers = (os.environ.get("CXX", "g++"), "g++", "clang++")
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    return any(map(shutil.which, compilers)) and headers.is_file()


def compile_networks(transformer: Transformer, tokenizer: Tokenizer) -> None:
    """Runs every block, and on an accelerator the decoder, through torch.compile.

    On a CPU one graph with symbolic sizes serves all scales and batches (two at most: the first
    scale's single token is a case of its own), and all blocks; the decoder stays as it is, which
    measured faster than compiled. On CUDA every scale has its own graph, with fixed sizes, and is
    replayed as CUDA graphs around the attention, whose cache is written in place.

    The first image takes longer; kernels are kept on disk, in `kernels()`.

    Raises:
        UsageError: if there is nothing to compile with.
    """
    if not can_compile():
        raise UsageError("compiling needs a C++ compiler (g++) and the headers of Python")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(kernels()))
    if next(transformer.parameters()).device.type == "cpu":
        from torch.fx.experimental import _config as symbols

        symbols.use_duck_shape = (
            False  # a batch of as many images as heads would be a graph of its own
        )
        for block in transformer.blocks:
            block.compile(fullgraph=True, dynamic=True, recompile_limit=GRAPHS)
        return
    for network in (*transformer.blocks, tokenizer.decoder):
        network.compile(
            fullgraph=True, dynamic=False, mode="reduce-overhead", recompile_limit=GRAPHS
        )


def kernels() -> Path:
    """Where compiled kernels are kept, unless TORCHINDUCTOR_CACHE_DIR tells another place."""
    given = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    return Path(given) if given else cache_folder("kernels")


def quantize_linear(transformer: Transformer) -> None:
    """Makes the blocks' large linear maps multiply in int8 (torchao): weights by row, tokens each.

    What the condition alone decides, once an image, keeps its precision; so does the head.

    Raises:
        UsageError: if torchao is not installed.
    """
    # At its import torchao calls what torch calls deprecated, which users cannot mend.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError as error:
        raise UsageError("int8 needs torchao; `pip install torchao` brings it") from error
    for block in transformer.typed_blocks():
        for part in (block.attention, block.mlp):
            quantize_(part, Int8DynamicActivationInt8WeightConfig())


def made_for(precision: str) -> bool:
    """Whether the accelerator, or the CPU where there is none, has instructions for a precision.

    A CPU without them emulates it: bfloat16 takes some hundred times as long as float32, int8
    fifteen times.

    Args:
        precision: float32, bfloat16 or int8.
    """
    device = torch.accelerator.current_accelerator(check_available=True)
    if precision == "bfloat16" and device is None:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if precision == "bfloat16" and device is not None and device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "int8" and device is None and platform.machine() in ("x86_64", "AMD64"):
        return torch.cpu._is_vnni_supported()
    return True


def keep_freed_memory() -> None:
    """Lets the C library keep what is freed, where it is glibc; of this process, once and for all.

    It would give large tensors back at once, and the next would come as pages that the system
    clears one by one: a fifth of the time of the decoder at 256 pixels, and of training d16. Peak
    memory grows a little.
    """
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if hasattr(library, "mallopt") and hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_THRESHOLD, KEPT)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)
