"""The tiny model behind a studio, and behind a page that is served."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nextscale.app.store import Store
from nextscale.app.studio import Studio
from nextscale.checkpoints.checkpoint import load


@pytest.fixture(scope="session")
def studio(pipe, tmp_path_factory) -> Studio:
    return Studio(pipe, "tiny", Store(tmp_path_factory.mktemp("archives")))


@pytest.fixture(scope="session")
def address(tmp_path_factory) -> Iterator[str]:
    """Of the bundled model's page, which lets two jobs wait."""
    pytest.importorskip("gradio")
    from nextscale.app.environment import own_environment
    from nextscale.app.page import build_page, serve, stop

    folder = tmp_path_factory.mktemp("shown")
    own_environment(folder, "127.0.0.1")
    store = Store(folder)
    page = build_page(Studio(load("fashion-mnist"), "fashion-mnist", store), queue=2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield serve(page, store, "127.0.0.1", port)
    stop(page)


@pytest.fixture(scope="session")
def _process(saved, tmp_path_factory) -> Iterator:
    """The tiny model's page in a process of its own."""
    pytest.importorskip("gradio")
    from tests.app.server import served

    with served(saved, tmp_path_factory.mktemp("server") / "output") as server:
        yield server


@pytest.fixture
def server(_process) -> Iterator:
    """That page, which must print no traceback and go on whatever a test sends."""
    yield _process
    assert "Traceback" not in (text := _process.output.read_text()), text[-3000:]
    assert _process.get("/config").status_code == 200


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures of the page are kept."""
    folder = Path(__file__).parents[2] / "build/screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
