"""A run that was killed or stopped ends with the very weights of one that was not."""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from nextscale.storage.weights import write_pickle
from nextscale.training import loop, saved
from tests.training import runs

WORDS = {
    "tokenizer": [*runs.EVERYTHING, "--accumulation", 2],
    "var": runs.words_of(
        "--model.drop-path 0.3 --label-drop 0.3 --label-smoothing 0.1 --optimizer muon"
    ),
}
SHARED = ["--ema", 0.9, "--epochs", 4, "--log-every", 3]  # 12 steps
SIGNALS = {"tokenizer": signal.SIGTERM, "var": signal.SIGINT}


@pytest.fixture(params=["tokenizer", "var"])
def stage(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def words(stage: str, trained: Path, tmp_path: Path) -> list[object]:
    """Options of a training with everything on that draws at random."""
    own = WORDS[stage]
    if stage == "var":
        own = [*own, "--tokenizer", trained, "--cache", tmp_path / "tokens", "--cache-tokens", 2]
    return [*SHARED, *own]


def assert_same_run(ours: Path, theirs: Path) -> None:
    """Weights, averages, moments and validation figures are equal, bit for bit."""
    runs.assert_identical(runs.last_state(ours), runs.last_state(theirs))
    names = [path.name for path in (theirs / "final").glob("*.safetensors")]
    assert names
    for name in names:
        assert (ours / "final" / name).read_bytes() == (theirs / "final" / name).read_bytes()
    assert runs.log(ours, "validation") == runs.log(theirs, "validation")


def test_killed_and_stopped_runs_continue_exactly(
    stage: str,
    words: list[object],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    whole, killed, stopped = (tmp_path / name for name in ("whole", "killed", "stopped"))
    assert runs.train(stage, whole, pictures, *words) == 0

    # Kill -9 before a first checkpoint, in mid-epoch, while one is written, and before its rename.
    often = runs.train_words(stage, killed, pictures, *words, "--save-every", 1, "--resume")
    for moment, count, newest in (
        ("step", 0, None),
        ("step", 4, 4),
        ("writing", 1, 5),
        ("renaming", 2, 7),
    ):
        process = runs.start(runs.run_and_die, often, moment, count)
        assert runs.exit_code(process) == -signal.SIGKILL
        places = [name for name in runs.checkpoints(killed) if not name.startswith(".")]
        assert places[-1:] == ([f"step-{newest:08d}"] if newest else [])
    assert any(name.startswith(".") for name in runs.checkpoints(killed))  # the cut-off one
    assert runs.exit_code(runs.start(runs.run_all, [often])) == 0
    assert not any(name.startswith(".") for name in runs.checkpoints(killed))
    assert_same_run(killed, whole)

    # A polite signal in the fifth step: it is finished and saved, though nothing else was so far.
    number, take_step = SIGNALS[stage], loop.Run.optimizer_step

    def signalled(run: loop.Run, step: int, stream):
        if step == 4:
            os.kill(os.getpid(), number)
        return take_step(run, step, stream)

    monkeypatch.setattr(loop.Run, "optimizer_step", signalled)
    rarely = [*words, "--validate-every", 4]
    assert runs.train(stage, stopped, pictures, *rarely) == 128 + number
    assert "and saved; --resume with the same --out continues" in capfd.readouterr().err
    assert runs.checkpoints(stopped) == ["step-00000005"]
    monkeypatch.setattr(loop.Run, "optimizer_step", take_step)
    assert runs.train(stage, stopped, pictures, *rarely, "--resume") == 0
    assert "continuing from" in capfd.readouterr().out
    runs.assert_identical(runs.last_state(stopped)["network"], runs.last_state(whole)["network"])
    runs.assert_identical(runs.last_state(stopped)["average"], runs.last_state(whole)["average"])


KILLS = [  # right before these, one after the other
    ("os.rename", ".config.json.tmp-"),
    ("os.mkdir", "checkpoints"),
    ("open", "log.jsonl"),
    ("os.rename", "step-00000001"),  # to its place
    ("os.rename", ".reconstructions-00000002.png.tmp-"),
    ("os.rename", "step-00000001"),  # away, since only one is kept
    ("os.rmdir", "step-00000001.tmp-"),
    ("os.mkdir", ".best.tmp-"),
    ("os.rename", ".report.html.tmp-"),
    ("os.mkdir", ".final.tmp-"),
]


def test_killed_writers_leave_nothing_behind(pictures: Path, tmp_path: Path) -> None:
    words = ["--epochs", 1, "--validate-every", 0.67, "--save-every", 1, "--keep", 1, "--resume"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert runs.train("tokenizer", whole, pictures, *words) == 0
    again = runs.train_words("tokenizer", killed, pictures, *words)
    for event, place in KILLS:
        process = runs.start(runs.run_and_die_at, again, event, place)
        assert runs.exit_code(process) == -signal.SIGKILL, place
    assert runs.exit_code(runs.start(runs.run_all, [again])) == 0
    assert_same_run(killed, whole)
    assert files_of(killed) == files_of(whole)


def files_of(out: Path) -> set[str]:
    """What lies in a run, but TensorBoard's files, which have the time in their names."""
    found = {str(path.relative_to(out)) for path in out.rglob("*")}
    return {name for name in found if not name.startswith("tensorboard")}


def test_log_holds_every_step_once(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--epochs", 2, "--log-every", 1, "--validate-every", 1]
    again = runs.train_words("tokenizer", out, pictures, *words, "--resume")
    for count in (2, 2):  # before the first checkpoint, and behind it
        assert runs.exit_code(runs.start(runs.run_and_die, again, "step", count)) < 0
    with (out / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # a line that a kill cut off
    assert runs.train("tokenizer", out, pictures, *words, "--resume") == 0
    assert [line["step"] for line in runs.log(out)] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in runs.log(out, "validation")] == [3, 6]


def test_a_finished_run_resumes_to_nothing(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert runs.train("tokenizer", out, pictures, "--epochs", 1) == 0
    weights = (out / "final" / "tokenizer.safetensors").read_bytes()
    assert runs.train("tokenizer", out, pictures, "--epochs", 1, "--resume") == 0
    assert (out / "final" / "tokenizer.safetensors").read_bytes() == weights


def test_reading_processes_survive_ctrl_c(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal sends Ctrl-C to the readers too; the run still finishes its step and saves."""
    out, take_step = tmp_path / "run", loop.Run.optimizer_step

    def signalled(run: loop.Run, step: int, stream):
        if step == 1:
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGINT)
                process.join(1)
            os.kill(os.getpid(), signal.SIGINT)
        return take_step(run, step, stream)

    monkeypatch.setattr(loop.Run, "optimizer_step", signalled)
    words = ["--data.workers", 1, "--epochs", 4]
    assert runs.train("tokenizer", out, pictures, *words) == 130
    assert runs.checkpoints(out) == ["step-00000002"]


def test_reading_processes_survive_signals_while_they_start(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They import for seconds before they can ignore a signal that the whole group receives."""
    out, begin = tmp_path / "run", DataLoader.__iter__
    forkserver._forkserver._stop()  # one that another test started passes its own mask on

    def signalled(loader: DataLoader) -> Iterator[object]:
        stream = begin(loader)
        if loader.num_workers:
            (reader,) = multiprocessing.active_children()
            os.kill(reader.pid, signal.SIGTERM)
            os.kill(reader.pid, signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return stream

    monkeypatch.setattr(DataLoader, "__iter__", signalled)
    words = ["--data.workers", 1, "--epochs", 4]
    assert runs.train("tokenizer", out, pictures, *words) == 130
    assert runs.checkpoints(out) == ["step-00000001"]


@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_damaged_state_is_one_line(
    damage: str, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert runs.train("tokenizer", out, pictures, "--epochs", 1) == 0
    (place,) = (out / "checkpoints").iterdir()
    file = place / "training.pt"
    file.write_bytes(file.read_bytes()[:5000] if damage == "truncated" else b"no archive")
    capfd.readouterr()
    assert runs.train("tokenizer", out, pictures, "--epochs", 1, "--resume") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"{file} cannot be read" in line
    assert f"remove {place} to continue from the checkpoint before" in line


ONE_STEP = ["--ema", 0.9, "--loss.revive-every", 2, "--max-steps", 1]


@pytest.fixture(scope="module")
def one_step(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A tokenizer's run of one step, to be copied."""
    out = tmp_path_factory.mktemp("resume") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nextscale.training.monitor.measure_peak", lambda device, **_: 1e15)
        assert runs.train("tokenizer", out, pictures, *ONE_STEP) == 0
    return out


def change_state(out: Path, part: str, change: Callable[[Any], Any]) -> None:
    """Changes a part of what the newest checkpoint of a run holds."""
    file, beside = sorted(out.glob("checkpoints/*"))[-1] / saved.TRAINING, out / "changed"
    state = saved.load_training(file.parent)
    write_pickle({**state, part: change(state[part])}, beside)
    beside.replace(file)  # the state is mapped from it


def with_moments(change: Callable[[str, Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A change of every moment of an optimizer; None leaves one out."""

    def changed(optimizer: dict[str, Any]) -> dict[str, Any]:
        found = {
            name: {key: change(key, value) for key, value in own.items()}
            for name, own in optimizer["state"].items()
        }
        kept = {
            name: {key: value for key, value in own.items() if value is not None}
            for name, own in found.items()
        }
        return {**optimizer, "state": kept}

    return changed


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("average", lambda values: [value.flatten()[:1] for value in values], "(average: "),
        ("average", lambda values: [value * float("nan") for value in values], "(average: "),
        ("average", lambda values: values[1:], "(average: "),
        ("stage", lambda counts: {name: count[:1] for name, count in counts.items()}, "(stage: "),
        ("stage", lambda counts: {}, "(stage: "),
        ("network", lambda weights: {k: v.half() for k, v in weights.items()}, "is float16"),
        ("optimizer", lambda optimizer: {**optimizer, "state": {}}, "(optimizer: "),
        ("optimizer", with_moments(lambda k, v: None if k == "exp_avg" else v), "is missing"),
        ("optimizer", with_moments(lambda k, v: 0 * v if k == "step" else v), "step is 0.0"),
        ("optimizer", with_moments(lambda k, v: -v - 1 if k == "exp_avg_sq" else v), "negative"),
        ("step", lambda step: 0, "(step is 0; step-00000000 is the place of that step)"),
        ("best", lambda best: {**best, "value": float("nan")}, "best.value is nan"),
    ],
)
def test_a_state_that_fits_no_run_is_one_line(
    part: str,
    change: Callable[[Any], Any],
    told: str,
    one_step: Path,
    pictures: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Averages and counts that fit by broadcasting, for one, would be taken silently."""
    out = Path(shutil.copytree(one_step, tmp_path / "run"))
    change_state(out, part, change)
    assert runs.train("tokenizer", out, pictures, *ONE_STEP, "--resume") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert told in line
    assert f"remove {out / 'checkpoints' / 'step-00000001'} to continue" in line


def test_options_of_the_optimizer_are_those_of_the_run(
    stage: str, words: list[object], pictures: Path, tmp_path: Path
) -> None:
    """Whatever options the file holds: the run continues as with those that it began with."""
    plain, odd = tmp_path / "plain", tmp_path / "odd"
    assert runs.train(stage, plain, pictures, *words, "--max-steps", 2) == 0
    shutil.copytree(plain, odd)
    options = {"eps": "q", "lr": "q", "betas": (0.5,), "fused": False}
    options |= dict.fromkeys(("amsgrad", "differentiable", "maximize", "capturable"), True)

    def changed(optimizer: dict[str, Any]) -> dict[str, Any]:
        groups = [
            {**group, **options, "decays": not group["decays"], "muon": not group.get("muon")}
            for group in optimizer["param_groups"]
        ]
        return {**optimizer, "param_groups": groups}

    change_state(odd, "optimizer", changed)
    for out in (plain, odd):
        assert runs.train(stage, out, pictures, *words, "--max-steps", 4, "--resume") == 0
    runs.assert_identical(runs.last_state(odd), runs.last_state(plain))


def test_the_run_records_its_whole_configuration(trained: Path) -> None:
    config = json.loads((trained.parent / "config.json").read_text())
    assert config["command"] == "train tokenizer"
    assert config["tokenizer"]["codes"] == 16
    assert config["data"]["flip"] is True
