"""`training.pt` may come from anyone: it is checked before a run continues from it."""

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler

from nextscale.errors import UsageError
from nextscale.storage.weights import write_pickle
from nextscale.training.saved import TRAINING, check_moments, check_tensors, load_training
from nextscale.training.state import TrainState

WANTED = {"a": torch.zeros(2)}
MOMENTS = {"step": torch.tensor(1.0), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
GOOD: dict[str, Any] = {
    "step": 1,
    "best": {"step": -1, "value": math.inf},
    "network": {"a": torch.zeros(2)},
    "optimizer": {"state": {"a": MOMENTS}, "param_groups": [{"lr": 1.0, "betas": (0.9, 0.95)}]},
    "stage": {},
    "average": [],
    "scaler": {},
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of a first checkpoint."""
    (tmp_path / "step-00000001").mkdir()
    return tmp_path / "step-00000001"


def moments(**changes: Any) -> dict[str, Any]:
    """A change of the optimizer's moments of the only weight; None leaves one out."""
    changed = {**MOMENTS, **changes}
    own = {name: value for name, value in changed.items() if value is not None}
    return {"optimizer": {"state": {"a": own}}}


def read(place: Path, changes: dict[str, Any], fewest: int = 1) -> None:
    write_pickle({**GOOD, **changes}, place / TRAINING)
    state = load_training(place)
    check_tensors(state["network"], WANTED, "network", place)
    check_moments(state["optimizer"]["state"], {"a": MOMENTS}, (fewest, state["step"]), place)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"best": {"step": 1, "value": 0.5}},
        {"best": {"step": 1, "value": 0.5, "last": math.inf, "waited": 1}},
        {"scaler": {"scale": 65536.0, "growth_interval": 2000, "_growth_tracker": 1}},
    ],
)
def test_what_a_run_writes_is_read(place: Path, changes: dict[str, Any]) -> None:
    read(place, changes)


def test_updates_are_counted_as_far_as_a_float32_can(tmp_path: Path) -> None:
    place = tmp_path / "step-20000000"
    place.mkdir()
    read(place, {"step": 20_000_000, **moments(step=torch.tensor(2.0**24))}, 20_000_000)


def test_a_scaler_may_have_left_updates_out(place: Path) -> None:
    read(place, moments(step=torch.tensor(0.0)), fewest=0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"step": -1}, "step is -1"),
        ({"step": True}, "step is True; a whole number"),
        ({"step": 10**30}, "step is 1000"),
        ({"best": None}, "best is None; a table"),
        ({"best": {"step": 1, "value": "x"}}, "value is 'x'"),
        ({"network": {"a": 5}}, r"network\.a is 5"),
        ({"network": {1: torch.zeros(2)}}, "is 1; a text"),
        ({"network": {}}, "a is missing"),
        ({"network": {**WANTED, "b": torch.zeros(2)}}, "b is unknown"),
        ({"network": {"a": torch.tensor([1, math.nan])}}, "a holds NaN"),
        ({"network": {"a": torch.zeros(2, dtype=torch.int32)}}, r"int32 \(2,\); float32"),
        ({"network": {"a": torch.zeros(2, dtype=torch.complex64)}}, r"complex64 \(2,\); float32"),
        ({"network": {"a": torch.zeros(0)}}, r"float32 \(0,\); float32 \(2,\)"),
        ({"network": {"a": torch.zeros(1).expand(10**12)}}, "claims more"),
        ({"optimizer": []}, r"optimizer is \[\]; a table"),
        ({"network": {"a": torch.zeros(2, dtype=torch.half)}}, r"float16 \(2,\); float32"),
        ({"optimizer": {"state": {}}}, r"a\.step is missing"),
        ({"optimizer": {"state": {"a": MOMENTS, "b": MOMENTS}}}, r"b\.step is unknown"),
        (moments(exp_avg=None), r"a\.exp_avg is missing"),
        (moments(max_exp_avg_sq=torch.zeros(2)), r"a\.max_exp_avg_sq is unknown"),
        (moments(exp_avg=torch.zeros(3)), r"a\.exp_avg is float32 \(3,\)"),
        (moments(exp_avg=torch.zeros(2, dtype=torch.half)), r"a\.exp_avg is float16"),
        (moments(exp_avg=torch.tensor([0, math.inf])), r"a\.exp_avg holds NaN"),
        (moments(exp_avg_sq=torch.tensor([0, -1e-9])), r"a\.exp_avg_sq holds negative"),
        (moments(step=1.0), r"a\.step is 1\.0"),
        (moments(step=torch.tensor(1)), r"a\.step is int64"),
        (moments(step=torch.tensor(math.nan)), r"a\.step holds NaN"),
        (moments(step=torch.tensor(-1.0)), r"a\.step is -1"),
        (moments(step=torch.tensor(0.0)), r"a\.step is 0\.0; the run has done 1 steps"),
        (moments(step=torch.tensor(1e30)), r"a\.step is 1\.0\d*e\+30"),
        ({"step": 7}, "step is 7; step-00000007 is the place"),
        ({"step": 10**12}, "step is 1000000000000; step-1000000000000 is"),
        ({"best": {"step": 2, "value": 0.5}}, r"best\.step is 2; the run has done 1"),
        ({"best": {"step": 1, "value": 0.5, "waited": 2}}, r"best\.waited is 2"),
        ({"best": {"step": 1, "value": math.nan}}, r"best\.value is nan"),
        ({"best": {"step": 1, "value": -math.inf}}, r"best\.value is -inf"),
        ({"best": {"step": 1, "value": math.inf}}, r"best\.value is inf and best\.step 1"),
        ({"best": {"step": -1, "value": 0.5}}, r"best\.value is 0\.5 and best\.step -1"),
        ({"best": {"step": 1, "value": 0.5, "last": math.nan}}, r"best\.last is nan"),
        ({"scaler": {"scale": 0.0}}, r"scaler\.scale is 0"),
        ({"scaler": {"scale": math.inf}}, r"scaler\.scale is inf"),
        ({"average": {}}, "average is {}; a list"),
    ],
)
def test_what_fits_no_run_is_one_line(place: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        read(place, changes)
    assert f"remove {place} to continue" in str(caught.value)
    assert "\n" not in str(caught.value)


def half_run() -> tuple[TrainState, nn.Linear]:
    """A network, its optimizer and a scaler of fp16 gradients, on this CPU."""
    torch.manual_seed(0)
    layer = nn.Linear(2, 2)
    optimizer: Any = SimpleNamespace(optimizer=torch.optim.AdamW(layer.parameters(), fused=True))
    engine: Any = SimpleNamespace(scaler=GradScaler("cpu", growth_interval=2))
    return TrainState(engine, layer, optimizer, ema=0), layer


def half_step(state: TrainState, layer: nn.Linear, factor: float) -> None:
    assert state.scaler
    loss = layer(torch.ones(1, 2)).square().sum() * factor
    state.scaler.scale(loss).backward()
    state.scaler.step(state.optimizer.optimizer)
    state.scaler.update()
    layer.zero_grad()


def test_a_scaler_that_left_updates_out_continues(place: Path) -> None:
    """Its scale is the file's, its options are those of the run."""
    ours, layer = half_run()
    half_step(ours, layer, math.inf)
    half_step(ours, layer, 1)
    saved = copy.deepcopy({"step": 2, **ours.state_dict()})
    theirs, twin = half_run()
    with pytest.raises(UsageError, match="'scale'"):
        theirs.load_state_dict({**saved, "scaler": {}}, place)
    odd = {**saved["scaler"], "growth_factor": "q", "backoff_factor": 5, "growth_interval": 0}
    theirs.load_state_dict({**saved, "scaler": odd}, place)
    for _ in range(3):
        half_step(ours, layer, 1)
        half_step(theirs, twin, 1)
    assert torch.equal(layer.weight, twin.weight)
    assert theirs.state_dict()["scaler"] == ours.state_dict()["scaler"] != saved["scaler"]
