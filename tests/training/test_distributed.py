"""Several processes compute what one does: the same losses at the same global batch, over gloo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import nextscale
from tests.training import runs

STEPS = ["--epochs", 7, "--max-steps", 20, "--log-every", 1, "--validate-every", 3]
STEPS += ["--learning-rate", 1e-4]
EXACT = ["--model.drop-path", 0]


def losses(out: Path) -> list[float]:
    lines = runs.log(out)
    assert [line["step"] for line in lines] == list(range(1, 21))
    return [line["loss"] for line in lines]


def test_two_processes_equal_one(trained: Path, pictures: Path, tmp_path: Path) -> None:
    cache = ["--cache", tmp_path / "tokens", "--ema", 0.9]
    commands = {
        "tokenizer": ("tokenizer", [*runs.EVERYTHING]),
        "accumulated": ("tokenizer", [*runs.EVERYTHING, "--accumulation", 2]),
        "var": ("var", ["--tokenizer", trained, *EXACT, *cache]),
        "var accumulated": ("var", ["--tokenizer", trained, *EXACT, *cache, "--accumulation", 2]),
        "var muon": ("var", ["--tokenizer", trained, *EXACT, *cache, "--optimizer", "muon"]),
    }

    def words(name: str, place: Path) -> list[str]:
        stage, own = commands[name]
        return runs.train_words(stage, place / name, pictures, *STEPS, *own)

    alone, both = tmp_path / "alone", tmp_path / "both"
    codes = runs.together(runs.run_all, [words(name, both) for name in commands])
    assert codes == [0, 0]
    for name in commands:
        assert runs.main(words(name, alone)) == 0
        assert losses(both / name) == pytest.approx(losses(alone / name), abs=1e-4), name
        ours, theirs = (runs.log(place / name, "validation") for place in (both, alone))
        assert [v["images"] for v in ours] == [v["images"] for v in theirs] == [12] * 3
        figure = "mse" if "mse" in ours[0] else "loss"
        assert [v[figure] for v in ours] == pytest.approx([v[figure] for v in theirs], abs=1e-4)
        assert [runs.log(place / name, "start")[0]["processes"] for place in (both, alone)] == [
            2,
            1,
        ]
        ours, theirs = (runs.last_state(place / name)["stage"] for place in (both, alone))
        runs.assert_identical(ours, theirs)
    assert losses(alone / "var accumulated") == pytest.approx(losses(alone / "var"), abs=1e-4)
    assert max(line["revived"] for line in runs.log(alone / "tokenizer")) > 0
    assert "adaptive_weight" in runs.log(alone / "tokenizer")[-1]


def test_two_processes_resume_and_refuse_together(pictures: Path, tmp_path: Path) -> None:
    words = [*runs.EVERYTHING, "--epochs", 4, "--ema", 0.9]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    commands = [
        runs.train_words("tokenizer", whole, pictures, *words),
        runs.train_words("tokenizer", parts, pictures, *words, "--max-steps", 5),
        runs.train_words("tokenizer", parts, pictures, *words, "--resume"),
    ]
    assert runs.together(runs.run_all, commands) == [0, 0]
    ours, theirs = runs.last_state(parts), runs.last_state(whole)
    for name in ("network", "optimizer", "average", "stage"):
        runs.assert_identical(ours[name], theirs[name])
    again = runs.train_words("tokenizer", parts, pictures, *words)
    assert runs.together(runs.run_all, [again]) == [2, 2]


@pytest.mark.parametrize(("optimizer", "near"), [("adamw", 1e-4), ("muon", 5e-4)])  # bf16
def test_shards_train_save_and_resume(
    optimizer: str, near: float, trained: Path, pictures: Path, tmp_path: Path
) -> None:
    words = ["--tokenizer", trained, *EXACT, "--cache", tmp_path / "tokens", "--ema", 0.5]
    words += ["--epochs", 2, "--log-every", 1, "--optimizer", optimizer]
    alone, whole, parts = (tmp_path / name for name in ("alone", "whole", "parts"))
    assert runs.train("var", alone, pictures, *words) == 0
    commands = [
        runs.train_words("var", whole, pictures, *words),
        runs.train_words("var", parts, pictures, *words, "--max-steps", 4),
        runs.train_words("var", parts, pictures, *words, "--resume"),
    ]
    assert runs.together(runs.run_all_sharded, commands) == [0, 0]
    ours, theirs = ([line["loss"] for line in runs.log(out)] for out in (whole, alone))
    assert ours == pytest.approx(theirs, abs=1e-4)
    # Every process must meet in every batch: 12 images make one round of two batches of 4.
    assert [line["images"] for line in runs.log(whole, "validation")] == [8, 8]
    ours, theirs = runs.last_state(parts), runs.last_state(whole)
    for name in ("network", "optimizer", "average"):
        runs.assert_identical(ours[name], theirs[name])
    assert not any(hasattr(value, "full_tensor") for value in theirs["network"].values())
    sharded, plain = (nextscale.load(out / "final").model.state_dict() for out in (whole, alone))
    for name, value in plain.items():
        torch.testing.assert_close(sharded[name], value, rtol=0, atol=near)
        assert not torch.equal(sharded[name], theirs["network"][f"model.{name}"])  # the average
    tokenizer = runs.train_words("tokenizer", tmp_path / "no", pictures)
    assert runs.together(runs.run_all_sharded, [tokenizer]) == [2, 2]
    assert not (tmp_path / "no").exists()


def test_torchrun_starts_the_command(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = runs.train_words("tokenizer", out, pictures, "--max-steps", 2, "--log-every", 1)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launch, "--nproc-per-node", "2", "-m", "tests.training.runs", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert runs.log(out, "start")[0]["processes"] == 2
    assert len(runs.log(out)) == 2
    nextscale.load(out / "final")
