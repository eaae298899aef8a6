"""An output directory holds one run: another one replaces its files, and touches nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nextscale.cli import sample
from nextscale.cli.main import main
from nextscale.evaluation.sets import open_raw


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_second_run_replaces_the_first(saved, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    run("sample", saved, "--count", 9, "--grow", "--out", out)
    assert capsys.readouterr().err == ""
    run("sample", saved, "--labels", "coat", "--count", 2, "--out", out)
    assert "11 files of an earlier run" in capsys.readouterr().err  # two of them overviews
    assert names(out) == ["0000-coat.png", "0001-coat.png", "grid.png", "samples.json"]
    assert len(open_raw(str(out))) == 2  # as `evaluate` counts them


def test_an_interrupted_run_is_replaced_too(saved, tmp_path, monkeypatch) -> None:
    out, write, calls = tmp_path / "out", sample.Sheet.write, []

    def once(*given):
        calls.append(given)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return write(*given)

    with monkeypatch.context() as patch:
        patch.setattr(sample.Sheet, "write", once)
        with pytest.raises(KeyboardInterrupt):
            sample.run(parse("--count", "9", "--batch", "4", "--out", str(out), saved))
    assert len(open_raw(str(out))) == 4
    run("sample", saved, "--labels", "coat", "--count", 1, "--out", out)
    assert names(out) == ["0000-coat.png", "grid.png", "samples.json"]


def parse(*words: str):
    from nextscale.console.options import parser_for

    parser = parser_for("nextscale sample", "")
    sample.add_arguments(parser)
    return parser.parse(words)


def test_files_of_others_stay_whatever_a_record_says(saved, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    run("sample", saved, "--count", 3, "--out", out)
    foreign = ["holiday.png", "notes.txt", "0002-mine.jpg"]
    for name in (*foreign, "../above.png"):
        Image.new("L", (8, 8)).save(out / name, format="PNG")
    record = json.loads((out / "samples.json").read_text())
    listed = [*foreign, "../above.png", "..", "", "samples.json", 5, None, str(out / "notes.txt")]
    record["images"] += [{"file": name} for name in listed] + [7]
    (out / "samples.json").write_text(json.dumps(record))
    capsys.readouterr()
    run("sample", saved, "--count", 3, "--seed", 1, "--out", out)
    assert set(foreign) < set(names(out))
    assert (tmp_path / "above.png").exists()
    record["images"] = 5
    (out / "samples.json").write_text(json.dumps(record))
    run("sample", saved, "--count", 3, "--out", out)
    assert set(foreign) < set(names(out))
    assert "also holds 2 other pictures" in capsys.readouterr().err


def test_a_link_is_removed_not_followed(saved, tmp_path) -> None:
    out = tmp_path / "out"
    run("sample", saved, "--count", 1, "--out", out)
    place = next(out.glob("0000-*.png"))
    place.replace(tmp_path / "kept.png")
    place.symlink_to(tmp_path / "kept.png")
    run("sample", saved, "--labels", "coat", "--out", out)
    assert (tmp_path / "kept.png").is_file()
    assert not place.is_symlink()


def test_what_another_command_wrote_is_refused(saved, photographs, refused, tmp_path) -> None:
    out = tmp_path / "out"
    run("sample", saved, "--count", 1, "--out", out)
    before = names(out)
    image = next(out.glob("0000-*.png"))
    box = ("--box", 0, 0, 4, 8)
    for words in (("edit", "inpaint", saved, image, *box), ("reconstruct", saved, image)):
        assert "holds the output of `nextscale sample`; give another --out" in refused(
            *words, "--out", out
        )
    assert names(out) == before


def test_edits_and_reconstructions_replace_their_own(saved, photographs, refused, tmp_path) -> None:
    out, photo = tmp_path / "out", photographs / "noise.png"
    box = ("--box", 0, 0, 15, 20)
    run("edit", "inpaint", saved, photo, *box, "--candidates", 3, "--out", out)
    run("edit", "vary", saved, photo, "--keep-scales", 1, "--out", out)
    assert names(out) == ["edits.json", "noise-vary-1.png", "sheet.png"]
    edited = out / "noise-vary-1.png"
    said = refused("edit", "vary", saved, edited, "--keep-scales", 1, "--out", out)
    assert "noise-vary-1.png is an input, and of an earlier run" in said
    run("edit", "interpolate", saved, photo, photographs / "slope.jpg", "--steps", 2, "--out", out)
    ends = [f"noise-slope-interpolate-{i}.png" for i in (1, 2)]
    assert names(out) == ["edits.json", *ends, "sheet.png"]

    out = tmp_path / "again"
    run("reconstruct", saved, photographs, "--pyramid", "--out", out)
    record = json.loads((out / "reconstructions.json").read_text())
    assert [entry["psnr"] > 0 for entry in record["images"][:2]] == [True, True]
    assert len(open_raw(str(out))) == 2  # neither sheet nor pyramids
    run("reconstruct", saved, photo, "--out", out)
    assert names(out) == ["noise-reconstruction.png", "reconstructions.json", "sheet.png"]


def test_no_label_is_dropped(saved, refused, tmp_path, capsys) -> None:
    words = ("sample", saved, "--out", tmp_path / "out", "--labels", 0, "bag", "coat", "none")
    said = refused(*words, "--count", 3)
    assert "--count 3 leaves out some of the 4 labels; give at least 4" in said
    run(*words, "--count", 6)
    assert "the first 2 labels get one image more" in capsys.readouterr().err
    run(*words, "--count", 8)
    assert "more than the others" not in capsys.readouterr().err


def test_an_image_without_class_is_refused_before_drawing(
    saved, classifier, refused, tmp_path
) -> None:
    words = ("--labels", "bag", "none", "--keep", 0.5, "--classifier", classifier)
    said = refused("sample", saved, *words, "--out", tmp_path / "out")
    assert "an image without a class cannot be judged" in said


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_commands_in_half(precision, saved, classifier, photographs, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    low, drawn = ("--precision", precision), tmp_path / "drawn"
    options = ("--mean-scales", 1, "--smooth", "--cfg", 1, "--top-k", 8, "--top-p", 0.9)
    judge = ("--keep", 0.5, "--classifier", classifier)
    run("sample", saved, "--count", 12, *low, *options, *judge, "--tile", 4, "--out", drawn)
    run("sample", saved, "--count", 3, *low, *options, "--grow", "--out", tmp_path / "grown")

    edits, photo = tmp_path / "edits", photographs / "noise.png"
    box = ("--box", 0, 0, 15, 20)
    run("edit", "class", saved, photo, *box, "--label", "bag", "--paste", *low, "--out", edits)
    record = json.loads((edits / "edits.json").read_text())
    assert record["precision"] == precision
    assert np.isfinite(record["images"][0]["log_probability"])
    sides = ("--sides", 0, 4, 0, 4, "--recode", "--feather", 2)
    run("edit", "outpaint", saved, photo, *sides, *low, *options[2:], "--out", tmp_path / "larger")

    judged = ("--reference", drawn, "--extractor", classifier, "--metrics", "fid")
    report = tmp_path / "report.json"
    places = ("--out", tmp_path / "evaluation", "--json", report)
    run("evaluate", saved, *low, *options, *judge, *judged, "--count", 12, *places)
    found = json.loads(report.read_text())
    assert found["precision"] == precision
    assert np.isfinite(found["figures"]["fid"])
