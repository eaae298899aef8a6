"""Runs on disk become laws, predictions and a page; what cannot be fitted is named."""

import numpy as np
import pytest

from nextscale.config.scaling import FitConfig, PredictConfig
from nextscale.errors import UsageError
from nextscale.scaling_laws.curves import read_ladder
from nextscale.scaling_laws.page import page
from nextscale.scaling_laws.predict import predict
from nextscale.scaling_laws.report import analyse
from tests.scaling_laws.conftest import ALPHA, LOG_BETA, write_run


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
    assert models[0].flops[-1] == 320 * 6 * models[0].parameters


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
    assert report["frontier"]["loss"]["exponent"] < 0
    assert [scale["exponent"] for scale in report["scales"]["scale_loss"]] == pytest.approx(
        [ALPHA] * 3
    )
    words = page(report, {"d9": "it is unfinished"})
    assert "Left out: d9, it is unfinished." in words
    assert "| d8" in words


def test_what_bends_and_what_overfits_is_named(tmp_path) -> None:
    for depth in range(1, 9):
        write_run(tmp_path / f"d{depth}", depth, noise=0.02 * max(0, depth - 5) ** 2)
    tired = {"event": "validation", "step": 40, "images": 50, "accuracy": 0.5, "loss": 9.0}
    tired |= {"scale_loss": [9.0] * 3, "scale_accuracy": [0.5] * 3}
    write_run(tmp_path / "share-0.1", 4, share=0.1, more=[tired])
    words = page(report_of(tmp_path), {})
    assert "test loss, all scales bends up" in words
    assert "share-0.1 ends" in words


def test_predictions(ladder) -> None:
    report = report_of(ladder)
    found = predict(report, PredictConfig(params=2e7, rate=100))
    assert found["loss"]["predicted"] == pytest.approx(np.exp(ALPHA * (LOG_BETA + np.log(2e7))))
    assert found["flops"] == pytest.approx(320 * 6 * 2e7)
    assert found["hours"] == pytest.approx(found["flops"] / 1e11 / 3600)
    with pytest.raises(UsageError, match=r"params is 2e\+09; .* give a larger --reach"):
        predict(report, PredictConfig(params=2e9))
    assert predict(report, PredictConfig(params=2e9, reach=1e4))["loss"]["predicted"] > 0


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
    models, _, _, left_out = read_ladder([tmp_path])
    assert len(models) == 3
    assert left_out == {"d3": "it is unfinished", "d4": "it diverged or failed"}
    with pytest.raises(UsageError, match="held_out is 2 of 3 models; at least 3 must be left"):
        report_of(tmp_path)
    assert report_of(tmp_path, held_out=0)["held_out"] == {}
    write_run(tmp_path / "d6", 6, tokenizer="b" * 64)
    with pytest.raises(UsageError, match="learnt different tokens"):
        read_ladder([tmp_path])
