"""The best checkpoint beside the final one, patience, and which of them a run's directory means."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import nextscale
from nextscale.checkpoints import checkpoint
from nextscale.cli.main import main
from nextscale.errors import UsageError
from nextscale.judges.classifiers import is_classifier, load_classifier
from nextscale.storage.weights import read_tensors
from nextscale.training.best import Best
from nextscale.training.directory import name_of
from nextscale.training.log import read_log
from nextscale.training.tokenizer_stage import TokenizerStage
from tests.training import runs


def test_patience_counts_validations_that_are_no_better() -> None:
    best = Best("loss")
    found = [best.add(step, value) for step, value in enumerate((3, 2, 2, 2.5))]
    assert found == [True, True, False, False]
    assert (best.step, best.value, best.last, best.waited) == (1, 2, 2.5, 2)
    assert [best.exhausted(patience) for patience in (0, 1, 2, 3)] == [False, True, True, False]
    assert not best.add(4, 9, counts=False)
    assert best.waited == 2
    again = Best("loss")
    again.load_state_dict(best.state_dict())
    assert again == best
    again.load_state_dict({"step": 1, "value": 2.0})  # as 0.1 has written it
    assert (again.step, again.last, again.waited) == (1, math.inf, 0)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((3, 2), "final is the best checkpoint: validation loss 2"),
        ((2, 3), "best, of step 0, is better than final: validation loss 2 instead of 3 (1 less"),
        ((2, 2), "best, of step 0, and final have the same validation loss"),
        ((0, 3), "validation loss 0 instead of 3 (3 less)"),
    ],
)
def test_the_verdict_names_the_better_one_and_by_how_much(
    values: tuple[float, float], told: str
) -> None:
    best = Best("loss")
    for step, value in enumerate(values):
        best.add(step, value)
    assert told in best.verdict(1)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Figures that the next validations of a tokenizer find."""
    values: list[float] = []
    validate = TokenizerStage.validate

    def scripted(*arguments: Any) -> dict[str, Any]:
        return validate(*arguments) | {"mse": values.pop(0)}

    monkeypatch.setattr(TokenizerStage, "validate", scripted)
    yield values
    assert not values


@pytest.mark.parametrize(("interrupted", "ema"), [(False, 0.5), (True, 0)])
def test_the_best_is_kept_and_patience_ends_the_run(
    interrupted: bool,
    ema: float,
    judged: list[float],
    pictures: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    words = ["--epochs", 9, "--validate-every", 1 / 3, "--patience", 2, "--keep", 1]
    words += ["--export", "float16", "--ema", ema]
    judged += [0.4, 0.2, 0.3, 0.25]
    if interrupted:
        assert runs.train("tokenizer", out, pictures, *words, "--max-steps", 3) == 0
        (out / "best").rename(tmp_path / "gone")  # as if killed before it was written
        words += ["--resume"]
    assert runs.train("tokenizer", out, pictures, *words) == 0
    told = capfd.readouterr().out
    assert told.count("; best so far") == 2
    assert "best is 0.2 at step 2" in told
    assert "stopped at step 4 of 27: no new best in 2 validations" in told
    assert "best, of step 2, is better than final: validation mse 0.2 instead of 0.25" in told
    (end,) = [entry for entry in runs.log(out, "finished") if entry["stopped"]]
    assert (end["step"], end["best_step"], end["best"], end["last"]) == (4, 2, 0.2, 0.25)
    assert [entry["best"] for entry in runs.log(out, "validation")] == [True, True, False, False]
    assert runs.last_state(out)["best"] == {"step": 2, "value": 0.2, "last": 0.25, "waited": 2}
    assert runs.checkpoints(out) == [name_of(2), name_of(4)]
    for name, step in (("best", 2), ("final", 4)):
        stored = read_tensors(out / name / checkpoint.TOKENIZER)
        kept = read_tensors(out / "checkpoints" / name_of(step) / checkpoint.TOKENIZER)
        assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
        runs.assert_identical(stored, {key: value.half() for key, value in kept.items()})
        assert {path.name for path in (out / name).iterdir()} == {
            "config.json",
            checkpoint.TOKENIZER,
        }

    assert main(["train", "tokenizer", "--resume", "--out", str(out)]) == 0
    assert "--patience above 2, or 0, continues it" in capfd.readouterr().out
    judged += [0.1]
    words = ["--resume", "--out", str(out), "--patience", "3", "--max-steps", "5"]
    assert main(["train", "tokenizer", *words]) == 0
    assert "final is the best checkpoint: validation mse 0.1" in capfd.readouterr().out
    assert len(runs.log(out, "finished")) == 2 + interrupted


def test_a_run_stands_for_its_best_checkpoint(
    judged: list[float],
    trained: Path,
    pictures: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tokenizer, out = tmp_path / "tokenizer", tmp_path / "run"
    judged += [0.1, 0.2]
    words = ["--epochs", 2]
    assert runs.train("tokenizer", tokenizer, pictures, *words) == 0
    words = ["--tokenizer", tokenizer, "--max-steps", 1, "--cache-tokens", 0]
    assert runs.train("var", out, pictures, *words) == 0
    told = capfd.readouterr().err
    log = read_log(tokenizer / "log.jsonl")
    step = next(entry["step"] for entry in log if entry.get("event") == "validation")
    line = f"its best checkpoint, best, of step {step} (validation mse 0.1), is loaded"
    assert told.count(f"{tokenizer} is a run; {line}") == 1, told
    hashed = checkpoint.read_config(tokenizer / "best").tokenizer_hash
    assert nextscale.load(out).config.tokenizer_hash == hashed
    assert checkpoint.config_of(out).tokenizer_hash == hashed
    words = ["sample", out, "--count", 1, "--out", tmp_path / "images"]
    assert main(list(map(str, words))) == 0

    for name, left in (("best", "final"), ("final", f"checkpoints/{name_of(1)}")):
        (out / name).rename(tmp_path / f"moved {name}")
        nextscale.load(out)
        assert f", {left}, of step 1 (validation loss " in capfd.readouterr().err
    (out / "checkpoints" / name_of(1)).rename(tmp_path / "moved")
    with pytest.raises(UsageError, match="is a run without a checkpoint"):
        nextscale.load(out)


def test_a_run_of_a_classifier_is_a_classifier(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert runs.train("classifier", out, pictures, "--max-steps", 1) == 0
    assert is_classifier(str(out))
    assert load_classifier(str(out)).config.labels == ("bag", "boot", "coat")
    with pytest.raises(UsageError, match="is a run without a checkpoint of such a model"):
        nextscale.load(out)


@pytest.mark.parametrize("linked", ["folder", "file"])
def test_a_run_is_not_left_through_a_link(linked: str, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    if linked == "folder":
        (out / "best").symlink_to(trained)
    else:
        (out / "best").mkdir()
        for file in trained.iterdir():
            (out / "best" / file.name).symlink_to(file)
    with pytest.raises(UsageError, match="is a link out of the run"):
        nextscale.load(out)
