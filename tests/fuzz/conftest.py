"""Valid things, of which every input of the fuzz damages a part."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.fuzz import harness
from tests.scaling_laws.conftest import write_run
from tests.training.runs import write_pictures

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.fixture(scope="module", autouse=True)
def _no_work() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        harness.put_work_aside(patch)
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def things(tmp_path_factory: pytest.TempPathFactory, saved: str, classifier: str) -> Path:
    """A folder of valid inputs: models, pictures, arrays, runs, options."""
    folder = tmp_path_factory.mktemp("things")
    shutil.copytree(saved, folder / "model")
    shutil.copytree(classifier, folder / "classifier")
    write_pictures(folder / "pictures", 4, 2)
    Image.effect_noise((8, 8), 60).save(folder / "picture.png")
    Image.effect_noise((9, 9), 60).save(folder / "other.png")
    random = np.random.default_rng(0)
    np.savez(folder / "images.npz", arr_0=random.integers(0, 256, (12, 8, 8), np.uint8))
    np.savez(folder / "statistics.npz", mu=np.zeros(4), sigma=np.eye(4))
    for depth in (1, 2, 3, 4):
        write_run(folder / "ladder" / f"d{depth}", depth)
    (folder / "options.yaml").write_text("seed: 3\n")
    torch.save({"a": torch.zeros(2)}, folder / "state.pth")
    shutil.copy(RESULTS / "scaling" / "fit.json", folder / "fit.json")
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path) -> Iterator[None]:
    """Relative names land in a folder of the test's own."""
    was = Path.cwd()
    os.chdir(tmp_path)
    yield
    os.chdir(was)
