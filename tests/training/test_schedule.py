"""The released recipe's rates, against the published trainer's own figures."""

import math

import pytest
import torch
from torch import nn

from nextscale.config.architecture import TransformerConfig
from nextscale.models.model import Model
from nextscale.training.schedule import learning_rate, parameter_groups, set_rates, weight_decay
from tests.parity import figures

STEPS, WARMUP = 1000, 20


def test_linear_schedule_is_the_published_one() -> None:
    published = figures.load(figures.COPY / "tiny.safetensors").tensors["schedule_lin0"].double()
    assert len(published) > 10
    for step, rate, decay in published.tolist():
        ours = learning_rate(int(step), STEPS, WARMUP, 1e-4, 0.005, 0.01, "linear")
        assert ours == pytest.approx(rate, rel=1e-6)  # the file holds float32
        assert weight_decay(int(step), STEPS, 0.05, 0.08) == pytest.approx(decay, rel=1e-6)


def test_cosine_schedule_by_hand() -> None:
    def rate(step: int) -> float:
        return learning_rate(step, STEPS, WARMUP, 2.0, 0.1, 0.5, "cosine")

    assert rate(0) == pytest.approx(0.2)
    assert rate(10) == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert rate(WARMUP) == pytest.approx(2.0)
    third = WARMUP + (STEPS - 1 - WARMUP) / 3
    assert rate(third) == pytest.approx(2 * (0.5 + 0.5 * 0.75))  # pyright: ignore
    assert rate(STEPS - 1) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_shortest_runs_have_rates(kind) -> None:
    assert learning_rate(0, 1, 0, 1.0, 0.1, 0.2, kind) == pytest.approx(1.0)
    assert all(math.isfinite(learning_rate(s, 2, 1, 1.0, 0.1, 0.2, kind)) for s in (0, 1))
    assert weight_decay(0, 1, 0.05, 0.08) == 0.05


@pytest.mark.parametrize("shared", [False, True])
def test_what_decays(shared: bool) -> None:
    config = TransformerConfig(classes=3, depth=2, width=16, heads=2, shared_adaln=shared)
    model = Model(config, ((1, 1), (2, 2)), (16,), latent=4)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, kept = parameter_groups(model.named_parameters())
    decays = {names[id(p)] for p in decayed["params"]}
    stays = {names[id(p)] for p in kept["params"]}

    assert decays | stays == set(names.values())
    assert not decays & stays
    assert "condition.embedding.weight" in decays
    wanted = {"start_position", "position_embedding", "level_embedding"}
    wanted |= {n for n in names.values() if n.endswith(("bias", "log_scale", "offset"))}
    assert stays == wanted
    assert any(name.endswith("offset") for name in stays) == shared


def test_frozen_weights_are_in_no_group() -> None:
    layer = nn.Linear(2, 2)
    layer.weight.requires_grad_(False)
    (group,) = parameter_groups(layer.named_parameters(), lr=0.5)
    assert group == {"params": [layer.bias], "decays": False, "lr": 0.5}


def test_rates_reach_the_optimizer() -> None:
    optimizer = torch.optim.AdamW(parameter_groups(nn.Linear(2, 2).named_parameters()), lr=1.0)
    set_rates(optimizer, 0.25, 0.5)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (0.25, 0.5),
        (0.25, 0.0),
    ]
