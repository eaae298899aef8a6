"""`nextscale evaluate` from its words to its report, on a tiny model."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from nextscale.checkpoints import checkpoint
from nextscale.cli.main import main
from nextscale.config.model import ModelConfig
from nextscale.evaluation import evaluation, report
from nextscale.evaluation.drawing import reconstruct
from nextscale.judges import extractors
from nextscale.judges.extractors import Extractor
from nextscale.pipeline import Pipeline

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


def test_a_model(evaluate, saved: str, classifier: str, tmp_path: Path, capsys) -> None:
    report = evaluate(saved, *ON_TINY, "--out", tmp_path / "work", "--cfg", 1)
    figures = report["figures"]
    told = {"fid", "inception_score", "precision", "recall", "kid", "class_accuracy"}
    assert told <= figures.keys()
    assert (figures["images"], figures["reference_images"], figures["steps"]) == (COUNT, 20, 3)
    assert report["sampling"]["cfg"] == 1
    assert json.loads((tmp_path / "work/report.json").read_text()) == report
    out = capsys.readouterr().out
    assert out.startswith(f"FID (classifier {classifier}) ")
    assert f"\nprecision (classifier {classifier}) " in out
    assert f"\nseconds an image{' ' * len(classifier)}" in out
    assert report["extractor_name"] == f"classifier {classifier}"
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
    true, calls = report.make_chunk, []

    def stops(*given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return true(*given)

    monkeypatch.setattr(report, "make_chunk", stops)
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


@pytest.fixture(scope="module")
def colour() -> Iterator[str]:
    """The name of an extractor of images in colour, as the published Inception is."""
    weights = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))

    def extract(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = pixels.float().flatten(2).std(2) @ weights
        return values, values[:, :3]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractors, "_BUILDERS", {})
        extractors.register("colour", lambda _: Extractor("colour", 3, None, (), extract))
        yield "colour"


def test_grey_models_are_seen_in_colour(
    evaluate,
    saved: str,
    real: Path,
    classifier: str,
    colour: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(evaluation.TRAINING_SPLIT, str(real), str(real))  # bounds are told as well
    seen = ("--extractor", colour)
    drawn = evaluate(saved, *ON_TINY, *seen, "--out", tmp_path / "work")["figures"]
    words = ("--reconstruct", "--kid-subset", 10, "--perceptual", classifier)
    again = evaluate(saved, *words, *seen)["figures"]
    assert drawn["tokenizer_rfid"] == again["rfid"] > 0
    assert drawn["floor_fid"] == pytest.approx(0, abs=1e-6)
    few = tmp_path / "few"
    few.mkdir()
    for file in sorted(real.iterdir())[:12]:
        shutil.copy(file, few)
    judged = evaluate(few, "--metrics", "fid", *seen)["figures"]
    assert judged["floor_fid"] > 0.001  # of twelve real images, as are judged


def test_bounds_of_a_folder_with_splits(evaluate, real: Path, tmp_path: Path, capsys) -> None:
    root, files = tmp_path / "data", sorted(real.iterdir())
    for part, chosen in (("Train", files[:16]), ("val", files[16:] * 3)):
        for i, file in enumerate(chosen):
            place = root / part / f"class{i % 2}"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place / f"{i}.png")
    same = evaluate(root / "Train", "--metrics", "fid", reference=root)
    assert same["reference"]["name"] == str(root / "val")
    assert f"the reference is {root / 'val'}" in capsys.readouterr().err
    assert same["figures"]["reference_images"] == 12
    assert same["figures"]["floor_fid"] == pytest.approx(same["figures"]["fid"], rel=1e-4)
    few = tmp_path / "few"
    few.mkdir()
    for file in files[:4]:
        shutil.copy(file, few)
    judged = evaluate(few, "--metrics", "fid", reference=root / "val")
    assert judged["figures"]["floor_fid"] > same["figures"]["floor_fid"]  # of four images
    assert "floor_fid" not in evaluate(few, "--metrics", "fid", reference=real)["figures"]
    many = evaluate(real, "--metrics", "fid", reference=root)
    assert "Train has 16 images, fewer than are judged" in many["note"]


def test_stored_statistics(evaluate, real: Path, saved: str, tmp_path: Path, capsys) -> None:
    stored, bare, both = (tmp_path / f"{name}.npz" for name in ("stored", "bare", "both"))
    pixels = np.stack([np.asarray(Image.open(file)) for file in sorted(real.iterdir())])
    whole = evaluate(real, "--kid-subset", 10, "--save-statistics", stored)["figures"]
    of = np.load(stored)
    np.savez(bare, mu=of["mu"] + 1, sigma=of["sigma"])
    np.savez(both, mu=of["mu"] + 1, sigma=of["sigma"], arr_0=pixels)
    few = evaluate(real, reference=bare)
    assert "precision, recall, kid need images; they are left out" in few["note"]
    assert few["note"] in capsys.readouterr().err
    assert few["figures"].keys() == {"fid", "inception_score", "inception_score_std", "images"}
    assert "stored statistics" in few["reference"]["identity"]
    all_of_it = evaluate(real, "--kid-subset", 10, reference=both)["figures"]
    assert all_of_it["fid"] == few["figures"]["fid"] > 1  # of the file's mean, not of its images
    assert all_of_it["recall"] == whole["recall"] == 1
    with pytest.raises(AssertionError):
        evaluate(real, "--metrics", "kid", reference=bare)
    assert "give --metrics fid is" in capsys.readouterr().err


def ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Structural similarity of two grey pictures of 0 to 255 (Wang et al. 2004)."""

    def blur(picture: np.ndarray) -> np.ndarray:
        return gaussian_filter(picture, sigma=1.5, radius=5, mode="mirror")

    mean_x, mean_y = blur(x), blur(y)
    variances = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float((likeness * (2 * covariance + c2) / (variances + c2)).mean())


def test_errors_of_reconstructions(make_tokenizer) -> None:
    tokenizer = make_tokenizer(scales=(1, 2, 4, 8))
    pipe = Pipeline(tokenizer, None, ModelConfig(tokenizer.config))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1)).astype(np.uint8)
    extractor = Extractor("none", 1, None, (), lambda x: (x.float().flatten(1), x.flatten(1)))
    found = reconstruct(pipe, pixels, extractor, None)
    made = pipe.reconstruct([Image.fromarray(image[..., 0]) for image in pixels])
    pairs = zip(pixels[..., 0], made, strict=True)
    for i, pair in enumerate(pairs):
        before, after = (np.asarray(picture, np.float64) for picture in pair)
        error = np.square((before - after) / 127.5).mean()
        assert found["mse"][i] == pytest.approx(error, rel=1e-4)
        assert found["ssim"][i] == pytest.approx(ssim(before, after), abs=1e-4)


def test_a_tokenizer(evaluate, saved: str, classifier: str) -> None:
    report = evaluate(saved, "--reconstruct", "--kid-subset", 10, "--perceptual", classifier)
    figures = report["figures"]
    assert {"rfid", "psnr", "ssim", "perceptual_distance"} <= figures.keys()
    assert "fid" not in figures
    assert report["perceptual"].startswith(f"{classifier} ")
    assert figures["images"] == 20
    assert figures["psnr"] >= figures["psnr_of_mean_error"]  # the mean of a convex function


def test_a_distance_that_was_asked_for_is_not_left_out(
    evaluate, saved: str, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    words = ("--reconstruct", "--kid-subset", 10)
    report = evaluate(saved, *words)
    assert "LPIPS' weights cannot be had (OSError)" in report["note"]
    assert "lpips" not in report["figures"]
    for asked, told in ((words, "LPIPS' weights cannot be had"), ((), "nothing is reconstructed")):
        with pytest.raises(AssertionError):
            evaluate(saved, *asked, "--perceptual", "lpips")
        assert told in capsys.readouterr().err


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
    for told in (one, two):
        del told["figures"]["seconds_per_image"]
    assert two["figures"] == one["figures"]


def test_colours_that_differ_are_noted(evaluate, saved: str, real: Path, tmp_path: Path) -> None:
    colour = tmp_path / "colour"
    colour.mkdir()
    pixels = np.random.default_rng(2).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(colour / f"{i}.png")
    options = ("--metrics", "fid")
    told = evaluate(colour, *options)["note"]
    assert told == "the images are in colour, the reference images grey"
    told = evaluate(saved, "--reconstruct", *options, reference=colour)["note"]
    assert "the tokenizer's images are grey, the reference images in colour" in told
    assert "colour" not in evaluate(real, *options)["note"]
