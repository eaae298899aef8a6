"""How a run reads its data."""

from collections.abc import Iterator

import pytest

from nextscale.data.images import Batch
from nextscale.errors import UsageError
from nextscale.training.feed import next_batch


@pytest.mark.parametrize(
    ("said", "kind"), [("DataLoader worker (pid 3) is killed", UsageError), ("x", RuntimeError)]
)
def test_a_killed_reader_is_told_of(said: str, kind: type[Exception]) -> None:
    def stream() -> Iterator[Batch]:
        raise RuntimeError(said)
        yield

    with pytest.raises(kind, match="reads images was killed" if kind is UsageError else "x"):
        next_batch(stream())
