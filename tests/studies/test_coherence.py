"""What is taken from real images is theirs, the rest is drawn; the report names its rows."""

from pathlib import Path

import pytest
import torch

from nextscale.checkpoints import checkpoint
from nextscale.data.fashion_mnist import PACKAGED
from nextscale.generation.generate import generate, last_state
from nextscale.storage.files import read_json
from studies import coherence
from studies.__main__ import main

LABELS = torch.tensor([0, 1, 2, 0, 1])
SEED = 7  # of the first image


def test_all_scales_given_is_a_reconstruction(pipe, images) -> None:
    expected = pipe.tokenizer.decode(pipe.tokenizer.encode(images))
    drawn = coherence.draw(pipe, images, LABELS, SEED, len(pipe.model.scales))
    torch.testing.assert_close(drawn, expected)


def test_no_scale_given_is_a_drawing(pipe, images) -> None:
    states = generate(pipe.model, pipe.tokenizer, LABELS, seeds=range(SEED, SEED + len(LABELS)))
    expected = last_state(states).image()
    torch.testing.assert_close(coherence.draw(pipe, images, LABELS, SEED, 0), expected)
    assert not torch.equal(coherence.draw(pipe, images, LABELS, SEED, 1), expected)


@pytest.mark.skipif(not PACKAGED.is_dir(), reason="Fashion-MNIST is not here")
def test_report(tmp_path: Path, capsys) -> None:
    file = tmp_path / "report.json"
    assert main(["coherence", "--count", "12", "--json", str(file)]) == 0
    rows = read_json(file)["rows"]
    scales = checkpoint.config_of(coherence.MODEL).tokenizer.scales
    assert [row["given_scales"] for row in rows] == list(range(len(scales) + 1))
    assert rows[-1]["class_accuracy"] > 0.9  # reconstructions
    assert "| 1x1, 3x3 " in capsys.readouterr().out


def test_bad_input_is_told(saved: str, tmp_path: Path, capsys) -> None:
    assert main(["coherence", "--count", "1"]) == 2
    assert main(["coherence", saved]) == 2  # trained on nothing that is known
    assert main(["coherence", str(tmp_path / "missing")]) == 2
    assert main(["coherence", "--json", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("studies: error: ") == 4
