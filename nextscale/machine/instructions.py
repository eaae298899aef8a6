"""What a device has instructions for, and whether there is a compiler."""

import os
import platform
import shutil
import sysconfig
from pathlib import Path

import torch

EMULATED = "this device has no instructions for {} and emulates it, many times slower than float32"


def can_compile() -> bool:
    """Whether torch.compile finds what it builds with: a C++ compiler and Python's headers."""
    compilers = (os.environ.get("CXX", "g++"), "g++", "clang++")
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    return any(map(shutil.which, compilers)) and headers.is_file()


def made_for(precision: str, device: torch.device) -> bool:
    """Whether a device has instructions for a precision.

    A CPU without them emulates bfloat16, float16 and int8, many times slower than float32.

    Args:
        precision: float32, bfloat16, float16 or int8.
        device: that computes.
    """
    if device.type == "cuda" and precision == "bfloat16":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return True
    x86 = platform.machine() in ("x86_64", "AMD64")
    if precision == "bfloat16" and x86:  # oneDNN calls what it emulates by AVX-512 supported
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if precision == "bfloat16":
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if precision == "float16" and x86:
        return torch.cpu._is_amx_fp16_supported()
    if precision == "float16":
        return torch.ops.mkldnn._is_mkldnn_fp16_supported()
    if precision == "int8" and x86:
        return torch.cpu._is_vnni_supported()
    return True


def drawing_precision(compiled: bool, device: torch.device) -> str:
    """In which precision images are drawn where none is asked for."""
    lower = compiled and device.type != "cpu" and made_for("bfloat16", device)
    return "bfloat16" if lower else "float32"
