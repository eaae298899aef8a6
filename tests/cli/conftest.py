"""Pictures to put into commands, and how bad ones are refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nextscale.cli.main import main


@pytest.fixture
def photographs(tmp_path) -> Path:
    """A folder with two readable pictures of other sizes and modes."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    Image.linear_gradient("L").save(folder / "slope.jpg")
    return folder


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail with one line and code 2; returns the line."""

    def run(*words: object) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("nextscale: error: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        return err

    return run
