"""Tokens of a data set, encoded once and memory-mapped from disk, to train transformers.

The key of a cache covers everything that determines its contents: the tokenizer's hash and scales,
the data and its augmentation, the number of copies. An interrupted encoding resumes where it
stopped. A cache is not trusted and a crash may damage it, so it is checked before it is used.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from nextscale.config.building import shaping
from nextscale.data.images import Batch, Source
from nextscale.data.order import Part
from nextscale.data.record import Record
from nextscale.errors import UsageError
from nextscale.scales import length
from nextscale.storage.arrays import map_array
from nextscale.storage.files import (
    check_no_link,
    check_plain,
    disk_errors,
    listed,
    read_json,
    reserve,
    synchronize,
    write_text,
)
from nextscale.tokenizer.tokenizer import Tokenizer

CHUNK = 250  # images that are encoded together; part of the key, as rounding may depend on it
VERSION = 1
PART = 2**22  # values that are checked together

Progress = Callable[[int, int], None]


class TokenCache:
    """A `Source` of tokens of several augmented passes; epoch e reads pass e modulo their number.

    Args:
        folder: written by `cache_tokens`.
        source: of the images.

    Attributes:
        skipped: number of unreadable files over all passes; the next files were encoded instead.
    """

    reads_files = False

    def __init__(self, folder: Path, source: Source) -> None:
        self.tokens = np.load(folder / "tokens.npy", mmap_mode="r")  # (copies, N, L)
        self.numbers = np.load(folder / "labels.npy", mmap_mode="r")  # (copies, N)
        self.names, self.identity = source.names, f"tokens {folder.name}"
        self.source = source
        self.skipped = int((np.load(folder / "done.npy").astype(np.int64) - 1).sum())

    @property
    def record(self) -> Record:
        """The record of the images."""
        return self.source.record

    def __len__(self) -> int:
        return self.tokens.shape[1]

    @property
    def labels(self) -> NDArray[np.int32]:
        return self.numbers[0]

    def load(self, part: Part) -> Batch:
        """Tokens and labels; nothing is ever skipped."""
        rows = part.epoch % len(self.tokens), part.samples
        return Batch(
            part=part,
            tokens=torch.from_numpy(self.tokens[rows].astype(np.int64)),
            labels=torch.from_numpy(self.numbers[rows].astype(np.int64)),
        )


def quiet(done: int, total: int) -> None:
    """Reports no progress."""
    del done, total


def shape(tokenizer: Tokenizer, tokenizer_hash: str, source: Source, copies: int) -> dict[str, Any]:
    """Everything that determines a cache's contents, for `cache.json` beside the tokens."""
    return {
        "tokenizer": tokenizer_hash,
        "config": shaping(tokenizer.config),  # z-norm and φ's ratio are not in the weights
        "data": source.identity,
        "images": len(source),
        "copies": copies,
        "chunk": CHUNK,
        "version": VERSION,
    }


def cache_key(shaped_by: Mapping[str, Any]) -> str:
    """Folder name of a cache."""
    return hashlib.sha256(json.dumps(shaped_by, sort_keys=True).encode()).hexdigest()[:16]


def cache_tokens(
    tokenizer: Tokenizer,
    tokenizer_hash: str,
    source: Source,
    copies: int,
    directory: Path,
    *,
    rank: int = 0,
    processes: int = 1,
    wait: Callable[[], None] = lambda: None,
    progress: Progress = quiet,
) -> TokenCache:
    """Encodes a source unless its cache is complete.

    The processes take chunks in turn and mark finished ones. Another command that needs the same
    cache waits for this one.

    Args:
        tokenizer: in eval mode, on its device.
        tokenizer_hash: of `weights.hash_weights`.
        copies: number of augmented passes; each is another epoch of the source.
        directory: of all caches.
        wait: a barrier over the processes.
        progress: called with the numbers of finished chunks and of all chunks.

    Raises:
        UsageError: in every process, if a complete or partial cache exists and is damaged.
    """
    shaped_by = shape(tokenizer, tokenizer_hash, source, copies)
    place = directory / cache_key(shaped_by)
    beside = directory / f".{place.name}.partial"
    if rank == 0:
        directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / f".{place.name}.lock") if rank == 0 else nullcontext():
        wait()  # until process 0 holds the lock; then all processes see the same files
        if not os.path.lexists(place):
            with advice_to_remove(beside):
                check_unfinished(beside, tokenizer, source, copies)
            wait()
            if rank == 0:
                prepare(beside, len(source), copies, tokenizer)
                write_text(beside / "cache.json", json.dumps(shaped_by, indent=2))
            wait()
            encode_missing(beside, tokenizer, source, rank, processes, progress)
            wait()
            if rank == 0:
                hashes = check_arrays(beside, tokenizer, source, copies)
                write_text(
                    beside / "cache.json", json.dumps({**shaped_by, "hashes": hashes}, indent=2)
                )
                for path in (*listed(beside), beside):
                    synchronize(path)
                os.replace(beside, place)
                synchronize(directory)
        wait()
    with advice_to_remove(place):
        check_finished(place, tokenizer, source, copies)
    return TokenCache(place, source)


@contextmanager
def advice_to_remove(folder: Path) -> Iterator[None]:
    """Adds to a UsageError the advice to remove a folder."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{error}; remove {folder} to encode again") from error


def check_unfinished(folder: Path, tokenizer: Tokenizer, source: Source, copies: int) -> None:
    """Raises UsageError if an interrupted encoding cannot resume; the folder may be missing."""
    check_no_link(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is no folder")
    for path in listed(folder):
        check_plain(path)
    if (folder / "done.npy").exists():
        check_arrays(folder, tokenizer, source, copies, finished=False)


def check_finished(folder: Path, tokenizer: Tokenizer, source: Source, copies: int) -> None:
    """Raises UsageError if a cache differs from its record.

    Records of older versions hold no hashes.
    """
    file = folder / "cache.json"
    check_plain(file)
    record = read_json(file)
    recorded = record.pop("hashes", None)
    if cache_key(record) != folder.name:
        raise UsageError(f"{file} describes another cache")
    hashes = check_arrays(folder, tokenizer, source, copies)
    if recorded is None:
        return
    for name, value in hashes.items():
        if not isinstance(recorded, dict) or recorded.get(name) != value:
            raise UsageError(f"{folder / name}.npy was changed; its hash is not that in {file}")


def check_arrays(
    folder: Path, tokenizer: Tokenizer, source: Source, copies: int, *, finished: bool = True
) -> dict[str, str]:
    """Checks a cache's arrays and returns their hashes by name.

    Raises:
        UsageError: if an array is missing or damaged, or does not have the shape, type and range
            of this tokenizer and source.
    """
    ranges = {
        "tokens": (0, tokenizer.config.codes - 1),
        "labels": (0, max(1, len(source.names)) - 1),  # all are 0 if unlabelled
        "done": (int(finished), 1 + CHUNK),
    }
    hashes = {}
    for name, (shape, dtype) in layout(len(source), copies, tokenizer).items():
        path = folder / f"{name}.npy"
        hashes[name] = check_values(map_array(path, shape, dtype), *ranges[name], path)
    return hashes


def check_values(values: NDArray[np.integer], least: int, most: int, path: Path) -> str:
    """Hash of a mapped array. Raises UsageError if a value is out of range."""
    digest = hashlib.blake2b(digest_size=16)
    flat = values.reshape(-1)
    for begin in range(0, flat.size, PART):
        part = flat[begin : begin + PART]
        for value in (int(part.min()), int(part.max())):
            if not least <= value <= most:
                raise UsageError(f"{path} holds {value}; it must be from {least} to {most}")
        digest.update(part.data)
    return digest.hexdigest()


def layout(
    images: int, copies: int, tokenizer: Tokenizer
) -> dict[str, tuple[tuple[int, ...], type[np.integer]]]:
    """Shapes and types of a cache's arrays by name, in the order of their creation."""
    kind = np.uint16 if tokenizer.config.codes <= 2**16 else np.int32
    return {
        "tokens": ((copies, images, length(tokenizer.config.scales)), kind),
        "labels": ((copies, images), np.int32),
        "done": (
            (copies, -(-images // CHUNK)),
            np.uint8,
        ),  # last: without it, all arrays are created again
    }


def prepare(folder: Path, images: int, copies: int, tokenizer: Tokenizer) -> None:
    """Creates the arrays of a new cache, unless an interrupted encoding left them."""
    arrays = layout(images, copies, tokenizer)
    for place in (folder, *(folder / f"{name}.npy" for name in arrays)):
        check_no_link(place)  # arrays are written in place
    if (folder / "done.npy").exists():
        for name in arrays:
            reserve(folder / f"{name}.npy")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, (shape, dtype) in arrays.items():
        beside = folder / f"{name}.tmp.npy"
        beside.unlink(missing_ok=True)
        with disk_errors(beside):
            np.lib.format.open_memmap(beside, mode="w+", dtype=dtype, shape=shape).flush()
        reserve(beside)
        os.replace(beside, folder / f"{name}.npy")


def encode_missing(
    folder: Path,
    tokenizer: Tokenizer,
    source: Source,
    rank: int,
    processes: int,
    progress: Progress,
) -> None:
    """Encodes this process's chunks that are not marked as finished."""
    tokens, labels, done = (
        np.load(folder / f"{name}.npy", mmap_mode="r+") for name in ("tokens", "labels", "done")
    )
    todo = [(int(c), int(i)) for c, i in np.argwhere(done == 0) if i % processes == rank]
    for count, (copy, chunk) in enumerate(todo):
        begin, end = chunk * CHUNK, min((chunk + 1) * CHUNK, len(source))
        batch = source.load(Part(copy, np.arange(begin, end)))
        assert batch.images is not None
        tokens[copy, begin:end] = encode(tokenizer, batch.images)
        labels[copy, begin:end] = batch.labels.numpy()
        tokens.flush()
        labels.flush()
        done[copy, chunk] = 1 + batch.skipped  # at most CHUNK
        progress(count + 1, len(todo))
    done.flush()


@torch.inference_mode()
def encode(tokenizer: Tokenizer, images: Tensor) -> NDArray[np.int64]:
    """Tokens (B, L) of images (B, channels, H, W)."""
    device = tokenizer.device
    maps = tokenizer.encode(images.to(device))
    return torch.cat([token_map.flatten(1) for token_map in maps], 1).cpu().numpy()
