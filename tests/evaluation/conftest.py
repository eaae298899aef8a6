"""A tiny classifier that sees the tiny pipeline's images, and a cache of its own."""

from pathlib import Path

import pytest

from nextscale.classifiers import write_classifier
from nextscale.config.model import ClassifierConfig
from nextscale.models.classifier import Classifier
from tests.conftest import randomize

LABELS = ("Ankle boot", "bag", "coat")  # those of the tiny pipeline


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory with a classifier of 8x8 grey images in three classes."""
    config = ClassifierConfig(
        classes=3, image_size=(8, 8), width=8, levels=2, blocks=1, groups=4, labels=LABELS
    )
    folder = tmp_path_factory.mktemp("classifier")
    write_classifier(randomize(Classifier(config)), folder)
    return str(folder)
