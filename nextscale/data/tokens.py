"""Tokens of a data set, encoded once and kept on disk (memory-mapped), for training transformers.

A cache is keyed by all that shaped it: the tokenizer's hash and scales, the data and its
augmentation, the number of copies. An interrupted encoding goes on where it stopped.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from nextscale.data.images import Source
from nextscale.data.order import Samples
from nextscale.data.record import Record
from nextscale.files import check_no_link, disk_errors, reserve, write_text
from nextscale.scales import length
from nextscale.tokenizer.tokenizer import Tokenizer

CHUNK = 250  # images encoded at once; part of the key, since rounding may depend on it
VERSION = 1

Tell = Callable[[int, int], None]


class TokenCache:
    """Tokens of `copies` augmented passes over a source; epoch e reads pass e modulo copies.

    Args:
        folder: as `cache_tokens` leaves it.
        source: whose class names and identity are kept.

    Attributes:
        skipped: files that could not be read, over all copies; their neighbours were encoded.
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
        """Of the images that were encoded."""
        return self.source.record

    def __len__(self) -> int:
        return self.tokens.shape[1]

    @property
    def labels(self) -> NDArray[np.int32]:
        return self.numbers[0]

    def load(self, epoch: int, samples: Samples) -> tuple[Tensor, Tensor, int]:
        """Tokens int64 (B, L) and labels int64 (B,); nothing is ever skipped."""
        copy = epoch % len(self.tokens)
        tokens = torch.from_numpy(self.tokens[copy, samples].astype(np.int64))
        return tokens, torch.from_numpy(self.numbers[copy, samples].astype(np.int64)), 0


def quiet(done: int, total: int) -> None:
    """Reports nothing about chunks done and in all."""
    del done, total


def shape(tokenizer: Tokenizer, tokenizer_hash: str, source: Source, copies: int) -> dict[str, Any]:
    """All that shapes a cache; it lies beside the tokens as `cache.json`."""
    return {
        "tokenizer": tokenizer_hash,
        "config": asdict(tokenizer.config),  # z-norm and φ's ratio are in no weight
        "data": source.identity,
        "images": len(source),
        "copies": copies,
        "chunk": CHUNK,
        "version": VERSION,
    }


def cache_key(shaped_by: Mapping[str, Any]) -> str:
    """Name of a cache's folder."""
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
    tell: Tell = quiet,
) -> TokenCache:
    """Encodes a source unless that was done before.

    Chunks are dealt to the processes in turn; each marks what it has finished. Another command that
    wants the same cache waits until this one has filled it.

    Args:
        tokenizer: in eval mode, on its device.
        tokenizer_hash: as `weights.hash_weights` gives it.
        copies: augmented passes; each is the source at another epoch.
        directory: of all caches.
        wait: a barrier over the processes.
        tell: called with chunks done and in all.
    """
    shaped_by = shape(tokenizer, tokenizer_hash, source, copies)
    place = directory / cache_key(shaped_by)
    beside = directory / f".{place.name}.partial"
    if rank == 0:
        directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / f".{place.name}.lock") if rank == 0 else nullcontext():
        wait()  # for the lock; now all processes see the same
        if not place.exists():
            wait()
            if rank == 0:
                prepare(beside, len(source), copies, tokenizer)
                write_text(beside / "cache.json", json.dumps(shaped_by, indent=2))
            wait()
            fill(beside, tokenizer, source, rank, processes, tell)
            wait()
            if rank == 0:
                os.replace(beside, place)
        wait()
    return TokenCache(place, source)


def prepare(folder: Path, images: int, copies: int, tokenizer: Tokenizer) -> None:
    """Lays out the arrays of an unfinished cache, unless an interrupted one is there."""
    chunks = -(-images // CHUNK)
    kind = np.uint16 if tokenizer.config.codes <= 2**16 else np.int32
    arrays = {
        "tokens": ((copies, images, length(tokenizer.config.scales)), kind),
        "labels": ((copies, images), np.int32),
        "done": ((copies, chunks), np.uint8),  # last, so that a cut-off layout is laid out again
    }
    for place in (folder, *(folder / f"{name}.npy" for name in arrays)):
        check_no_link(place)  # an array is written to where it lies
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


def fill(
    folder: Path, tokenizer: Tokenizer, source: Source, rank: int, processes: int, tell: Tell
) -> None:
    """Encodes this process's chunks that are not marked as done."""
    tokens, labels, done = (
        np.load(folder / f"{name}.npy", mmap_mode="r+") for name in ("tokens", "labels", "done")
    )
    todo = [(int(c), int(i)) for c, i in np.argwhere(done == 0) if i % processes == rank]
    for count, (copy, chunk) in enumerate(todo):
        begin, end = chunk * CHUNK, min((chunk + 1) * CHUNK, len(source))
        images, numbers, skipped = source.load(copy, np.arange(begin, end))
        tokens[copy, begin:end] = encode(tokenizer, images)
        labels[copy, begin:end] = numbers.numpy()
        tokens.flush()
        labels.flush()
        done[copy, chunk] = 1 + skipped  # at most CHUNK
        tell(count + 1, len(todo))
    done.flush()


@torch.inference_mode()
def encode(tokenizer: Tokenizer, images: Tensor) -> NDArray[np.int64]:
    """Tokens (B, L) of images (B, channels, H, W)."""
    device = tokenizer.quantizer.codebook.device
    maps = tokenizer.encode(images.to(device))
    return torch.cat([token_map.flatten(1) for token_map in maps], 1).cpu().numpy()
