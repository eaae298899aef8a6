"""Arrays of many images on the disk, made in fixed chunks of consecutive indices.

A chunk is whole or not there, and belongs to one process; so an interrupted evaluation goes on
where it was, and its arrays do not depend on the number of processes.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from numpy.typing import NDArray

from nextscale.errors import UsageError, shown
from nextscale.storage.arrays import read_array
from nextscale.storage.files import read_json, replacing_file, to_json, write_text

SETTINGS = "settings.json"
Arrays = dict[str, NDArray]


def visible(path: Path) -> bool:
    """Whether a file is no rest of a process that was killed while it wrote."""
    return not path.name.startswith(".")


def damaged(reason: str, place: Path) -> UsageError:
    """The complaint about a chunk that is not what was written."""
    return UsageError(f"{place} is damaged ({reason}); remove it to have it made again")


class Chunks:
    """A folder of chunks.

    Args:
        folder: made if it is not there.
        count: images in all.
        size: images of a chunk.
        settings: all that shapes the arrays, as JSON takes it.
        state: accelerate's processes, which all build this together.

    Raises:
        UsageError: if the folder holds chunks of other settings, or something else.
    """

    def __init__(
        self, folder: Path, count: int, size: int, settings: dict[str, Any], state: PartialState
    ) -> None:
        self.folder, self.count, self.size, self.state = folder, count, size, state
        wanted = json.loads(json.dumps(settings | {"count": count, "chunk": size}))
        with state.main_process_first():
            self.claim(wanted)

    def claim(self, wanted: dict[str, Any]) -> None:
        """Checks that the folder is free or holds chunks of the same settings."""
        folder = self.folder
        if (folder / SETTINGS).exists():
            found = read_json(folder / SETTINGS)
            other = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
            if other:
                pairs = [(k, shown(found.get(k)), shown(wanted.get(k))) for k in other[:3]]
                told = "; ".join(f"{k} was {was}, is {now}" for k, was, now in pairs)
                raise UsageError(f"{folder} holds another evaluation ({told}); give another --out")
            return
        if folder.exists() and (not folder.is_dir() or any(map(visible, folder.iterdir()))):
            raise UsageError(f"{folder} holds something else; give another --out")
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / SETTINGS, to_json(wanted))

    def fill(self, make: Callable[[range], Arrays], advance: Callable[[int], None]) -> None:
        """Makes the chunks that are missing, each in the process whose turn it is.

        Args:
            make: arrays of some consecutive images, the first axis counting them.
            advance: called with the number of images that became ready, in all processes.
        """
        state = self.state
        for number, begin in enumerate(range(0, self.count, self.size)):
            part = range(begin, min(begin + self.size, self.count))
            mine = number % state.num_processes == state.process_index
            if mine and not self.place(number).exists():
                arrays = make(part)
                with replacing_file(self.place(number)) as file:
                    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
            advance(len(part))
        state.wait_for_everyone()

    def read(self, name: str) -> NDArray:
        """One of the arrays, of all images."""
        parts = [self.read_chunk(number, name) for number in range(len(self))]
        for number, part in enumerate(parts):
            if (part.shape[1:], part.dtype) != (parts[0].shape[1:], parts[0].dtype):
                raise damaged(f"{name} is {part.dtype} {part.shape}", self.place(number))
        return np.concatenate(parts)

    def read_chunk(self, number: int, name: str) -> NDArray:
        """One of the arrays, of a chunk. Raises UsageError if the chunk is damaged."""
        try:
            values = read_array(self.place(number), name)
        except UsageError as error:
            raise damaged(f"{error}", self.place(number)) from error
        rows = min(self.size, self.count - number * self.size)
        if values.ndim == 0 or len(values) != rows:
            raise damaged(f"{name} is {values.shape}, not of {rows} images", self.place(number))
        return values

    def __len__(self) -> int:
        """Number of chunks."""
        return -(-self.count // self.size)

    def place(self, number: int) -> Path:
        """File of a chunk."""
        return self.folder / f"{number:06d}.npz"
