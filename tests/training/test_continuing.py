"""What `--resume` needs beside a run's directory, what it refuses; how a run is lengthened."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from nextscale.cli.main import main
from nextscale.config.architecture import TransformerConfig
from nextscale.config.presets import TOKENIZERS
from nextscale.config.run import TokenizerTraining, VarTraining
from nextscale.console.options import from_options, parser_for
from nextscale.training.command import add_presets, add_training_arguments
from nextscale.training.directory import known_names
from nextscale.training.run_options import recorded
from tests.training import runs

ENDLESS = {
    "constant": ("--schedule", "constant", "--warmup-epochs", 0.5),
    "restarted": ("--schedule", "cosine", "--restart-epochs", 1),
}


def words_of(stage: str, trained: Path, tmp_path: Path) -> list[object]:
    """Further options of a tiny training, as many as it takes to be hard to repeat."""
    if stage == "tokenizer":
        return [*runs.EVERYTHING, "--ema", 0.9]
    cache = ["--tokenizer", trained, "--cache", tmp_path / "tokens"]
    return [*cache, "--label-drop", 0.3] if stage == "var" else ["--label-smoothing", 0.1]


def resume(stage: str, out: Path, *words: object) -> int:
    return main(["train", stage, "--resume", "--out", str(out), *map(str, words)])


def final(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "final").glob("*.safetensors")}


@pytest.mark.parametrize("stage", ["tokenizer", "var", "classifier"])
def test_the_directory_alone_continues_exactly(
    stage: str, trained: Path, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*words_of(stage, trained, tmp_path), "--epochs", 2]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert runs.train(stage, whole, pictures, *words) == 0
    assert runs.train(stage, parts, pictures, *words, "--max-steps", 4) == 0
    capfd.readouterr()
    assert resume(stage, parts, "--log-every", 1) == 0
    assert "max_steps was 4 before; now the run goes to its end" in capfd.readouterr().out
    ours, theirs = (runs.last_state(out) for out in (parts, whole))
    for part in ("network", "optimizer", "average"):
        runs.assert_identical(ours[part], theirs[part])
    assert final(parts) == final(whole) != {}


def test_a_tuned_run_continues_alone(
    trained: Path, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shared = ["--cache-tokens", 0, "--max-steps", 1]
    base = ["--tokenizer", trained, *shared]
    assert runs.train("var", tmp_path / "base", pictures, *base) == 0
    words = ["train", "var", "--init", tmp_path / "base", "--data.path", pictures, *shared]
    words += ["--batch-size", 8, "--data.workers", 0, "--out", tmp_path / "run", "--epochs", 1]
    assert main(list(map(str, words))) == 0
    assert resume("var", tmp_path / "run", "--max-steps", 2) == 0
    assert [line["step"] for line in runs.log(tmp_path / "run", "validation")] == [1, 2]
    shutil.rmtree(tmp_path / "base")
    capfd.readouterr()
    assert resume("var", tmp_path / "run", "--max-steps", 3) == 2
    assert f"is gone; add --init {tmp_path / 'run'}" in refusal(capfd)
    assert resume("var", tmp_path / "run", "--max-steps", 3, "--init", tmp_path / "run") == 0
    assert [line["step"] for line in runs.log(tmp_path / "run", "validation")] == [1, 2, 3]


def refusal(capfd: pytest.CaptureFixture[str]) -> str:
    (line,) = capfd.readouterr().err.splitlines()
    return line.removeprefix("nextscale: error: ")


@pytest.mark.parametrize(
    ("stage", "words", "told"),
    [
        ("tokenizer", ["--seed", 5], "(seed was 0, is 5)"),
        ("tokenizer", ["--preset", "released-256"], "tokenizer.codes was 16, is 4096"),
        ("tokenizer", ["--epochs", 2], "(epochs was 1.0, is 2.0); a linear schedule ends with"),
        ("tokenizer", ["--epochs", 0.5], "(epochs was 1.0, is 0.5); give another directory"),
        ("var", [], "holds a run of `nextscale train tokenizer`, not of `nextscale train var`"),
        ("classifier", [], "of `nextscale train tokenizer`, not of `nextscale train classifier`"),
    ],
)
def test_another_run_is_refused(
    stage: str,
    words: Sequence[object],
    told: str,
    trained: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert resume(stage, trained.parent, *words) == 2
    line = refusal(capfd)
    assert told in line
    assert str(trained.parent) in line
    if "linear" in told:
        assert f"--init {trained.parent}" in line


def test_a_preset_is_compared_with_the_record(trained: Path) -> None:
    parser = parser_for("nextscale train tokenizer", "")
    add_presets(parser, TOKENIZERS, "tokenizer")
    add_training_arguments(parser, TokenizerTraining)
    name = next(iter(TOKENIZERS))
    words = ["--resume", "--out", str(trained.parent), f"--preset={name}", "--tokenizer.codes", "8"]
    options = parser.parse(words)
    assert (options.tokenizer.width, options.tokenizer.codes) == (TOKENIZERS[name].width, 8)
    assert (options.batch_size, options.data.flip) == (8, True)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    out = str(tmp_path / "name: {with} 'odd' \U0001f600 #characters")
    config = VarTraining(
        out=out, learning_rate=1e-05, scales=("1", "2x3"), model=TransformerConfig(depth=3)
    )
    Path(out).mkdir()
    record = json.dumps({"command": "train var", **asdict(config)})
    (Path(out) / "config.json").write_text(record)
    parser = parser_for("nextscale train var", "")
    add_training_arguments(parser, VarTraining)
    options = parser.parse(["--resume", "--out", out])
    assert from_options(VarTraining, options) == replace(config, resume=True)


def test_a_record_is_a_file_of_options(
    trained: Path, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    record, out = trained.parent / "config.json", tmp_path / "again"
    for given in (["--config", str(record)], [f"--config={record}"]):
        assert main(["train", "tokenizer", *given, "--out", str(out), "--seed", "1"]) == 0
        assert json.loads((out / "config.json").read_text()) == {
            **json.loads(record.read_text()),
            "out": str(out),
            "seed": 1,
        }
        out = tmp_path / "once more"
    capfd.readouterr()
    assert main(["train", "tokenizer", "--config", str(record)]) == 2
    assert "holds a run; continue it with --resume" in refusal(capfd)
    assert main(["train", "var", "--config", str(record)]) == 2
    assert "holds a run of `nextscale train tokenizer`" in refusal(capfd)


@pytest.mark.parametrize("schedule", ENDLESS)
def test_a_lengthened_run_equals_a_longer_one(
    schedule: str, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    long, short = tmp_path / "long", tmp_path / "short"
    words = ENDLESS[schedule]
    assert runs.train("tokenizer", long, pictures, *words, "--epochs", 3) == 0
    assert runs.train("tokenizer", short, pictures, *words, "--epochs", 1) == 0
    capfd.readouterr()
    assert resume("tokenizer", short, "--epochs", 2, "--max-steps", 5) == 0
    does = {"constant": "stays at 0.001", "restarted": "starts again every 1 epochs"}[schedule]
    out = capfd.readouterr().out
    assert "1 epochs become 2: " in out
    assert does in out
    assert resume("tokenizer", short, "--epochs", 3) == 0
    assert final(short) == final(long) != {}
    assert json.loads((short / "config.json").read_text())["planned_epochs"] == 1


def test_a_lengthened_run_keeps_the_shares_that_it_began_with(
    pictures: Path, tmp_path: Path
) -> None:
    """The discriminator, on from the first half of the run, is not switched off again."""
    words = [*runs.EVERYTHING, *ENDLESS["constant"], "--log-every", 1, "--save-every", 1]
    assert runs.train("tokenizer", tmp_path / "run", pictures, *words, "--epochs", 1) == 0
    assert resume("tokenizer", tmp_path / "run", "--epochs", 9, "--max-steps", 4) == 0
    lines = runs.log(tmp_path / "run")
    assert ["adversarial" in line for line in lines] == [False, True, True, True]


def test_a_run_begun_with_relative_places_continues_anywhere(
    trained: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    shutil.copytree(pictures, home / "data")
    shutil.copytree(trained, home / "tokenizer")
    (home / "fashion-mnist").mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(home)
    words = ["--tokenizer", "tokenizer", "--cache-tokens", 0, "--max-steps", 1]
    assert runs.train("var", Path("run"), Path("data"), *words) == 0
    record = json.loads(Path("run/config.json").read_text())
    assert record["data"]["path"] == str(home / "data")
    assert record["tokenizer"] == str(home / "tokenizer")
    assert record["out"] == str(home / "run")
    assert resume("var", Path("run"), "--data.path", "data", "--max-steps", 2) == 0
    monkeypatch.chdir(elsewhere)
    assert resume("var", Path("../home/run"), "--max-steps", 3) == 0
    words = ["train", "var", "--config", "../home/run/config.json", "--out", "new"]
    assert main([*words, "--max-steps", "1"]) == 0
    assert [line["step"] for line in runs.log(home / "run", "validation")] == [1, 2, 3]
    assert not list(home.glob("*/new"))


def test_data_and_tokenizer_may_move(
    trained: Path,
    pictures: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """They are known by what they are, not by their place."""
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(pictures, old / "data")
    shutil.copytree(trained, old / "tokenizer")
    words = ["--tokenizer", old / "tokenizer", "--cache-tokens", 0, "--max-steps", 1]
    assert runs.train("var", old / "run", old / "data", *words) == 0
    old.rename(new)
    capfd.readouterr()
    assert resume("var", new / "run") == 2
    assert f"'{old / 'tokenizer'}'" in refusal(capfd)
    assert resume("var", new / "run", "--tokenizer", new / "tokenizer") == 2
    assert f"no data at '{old / 'data'}'" in refusal(capfd)
    words = ["--tokenizer", new / "tokenizer", "--data.path", new / "data", "--max-steps", 2]
    assert resume("var", new / "run", *words) == 0
    assert resume("var", new / "run", "--max-steps", 3) == 0  # the record follows
    other = runs.write_pictures(tmp_path / "other", training=9)
    capfd.readouterr()
    assert resume("var", new / "run", "--data.path", other) == 2
    assert "was trained on other data" in refusal(capfd)


@pytest.mark.parametrize("value", ["fashion-mnist", "var-d16", "owner/repo"])
def test_names_of_models_and_data_are_recorded_as_they_are(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("fashion-mnist", "var-d16", "a folder"):
        Path(name).mkdir()
    config = VarTraining(out="run", init=value, tokenizer="a folder")
    record = recorded("train var", config, known_names())
    assert record["init"] == value
    assert record["tokenizer"] == str(tmp_path / "a folder")
    assert record["data"]["path"] == "fashion-mnist"
    assert record["cache"] == ""


@pytest.mark.parametrize("words", [["--resume"], [], ["--resume", "--seed", "1"]])
def test_a_checkpoint_is_no_run(
    words: list[str],
    trained: Path,
    pictures: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    place = Path(shutil.copytree(trained, tmp_path / "final"))
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    assert runs.train("tokenizer", place, pictures, *words) == 2
    assert str(place) in refusal(capfd)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_nothing_but_a_directory_starts_no_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert resume("tokenizer", tmp_path / "typo", "--patience=3") == 2
    assert f"{tmp_path / 'typo'} holds no run to resume" in refusal(capfd)
    assert not list(tmp_path.iterdir())


def test_a_finished_run_says_so(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = trained.parent
    before = {path: path.stat().st_mtime_ns for path in (out / "final").iterdir()}
    assert resume("tokenizer", out) == 0
    told = capfd.readouterr()
    assert f"{out} is finished, 3 of 3 steps are done" in told.out
    assert f"--init {out}" in told.out
    assert f"the model is in {out / 'final'}" in told.err
    assert {path: path.stat().st_mtime_ns for path in (out / "final").iterdir()} == before


def test_a_run_of_the_release_before_continues(pictures: Path, tmp_path: Path) -> None:
    """It has no record of newer options, and no best model beside the final one."""
    words, out = ["--epochs", 1, "--max-steps", 2], tmp_path / "run"
    assert runs.train("tokenizer", out, pictures, *words) == 0
    record = json.loads((out / "config.json").read_text())
    for name in ("planned_epochs", "patience", "restart_epochs"):
        del record[name]
    del record["loss"]["perceptual_optional"]
    (out / "config.json").write_text(json.dumps(record))
    (place,) = (out / "checkpoints").iterdir()
    state = torch.load(place / "training.pt", weights_only=True)
    state["best"] = {name: state["best"][name] for name in ("step", "value")}
    torch.save(state, place / "training.pt")
    assert resume("tokenizer", out) == 0
    assert (out / "best" / "config.json").is_file()
    assert runs.log(out, "finished")


def test_a_run_keeps_to_its_tokenizer(
    trained: Path, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tokenizer = tmp_path / "tokenizer"
    assert runs.train("tokenizer", tokenizer, pictures, "--max-steps", 1) == 0
    words = ["--tokenizer", tokenizer / "final", "--cache-tokens", 0, "--max-steps", 1]
    assert runs.train("var", tmp_path / "run", pictures, *words) == 0
    assert runs.train("tokenizer", tokenizer, pictures, "--resume", "--max-steps", 2) == 0
    capfd.readouterr()
    assert resume("var", tmp_path / "run") == 2
    assert "was trained with the tokenizer" in refusal(capfd)
