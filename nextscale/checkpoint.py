"""A checkpoint directory to a pipeline and back; bundled, released and hub models by name.

Weights are read memory-mapped, nothing that is read can run code, and what is written appears
whole or not at all.
"""

import hashlib
import json
import os
import pickle
import platform
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nextscale.config.model import ModelConfig, TokenizerConfig
from nextscale.config.presets import RELEASED, TOKENIZERS, TRANSFORMERS
from nextscale.errors import UsageError
from nextscale.files import read_json, replacing
from nextscale.models.build import build_model
from nextscale.pipeline import Pipeline
from nextscale.released import SAMPLING, fill, from_released
from nextscale.scales import length
from nextscale.tokenizer.tokenizer import Tokenizer

CONFIG = "config.json"
TOKENIZER = "tokenizer.safetensors"
MODEL = "model.safetensors"
FILES = (CONFIG, TOKENIZER, MODEL)

BUNDLED = Path(__file__).parent / "bundled"
PICKLES = (".pth", ".pt", ".ckpt", ".bin")  # endings of files that torch.save writes
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # owner/repo
HASH_SHOWN = 12  # characters of a hash that a message shows

PathLike = str | os.PathLike[str]


def load(
    name: PathLike,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Pipeline:
    """Loads a pipeline in eval mode.

    Args:
        name: a bundled model (`fashion-mnist`), a released one (`var-d16`), a checkpoint
            directory, or `owner/repo` on the hub.
        device: where the weights go.
        dtype: of the floating weights; memory-mapped without a copy if they are stored in it.

    Raises:
        UsageError: if nothing has this name, the hub cannot give it, or the checkpoint is
            incomplete, foreign, or holds another tokenizer than its transformer was trained with.
    """
    text = os.fspath(name)
    path = Path(text)
    if text in bundled_names():
        return load_directory(BUNDLED / text, device=device, dtype=dtype)
    if text in RELEASED:
        return load_released(text, device=device, dtype=dtype)
    if path.is_dir():
        return load_directory(path, device=device, dtype=dtype)
    if path.suffix in PICKLES:
        raise UsageError(
            f"{text} is a pickle file, not a checkpoint directory; make one with "
            "`nextscale convert TOKENIZER.pth TRANSFORMER.pth OUT` and load OUT"
        )
    if path.is_file():
        raise UsageError(f"{text} is a file; give the checkpoint directory that holds it")
    if HUB_NAME.fullmatch(text):
        read_config(download(text, [CONFIG]))  # refuses a foreign repository before its weights
        return load_directory(download(text, FILES), device=device, dtype=dtype)
    raise unknown_name(text)


def unknown_name(name: str) -> UsageError:
    """The complaint about a name that tells no model."""
    return UsageError(
        f"nothing is known as {name!r}; give one of {', '.join(known_models())}, "
        "a checkpoint directory, or owner/repo on the hub"
    )


def config_of(name: PathLike) -> ModelConfig:
    """What `load` would load, without its weights: a released model is not downloaded.

    Raises:
        UsageError: if nothing has this name, or its configuration cannot be had.
    """
    text = os.fspath(name)
    if text in bundled_names():
        return read_config(BUNDLED / text)
    if text in RELEASED:
        tokenizer = TokenizerConfig(scales=RELEASED[text].scales)
        return ModelConfig(tokenizer, TRANSFORMERS[text.removeprefix("var-")], SAMPLING)
    if HUB_NAME.fullmatch(text) and not Path(text).exists():
        return read_config(download(text, [CONFIG]))
    if not Path(text).is_dir():
        raise unknown_name(text)
    return read_config(Path(text))


def save(pipe: Pipeline, directory: PathLike, *, dtype: torch.dtype | None = None) -> None:
    """Writes a checkpoint directory, replacing one that stands there; see `replacing`.

    Args:
        dtype: floating weights are stored rounded to it; None keeps theirs, and the tokenizer's
            as `config.tokenizer_dtype` says. The recorded hash is that of the stored tokenizer, so
            it changes with the dtype.

    Raises:
        UsageError: if the directory holds something else, or cannot be made.
    """
    check_replaceable(Path(directory), FILES)
    with replacing(directory) as folder:
        write(pipe, folder, dtype=dtype)


def write(pipe: Pipeline, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Writes the files of a checkpoint into a folder that exists."""
    if pipe.quantized:
        raise UsageError("int8 weights cannot be saved; load the model again and save that one")
    model = pipe.maybe_model
    kept = getattr(torch, pipe.config.tokenizer_dtype) if pipe.config.tokenizer_dtype else None
    tokenizer_tensors = stored(pipe.tokenizer, dtype or kept)
    config = replace(
        pipe.config,
        tokenizer=pipe.tokenizer.config,
        model=None if model is None else model.config,
        tokenizer_hash=hash_weights(tokenizer_tensors),
        tokenizer_dtype=str(tokenizer_tensors["quantizer.codebook"].dtype).removeprefix("torch."),
        versions={
            "nextscale": metadata.version("nextscale"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )
    text = json.dumps(config.to_dict(), indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    save_file(tokenizer_tensors, folder / TOKENIZER)
    if model is not None:
        save_file(stored(model, dtype), folder / MODEL)


def push(
    pipe: Pipeline, repository: str, *, private: bool = False, dtype: torch.dtype | None = None
) -> str:
    """Uploads a checkpoint to the hub and returns the repository's URL.

    Args:
        repository: `owner/repo`; made if it does not exist.
        private: whether a repository made here is private.
        dtype: as in `save`.

    Raises:
        UsageError: if the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    with TemporaryDirectory() as folder:
        write(pipe, Path(folder), dtype=dtype)
        with hub_errors(repository):
            api = HfApi()
            url = api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=f"Upload a checkpoint of nextscale {metadata.version('nextscale')}",
            )
    return str(url)


def known_models() -> dict[str, str]:
    """Names that `load` knows by itself, bundled ones first, each with a line on what it is."""
    lines = {name: describe(read_config(BUNDLED / name)) + ", bundled" for name in bundled_names()}
    for name, model in RELEASED.items():
        tokenizer = replace(TOKENIZERS["released-256"], scales=model.scales)
        config = ModelConfig(tokenizer, TRANSFORMERS[name.removeprefix("var-")])
        lines[name] = f"{describe(config)}, released, from {model.repository} on the hub"
    return lines


def describe(config: ModelConfig) -> str:
    """Depth, classes, pixels and tokens of an image in one line."""
    height, width = config.tokenizer.image_size
    tokens = length(config.tokenizer.scales)
    what = "tokenizer alone"
    if config.model is not None:
        kind = "VAR" if config.model.order == "scales" else "next-token transformer"
        what = f"{kind} of depth {config.model.depth}, {config.model.classes} classes"
    return f"{what}, {height}x{width} pixels, {tokens} tokens"


def bundled_names() -> list[str]:
    """Names of the models inside the package."""
    return sorted(config.parent.name for config in BUNDLED.glob(f"*/{CONFIG}"))


def load_directory(folder: Path, *, device: torch.device | str, dtype: torch.dtype) -> Pipeline:
    """Loads a checkpoint directory; see `load`."""
    config = read_config(folder)
    tensors = read_tensors(folder / TOKENIZER)
    check_hash(config, hash_weights(tensors), folder)
    with torch.device("meta"):
        tokenizer = Tokenizer(config.tokenizer)
    fill(tokenizer, placed(tensors, device, dtype), f"tokenizer in {folder}")
    if config.model is None:
        return Pipeline(tokenizer, None, config)
    with torch.device("meta"):
        model = build_model(config.model, config.tokenizer)
    tensors = read_tensors(folder / MODEL)
    fill(model, placed(tensors, device, dtype), f"transformer in {folder}")
    return Pipeline(tokenizer, model, config)


def load_released(name: str, *, device: torch.device | str, dtype: torch.dtype) -> Pipeline:
    """Downloads a released model unless the hub's cache has it, and loads it; see `load`."""
    released = RELEASED[name]
    files = (released.tokenizer_file, released.transformer_file)
    folder = download(released.repository, files)
    pipe = from_released(*(read_pickle(folder / file) for file in files), scales=released.scales)
    hashed = hash_weights(pipe.tokenizer.state_dict())
    pipe.config = replace(pipe.config, tokenizer_hash=hashed)
    pipe.tokenizer.to(device, dtype)
    pipe.model.to(device, dtype)
    return pipe


def download(repository: str, files: Collection[str]) -> Path:
    """Fetches those of the files that a hub repository has; returns the directory in the cache."""
    from huggingface_hub import snapshot_download

    with hub_errors(repository):
        return Path(snapshot_download(repository, allow_patterns=list(files)))


def read_config(folder: Path) -> ModelConfig:
    """Reads `config.json`. Raises UsageError if it is missing, no JSON, or has unknown keys."""
    path = folder / CONFIG
    if not path.is_file():
        raise UsageError(f"{folder} is no checkpoint: it holds no {CONFIG}")
    if (folder / "final" / CONFIG).is_file():
        raise UsageError(f"{folder} is a run, not a checkpoint; give {folder / 'final'}")
    values = read_json(path)
    try:
        return ModelConfig.from_dict(values)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} holds a value of the wrong type ({error})") from error


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


def identity(pipe: Pipeline, name: str, transformer_hash: str = "") -> dict[str, Any]:
    """What a record of drawn images tells of a model, loaded by this name, and of its machine.

    Args:
        transformer_hash: taken when it was loaded, where it was quantized since.
    """
    return {
        "model": name,
        "tokenizer_hash": pipe.config.tokenizer_hash,
        "transformer_hash": transformer_hash or hash_weights(pipe.model.state_dict()),
        "versions": {"nextscale": metadata.version("nextscale"), "torch": torch.__version__},
        "device": str(pipe.device),
    }


def check_hash(config: ModelConfig, actual: str, folder: Path) -> None:
    """Raises UsageError unless the stored tokenizer is the one that the configuration records."""
    if actual == config.tokenizer_hash:
        return
    recorded = config.tokenizer_hash[:HASH_SHOWN] or "none"
    raise UsageError(
        f"{folder / TOKENIZER} has the hash {actual[:HASH_SHOWN]}, but {CONFIG} records "
        f"{recorded}; put the tokenizer back that was saved with this checkpoint, or train a "
        "transformer for the new one"
    )


def stored(module: torch.nn.Module, dtype: torch.dtype | None) -> dict[str, Tensor]:
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


def check_replaceable(target: Path, files: Collection[str]) -> None:
    """Raises UsageError if the path is taken by anything but an empty directory or a checkpoint."""
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file; give a directory for the checkpoint")
    held = {entry.name for entry in target.iterdir()} if target.exists() else set()
    if held and not {CONFIG, TOKENIZER} <= held <= set(files):
        raise UsageError(
            f"{target} is not empty and not a checkpoint alone; it holds "
            f"{', '.join(sorted(held)[:4])}; give a new directory"
        )


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Turns what goes wrong between here and the hub into a UsageError of one line."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,  # the base of the HTTP library's errors, whichever the client uses
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except GatedRepoError:
        raise UsageError(
            f"{repository} is gated on the hub; accept its terms there and log in with "
            "`hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise UsageError(
            f"{repository} is neither a directory here nor a repository that you may read on the "
            "hub; check the name, or log in with `hf auth login` if it is private"
        ) from None
    except LocalEntryNotFoundError:
        raise UsageError(
            f"{repository} is not in the hub's cache here, and the hub cannot be reached; check "
            "the connection and the variables HF_ENDPOINT and HF_HUB_OFFLINE"
        ) from None
    except (HTTPError, HFValidationError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"the hub refuses {repository} or cannot be reached ({reason}); check the name, the "
            "connection, and `hf auth whoami`"
        ) from None
