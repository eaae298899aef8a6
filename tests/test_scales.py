import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextscale.errors import UsageError
from nextscale.scales import areas, describe, length, parse_scales, position, spans


@st.composite
def pyramids(draw, least=1):
    """Scales whose sides never shrink and whose areas grow."""
    growth = st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(any)
    scales = [draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))]
    for dh, dw in draw(st.lists(growth, min_size=least - 1, max_size=8)):
        scales.append((scales[-1][0] + dh, scales[-1][1] + dw))
    return tuple(scales)


@given(pyramids())
def test_spans_partition_all_tokens(scales):
    tokens = [token for begin, end in spans(scales) for token in range(begin, end)]
    assert tokens == list(range(length(scales)))
    assert tuple(end - begin for begin, end in spans(scales)) == areas(scales)


@given(pyramids())
def test_what_describe_writes_parse_reads(scales):
    assert parse_scales(describe(scales)) == scales
    assert parse_scales([f"{h}x{w}" for h, w in scales]) == scales
    assert parse_scales([list(scale) for scale in scales]) == scales


@given(pyramids(least=2))
def test_a_falling_pyramid_is_refused(scales):
    with pytest.raises(UsageError, match="shrink"):
        parse_scales(scales[::-1])


@pytest.mark.parametrize("text", ["1 2 3", "1,2,3", "1x1 2 3x3", [1, "2", [3, 3]], (1, (2, 2), 3)])
def test_the_same_scales_in_other_words(text):
    assert parse_scales(text) == ((1, 1), (2, 2), (3, 3))


def test_sides_of_a_pair_are_height_then_width():
    scales = parse_scales("1x2 2x4 3x6")
    assert scales == ((1, 2), (2, 4), (3, 6))
    assert areas(scales) == (2, 8, 18)
    assert describe(scales) == "1x2 2x4 3x6"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "no scales given"),
        ([], "no scales given"),
        ("1 two", "'two' is neither a side nor a pair"),
        ("1 1x2x3", "1x2x3 follows 1"),
        ("x2", "neither a side nor a pair"),
        ([1.5], "neither a side nor a pair"),
        ("0 1", "0; it must be from 1"),
        ([[2, -1]], "-1; it must be from 1"),
        ("4x1 2x8", "2x8 follows 4x1"),  # more tokens, but a side shrinks
    ],
)
def test_what_is_no_pyramid_is_refused(value, said):
    with pytest.raises(UsageError, match=said):
        parse_scales(value)


@given(st.integers(2, 50))
def test_positions_rise_evenly_from_0_to_1(count):
    places = [position(k, count) for k in range(count)]
    assert (places[0], places[-1]) == (0.0, 1.0)
    steps = [b - a for a, b in pairwise(places)]
    assert steps == pytest.approx([1 / (count - 1)] * (count - 1))


def test_a_single_scale_sits_at_0():
    assert position(0, 1) == 0.0


@pytest.mark.parametrize("module", ["nextscale.scales", "nextscale.config.model"])
def test_scales_and_configuration_do_without_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
