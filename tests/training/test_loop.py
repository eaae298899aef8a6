"""What a run writes, keeps and refuses, and how it ends when the loss does."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

import nextscale
from nextscale.checkpoints import checkpoint
from nextscale.data.images import Batch
from nextscale.storage.weights import read_tensors
from nextscale.training import engine, loop
from nextscale.training.directory import LOCK, RunDirectory, name_of
from nextscale.training.monitor import Monitor
from tests.training import runs


def refusal(capfd: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    (line,) = capfd.readouterr().err.splitlines()
    return line.removeprefix("nextscale: error: ")


def test_a_run_leaves_what_it_promises(trained: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--tokenizer", trained, "--epochs", 2, "--log-every", 2, "--cache", tmp_path / "cache"]
    assert runs.train("var", out, pictures, *words) == 0
    assert {"config.json", "log.jsonl", "checkpoints", "final"} <= {p.name for p in out.iterdir()}

    (start,) = runs.log(out, "start")
    assert start["training_flops_per_image"] > 0
    assert start["fp32_peak_flops"] == 1e15
    lines, validations = runs.log(out), runs.log(out, "validation")
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert len(lines[0]["scale_loss"]) == len(lines[0]["scale_accuracy"]) == 3
    speed = {"images_per_second", "flops_per_second", "share_of_peak", "peak_memory_gib"}
    assert speed <= lines[0].keys()
    assert [line["step"] for line in validations] == [3, 6]
    assert validations[0]["images"] == 12

    pipe = nextscale.load(out / "final")
    assert pipe.config.labels == ("bag", "boot", "coat")
    assert pipe.config.data == str(pictures)
    assert pipe.config.tokenizer_hash == nextscale.load(trained).config.tokenizer_hash
    assert pipe.sample(["bag", 2, None])[0].size == (8, 8)
    assert nextscale.load(out / "checkpoints" / name_of(6)).sample([0])
    written = b"".join(path.read_bytes() for path in (out / "tensorboard").rglob("*tfevents*"))
    for tag in (b"samples", b"scale_loss/scale_1", b"validation/loss"):
        assert tag in written


def test_the_final_model_is_the_average(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--epochs", 1, "--ema", 0.5, "--max-steps", 2]
    assert runs.train("tokenizer", out, pictures, *words) == 0
    state = runs.last_state(out)
    final = nextscale.load(out / "final").tokenizer.state_dict()
    averages = iter(state["average"])
    for name in final:
        if "phis.1" in name:  # 3 scales leave one φ of 4 unused
            continue
        average = next(averages)
        assert torch.equal(final[name], average), name
        assert not torch.equal(average, state["network"][f"tokenizer.{name}"])


@pytest.mark.parametrize("stored", ["float16", "float32"])
@pytest.mark.parametrize("export", ["float16", "float32"])
def test_the_tokenizer_keeps_its_hash_whatever_is_exported(
    stored: str, export: str, trained: Path, pictures: Path, tmp_path: Path
) -> None:
    tokenizer = tmp_path / "tokenizer"
    checkpoint.save(nextscale.load(trained), tokenizer, dtype=getattr(torch, stored))
    out = tmp_path / "run"
    words = ["--tokenizer", tokenizer, "--export", export, "--max-steps", 1]
    assert runs.train("var", out, pictures, *words, "--cache-tokens", 0) == 0
    for place in (out / "final", out / "checkpoints" / name_of(1)):
        for name in ("tokenizer_hash", "tokenizer_dtype"):
            ours = getattr(checkpoint.read_config(place), name)
            assert ours == getattr(checkpoint.read_config(tokenizer), name)
    weights = read_tensors(out / "final" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in weights.values()} == {f"torch.{export}"}
    assert nextscale.load(out / "final").sample([0])


def test_a_rounded_tokenizer_is_hashed_as_rounded(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--max-steps", 1, "--export", "float16"]
    assert runs.train("tokenizer", out, pictures, *words) == 0
    assert checkpoint.read_config(out / "final").tokenizer_dtype == "float16"
    weights = read_tensors(out / "final" / "tokenizer.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert nextscale.load(out / "final").config.tokenizer_hash


def test_half_precision_trains_and_resumes(pictures: Path, tmp_path: Path) -> None:
    words = [*runs.EVERYTHING, "--precision", "bf16", "--epochs", 2]
    assert runs.train("tokenizer", tmp_path / "whole", pictures, *words) == 0
    for more in (["--max-steps", 4], ["--resume"]):
        assert runs.train("tokenizer", tmp_path / "parts", pictures, *words, *more) == 0
    ours, theirs = (runs.last_state(tmp_path / name) for name in ("parts", "whole"))
    for name in ("network", "optimizer"):
        runs.assert_identical(ours[name], theirs[name])
    assert {tensor.dtype for tensor in ours["network"].values()} == {torch.float32}


@pytest.mark.parametrize(
    ("asked", "has", "taken", "warned"),
    [("auto", True, "bf16", 0), ("auto", False, "no", 0), ("bf16", False, "bf16", 1)],
)
def test_half_precision_where_the_device_is_made_for_it(
    asked: str,
    has: bool,
    taken: str,
    warned: int,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(engine, "made_for", lambda precision, device: has)
    words = ["--precision", asked, "--max-steps", 1]
    assert runs.train("tokenizer", tmp_path / "run", pictures, *words) == 0
    assert runs.log(tmp_path / "run", "start")[0]["precision"] == taken
    assert capsys.readouterr().out.count("no instructions for bf16") == warned


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a device that has fp16")
def test_a_precision_that_the_device_lacks_is_one_line(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert runs.train("tokenizer", tmp_path / "run", pictures, "--precision", "fp16") == 2
    assert refusal(capfd) == "precision fp16 needs a GPU; on a CPU give auto, bf16 or no"
    assert not (tmp_path / "run").exists()


def test_sums_have_one_order_in_training_and_only_there(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, take_step = [], loop.Run.optimizer_step

    def watched(run: loop.Run, step: int, stream: Iterator[Batch]) -> dict[str, torch.Tensor]:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return take_step(run, step, stream)

    monkeypatch.setattr(loop.Run, "optimizer_step", watched)
    assert runs.train("tokenizer", tmp_path / "run", pictures, "--max-steps", 2) == 0
    assert seen == [True, True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_without_a_compiler_training_goes_on(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("nextscale.machine.instructions.shutil.which", lambda name: None)
    words = ["--compile", "--max-steps", 1]
    assert runs.train("tokenizer", tmp_path / "run", pictures, *words) == 0
    assert "uncompiled" in capfd.readouterr().out


def test_divergence_names_the_last_good_checkpoint(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The weights behind the first step are finite, but no loss can be computed from them."""
    out = tmp_path / "run"
    words = ["--save-every", 1, "--log-every", 1, "--validate-every", 9, "--epochs", 9]
    words += ["--keep", 9]
    assert runs.train("tokenizer", out, pictures, *words, "--max-steps", 2) == 0
    shutil.copytree(out, tmp_path / "start")
    capfd.readouterr()

    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "learning_rate": 1e30}))
    hot = [*words, "--resume", "--learning-rate", 1e30]
    assert runs.train("tokenizer", out, pictures, *hot) == 2
    line = refusal(capfd)
    assert line.startswith("the loss became NaN or infinite; the last good checkpoint is")
    good = Path(line.split(" is ")[1].split(";")[0])
    assert good.name == name_of(2)
    for weights in nextscale.load(good).tokenizer.parameters():
        assert weights.abs().max() < 1e3
    assert "--clip" in line


def test_divergence_before_any_checkpoint(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--learning-rate", 1e30, "--warmup-epochs", 0]
    assert runs.train("tokenizer", tmp_path / "run", pictures, *words) == 2
    assert "there is no good checkpoint" in refusal(capfd)
    assert not (tmp_path / "run" / "final").exists()
    assert runs.checkpoints(tmp_path / "run") == []


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, writes=True)
    directory.checkpoints.mkdir()

    def write(place: Path) -> None:
        for name in ("config.json", "training.pt"):
            (place / name).touch()

    for step, best in ((1, -1), (2, 2), (3, 2), (4, 2), (5, 2), (6, 6)):
        directory.save(step, write)
        directory.forget(keep=2, best=best)
    assert runs.checkpoints(tmp_path) == [name_of(5), name_of(6)]
    directory.save(7, lambda place: None)
    directory.forget(keep=1, best=5)
    assert runs.checkpoints(tmp_path) == [name_of(5), name_of(7)]
    assert directory.latest() == directory.checkpoints / name_of(7)
    assert directory.latest(before=7) == directory.checkpoints / name_of(5)
    assert directory.latest(before=5) is None


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, writes=False)
    directory.save(1, lambda place: pytest.fail("written"))
    directory.log({"step": 1})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "holds a run; continue it with --resume or give another directory"),
        (["--resume", "--seed", 5], "another configuration (seed was 0, is 5); give another"),
        (["--seed", 5], "another configuration (seed was 0, is 5); give another directory or the"),
        (
            ["--resume", "--tokenizer.codes", 32, "--seed", 5, "--clip", 3, "--ema", 0.5],
            "another configuration (clip was 2.0, is 3.0; ema was 0.0, is 0.5; seed was 0, is 5; "
            "1 more); give",
        ),
    ],
)
def test_a_taken_directory_is_refused(
    words: list[object],
    told: str,
    trained: Path,
    pictures: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = trained.parent
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert runs.train("tokenizer", out, pictures, "--epochs", 1, *words) == 2
    assert told in refusal(capfd)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_directory_that_is_trained_in_is_refused(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with FileLock(out / LOCK):
        assert runs.train("tokenizer", out, pictures, "--epochs", 1, "--resume") == 2
    assert refusal(capfd) == (
        f"another process trains in {out}; wait for it or give another directory"
    )
    assert runs.train("tokenizer", out, pictures, "--epochs", 1) == 0


def test_a_run_of_the_other_stage_or_something_else_is_refused(
    trained: Path, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cache = ["--cache", tmp_path / "cache"]
    words = ["--tokenizer", trained, "--resume", *cache]
    assert runs.train("var", trained.parent, pictures, *words) == 2
    assert "of `nextscale train tokenizer`, not of `nextscale train var`" in refusal(capfd)
    for name, told in (("file", "is a file"), ("folder", "is not empty and holds no run")):
        place = tmp_path / name
        place.write_text("x") if name == "file" else shutil.copytree(trained / "..", place)
        (place / "config.json").unlink() if name == "folder" else None
        assert runs.train("var", place, pictures, "--tokenizer", trained, *cache) == 2
        assert told in refusal(capfd)
    assert not (tmp_path / "cache").exists()


def test_what_does_not_change_the_result_may_change(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert runs.train("tokenizer", out, pictures, "--epochs", 2, "--max-steps", 1) == 0
    words = ["--epochs", 2, "--resume", "--keep", 5, "--log-every", 1, "--max-steps", 2]
    words += ["--data.workers", 1]
    elsewhere = os.path.relpath(pictures)  # another way to write the same place
    assert runs.train("tokenizer", out, Path(elsewhere), *words) == 0
    assert runs.checkpoints(out) == [name_of(1), name_of(2)]


def test_nothing_to_resume_is_reported(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--epochs", 1, "--max-steps", 1, "--resume"]
    assert runs.train("tokenizer", tmp_path / "run", pictures, *words) == 0
    assert "run holds no checkpoint: the run starts from the beginning" in "".join(
        capfd.readouterr()
    )


def test_a_run_that_failed_at_once_gives_its_place_to_another(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, words = tmp_path / "run", ["--epochs", 1, "--max-steps", 1]
    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "optimizer_step", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            runs.train("tokenizer", out, pictures, *words)
    (failed,) = runs.log(out, "failed")
    assert failed["error"] == "ZeroDivisionError: division by zero"
    assert runs.train("tokenizer", out, pictures, *words, "--seed", 5) == 0
    assert not runs.log(out, "failed")
    assert runs.checkpoints(out) == [name_of(1)]


def test_a_run_stopped_before_its_first_checkpoint_gives_its_place_to_another(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, words = tmp_path / "run", ["--epochs", 1, "--max-steps", 1]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "start", interrupted)
        assert runs.train("tokenizer", out, pictures, *words) == 130
    assert runs.log(out, "failed")
    assert runs.train("tokenizer", out, pictures, *words, "--seed", 5) == 0
    for folder in ("checkpoints", "best", "final"):
        shutil.rmtree(out / folder)
        assert runs.train("tokenizer", out, pictures, *words, "--seed", 6) == 2
    assert runs.log(out, "finished")  # which are worth more than the place
