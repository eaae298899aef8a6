"""The comparison's rows from trainings to records, on a tiny model that needs no training."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextscale.evaluation.metrics import Features
from nextscale.storage.files import read_json
from nextscale.training.divergence import Diverged
from studies.__main__ import main
from studies.comparison import compare, contenders, jury, trainings
from studies.comparison.contenders import Row

COUNT, TUNING_COUNT = 30, 12
ROWS = {
    "var": Row("plain", "var", efficiency=True),
    "guidance": Row("guided", "var_adaln", ("top_k", "cfg"), seeds=(0,)),
    "rejection": Row("kept", "var_adaln", options_of="guidance", keep=0.5, seeds=(0,)),
}
OPTIONS = {"top_k": (0, 2), "cfg": (0.0, 1.0)}


@pytest.fixture
def words(
    saved: str, classifier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Options of the commands; every training gives the tiny model at once."""

    def give(comparison: trainings.Comparison, name: str, seed: int, **options: Any) -> Path:
        out = Path(comparison.work) / f"{name}-{seed}-{options['learning_rate']:g}"
        for place in ("final", "checkpoints/step-00000010", "checkpoints/step-00000030"):
            shutil.copytree(saved, out / place, dirs_exist_ok=True)
        start = {"event": "start", "steps": 100, "training_flops_per_image": 10.0}
        steps = {"step": 100, "images": 1000, "images_per_second": 50.0}
        (out / "log.jsonl").write_text(
            f"{json.dumps(start | {'precision': 'no'})}\n{json.dumps(steps)}\n"
        )
        return out

    def real(judging: jury.Jury, split: str) -> Features:
        generator = np.random.default_rng(len(split))
        values, logits = (generator.normal(size=(40, n)).astype(np.float32) for n in (16, 3))
        return Features(judging.extractor.identity, values, logits)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compare, "ROWS", ROWS)
    monkeypatch.setattr(jury, "TOP_K", OPTIONS["top_k"])
    monkeypatch.setattr(jury, "CFG", OPTIONS["cfg"])
    monkeypatch.setattr(jury, "CHUNK", 10)
    monkeypatch.setattr(jury.Jury, "real", real)
    monkeypatch.setattr(trainings, "trained", give)
    comparison = trainings.Comparison(records=str(tmp_path / "records"))
    for name in ("var", "var_adaln"):
        comparison.keep(f"rate_{name}", {"losses": {"0.001": 2.0, "0.003": 1.0, "0.01": 3.0}})
    return [
        *("--records", comparison.records, "--work", str(tmp_path / "work")),
        *("--extractor", classifier),
        *("--only", "var", "var_adaln"),
        *("--count", str(COUNT), "--tuning-count", str(TUNING_COUNT)),
    ]


def recorded(words: list[str]) -> dict[str, Any]:
    """All rows that are recorded."""
    return {file.stem: read_json(file) for file in sorted(Path(words[1]).glob("row_*.json"))}


def test_rows(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["compare", "run", *words]) == 0
    rows = recorded(words)
    plain, guided, kept = (rows[f"row_{name}"] for name in ROWS)
    drawn = [(run["training_seed"], run["seed"]) for run in plain["runs"]]
    assert drawn == [(seed, draw) for seed in (0, 1) for draw in (0, 1, 2)]
    assert plain["tuning"]["options"] == {}
    assert [point["share"] for point in plain["on_the_way"]] == [0.1, 0.3]
    assert plain["learning_rate"] == 3e-3
    tried = guided["tuning"]["tried"]
    assert len(tried) == 4
    by_top_k, by_cfg = tried[:2], tried[2:]
    chosen = min(by_top_k, key=lambda entry: entry["fid"])["top_k"]
    assert {entry["top_k"] for entry in by_cfg} == {chosen}
    best = min(by_cfg, key=lambda entry: entry["fid"])
    assert guided["tuning"]["options"] == {"top_k": chosen, "cfg": best["cfg"]}
    assert kept["tuning"] == guided["tuning"]
    assert kept["runs"][0]["class_accuracy"] >= guided["runs"][0]["class_accuracy"]
    monkeypatch.setattr(jury, "make_chunk", None)  # nothing is made again
    monkeypatch.setattr(trainings, "trained", None)
    assert main(["compare", "run", *words]) == 0
    assert recorded(words) == rows


def test_a_comparison_that_is_stopped_goes_on(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, parts = jury.make_chunk, []

    def count(*given: Any) -> Any:
        parts.append(given[2])
        if len(parts) == 12:  # nine of the first row, eight of the second's tuning
            raise KeyboardInterrupt
        return make(*given)

    monkeypatch.setattr(jury, "make_chunk", count)
    assert main(["compare", "run", *words]) == 130
    assert list(recorded(words)) == ["row_var"]
    assert main(["compare", "run", *words]) == 0
    stopped, drawn = recorded(words), len(parts) - 1
    for file in Path(words[1]).glob("row_*.json"):
        file.unlink()
    shutil.rmtree(words[3])
    parts[:] = [range(0)] * 100  # none is stopped
    assert main(["compare", "run", *words]) == 0
    assert len(parts) - 100 == drawn
    assert recorded(words) == stopped


def test_a_checkpoint_is_judged_as_tuning_does(
    words: list[str], saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "run", *words]) == 0
    entry = recorded(words)["row_guidance"]["tuning"]["tried"][-1]
    given = ["--top-k", str(entry["top_k"]), "--cfg", str(entry["cfg"])]
    given += ["--count", str(TUNING_COUNT), *words[2:6]]
    assert main(["compare", "judge", "--row", "guidance", "--checkpoint", saved, *given]) == 0
    assert json.loads(capsys.readouterr().out)["fid"] == entry["fid"]


def test_a_trial_is_judged_at_its_end_alone(words: list[str]) -> None:
    """Trials of --max-steps end before the first share of their training."""
    assert main(["compare", "run", *words, "--max-steps", "5"]) == 0
    assert recorded(words)["row_var"]["on_the_way"] == []


def test_time_tunes_nothing_and_counts_the_judge(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["compare", "run", *words]) == 0
    records, judged = Path(words[1]), []
    (records / "rate_var.json").unlink()

    def judge_of(row: Row, *_: object) -> Any:
        return (lambda images: judged.append(len(images)) or images) if row.keep < 1 else None

    monkeypatch.setattr(compare, "judge_of", judge_of)
    monkeypatch.setattr(compare, "TIMED", 4)
    monkeypatch.setattr(trainings, "RECORDS", words[1])  # the true records may be timed, too
    assert main(["compare", "time", *words[:6]]) == 0
    assert not (records / "rate_var.json").exists()
    told = read_json(records / "seconds.json")
    assert told["median"].keys() == ROWS.keys()
    assert told["training_images_per_second"] == {"var": 50.0, "var_adaln": 50.0}
    assert judged == [4] * compare.REPEATS


def test_rates_are_tried_until_the_best_has_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {1e-4: 3.0, 3e-4: 1.0, 1e-3: 2.0, 3e-3: 2.5, 1e-2: 4.0}
    tried = []

    def loss_at(comparison: trainings.Judging, name: str, rate: float) -> float:
        tried.append(rate)
        return losses[rate]

    monkeypatch.setattr(trainings, "loss_at", loss_at)
    comparison = trainings.Judging(records=str(tmp_path))
    assert trainings.tuned_rate(comparison, "var") == 3e-4
    assert tried == [*contenders.RATES, 3e-4, 1e-4]
    assert trainings.tuned_rate(comparison, "var") == 3e-4
    assert len(tried) == 5


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that would have trained; each run ends as its learning rate says."""
    commands: list[list[str]] = []

    def run(command: list[str]) -> int:
        commands.append(command)
        given = dict(zip(command[5::2], command[6::2], strict=False))
        assert command[5] == "--config"  # it would override what stands before it
        out = Path(given["--out"])
        out.mkdir(parents=True, exist_ok=True)
        bad = float(given.get("--learning-rate", 0)) > 5e-3
        end = {"event": "validation", "step": 9, "loss": 1.5}
        if bad:
            end = {"event": "failed", "error": "Diverged: the loss became NaN"}
        (out / "log.jsonl").write_text(json.dumps(end) + "\n")
        if not bad:
            (out / "final").mkdir(exist_ok=True)
            (out / "final/config.json").write_text("{}")
        return 2 if bad else 0

    monkeypatch.setattr(trainings, "run_to_its_end", run)
    return commands


def test_a_rate_that_diverges_loses(pretended: list[list[str]], saved: str, tmp_path: Path) -> None:
    comparison = trainings.Judging(
        work=str(tmp_path / "work"), records=str(tmp_path / "r"), pyramid=saved
    )
    assert trainings.loss_at(comparison, "var", 1e-3) == 1.5
    assert trainings.loss_at(comparison, "var", 1e-2) == float("inf")
    with pytest.raises(Diverged):
        trainings.trained(comparison, "var", 0, learning_rate=1e-2)


def test_another_recipe_is_another_run(
    pretended: list[list[str]], saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = tmp_path / "recipes"
    shutil.copytree(contenders.RECIPES, recipes)
    monkeypatch.setattr(trainings, "RECIPES", recipes)
    comparison = trainings.Comparison(work=str(tmp_path / "work"), pyramid=saved)
    first = trainings.trained(comparison, "var", 0, learning_rate=1e-3)
    assert trainings.trained(comparison, "var", 0, learning_rate=1e-3) == first
    assert len(pretended) == 1
    with (recipes / "var.yaml").open("a") as file:
        file.write("# changed\n")
    assert trainings.trained(comparison, "var", 0, learning_rate=1e-3) != first
    short = replace(comparison, max_steps=5)
    assert trainings.trained(short, "var", 0, learning_rate=1e-3) != first
    assert len(pretended) == 3


def test_a_tokenizer_that_is_not_given_is_trained_once(
    pretended: list[list[str]], tmp_path: Path
) -> None:
    comparison = trainings.Comparison(work=str(tmp_path / "work"))
    place = trainings.tokenizer_of(comparison, contenders.PYRAMID)
    assert place == str(tmp_path / "work/tokenizer_pyramid/final")
    assert trainings.tokenizer_of(comparison, contenders.PYRAMID) == place
    (command,) = pretended
    assert command[2:5] == ["nextscale", "train", "tokenizer"]
    assert command[6] == str(contenders.RECIPES / "tokenizer_pyramid.yaml")
    trial = trainings.tokenizer_of(replace(comparison, max_steps=5), contenders.PYRAMID)
    assert trial != place
    assert pretended[-1][-3:] == ["--max-steps", "5", "--resume"]
