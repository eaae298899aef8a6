"""The tiny model behind a studio, and behind a page that is served."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nextscale.app.studio import Studio
from nextscale.checkpoint import load


@pytest.fixture(scope="session")
def studio(pipe, tmp_path_factory) -> Studio:
    return Studio(pipe, "tiny", tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="session")
def address(tmp_path_factory) -> Iterator[str]:
    """Of the bundled model's page, which lets two jobs wait."""
    pytest.importorskip("gradio")
    from nextscale.app.environment import own_environment
    from nextscale.app.page import build_page, serve

    folder = tmp_path_factory.mktemp("shown")
    own_environment(folder)
    page = build_page(Studio(load("fashion-mnist"), "fashion-mnist", folder), queue=2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield serve(page, "127.0.0.1", port, prevent_thread_lock=True)
    page.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures of the page are kept."""
    folder = Path(__file__).parents[2] / "build/screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
