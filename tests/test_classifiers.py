"""Classifiers on disk: what is written is read again, and damage is one line."""

from pathlib import Path

import pytest
import torch

from nextscale.classifiers import load_classifier, write_classifier
from nextscale.config.model import ClassifierConfig
from nextscale.errors import UsageError
from nextscale.models.classifier import Classifier


@pytest.fixture
def written(tmp_path: Path) -> Path:
    config = ClassifierConfig(classes=2, width=8, blocks=1, groups=4, labels=("a", "b"))
    write_classifier(Classifier(config).half(), tmp_path)
    return tmp_path


def test_round_trip(written: Path) -> None:
    network = load_classifier(str(written))
    assert network.config.labels == ("a", "b")
    assert not network.training
    again = written / "again"
    again.mkdir()
    write_classifier(network, again)
    other, images = load_classifier(str(again)), torch.randn(2, 1, 28, 28)
    assert torch.equal(network(images), other(images))


def test_what_is_no_classifier_is_one_line(written: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no classifier; give a directory"):
        load_classifier(str(tmp_path / "nowhere"))
    config = (written / "config.json").read_text()
    (written / "config.json").write_text(config.replace('"width": 8', '"width": 16'))
    with pytest.raises(UsageError, match="does not fit its configuration"):
        load_classifier(str(written))
    (written / "config.json").write_text(config.replace("width", "breadth"))
    with pytest.raises(UsageError, match="unknown configuration key breadth"):
        load_classifier(str(written))
    (written / "config.json").write_text(config)
    (written / "classifier.safetensors").write_bytes(b"cut")
    with pytest.raises(UsageError, match="truncated"):
        load_classifier(str(written))
