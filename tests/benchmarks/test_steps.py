"""Steps are compared by what they drew, and taken from the repository's history."""

from pathlib import Path

import numpy as np
import pytest
import steps

from nextscale.errors import UsageError


def test_the_first_token_that_flips_is_named(tmp_path: Path) -> None:
    image = np.zeros((1, 1, 2, 2))
    for seed, (tokens, change) in enumerate([([5, 6, 7], 0.0), ([5, 8, 9], 0.25)]):
        np.savez(steps.drawing_of(tmp_path, 0, seed), tokens=np.array([[5, 6, 7]]), image=image)
        np.savez(
            steps.drawing_of(tmp_path, 1, seed), tokens=np.array([tokens]), image=image + change
        )
    found = steps.difference(tmp_path, 1, seeds=2)
    assert found["flips"] == [{"seed": 1, "position": 1, "tokens": [6, 8]}]
    assert found["largest_difference"] == 0.25


def test_a_commit_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"commit 0000000 is not in this repository's history"):
        steps.unpack("0000000", tmp_path)


def test_medians_and_spread() -> None:
    runs = [{"seconds": seconds, "decoder": 1.0} for seconds in (1.0, 2.0, 4.0)]
    assert steps.medians(runs) == {"seconds": 2.0, "decoder": 1.0, "spread": 1.5}


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert steps.main(["--seeds", "0"]) == 2
    assert capsys.readouterr().err == "steps: error: --seeds and --batch must be at least 1\n"
