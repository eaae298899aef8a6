"""Next-scale against its peers: steps, bytes, ratios."""

import pytest
import torch

from nextscale.errors import UsageError
from studies import methods
from studies.__main__ import main
from studies.methods import MethodsConfig

CPU = torch.device("cpu")


def test_report() -> None:
    config = MethodsConfig(depth=1, timed_steps=2, repeats=1, json="a/place/of/this/machine.json")
    told = []
    report = methods.measure(config, CPU, told.append)
    assert sum(told) == methods.runs(config, CPU)
    assert [row["steps"] for row in report["rows"]] == [10, 256, 250]
    assert report["rows"][0]["ratios"] == dict.fromkeys(report["rows"][0]["ratios"], 1)
    ours, next_token, diffusion = report["rows"]
    assert next_token["ratios"]["steps"] == 25.6
    seconds = [row["seconds_per_image"] for row in (ours, next_token, diffusion)]
    assert min(seconds) > 0
    slower = [row["ratios"]["seconds_per_image"] for row in (next_token, diffusion)]
    assert slower == pytest.approx([seconds[1] / seconds[0], seconds[2] / seconds[0]])
    assert report["width"] == 64
    assert "a/place" not in str(report)


def test_what_is_read_of_the_cache() -> None:
    config = MethodsConfig(depth=3)
    a_token = 2 * 3 * 192  # numbers of keys and values
    assert methods.cached("next-token", config) == a_token * 256 * 257 // 2
    ends = (1, 5, 14, 30, 55, 91, 155, 255, 424, 680)
    assert methods.cached("next-scale", config) == a_token * sum(ends)
    assert methods.cached("diffusion", config) == 0


def test_weights_that_every_step_reads() -> None:
    config = MethodsConfig(depth=2)
    _, read = methods.drawing("next-token", config, CPU)
    blocks = 2 * (12 * 128**2)
    head = 128 * 4096
    assert blocks + head < read < 1.2 * (blocks + head)  # biases and positions are small


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"width": 100}, "multiple of 64"),
        ({"timed_steps": 300}, "there are 250"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_bad_options(options, told) -> None:
    with pytest.raises(UsageError, match=told):
        MethodsConfig(**options)


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--depth", "1", "--repeats", "1"]) == 0
    assert "| next-token | 256 (25.6x) |" in capsys.readouterr().out
