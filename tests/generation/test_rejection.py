"""Rejection sampling: how many are drawn, and which are kept."""

import pytest
import torch

from nextscale.errors import UsageError
from nextscale.generation.rejection import candidates, choose, own_class


def test_a_share_of_every_class_is_kept() -> None:
    assert candidates([2, 0, 2, 0], 0.5) == [0] * 4 + [2] * 4
    assert candidates([1, 1, 1], 0.75) == [1] * 4
    assert candidates([1] * 7, 0.7) == [1] * 10  # 7 / 0.7 is a little above 10 in floats
    assert candidates([3, 1], 1) == [1, 3]


@pytest.mark.parametrize("keep", [0, -1, 1.5, float("nan")])
def test_a_share_that_cannot_be_kept_is_refused(keep: float) -> None:
    with pytest.raises(UsageError, match="it must be above 0 and at most 1"):
        candidates([0], keep)


def test_the_surest_of_each_class_serve_the_wanted_labels() -> None:
    drawn = [0, 0, 0, 0, 1, 1]
    scores = [-3.0, -1.0, -2.0, -4.0, -9.0, -0.5]
    assert choose(scores, drawn, [0, 1, 0]) == [1, 5, 2]
    assert choose([0.0] * 6, drawn, [1, 0, 0]) == [4, 0, 1]  # equal: as drawn


def test_own_class() -> None:
    table = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]])
    assert own_class(table, [1, 0]) == [-2.0, -3.0]
    with pytest.raises(UsageError, match="without a class cannot be judged"):
        own_class(table, [0, 2])
