"""Counted growth is the arithmetic of the steps themselves, and its exponents are the paper's."""

from pathlib import Path

import pytest
import torch

from nextscale.config.architecture import TransformerConfig
from nextscale.errors import UsageError
from nextscale.models.trunk import Transformer
from nextscale.storage.files import read_json
from studies import growth
from studies.__main__ import main
from studies.growth import GrowthConfig, exponent

TRUNK = TransformerConfig(depth=1, width=8, heads=1)


@pytest.mark.parametrize("method", growth.METHODS)
@pytest.mark.parametrize("side", [1, 2, 8])
def test_pairs_are_those_of_the_steps(method: str, side: int) -> None:
    pairs = known = steps = 0
    for x, ((_, end, mask),) in growth.drawing(Transformer(TRUNK), method, side):
        steps += 1
        if method == "next-token without cache":
            assert mask is not None
            pairs += int(mask.sum())
        else:
            known += end
            pairs += x.shape[1] * known
    assert pairs == growth.attention_pairs(method, side)
    assert steps == growth.steps_of(method, side)


def test_steps_compute_the_same_with_and_without_cache() -> None:
    torch.manual_seed(0)
    trunk = Transformer(TRUNK).eval()
    modulations = trunk.modulations(torch.randn(1, 8))
    with torch.inference_mode():
        *_, (x, pieces) = growth.drawing(trunk, "next-token without cache", 4)
        whole = trunk(x, modulations, pieces)
        cache = trunk.new_cache(1, 16)
        steps = [
            trunk(token, modulations, piece, cache)
            for token, piece in growth.drawing(trunk, "next-token", 4)
        ]
    torch.testing.assert_close(torch.cat(steps, 1), whole)


def test_exponents() -> None:
    assert exponent([1, 2, 4], [5, 40, 320]) == pytest.approx(3)
    for method, proven in zip(growth.METHODS, (6, 4, 4), strict=True):
        sides = GrowthConfig().sides
        found = exponent(sides, [growth.attention_pairs(method, side) for side in sides])
        assert found == pytest.approx(proven, abs=0.01)


def test_report() -> None:
    config = GrowthConfig(measured_sides=(1, 2), depth=1, width=64, repeats=1)
    told = []
    report = growth.measure(config, torch.device("cpu"), told.append)
    assert sum(told) == growth.runs(config, torch.device("cpu"))
    assert [row["steps"][1024] for row in report["rows"]] == [1024**2, 1024**2, 11]
    assert all(
        seconds > 0 for row in report["rows"] for seconds in row["measured_seconds"].values()
    )
    assert report["fp32_peak_gflops"] > 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sides": (64, 96)}, "side 96 is no power of two"),
        ({"measured_sides": (4,)}, "measured_sides holds one size"),
        ({"repeats": 0}, "repeats is 0"),
        ({"width": 0, "depth": 0}, "depth is 0"),
        ({"width": 0}, "width is 0"),
    ],
)
def test_bad_options(options, told) -> None:
    with pytest.raises(UsageError, match=told):
        GrowthConfig(**options)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "reports/growth.json"
    words = ["--measured-sides", "1", "2", "--repeats", "1", "--width", "64", "--json", str(file)]
    assert main(["growth", *words]) == 0
    assert "| next-scale               | 11 " in capsys.readouterr().out
    assert len(read_json(file)["rows"]) == 3
