"""`training.pt` may come from anyone: it is checked before a run continues from it."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from nextscale.errors import UsageError
from nextscale.training.saved import TRAINING, check_fits, load_training
from nextscale.weights import write_pickle

WANTED = {"a": torch.zeros(2)}
GOOD: dict[str, Any] = {
    "step": 1,
    "best": {"step": -1, "value": math.inf},
    "network": {"a": torch.zeros(2)},
    "optimizer": {"state": {"a": {"step": torch.tensor(1.0), "mean": torch.zeros(2)}}}
    | {"param_groups": [{"lr": 1.0, "betas": (0.9, 0.95)}]},
    "stage": {},
    "average": [],
    "scaler": {},
}


def read(place: Path, changes: dict[str, Any]) -> None:
    write_pickle({**GOOD, **changes}, place / TRAINING)
    check_fits(load_training(place), WANTED, place)


def test_what_a_run_writes_is_read(tmp_path: Path) -> None:
    read(tmp_path, {})


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
        ({"optimizer": {"state": {"a": {"mean": torch.zeros(3)}}, "param_groups": []}}, "mean is"),
        ({"optimizer": {"state": {"b": {}}, "param_groups": []}}, "'b'"),
        ({"average": {}}, "average is {}; a list"),
    ],
)
def test_what_fits_no_run_is_one_line(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        read(tmp_path, changes)
    assert f"remove {tmp_path}" in str(caught.value)
    assert "\n" not in str(caught.value)
