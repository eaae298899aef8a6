"""`nextscale evaluate` from its words to its report, on a tiny model."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nextscale import checkpoint
from nextscale.cli.main import main

COUNT = 24
ON_TINY = ("--kid-subset", 10, "--batch", 5, "--count", COUNT)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 20 grey pictures, 8x8."""
    folder = tmp_path_factory.mktemp("real")
    pixels = np.random.default_rng(1).integers(0, 256, (20, 8, 8)).astype(np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def saved(pipe, tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    checkpoint.save(pipe, directory)
    return str(directory)


@pytest.fixture
def evaluate(classifier: str, real: Path, tmp_path: Path):
    """Runs the command; returns its report."""

    def run(what: object, *words: object, reference: object = real) -> dict:
        options = [
            "--reference",
            reference,
            "--extractor",
            classifier,
            "--json",
            tmp_path / "r.json",
        ]
        assert main([str(w) for w in ("evaluate", what, *options, *words)]) == 0
        return json.loads((tmp_path / "r.json").read_text())

    return run


def test_a_model(evaluate, saved: str, tmp_path: Path, capsys) -> None:
    report = evaluate(saved, *ON_TINY, "--out", tmp_path / "work", "--cfg", 1)
    figures = report["figures"]
    told = {"fid", "inception_score", "precision", "recall", "kid", "class_accuracy"}
    assert told <= figures.keys()
    assert (figures["images"], figures["reference_images"], figures["steps"]) == (COUNT, 20, 3)
    assert report["sampling"]["cfg"] == 1
    assert json.loads((tmp_path / "work/report.json").read_text()) == report
    out = capsys.readouterr().out
    assert out.startswith("FID ")
    assert "seconds an image" in out


def test_the_drawn_images_as_a_folder_and_as_an_array(
    evaluate, saved: str, tmp_path: Path, pipe
) -> None:
    npz, stored = tmp_path / "drawn.npz", tmp_path / "statistics.npz"
    work = ("--out", tmp_path / "work", "--npz", npz, "--save-statistics", stored)
    drawn = evaluate(saved, *ON_TINY, *work)["figures"]
    pixels = np.load(npz)["arr_0"]
    assert (pixels.shape, pixels.dtype) == ((COUNT, 8, 8, 3), np.uint8)
    images = pipe.sample([i % 3 for i in range(COUNT)], batch=5)
    assert np.array_equal(pixels[..., 0], np.stack([np.asarray(image) for image in images]))
    from_array = evaluate(npz, "--kid-subset", 10)["figures"]
    for name in ("fid", "inception_score", "precision", "recall", "kid"):
        assert from_array[name] == pytest.approx(drawn[name], rel=1e-4, abs=1e-5)
    against_itself = evaluate(npz, "--kid-subset", 10, reference=stored)["figures"]
    assert against_itself["fid"] == pytest.approx(0, abs=1e-5)
    assert against_itself["precision"] == 1


def test_an_interrupted_evaluation_goes_on(
    evaluate, saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(saved, *ON_TINY, "--out", tmp_path / "whole")["figures"]
    from nextscale.evaluation import report

    true, calls = report.last_state, []

    def stops(states):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return true(states)

    monkeypatch.setattr(report, "last_state", stops)
    with pytest.raises(AssertionError, match="130"):  # the exit code of an interruption
        evaluate(saved, *ON_TINY, "--out", tmp_path / "cut")
    went_on = evaluate(saved, *ON_TINY, "--out", tmp_path / "cut")["figures"]
    assert len(calls) == 3 + 3  # two of five chunks were there
    for figures in (whole, went_on):
        del figures["seconds_per_image"]
    assert went_on == whole


def test_rejection_keeps_what_the_classifier_is_surest_of(
    evaluate, saved: str, tmp_path: Path
) -> None:
    work, npz = tmp_path / "work", tmp_path / "kept.npz"
    report = evaluate(saved, *ON_TINY, "--out", work, "--keep", 0.5, "--npz", npz)
    assert report["figures"]["images"] == COUNT
    assert report["keep"] == 0.5
    chunks = [np.load(file) for file in sorted(work.glob("0*.npz"))]
    scores, pixels = (np.concatenate([c[name] for c in chunks]) for name in ("scores", "pixels"))
    assert len(scores) == 2 * COUNT
    kept = np.load(npz)["arr_0"][..., :1]
    own = 2 * COUNT // 3  # drawn of a class
    for label in range(3):
        of_class = slice(label * own, (label + 1) * own)
        best = np.argsort(-scores[of_class], kind="stable")[: COUNT // 3]
        assert np.array_equal(kept[label::3], pixels[of_class][best])


def test_a_tokenizer(evaluate, saved: str, classifier: str) -> None:
    report = evaluate(saved, "--reconstruct", "--kid-subset", 10, "--perceptual", classifier)
    figures = report["figures"]
    assert {"rfid", "psnr", "ssim", "perceptual_distance"} <= figures.keys()
    assert "fid" not in figures
    assert figures["images"] == 20
    assert figures["psnr"] >= figures["psnr_of_mean_error"]  # the mean of a convex function


@pytest.mark.slow
def test_two_processes_give_the_images_and_figures_of_one(
    evaluate, saved: str, classifier: str, real: Path, tmp_path: Path
) -> None:
    one = evaluate(saved, *ON_TINY, "--out", tmp_path / "one", "--npz", tmp_path / "one.npz")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = str(torch.get_num_threads())  # rounding depends on it, not on processes
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", 2, "--master-port", port)
    words = ("-m", "nextscale", "evaluate", saved, *ON_TINY, "--reference", real)
    files = ("--out", tmp_path / "two", "--npz", tmp_path / "two.npz", "--extractor", classifier)
    subprocess.run(
        [sys.executable, *map(str, (*torchrun, *words, *files))],
        check=True,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache2"), "OMP_NUM_THREADS": threads},
        timeout=300,
    )
    two = json.loads((tmp_path / "two/report.json").read_text())
    assert two["processes"] == 2
    drawn = [np.load(tmp_path / f"{name}.npz")["arr_0"] for name in ("one", "two")]
    assert np.array_equal(*drawn)
    for report in (one, two):
        del report["figures"]["seconds_per_image"]
    assert two["figures"] == one["figures"]
