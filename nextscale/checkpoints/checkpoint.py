"""A checkpoint directory to a pipeline and back; bundled, released and hub models by name.

What is written appears whole or not at all.
"""

import os
import platform
import re
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from nextscale.checkpoints.published.var import SAMPLING, from_released
from nextscale.checkpoints.runs import best_of
from nextscale.config.architecture import TokenizerConfig
from nextscale.config.model import ModelConfig
from nextscale.config.presets import RELEASED, TOKENIZERS, TRANSFORMERS
from nextscale.errors import UsageError, did_you_mean
from nextscale.machine.devices import usable_device
from nextscale.models.model import build_model
from nextscale.pipeline import Pipeline
from nextscale.scales import length
from nextscale.storage.files import PathLike, read_json, recover, replacing, to_json
from nextscale.storage.hub import download, hub_errors
from nextscale.storage.weights import (
    hash_weights,
    load_weights,
    placed,
    read_pickle,
    read_tensors,
    stored,
    write_tensors,
)
from nextscale.tokenizer.tokenizer import Tokenizer

CONFIG = "config.json"
TOKENIZER = "tokenizer.safetensors"
MODEL = "model.safetensors"
FILES = (CONFIG, TOKENIZER, MODEL)

BUNDLED = Path(__file__).parents[1] / "bundled"
PICKLES = (".pth", ".pt", ".ckpt", ".bin")  # endings of files that torch.save writes
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # owner/repo
HASH_IN_MESSAGES = 12  # characters of a hash that a message shows


def load(
    name: PathLike,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Pipeline:
    """Loads a pipeline in eval mode.

    Args:
        name: a bundled model (`fashion-mnist`), a released one (`var-d16`), a checkpoint
            directory, the directory of a run (its best checkpoint), or `owner/repo` on the hub.
        device: where the weights go, as torch names it; `auto` takes an accelerator if there is
            one, as the commands do.
        dtype: of the floating weights; memory-mapped without a copy if they are stored in it.

    Raises:
        UsageError: if nothing has this name, the hub cannot give it, or the checkpoint is
            incomplete, foreign, or holds another tokenizer than its transformer was trained with;
            or if the device cannot be used.
    """
    device = usable_device(device)
    text = os.fspath(name)
    path = Path(text)
    if not path.exists():
        recover(path)  # a writer may have been killed in between
    if text in bundled_names():
        return load_directory(BUNDLED / text, device=device, dtype=dtype)
    if text in RELEASED:
        return load_released(text, device=device, dtype=dtype)
    if path.is_dir():
        return load_directory(best_of(path, TOKENIZER), device=device, dtype=dtype)
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
    """The error about a name that stands for no model."""
    known = known_models()
    return UsageError(
        f"nothing is known as {name!r}{did_you_mean(name, known) or ';'} give one of "
        f"{', '.join(known)}, a checkpoint directory, or owner/repo on the hub"
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
    return read_config(best_of(Path(text), TOKENIZER))


def save(pipe: Pipeline, directory: PathLike, *, dtype: torch.dtype | None = None) -> None:
    """Writes a checkpoint directory, replacing one that stands there; see `replacing`.

    Args:
        directory: or a link to it.
        dtype: floating weights are stored rounded to it; None keeps theirs, and the tokenizer's
            as `config.tokenizer_dtype` says. The recorded hash is that of the stored tokenizer, so
            it changes with the dtype.

    Raises:
        UsageError: if the directory holds something else, or cannot be made.
    """
    with replacing(Path(directory).resolve(), FILES) as folder:  # the directory may be a link
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
        tokenizer_dtype=str(tokenizer_tensors["from_latent.weight"].dtype).removeprefix("torch."),
        versions={
            "nextscale": metadata.version("nextscale"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )
    (folder / CONFIG).write_text(to_json(config.to_dict()), encoding="utf-8")
    write_tensors(tokenizer_tensors, folder / TOKENIZER)
    if model is not None:
        write_tensors(stored(model, dtype), folder / MODEL)


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
        kind = {"scales": "VAR"}.get(config.model.order, f"{config.model.order} transformer")
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
    load_weights(tokenizer, placed(tensors, device, dtype), f"tokenizer in {folder}")
    if config.model is None:
        return Pipeline(tokenizer, None, config)
    with torch.device("meta"):
        model = build_model(config.model, config.tokenizer)
    tensors = read_tensors(folder / MODEL)
    load_weights(model, placed(tensors, device, dtype), f"transformer in {folder}")
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


def read_config(folder: Path) -> ModelConfig:
    """Reads `config.json`. Raises UsageError if it is missing, no JSON, or has unknown keys."""
    path = folder / CONFIG
    if not path.is_file():
        raise UsageError(f"{folder} is no checkpoint: it holds no {CONFIG}")
    if (folder / "checkpoints").is_dir():
        raise UsageError(
            f"{folder} is a run without a checkpoint of such a model; a training has one after its "
            "first validation"
        )
    values = read_json(path)
    try:
        return ModelConfig.from_dict(values)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def identity(pipe: Pipeline, name: str, transformer_hash: str = "") -> dict[str, Any]:
    """What a record of sampled images holds about a model, loaded by this name, and its machine.

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
    recorded = config.tokenizer_hash[:HASH_IN_MESSAGES] or "none"
    raise UsageError(
        f"{folder / TOKENIZER} has the hash {actual[:HASH_IN_MESSAGES]}, but {CONFIG} records "
        f"{recorded}; put the tokenizer back that was saved with this checkpoint, or train a "
        "transformer for the new one"
    )
