"""Runs on disk become laws, predictions and a page; what cannot be fitted is named."""

import json
from dataclasses import replace

import numpy as np
import pytest

from nextscale.checkpoints.checkpoint import config_of
from nextscale.config.architecture import TransformerConfig
from nextscale.config.scaling import FitConfig, PredictConfig
from nextscale.cost.flops import transformer_flops
from nextscale.errors import UsageError
from nextscale.scaling_laws.curves import read_curve, read_ladder
from nextscale.scaling_laws.laws import analyse
from nextscale.scaling_laws.markdown import as_markdown
from nextscale.scaling_laws.predict import predict
from tests.scaling_laws.conftest import ALPHA, LOG_BETA, STEPS, cost, write_run


def report_of(folder, **options) -> dict:
    ladder, shares, sweeps, _ = read_ladder([folder])
    return analyse(ladder, shares, sweeps, FitConfig(**options))


def test_runs_are_sorted_into_ladder_shares_and_sweeps(ladder) -> None:
    models, shares, sweeps, left_out = read_ladder([ladder])
    assert [model.name for model in models] == [f"d{depth}" for depth in range(1, 9)]
    assert [model.share for model in shares] == [0.1, 0.3]
    assert len(sweeps) == 2
    assert left_out == {}
    assert models[1].parameters == 18 * 2 * 32**2
    assert models[0].images.tolist() == [80, 160, 320]
    assert models[0].flops[-1] == 320 * cost(models[0].parameters)


def test_laws_predictions_and_frontier(ladder) -> None:
    report = report_of(ladder)
    for quantity in ("loss", "loss_last", "error", "error_last"):
        law = report["laws"][quantity]
        assert law["alpha"] == pytest.approx(ALPHA)
        assert law["correlation"] == pytest.approx(-1)
    assert report["laws"]["loss"]["log_beta"] == pytest.approx(LOG_BETA)
    held = report["held_out"]["loss"]
    assert [entry["name"] for entry in held] == ["d7", "d8"]
    assert max(abs(entry["relative_error"]) for entry in held) < 1e-9
    low, high = report["frontier"]["loss"]["exponent_interval"]
    assert low < report["frontier"]["loss"]["exponent"] < high < 0
    ends = np.array([cost(model["parameters"]) for model in report["models"]])
    losses = [model["loss"] for model in report["models"]]
    assert report["ends"]["loss"] == pytest.approx(np.polyfit(np.log(ends), np.log(losses), 1)[0])
    assert [scale["exponent"] for scale in report["scales"]["scale_loss"]] == pytest.approx(
        [ALPHA] * 3
    )
    shares = [(run["name"], run["share"]) for run in report["data"]]
    assert shares == [("share-0.1", 0.1), ("share-0.3", 0.3), ("d4", 1)]
    words = as_markdown(report, {"d9": "it is unfinished"})
    assert "Left out: d9, it is unfinished." in words
    assert "| d8" in words


def test_what_bends_and_what_overfits_is_named(tmp_path) -> None:
    for depth in range(1, 9):
        write_run(tmp_path / f"d{depth}", depth, noise=0.02 * np.log(depth) ** 2)
    tired = {"event": "validation", "step": 40, "images": 50, "accuracy": 0.5, "loss": 9.0}
    tired["unigram_entropy"] = 5.0
    tired |= {"scale_loss": [9.0] * 3, "scale_accuracy": [0.5] * 3}
    write_run(tmp_path / "share-0.1", 4, share=0.1, more=[tired])
    words = as_markdown(report_of(tmp_path), {})
    assert "test loss, all scales bends up (p " in words
    assert "share-0.1 ends" in words
    report = report_of(tmp_path)
    assert predict(report, PredictConfig(params=2e6))["loss"]["doubt"] == "the law bends up"


def test_three_models_tell_no_bend(tmp_path) -> None:
    for depth, noise in ((1, 0.0), (2, 0.1), (4, 0.0)):
        write_run(tmp_path / f"d{depth}", depth, noise=noise)
    report = report_of(tmp_path, held_out=0)
    assert "3 models are too few to detect whether a law bends" in as_markdown(report, {})
    assert predict(report, PredictConfig(params=1e6))["loss"]["doubt"] == ""


def test_what_has_no_logarithm_has_no_law(tmp_path) -> None:
    for depth in (1, 2, 3, 4):
        write_run(tmp_path / f"d{depth}", depth)
    ladder, shares, sweeps, _ = read_ladder([tmp_path])
    ladder[0].scale_error[-1, 0] = 0
    report = analyse(ladder, shares, sweeps, FitConfig(held_out=0))
    assert report["scales"]["scale_error"][0]["exponent"] is None
    assert "NaN" not in json.dumps(report)
    assert "| 1     |" in as_markdown(report, {})


def test_runs_that_do_not_overlap_have_no_frontier(tmp_path) -> None:
    for depth in (1, 8, 64):
        write_run(tmp_path / f"d{depth}", depth)
    report = report_of(tmp_path, held_out=0)
    assert report["frontier"]["loss"] is None
    assert "compute frontier" in as_markdown(report, {})


def test_predictions(ladder) -> None:
    report = report_of(ladder)
    found = predict(report, PredictConfig(params=2e7, rate=100))
    assert found["loss"]["predicted"] == pytest.approx(np.exp(ALPHA * (LOG_BETA + np.log(2e7))))
    assert found["flops"] == pytest.approx(320 * cost(2e7))
    assert found["hours"] == pytest.approx(found["flops"] / 1e11 / 3600)
    with pytest.raises(UsageError, match=r"params is 2e\+09; .* give a larger --reach"):
        predict(report, PredictConfig(params=2e9))
    assert predict(report, PredictConfig(params=2e9, reach=1e4))["loss"]["predicted"] > 0
    smallest = report["models"][0]["error"]
    for model in report["models"]:
        model["error"] *= 0.99 / smallest
    few = predict(report, PredictConfig(params=1e3))["error"]
    assert few["high"] == few["predicted"] == 1


def test_arithmetic_is_that_of_a_larger_model(tmp_path) -> None:
    """Against a count of the networks themselves, hundreds of times larger than the ladder."""
    whole = config_of("fashion-mnist")
    for depth in range(1, 9):
        run = write_run(tmp_path / f"d{depth}", depth)
        config = replace(whole, model=TransformerConfig(depth=depth, width=16 * depth, heads=depth))
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        lines[0]["training_flops_per_image"] = 3 * transformer_flops(config)
        (run / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    large = replace(whole, model=TransformerConfig(depth=60, width=960, heads=60))
    params = 18 * 60 * 960**2
    found = predict(report_of(tmp_path), PredictConfig(params=params, reach=1e3))
    assert found["flops"] == pytest.approx(320 * 3 * transformer_flops(large), rel=0.02)


def test_refusals(tmp_path) -> None:
    with pytest.raises(UsageError, match="there is no directory"):
        read_ladder([tmp_path / "none"])
    with pytest.raises(UsageError, match="hold no runs"):
        read_ladder([tmp_path])
    write_run(tmp_path / "d1", 1)
    write_run(tmp_path / "d2", 2)
    write_run(tmp_path / "d3", 3, lines=3)
    bad = {"event": "failed", "error": "Diverged"}
    write_run(tmp_path / "d4", 4, more=[bad])
    with pytest.raises(UsageError, match=r"2 finished sizes are found, at least 3 .*d3: it is unf"):
        read_ladder([tmp_path])
    write_run(tmp_path / "d5", 5)
    write_run(tmp_path / "longer", 6, steps=2 * STEPS)
    broken = write_run(tmp_path / "broken", 7)
    (broken / "final/config.json").write_text("{}")
    models, _, _, left_out = read_ladder([tmp_path, tmp_path])  # each run counts once
    assert len(models) == 3
    assert left_out == {
        str(tmp_path / "broken"): (
            "final/config.json.tokenizer_hash is not there; a value is missing"
        ),
        str(tmp_path / "d3"): "it is unfinished",
        str(tmp_path / "d4"): "it diverged or failed",
        str(tmp_path / "longer"): "it saw 640 images, most others 320",
    }
    with pytest.raises(UsageError, match="held_out is 2 of 3 sizes; at least 3 must be left"):
        report_of(tmp_path)
    assert report_of(tmp_path, held_out=0)["held_out"] == {}


def test_seeds_of_one_size_are_held_out_together(tmp_path) -> None:
    for depth in (1, 2, 3, 4):
        write_run(tmp_path / f"d{depth}", depth)
    write_run(tmp_path / "again", 4, noise=0.001)
    held = report_of(tmp_path, held_out=1)["held_out"]["loss"]
    assert {entry["name"] for entry in held} == {"d4", "again"}


def test_a_run_that_failed_and_was_resumed_counts(tmp_path) -> None:
    file = write_run(tmp_path / "d1", 1) / "log.jsonl"
    start, *rest = file.read_text().splitlines()
    file.write_text("\n".join([start, json.dumps({"event": "failed", "error": "full"}), *rest]))
    assert read_curve(tmp_path / "d1").name == "d1"


@pytest.mark.parametrize("other", [{"tokenizer": "b" * 64}, {"entropy": 5.1}, {"scales": 4}])
def test_runs_on_different_tokens_are_refused(other, tmp_path) -> None:
    for depth in (1, 2, 3):
        write_run(tmp_path / f"d{depth}", depth)
    write_run(tmp_path / "d6", 6, **other)
    with pytest.raises(UsageError, match="learnt different tokens"):
        read_ladder([tmp_path])


@pytest.mark.parametrize("text", ["12\n", "\xff\xfe", ""])
def test_a_log_that_is_none_is_named(text: str, tmp_path) -> None:
    (write_run(tmp_path / "d1", 1) / "log.jsonl").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"line 1, is 12|no text in UTF-8|it is unfinished"):
        read_curve(tmp_path / "d1")


def test_a_loss_of_zero_on_the_way_is_named(tmp_path) -> None:
    """The share by which the last loss is above the lowest is then no number."""
    file = write_run(tmp_path / "d1", 1) / "log.jsonl"
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    entries[1]["loss"] = 0.0
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    with pytest.raises(UsageError, match=r"validation\.loss is 0\.0"):
        read_curve(tmp_path / "d1")
