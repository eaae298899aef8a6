import copy

import torch
from torch import nn

from nextscale.training.optimizer import MOMENTUM, build_optimizer
from nextscale.training.schedule import set_rates


def groups_of(layer: nn.Linear) -> list[dict]:
    """A matrix for Muon and a vector for AdamW."""
    return [
        {"params": [layer.weight], "decays": True, "muon": True},
        {"params": [layer.bias], "decays": False, "muon": False},
    ]


def backward(layer: nn.Linear, seed: int) -> None:
    layer.zero_grad()
    generator = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_without_muon_it_is_adamw() -> None:
    layer = nn.Linear(2, 2)
    optimizer = build_optimizer([{"params": [layer.weight]}], 1e-3, (0.9, 0.95))
    assert type(optimizer) is torch.optim.AdamW


def test_matrices_move_by_an_orthogonal_step_and_the_rest_as_adamw_moves_it() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(12, 6)
    start = copy.deepcopy(layer)
    optimizer = build_optimizer(groups_of(layer), 1.0, (0.9, 0.95))
    alone = torch.optim.AdamW([start.bias], 0.01, (0.9, 0.95), weight_decay=0)
    set_rates(optimizer, 0.01, 0.1)
    backward(layer, 1)
    gradient = layer.weight.grad
    assert gradient is not None
    start.bias.grad = None if layer.bias.grad is None else layer.bias.grad.clone()
    optimizer.step()
    alone.step()
    torch.testing.assert_close(layer.bias, start.bias)
    moved = start.weight * (1 - 0.01 * 0.1) - layer.weight
    step = moved / (0.01 * 0.2 * 12**0.5)  # its root mean square is then AdamW's usual one
    singular = torch.linalg.svdvals(step)
    assert singular.min() > 0.5  # Newton and Schulz come so near to 1
    assert singular.max() < 1.3
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    cosine = torch.nn.functional.cosine_similarity(step.flatten(), (left @ right).flatten(), 0)
    assert cosine > 0.95


def test_momentum_is_kept_over_steps_and_in_the_state() -> None:
    layer = nn.Linear(4, 4)
    optimizer = build_optimizer(groups_of(layer), 1e-2, (0.9, 0.95))
    backward(layer, 1)
    first = copy.deepcopy(layer.weight.grad)
    assert first is not None
    optimizer.step()
    expected = (1 - MOMENTUM) * first
    torch.testing.assert_close(optimizer.state[layer.weight]["momentum_buffer"], expected)

    twin = copy.deepcopy(layer)
    other = build_optimizer(groups_of(twin), 1e-2, (0.9, 0.95))
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for ours, its in ((layer, optimizer), (twin, other)):
        backward(ours, 2)
        its.step()
    assert torch.equal(layer.weight, twin.weight)
    assert torch.equal(layer.bias, twin.bias)
    assert not torch.equal(optimizer.state[layer.weight]["momentum_buffer"], expected)
