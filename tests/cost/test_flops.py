"""Counts by hand of layers small enough, and a peak that is a number."""

import torch
from torch import nn

from nextscale.cost.flops import count_flops, parameters
from nextscale.machine.peaks import measure_peak


def test_a_linear_layer_by_hand() -> None:
    layer, rows = nn.Linear(3, 5), torch.randn(7, 3)
    assert parameters(layer) == 3 * 5 + 5
    assert count_flops(lambda: layer(rows)) == 2 * 7 * 3 * 5
    # Backward: one product for the weight's gradient; the rows need none.
    assert count_flops(lambda: layer(rows).sum().backward()) == 2 * (2 * 7 * 3 * 5)


def test_a_convolution_by_hand() -> None:
    layer, images = nn.Conv2d(2, 4, 3, padding=1), torch.randn(1, 2, 6, 5)
    assert parameters(layer) == 2 * 4 * 9 + 4
    assert count_flops(lambda: layer(images)) == 2 * 6 * 5 * 2 * 4 * 9


def test_peak_is_a_rate() -> None:
    small = ((32, 32, 32), (16, 64, 16))
    assert measure_peak(torch.device("cpu"), repeats=2, products=small) > 0
