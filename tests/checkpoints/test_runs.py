"""What a message says of the checkpoint that a run's directory stands for."""

import json
from pathlib import Path

import pytest

from nextscale.checkpoints.runs import judged

LOG = [
    {"event": "start", "judged_by": "mse"},
    {"event": "validation", "step": 20, "mse": 0.25, "loss": 9.0},
    {"step": 30, "mse": 0.1},
    {"event": "validation", "step": 40, "mse": 0.5},
]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("best", ", of step 20 (validation mse 0.25)"),
        ("final", ", of step 40 (validation mse 0.5)"),
        ("checkpoints/step-00000020", ", of step 20 (validation mse 0.25)"),
        ("checkpoints/step-00000030", ""),
    ],
)
def test_a_runs_checkpoint_is_named_with_step_and_figure(
    name: str, said: str, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(entry) + "\n" for entry in LOG) + '{"event": "val')
    assert judged(tmp_path, name) == said


@pytest.mark.parametrize(
    "text",
    [
        *("", "\0", "5\n[]\nnull\n", "[" * 10**5, '{"event": "validation"}'),
        '{"event": "validation", "step": "x", "loss": 1.0}',
        '{"event": "validation", "step": 3, "loss": NaN}',
    ],
)
def test_a_log_that_says_nothing_of_a_checkpoint(text: str, tmp_path: Path) -> None:
    assert judged(tmp_path, "best") == ""
    (tmp_path / "log.jsonl").write_text(text)
    assert judged(tmp_path, "best") == ""
