"""A mask of pixels becomes one of every scale, by the released rule or a stricter one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nextscale.editing.masks import first_scales, keep_per_scale
from nextscale.errors import UsageError
from nextscale.scales import parse_scales

SCALES = parse_scales("1 2 4")


def kept(keep: torch.Tensor, rule: str = "released") -> list[list[list[int]]]:
    return [mask[0, 0].int().tolist() for mask in keep_per_scale(keep[None], SCALES, rule)]


def test_released_rule_on_positions() -> None:
    keep = torch.ones(4, 4)
    keep[2:, 1:] = 0
    assert kept(keep) == [[[1]], [[1, 1], [0, 0]], keep.int().tolist()]
    assert kept(torch.zeros(4, 4)) == [[[1]], [[0] * 2] * 2, [[0] * 4] * 4]


def test_strict_rule_keeps_what_is_kept_whole() -> None:
    keep = torch.ones(8, 8)  # two pixels a position
    keep[7, 7] = 0
    whole = [[1] * 4] * 3 + [[1, 1, 1, 0]]
    assert kept(keep, "strict") == [[[0]], [[1, 1], [1, 0]], whole]
    assert kept(keep) == [[[1]], [[1, 1], [1, 1]], [[1] * 4] * 4]


@given(st.integers(0, 2**16 - 1))
def test_strict_keeps_no_more_than_released(bits: int) -> None:
    keep = torch.tensor([bits >> i & 1 for i in range(16)]).view(4, 4)
    released, strict = (keep_per_scale(keep[None], SCALES, rule) for rule in ("released", "strict"))
    for more, less in zip(released, strict, strict=True):
        assert not (less & ~more).any()


def test_a_scale_of_four_positions_is_not_kept_whole_and_one_of_three_is() -> None:
    masks = keep_per_scale(torch.zeros(1, 4, 4), ((1, 3), (4, 4)))
    assert masks[0].all()
    assert not masks[1].any()
    assert not keep_per_scale(torch.zeros(1, 4, 4), SCALES)[1].any()


def test_first_scales() -> None:
    assert [mask.all().item() for mask in first_scales(2, SCALES, torch.device("cpu"))] == [1, 1, 0]


def test_refusals() -> None:
    with pytest.raises(UsageError, match="it can be released or strict"):
        keep_per_scale(torch.ones(1, 4, 4), SCALES, "loose")  # pyright: ignore
    with pytest.raises(UsageError, match="has 3x9 positions; at least the 4 of the"):
        keep_per_scale(torch.ones(1, 3, 9), SCALES)
