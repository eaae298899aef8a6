"""Classifiers on disk: what is written is read again, and damage is one line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nextscale.config.architecture import ClassifierConfig
from nextscale.config.model import ModelConfig
from nextscale.errors import UsageError
from nextscale.judges.classifiers import load_classifier, load_judge, write_classifier
from nextscale.judges.network import Classifier
from nextscale.pipeline import Pipeline


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
    with pytest.raises(UsageError, match="is no classifier; give fashion-mnist, or a directory"):
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


def test_the_bundled_one_knows_fashion_mnist() -> None:
    network = load_classifier("fashion-mnist")
    assert network.config.data == "fashion-mnist"
    size = sum(p.numel() for p in network.parameters()) * 2  # it is stored in half precision
    assert size <= 2e6


def test_a_judge_gives_log_probabilities(make_tokenizer, make_model) -> None:
    tokenizer = make_tokenizer(scales=(1, 2, 14))  # 28x28 pixels
    model = make_model(tokenizer, classes=10)
    pipe = Pipeline(tokenizer, model, ModelConfig(tokenizer.config, model.config))
    judged = load_judge("fashion-mnist", pipe)(torch.zeros(3, 1, 28, 28))
    assert judged.exp().sum(1).tolist() == pytest.approx([1, 1, 1])
    few = make_model(tokenizer, classes=3)
    other = Pipeline(tokenizer, few, ModelConfig(tokenizer.config, few.config))
    with pytest.raises(UsageError, match="knows 10 classes, the model 3; give a classifier of"):
        load_judge("fashion-mnist", other)


def test_a_torchvision_model_judges(
    pipe: Pipeline, make_model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import models

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = models.ResNet18_Weights.DEFAULT
    place = tmp_path / "hub/checkpoints" / Path(weights.url).name
    place.parent.mkdir(parents=True)
    network = models.resnet18()
    torch.save(network.state_dict(), place)
    many = make_model(pipe.tokenizer, classes=1000)
    imagenet = Pipeline(pipe.tokenizer, many, ModelConfig(pipe.tokenizer.config, many.config))
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    judged = load_judge("resnet18", imagenet)(images)
    shown = weights.transforms()((images.expand(-1, 3, -1, -1) + 1) / 2)
    assert torch.allclose(judged, network.eval()(shown).log_softmax(-1), atol=1e-4)
    with pytest.raises(UsageError, match="knows 1000 classes, the model 3"):
        load_judge("resnet18", pipe)
    place.write_bytes(b"cut")
    with pytest.raises(UsageError, match="weights of resnet18 cannot be had"):
        load_judge("resnet18", imagenet)
    with pytest.raises(UsageError, match="unknown classifier 'nobody'; give fashion-mnist"):
        load_judge("nobody", pipe)


def test_a_judge_s_classes_are_told_by_name(pipe: Pipeline, classifier: str) -> None:
    images = torch.rand(3, 1, 8, 8) * 2 - 1
    plain = load_judge(classifier, pipe)(images)
    turned = replace(pipe.config, labels=("coat", "Ankle boot", "bag"))
    other = load_judge(classifier, Pipeline(pipe.tokenizer, pipe.model, turned))(images)
    assert torch.equal(other, plain[:, [2, 0, 1]])
    strange = replace(pipe.config, labels=("coat", "hat", "bag"))
    with pytest.raises(UsageError, match="does not know the model's class 'hat'"):
        load_judge(classifier, Pipeline(pipe.tokenizer, pipe.model, strange))
