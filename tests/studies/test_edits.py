"""Holes are filled and judged on equal terms, and the page is made of the records."""

import pytest
import torch

from nextscale.data.fashion_mnist import PACKAGED
from studies import edits
from studies.__main__ import main
from studies.holes import distance_to_hole, known_in


def test_holes() -> None:
    centre, half, border = (known_in(kind, 2, 28) for kind in ("centre", "half", "border"))
    assert (~centre).sum() == 2 * 14 * 14
    assert torch.equal(centre, ~border)
    assert (~half).sum() == 28 * 28
    strokes = known_in("strokes", 3, 28)
    assert not torch.equal(strokes[0], strokes[1])
    assert torch.equal(strokes[:2], known_in("strokes", 2, 28))
    assert 0.4 < strokes.float().mean() < 0.95


def test_distance_to_the_hole() -> None:
    known = torch.ones(1, 6, 6, dtype=torch.bool)
    known[0, 0, 0] = False
    assert distance_to_hole(known, 3)[0, 0].tolist() == [0, 1, 2, 3, 3, 3]


@pytest.mark.skipif(not PACKAGED.is_dir(), reason="Fashion-MNIST is not here")
def test_run_and_table(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(edits, "RESULTS", tmp_path)
    monkeypatch.setattr(edits, "KINDS", ("half",))
    given = ["--count", "12", "--records", str(tmp_path / "records")]
    assert main(["edits", "run", *given]) == 0
    assert "half: next-scale: FID" in capsys.readouterr().err
    assert main(["edits", "table", *given]) == 0
    told = (tmp_path / "edits.md").read_text()
    assert told.count("| OpenCV") == 2
    assert (tmp_path / "edits.png").is_file()
    assert main(["edits", "run", *given]) == 0  # all is recorded
    assert "half:" not in capsys.readouterr().err
