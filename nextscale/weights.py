"""Tensors in files: read memory-mapped, without running code; hashed; moved between types.

Knows nothing of networks but their state dicts.
"""

import hashlib
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from nextscale.errors import UsageError
from nextscale.files import PathLike

HASH_SHOWN = 16  # characters of a hash by which a network is told


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Memory-maps a safetensors file; a write into a tensor does not reach the file.

    Raises:
        UsageError: if the file is missing, truncated, or not of this format.
    """
    if not path.is_file():
        raise UsageError(f"the checkpoint {path.parent} is incomplete: it holds no {path.name}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is truncated or no safetensors file ({error})") from error


def read_pickle(path: PathLike) -> dict[str, Any]:
    """Reads what torch.save wrote, memory-mapped where the format allows, without running code.

    Raises:
        UsageError: if the file is missing, broken, holds no table, or would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    with path.open("rb") as file:
        mapped = file.read(4) == b"PK\x03\x04"  # torch's zip format; the one before it cannot be
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is then refused anyway
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a broken stream makes the reader raise almost anything
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and wanted:
            raise UsageError(
                f"{path} is refused: to load it would run code ({wanted[1]}); save the state "
                "dict alone, with torch.save(model.state_dict(), FILE)"
            ) from error
        raise UsageError(f"{path} is truncated or no file of torch.save") from error
    if not isinstance(state, dict):
        raise UsageError(f"{path} holds a {type(state).__name__}; a state dict is needed")
    return state


def hash_weights(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over sorted names, shapes, dtypes and bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        head = [name, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        digest.update(json.dumps(head).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def identify(kind: str, network: nn.Module) -> str:
    """The kind of a network, and the beginning of its weights' hash."""
    return f"{kind} {hash_weights(network.state_dict())[:HASH_SHOWN]}"


def stored(module: nn.Module, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """A module's state dict as a file takes it: on the CPU, contiguous, floats rounded to dtype."""
    tensors = placed(module.state_dict(), "cpu", dtype)
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def placed(
    tensors: Mapping[str, Tensor], device: torch.device | str, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """Tensors on a device, floating ones in a dtype (None: their own), copied only if need be."""
    return {
        name: tensor.to(device, dtype if tensor.is_floating_point() else None)
        for name, tensor in tensors.items()
    }
