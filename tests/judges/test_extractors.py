"""Extractors by name; Inception's own loading, on weights of its shapes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nextscale.errors import UsageError
from nextscale.evaluation.features import see
from nextscale.judges import extractors
from nextscale.judges.extractors import Extractor, load_extractor, register


def test_a_classifier_by_directory_and_by_name(classifier: str) -> None:
    extractor = load_extractor(classifier)
    assert (extractor.channels, extractor.size) == (1, (8, 8))
    pixels = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    features, logits = extractor.extract(pixels)
    assert (features.shape, logits.shape) == ((3, 16), (3, 3))
    bundled = load_extractor("fashion-mnist")
    assert bundled.labels[0] == "T-shirt/top"
    assert bundled.title == "fashion-mnist classifier"
    assert extractor.title == f"classifier {classifier}"
    assert bundled.identity != extractor.identity
    assert load_extractor("fashion-mnist").identity == bundled.identity


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="give one of inception, fashion-mnist, or a directory"):
        load_extractor("nothing")


def test_registered_ones_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractors, "_BUILDERS", {})
    mean = Extractor("mean", 1, None, (), lambda p: (p.float().mean((2, 3)), p.float()[:, :, 0, 0]))
    register("mean", lambda device: mean)
    assert load_extractor("mean") == replace(mean, title="mean")
    with pytest.raises(UsageError, match="registered already"):
        register("mean", lambda device: mean)
    with pytest.raises(UsageError, match="registered already"):
        register("inception", lambda device: mean)


def test_what_it_cannot_take_is_told(classifier: str) -> None:
    extractor = load_extractor(classifier)
    with pytest.raises(UsageError, match="takes images of 8 pixels; these are 6"):
        see(extractor, np.zeros((2, 6, 6, 1), np.uint8))
    with pytest.raises(UsageError, match="takes grey images; these are in colour"):
        see(extractor, np.zeros((2, 8, 8, 3), np.uint8))


def test_inception_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(
        "torch_fidelity.feature_extractor_inceptionv3.URL_INCEPTION_V3",
        "http://127.0.0.1:9/weights-inception.pth",
    )
    with pytest.raises(UsageError, match=r"cannot be downloaded .* give another"):
        load_extractor("inception")


@pytest.mark.slow
def test_inception_from_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch_fidelity import feature_extractor_inceptionv3 as published

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub/checkpoints" / Path(published.URL_INCEPTION_V3).name
    place.parent.mkdir(parents=True)
    with monkeypatch.context() as patch:  # the network without weights tells their shapes
        patch.setattr(published, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
        fresh = published.FeatureExtractorInceptionV3("shapes", extractors.INCEPTION_LAYERS)
    torch.save(fresh.state_dict(), place)
    extractor = load_extractor("inception")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1)).astype(np.uint8)
    seen = see(extractor, pixels)  # grey is repeated
    assert seen["values"].shape == (2, 2048)
    assert seen["logits"].shape == (2, 1008)
    expected = fresh(torch.from_numpy(pixels).permute(0, 3, 1, 2).expand(-1, 3, -1, -1))
    np.testing.assert_allclose(seen["values"], expected[0].numpy(), rtol=1e-5)
    place.write_bytes(b"cut")
    with pytest.raises(UsageError, match="are damaged; remove them"):
        load_extractor("inception")
