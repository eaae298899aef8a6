"""What `nextscale evaluate` refuses: one line, code 2, nothing written."""

from pathlib import Path

import numpy as np
import pytest

EXTRACTOR = ("--extractor", "fashion-mnist")


@pytest.fixture(autouse=True)
def _nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "evaluation").exists()
    assert not (tmp_path / "report.json").exists()


def test_nothing_to_compare_with(refused, saved: str, photographs: Path) -> None:
    assert "give --reference" in refused("evaluate", saved, *EXTRACTOR)
    assert "give --reference" in refused("evaluate", photographs, *EXTRACTOR)
    said = refused("evaluate", saved, *EXTRACTOR, "--reference", "nowhere")
    assert "there is no nowhere; give a folder" in said


def test_unknown_things(refused, saved: str) -> None:
    assert "nothing is known as 'nobody'" in refused("evaluate", "nobody", *EXTRACTOR)
    said = refused("evaluate", saved, "--reference", "x", "--extractor", "nobody")
    assert "unknown extractor 'nobody'; give one of inception, fashion-mnist" in said
    said = refused("evaluate", saved, "--metrics", "fid", "beauty")
    assert "unknown metric 'beauty'; known: fid, is, precision, recall, kid" in said


def test_options_of_drawing_without_drawing(refused, saved: str, photographs: Path) -> None:
    given = (*EXTRACTOR, "--reference", photographs)
    for words in ((saved, "--reconstruct", "--compile"), (photographs, "--precision", "int8")):
        assert "nothing is drawn here" in refused("evaluate", *words, *given)
    said = refused("evaluate", saved, "--reconstruct", "--npz", "x.npz", "--cfg", 2, *given)
    assert said.endswith("nothing is drawn here; leave out --npz, --cfg\n")


def test_empty_and_mixed_folders(refused, saved: str, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = refused("evaluate", saved, *EXTRACTOR, "--reference", tmp_path / "empty")
    assert "empty holds no images" in said
    said = refused("evaluate", photographs, *EXTRACTOR, "--reference", photographs)
    assert "mixed sizes" in said


def test_too_few_images(refused, saved: str, photographs: Path) -> None:
    fits = ("--size", 28, *EXTRACTOR, "--reference", photographs)
    said = refused("evaluate", photographs, *fits)
    assert "is needs at least 10 images; there are 2" in said
    said = refused("evaluate", saved, *fits, "--count", 2)
    assert "leaves some of the 3 classes without a sample; give at least 3" in said
    said = refused("evaluate", saved, *fits, "--count", 20, "--metrics", "kid")
    assert "kid needs at least 1000 images; there are 20" in said


@pytest.mark.parametrize("option", ["--npz", "--save-statistics", "--json"])
def test_an_input_is_not_replaced(refused, saved: str, tmp_path: Path, option: str) -> None:
    stored = tmp_path / "stored.npz"
    stored.write_bytes(b"images")
    said = refused("evaluate", saved, *EXTRACTOR, "--reference", stored, option, stored)
    assert f"{stored} is read by this command" in said
    said = refused("evaluate", stored, *EXTRACTOR, "--reference", saved, option, stored)
    assert f"{stored} is read by this command" in said
    assert stored.read_bytes() == b"images"


def test_two_outputs_of_one_name(refused, saved: str, tmp_path: Path) -> None:
    same = ("--json", tmp_path / "out", "--npz", tmp_path / "x" / ".." / "out")
    assert "two outputs have one name" in refused("evaluate", saved, *EXTRACTOR, *same)


def test_a_reference_of_another_extractor(refused, saved: str, tmp_path: Path) -> None:
    features = {"values": np.zeros((4, 3), np.float32), "logits": np.zeros((4, 2), np.float32)}
    np.savez(tmp_path / "stored.npz", extractor=np.array("inception 12"), **features)
    said = refused("evaluate", saved, *EXTRACTOR, "--reference", tmp_path / "stored.npz")
    assert "was made by the extractor inception 12; this one is classifier" in said


def test_bad_numbers(refused, saved: str, tmp_path: Path) -> None:
    assert "keep is 0.0; it must be" in refused("evaluate", saved, "--keep", 0)
    assert "count is 0; it must be from 1" in refused("evaluate", saved, "--count", 0)
    said = refused("evaluate", saved, "--json", tmp_path)
    assert "is a directory; give the name of a file" in said


def test_an_extractor_of_other_images(refused, saved: str, photographs: Path) -> None:
    words = ("--size", 28, "--reference", photographs, *EXTRACTOR, "--metrics", "fid")
    said = refused("evaluate", saved, *words)
    assert "the extractor takes images of 28 pixels; these are 8" in said


def test_a_classifier_of_other_images(
    refused, saved: str, classifier: str, photographs: Path
) -> None:
    words = ("--size", 8, "--reference", photographs, "--extractor", classifier, "--metrics", "fid")
    said = refused("evaluate", saved, *words, "--keep", 0.5, "--classifier", "fashion-mnist")
    assert "judges images of 1 channels and 28 pixels; the model draws 1 and 8" in said
