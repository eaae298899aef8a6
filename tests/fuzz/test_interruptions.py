"""Ctrl-C in the middle of every command: one line, code 130, and nothing half-written.

Trainings finish their step and save first; `tests/training/test_resume.py` interrupts them.
"""

import importlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fuzz.harness import run
from tests.fuzz.test_lines import BASE
from tests.storage.test_hub import published_tokenizer

EDITED, SAVED = "nextscale.editing.editor:best_of", "PIL.Image:Image.save"
MIDDLES = [  # a command, and a function that it calls in its middle
    ("sample", "nextscale.pictures.pixels:to_pictures"),
    ("sample", SAVED),
    ("reconstruct", "nextscale.pipeline:Pipeline.reconstruct"),
    ("reconstruct", SAVED),
    *((f"edit {kind}", EDITED) for kind in ("inpaint", "outpaint", "class", "vary")),
    ("edit vary", SAVED),
    ("edit interpolate", "nextscale.editing.tasks:interpolate"),
    ("app", "nextscale.app.page:build_page"),
    ("evaluate", "nextscale.evaluation.features:see"),
    ("evaluate", "numpy:savez"),
    ("speed sample", "nextscale.speed.sampling_speed:measure"),
    ("speed train", "nextscale.speed.training_speed:measure"),
    ("scaling-laws run", "nextscale.scaling_laws.ladder:climb"),
    ("scaling-laws fit", "nextscale.scaling_laws.laws:analyse"),
    ("scaling-laws fit", "nextscale.scaling_laws.figures:draw_laws"),
    ("scaling-laws predict", "nextscale.scaling_laws.predict:predict"),
    ("estimate", "nextscale.speed.estimate:estimate"),
    ("convert", "nextscale.checkpoints.checkpoint:write"),
    ("convert", "nextscale.checkpoints.checkpoint:write_tensors"),
    ("models", "nextscale.checkpoints.checkpoint:known_models"),
    ("data check", "nextscale.data.check:examine"),
]


@pytest.mark.parametrize(("command", "middle"), MIDDLES)
def test_ctrl_c_is_one_line_and_leaves_nothing_half_written(
    command: str, middle: str, things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = [*command.split(), *BASE[command].replace("{}", str(things)).split()]
    if command == "convert":
        torch.save(published_tokenizer(), "tokenizer.pth")
        words = ["convert", "tokenizer.pth", "out"]
    module, _, name = middle.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, attribute = name.split(".")
    for inner in classes:
        owner = getattr(owner, inner)
    calls = []

    def interrupted(*_: Any, **__: Any) -> None:
        calls.append(command)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(owner, attribute, interrupted)
    code, said, broke = run(words)
    assert (code, broke, len(calls)) == (130, "", 1), said
    assert said.splitlines()[-1] == "nextscale: interrupted"
    assert "Traceback" not in said
    found = [name for _, folders, files in os.walk(tmp_path) for name in (*folders, *files)]
    assert not [name for name in found if name.startswith(".")]
    if command == "convert":
        assert "out" not in found
