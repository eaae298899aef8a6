"""The files of a page: what it is sent, shows and offers for download, in one bounded folder."""

import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from PIL import Image

from nextscale.errors import UsageError
from nextscale.storage.files import FULL, disk_full

LARGEST = 2**30  # bytes of all files of a page
BLOCK = 4096  # bytes that the smallest file takes on a disk


class Store:
    """A folder whose files are written once; beyond its limit each new file replaces the oldest.

    Args:
        folder: exists and is empty.
        largest: bytes that all files take together at most.
    """

    def __init__(self, folder: Path, largest: int = LARGEST) -> None:
        self.folder = folder
        self.largest = largest
        self.files: deque[tuple[Path, int]] = deque()  # the oldest first, with its bytes
        self.taken = 0  # bytes
        self.closed = False
        self.lock = threading.Lock()

    def write(self, suffix: str, save: Callable[[IO[bytes]], object]) -> str:
        """Writes a file under a new name and returns its path.

        Args:
            suffix: of the name, such as `.png`.
            save: writes the content.

        Raises:
            UsageError: if the disk is full or the store is closed.
        """
        with self.lock:
            if self.closed:
                raise UsageError("the page is stopping")
            path = self.folder / f"nextscale-{uuid.uuid4().hex}{suffix}"
            try:
                with path.open("xb") as file:
                    save(file)
            except BaseException as error:
                path.unlink(missing_ok=True)
                if isinstance(error, OSError) and error.errno in FULL:
                    raise UsageError(disk_full(error)) from error
                raise
            self.files.append((path, max(BLOCK, path.stat().st_size)))
            self.taken += self.files[-1][1]
            while self.taken > self.largest:
                oldest, size = self.files.popleft()
                oldest.unlink(missing_ok=True)  # Gradio deletes files by their age
                self.taken -= size
        return str(path)

    def pictures(self, pictures: Sequence[Image.Image]) -> list[str]:
        """Writes pictures as PNG files and returns their paths."""
        return [
            self.write(".png", lambda file, each=each: each.save(file, "PNG", compress_level=1))
            for each in pictures
        ]

    def close(self) -> None:
        """Waits for the file that is being written and refuses further ones."""
        with self.lock:
            self.closed = True
