"""An output directory that holds one run, and whether it can be written."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any

from nextscale.console.earlier import earlier_files, other_pictures
from nextscale.console.messages import inform
from nextscale.errors import UsageError
from nextscale.storage.files import FULL, disk_full, replacing_file, to_json

if TYPE_CHECKING:
    from PIL import Image


def check_writable(directory: Path, what: str) -> None:
    """Raises UsageError unless a directory can be made there and written to."""
    present = directory.absolute()
    while not present.exists():
        present = present.parent
    if not present.is_dir():
        raise UsageError(f"{present} is a file; give another {what}")
    try:
        TemporaryDirectory(dir=present).cleanup()
    except OSError as error:
        raise UsageError(
            f"{present} cannot be written to ({error.strerror}); give another {what}"
        ) from error


class Output:
    """A directory made with the first file that is written into it; every file appears whole.

    It holds one run: what an earlier run of the same command wrote is removed before the first
    file. Other files of the same name are replaced, all others left alone.

    Args:
        directory: made if it is not there.
        record: file that lists the run's pictures, to be written before them; of
            `earlier.RECORDS`, or empty where there is none.
        inputs: files that are read.

    Raises:
        UsageError: here or in writing, if the directory cannot be made or written to; here, if
            `earlier_files` raises.
    """

    def __init__(self, directory: str, record: str = "", inputs: Iterable[Path] = ()) -> None:
        if not directory:
            raise UsageError("--out is empty; give a directory")
        self.directory = Path(directory)
        check_writable(self.directory, "--out directory")
        self.earlier = earlier_files(self.directory, record, inputs) if record else []
        self.written: set[str] = set()

    def write(self, name: str, write: Callable[[IO[bytes]], object]) -> None:
        """Writes a file beside its place and renames it."""
        place = self.directory / name
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.clear()
            with replacing_file(place) as file:
                write(file)
        except OSError as error:
            said = disk_full(error) if error.errno in FULL else f"{error.strerror or error}"
            raise UsageError(f"{place} cannot be written: {said}") from error
        self.written.add(name)

    def clear(self) -> None:
        """Removes what an earlier run wrote, and says so."""
        if self.earlier:
            inform(f"{len(self.earlier)} files of an earlier run in {self.directory} are replaced")
        while self.earlier:
            self.earlier.pop().unlink(missing_ok=True)

    def report_others(self) -> None:
        """Says how many pictures of others lie beside those of this run, if any."""
        count = other_pictures(self.directory, self.written)
        if count:
            inform(
                f"{self.directory} also holds {count} other picture{'s' * (count > 1)}, which "
                "`nextscale evaluate` would count among these"
            )

    def picture(self, name: str, picture: "Image.Image") -> None:
        """Writes a PNG."""
        self.write(name, lambda file: picture.save(file, format="PNG"))

    def animation(self, name: str, frames: Sequence["Image.Image"]) -> None:
        """Writes a GIF."""
        from nextscale.pictures.grids import write_animation

        self.write(name, lambda file: write_animation(file, frames))

    def table(self, name: str, values: Any) -> None:
        """Writes JSON."""
        self.write(name, lambda file: file.write(to_json(values).encode()))
