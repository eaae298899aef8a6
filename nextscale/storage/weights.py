"""Tensors in files: read memory-mapped, without running code; hashed; moved between types.

Knows nothing of networks but their state dicts.
"""

import hashlib
import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nextscale.errors import UsageError
from nextscale.storage.files import PathLike

DEEPEST = 64  # tables within tables of a pickle
HASH_SHOWN = 16  # characters of a hash that identify a network


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Memory-maps a safetensors file; a write into a tensor does not reach the file.

    Raises:
        UsageError: if the file is missing, truncated, or not of this format.
    """
    if not path.is_file():
        raise UsageError(f"the checkpoint {path.parent} is incomplete: it holds no {path.name}")
    try:
        path.open("rb").close()  # safetensors calls a file missing that may not be read
        return load_file(path)
    except SafetensorError as error:
        raise UsageError(f"{path} is truncated or no safetensors file ({error})") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error})") from error


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
    if mapped:
        check_stored(path)
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
    check_sizes(state, path)
    return state


def check_stored(path: Path) -> None:
    """Raises UsageError at a zip archive that unpacks to more than the file holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UsageError(f"{path} is truncated or no file of torch.save") from error
    if size > path.stat().st_size:
        raise UsageError(f"{path} claims more than it holds: {size:,} bytes when unpacked")


def check_sizes(values: Any, path: Path, depth: int = 0) -> None:
    """Raises UsageError at a tensor that would take more memory than the file has for it."""
    if depth > DEEPEST:
        raise UsageError(f"{path} is nested too deeply")
    if isinstance(values, Tensor):
        plain = values.layout == torch.strided and not values.is_quantized
        if not plain or values.device.type != "cpu":
            kind = f"{values.layout} tensor on {values.device}"
            raise UsageError(f"{path} holds a {kind}; plain tensors are needed")
        if values.numel() * values.itemsize > values.untyped_storage().nbytes():
            raise UsageError(
                f"{path} holds a tensor {tuple(values.shape)} that claims more than is stored of it"
            )
    elif isinstance(values, Mapping | list | tuple):
        for value in values.values() if isinstance(values, Mapping) else values:
            check_sizes(value, path, depth + 1)


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes a safetensors file in the umask's mode. Raises OSError at a full disk."""
    path.touch()
    mode = path.stat().st_mode  # safetensors replaces the file by one for the owner alone
    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    path.chmod(mode)


def write_pickle(values: Mapping[str, Any], path: Path) -> None:
    """Writes what `read_pickle` reads. Raises OSError at a full disk, where torch names none."""
    with path.open("wb") as file:
        writer = RecordingWriter(file)
        try:
            torch.save(values, cast(IO[bytes], writer))
        except RuntimeError as error:
            raise writer.error or error from error


class RecordingWriter:
    """A file that keeps the error of a write, which torch.save replaces by its own.

    Attributes:
        error: of the write that failed.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


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


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Gives a module built on the meta device its weights, without a copy of equal shapes."""
    wanted = module.state_dict()
    missing, unknown = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    wrong = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(set(wanted) & set(tensors))
        if drop_ones(tensors[name].shape) != drop_ones(wanted[name].shape)
    ]
    complaints = [("missing", missing), ("unknown", unknown), ("of another shape", wrong)]
    said = [f"{kind}: {shorten(names)}" for kind, names in complaints if names]
    if said:
        raise UsageError(f"the {what} does not fit its configuration; {'; '.join(said)}")
    for name, like in wanted.items():
        check_numbers(tensors[name], like.is_floating_point(), f"{what}: {name}")
    fitted = {name: tensors[name].reshape(wanted[name].shape) for name in wanted}
    module.load_state_dict(fitted, assign=True)


def check_numbers(tensor: Tensor, floating: bool, where: str) -> None:
    """Raises UsageError unless a tensor holds numbers of the right kind, finite ones."""
    if tensor.is_floating_point() != floating or tensor.is_complex():
        kind = str(tensor.dtype).removeprefix("torch.")
        needed = "floating" if floating else "whole"
        raise UsageError(f"the {where} is of type {kind}; {needed} numbers are needed")
    if floating and tensor.numel() and not all(map(torch.isfinite, tensor.aminmax())):
        raise UsageError(f"the {where} holds NaN or infinity; the file is damaged")


def drop_ones(shape: torch.Size) -> list[int]:
    """A shape without the axes of length 1 that published tensors carry for broadcasting."""
    return [size for size in shape if size != 1]


def shorten(names: list[str]) -> str:
    """The first names of a list and how many more there are."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
