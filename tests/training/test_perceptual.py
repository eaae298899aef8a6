"""LPIPS with weights of the right shapes, registered networks, and what happens without weights."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from nextscale.errors import UsageError
from nextscale.judges import perceptual
from nextscale.judges.perceptual import PerceptualUnavailable, perceptual_distance, register
from tests.training import runs


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    known = dict(perceptual._NETWORKS)
    yield
    perceptual._NETWORKS.clear()
    perceptual._NETWORKS.update(known)


class Edges(nn.Module):
    """Two feature maps of a fixed random convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.layer(images)
        return [features, features.mean((2, 3))]


def test_registered_network_measures_features() -> None:
    network = Edges()
    register("edges", lambda: network)
    distance = perceptual_distance("edges")
    ours, theirs = torch.randn(2, 1, 8, 8, requires_grad=True), torch.randn(2, 1, 8, 8)
    value = distance(ours, theirs)
    expected = sum(
        (nn.functional.normalize(a) - nn.functional.normalize(b)).square().sum(1).mean()
        for a, b in zip(network(ours), network(theirs), strict=True)
    )
    torch.testing.assert_close(value, expected)
    value.backward()
    assert ours.grad is not None
    assert ours.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in distance.parameters())
    assert distance(theirs, theirs).item() == 0


def test_a_single_feature_map_will_do() -> None:
    register("one", lambda: nn.Conv2d(1, 2, 1))
    assert perceptual_distance("one")(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)).ndim == 0


@pytest.mark.parametrize("name", ["lpips", "edges"])
def test_names_are_taken_once(name: str) -> None:
    register("edges" if name != "edges" else "others", Edges)
    if name == "edges":
        register("edges", Edges)
    with pytest.raises(UsageError, match=f"'{name}' is registered already"):
        register(name, Edges)


def test_unknown_name_tells_the_known_ones() -> None:
    register("edges", Edges)
    with pytest.raises(UsageError, match="known: lpips, fashion-mnist, edges"):
        perceptual_distance("vgg")


@pytest.fixture
def vgg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub cache that holds a VGG16 of random weights under the published file's name."""
    with torch.device("meta"):
        shapes = torchvision.models.vgg16().state_dict()
    noise = {k: torch.randn(v.shape) * 0.05 for k, v in shapes.items() if k.startswith("features")}
    # The classifier, nine tenths of the file, is read but not used.
    noise |= {k: torch.zeros(()).expand(v.shape) for k, v in shapes.items() if k not in noise}
    name = torchvision.models.VGG16_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    (tmp_path / "checkpoints").mkdir()
    torch.save(noise, tmp_path / "checkpoints" / name)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))


@pytest.mark.usefixtures("vgg")
def test_lpips_takes_one_and_three_channels() -> None:
    distance = perceptual_distance("lpips")
    grey, other = torch.rand(2, 1, 32, 32) * 2 - 1, torch.rand(2, 1, 32, 32) * 2 - 1
    grey.requires_grad_(True)
    value = distance(grey, other)
    value.backward()
    assert value.item() > 0
    assert grey.grad is not None
    assert grey.grad.abs().sum() > 0
    repeated = [images.detach().repeat(1, 3, 1, 1) for images in (grey, other)]
    torch.testing.assert_close(distance(*repeated), value.detach())
    assert distance(repeated[0], repeated[0]).item() == 0
    assert not any(p.requires_grad for p in distance.parameters())


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty hub cache and no network."""

    def unreachable(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)


@pytest.mark.usefixtures("offline")
def test_a_loss_that_was_asked_for_is_not_dropped(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PerceptualUnavailable, match="cannot be had"):
        perceptual_distance("lpips")
    words = ["--loss.perceptual", 1, "--max-steps", 1, "--log-every", 1]
    assert runs.train("tokenizer", tmp_path / "run", pictures, *words) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "LPIPS' weights cannot be had (OSError), and loss.perceptual is 1; give" in line
    assert "fashion-mnist" in line
    assert not (tmp_path / "run").exists()

    words += ["--loss.perceptual-optional"]
    assert runs.train("tokenizer", tmp_path / "run", pictures, *words) == 0
    assert "LPIPS' weights cannot be had (OSError); the perceptual term is off" in (
        capfd.readouterr().out
    )
    (line,) = runs.log(tmp_path / "run")
    assert "perceptual" not in line


def test_a_run_with_a_registered_network_logs_its_term(pictures: Path, tmp_path: Path) -> None:
    register("edges", Edges)
    words = ["--loss.perceptual", 1, "--loss.perceptual-network", "edges"]
    words += ["--max-steps", 1, "--log-every", 1]
    assert runs.train("tokenizer", tmp_path / "run", pictures, *words) == 0
    assert runs.log(tmp_path / "run")[0]["perceptual"] > 0


def test_the_bundled_classifier_is_a_perceptual_network() -> None:
    distance = perceptual_distance("fashion-mnist")
    images = torch.rand(2, 1, 28, 28) * 2 - 1
    assert float(distance(images, images)) == pytest.approx(0, abs=1e-8)
    near, far = images + 0.05, images.flip(-1)
    assert 0 < float(distance(images, near)) < float(distance(images, far))
    with pytest.raises(UsageError, match="registered already"):
        register("fashion-mnist", lambda: distance)
