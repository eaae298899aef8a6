"""The moving average by hand, and the weights after it was shown."""

import pytest
import torch
from torch import nn

from nextscale.training.average import MovingAverage


def layer() -> nn.Linear:
    module = nn.Linear(1, 1)
    nn.init.constant_(module.weight, 1.0)
    module.bias.requires_grad_(False)
    return module


def test_update_by_hand() -> None:
    module = layer()
    average = MovingAverage(module, decay=0.5)
    expected = 1.0
    for step, weight, kept in ((0, 3.0, 0.1), (1, 5.0, 2 / 11), (100, 7.0, 0.5)):
        nn.init.constant_(module.weight, weight)
        average.update(step)
        expected = kept * expected + (1 - kept) * weight
        assert average.values[0].item() == pytest.approx(expected)
    assert len(average.values) == 1  # the frozen bias is not averaged


def test_shown_average_gives_way_to_the_own_weights_even_after_an_error() -> None:
    module = layer()
    average = MovingAverage(module, decay=0.9)
    nn.init.constant_(module.weight, 3.0)
    average.update(0)

    def show() -> None:
        with average.applied():
            assert module.weight.item() == pytest.approx(0.1 * 1 + 0.9 * 3)
            raise KeyError

    own = module.weight
    with pytest.raises(KeyError):
        show()
    assert module.weight is own
    assert module.weight.item() == 3.0
    assert average.values[0].item() == pytest.approx(2.8)


def test_state_goes_back() -> None:
    average = MovingAverage(layer(), decay=0.9)
    other = MovingAverage(layer(), decay=0.9)
    average.values[0].fill_(9.0)
    other.load_state_dict([value.clone() for value in average.state_dict()])
    assert torch.equal(other.values[0], average.values[0])
    assert other.values[0] is not average.values[0]
