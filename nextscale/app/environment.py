"""What surrounds the page: its variables and its folder. It runs before Gradio is imported."""

import os
from pathlib import Path

PREFIX = "GRADIO_"
LOOPBACK = ("127.0.0.1", "localhost")


def own_environment(folder: Path) -> list[str]:
    """Makes the page depend on its own options alone.

    Gradio's variables could open a tunnel, serve files, move the page or start a second server;
    a proxy's would stand between the page and its own check that it answers.

    Args:
        folder: where Gradio keeps what is uploaded and shown.

    Returns:
        names of the variables that are ignored.
    """
    ignored = sorted(name for name in os.environ if name.startswith(PREFIX))
    for name in ignored:
        del os.environ[name]
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    for name in ("no_proxy", "NO_PROXY"):
        known = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*known, *LOOPBACK]))
    return ignored
