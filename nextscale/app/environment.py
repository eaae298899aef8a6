"""The environment variables of the page, set before Gradio is imported."""

import os
from pathlib import Path

PREFIX = "GRADIO_"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def own_environment(folder: Path, host: str) -> list[str]:
    """Makes the page depend on its own options alone.

    Gradio's variables could open a tunnel, serve files, move the page or start a second server;
    a proxy's would stand between the page and its own check that it answers.

    Args:
        folder: whose files Gradio may serve.
        host: name or address that the page listens on.

    Returns:
        The names of Gradio's variables that were set and are ignored.
    """
    ignored = sorted(name for name in os.environ if name.startswith(PREFIX))
    for name in ignored:
        del os.environ[name]
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    for name in ("no_proxy", "NO_PROXY"):
        known = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*known, *LOOPBACK, host]))
    return ignored
