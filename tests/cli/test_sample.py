import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nextscale.checkpoints import checkpoint
from nextscale.cli.main import main
from nextscale.cli.sample import choose_wanted, grid_rows
from nextscale.config.model import ModelConfig, SamplingConfig
from nextscale.config.seeds import LARGEST_SEED
from nextscale.machine.instructions import can_compile
from nextscale.pictures.grids import GAP
from nextscale.pipeline import Pipeline
from nextscale.storage import weights

CELL = 8 * 4 + GAP  # pixels from one picture of the grid to the next


@pytest.fixture
def draw(saved, tmp_path):
    """Runs the command and returns the directory that it wrote."""

    def run(*words, out="drawn"):
        assert main(["sample", saved, "--out", str(tmp_path / out), *map(str, words)]) == 0
        return tmp_path / out

    return run


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def names(directory):
    return sorted(file.name for file in directory.iterdir())


def read_record(directory):
    return json.loads((directory / "samples.json").read_text())


def grid_size(directory):
    width, height = Image.open(directory / "grid.png").size
    return (width + GAP) // CELL, (height + GAP) // CELL


def test_precision_and_compilation_are_recorded(draw, capsys):
    plain = draw("--count", 2)
    record = read_record(plain)
    assert (record["precision"], record["compiled"]) == ("float32", False)
    half = draw("--count", 2, "--precision", "bfloat16", out="half")
    assert read_record(half)["precision"] == "bfloat16"
    assert read_record(half)["transformer_hash"] != record["transformer_hash"]
    name = record["images"][0]["file"]
    assert not np.array_equal(pixels(plain / name), pixels(half / name))


def test_tiles_are_taken_and_recorded(draw, refused, saved):
    out = draw("--count", 2, "--tile", 4)  # as large as the map
    assert read_record(out)["tile"] == 4
    name = read_record(out)["images"][0]["file"]
    whole = draw("--count", 2, out="whole")
    assert abs(pixels(out / name) - pixels(whole / name)).max() <= 1
    assert "tile is 2; it must be from 4" in refused("sample", saved, "--tile", 2)
    assert "tile is -1; it must" in refused("sample", saved, "--tile", -1)


@pytest.mark.skipif(not can_compile(), reason="there is no C++ compiler")
def test_compiled_int8(draw, capsys):
    out = draw("--count", 3, "--precision", "int8", "--compile")
    record = read_record(out)
    assert (record["precision"], record["compiled"]) == ("int8", True)
    assert record["transformer_hash"] == read_record(draw(out="plain"))["transformer_hash"]
    assert "compiled in" in capsys.readouterr().err
    assert len(record["images"]) == 3


def test_all_classes_in_turn_one_image_each(draw, capsys):
    out = draw()
    assert names(out) == [
        "0000-Ankle-boot.png",
        "0001-bag.png",
        "0002-coat.png",
        "grid.png",
        "samples.json",
    ]
    assert grid_size(out) == (3, 1)
    said, progress = capsys.readouterr()
    assert progress == ""
    for part in ("3 images in ", " images/s; see "):
        assert part in said
    assert said.count("\n") == 1


def test_images_are_those_of_the_pipeline(draw, saved):
    out = draw("--count", 7, "--seed", 5, "--batch", 3, "--cfg", 1.5, "--top-k", 9)
    pipe = checkpoint.load(saved)
    expected = pipe.sample([0, 1, 2, 0, 1, 2, 0], seed=5, batch=3, cfg=1.5, top_k=9)
    record = read_record(out)["images"]
    for picture, entry in zip(expected, record, strict=True):
        assert np.array_equal(np.asarray(picture), pixels(out / entry["file"]))


def test_an_image_depends_neither_on_the_count_nor_on_the_batch(draw):
    few, many = draw("--count", 2, out="few"), draw("--count", 9, "--batch", 4, out="many")
    for name in ("0000-Ankle-boot.png", "0001-bag.png"):
        assert np.abs(pixels(few / name) - pixels(many / name)).max() <= 1


def test_labels_by_number_name_and_none(draw):
    out = draw("--labels", 2, "BAG", "none", "ankle boot", "--count", 6)
    drawn = [entry["label"] for entry in read_record(out)["images"]]
    assert drawn == [2, 1, None, 0, 2, 1]
    assert "0002-none.png" in names(out)
    assert grid_size(out) == (2, 4)  # a label a row


def test_the_record_repeats_the_draw(draw, saved):
    out = draw("--count", 4, "--seed", 3, "--temperature", 0.7, "--no-smooth", "--guidance", "off")
    record, pipe = read_record(out), checkpoint.load(saved)
    assert record["model"] == saved
    assert record["tokenizer_hash"] == pipe.config.tokenizer_hash
    assert record["transformer_hash"] == weights.hash_weights(pipe.model.state_dict())
    assert set(record["versions"]) == {"nextscale", "torch"}
    assert record["sampling"] == vars(SamplingConfig(temperature=0.7, guidance="off"))
    assert [entry["seed"] for entry in record["images"]] == [3, 4, 5, 6]
    repeated = pipe.sample(
        [entry["label"] for entry in record["images"]],
        seeds=[entry["seed"] for entry in record["images"]],
        batch=record["batch"],
        **record["sampling"],
    )
    for picture, entry in zip(repeated, record["images"], strict=True):
        assert np.array_equal(np.asarray(picture), pixels(out / entry["file"]))
    again = draw(
        *("--count", 4, "--seed", 3, "--temperature", 0.7, "--guidance", "off"), out="again"
    )
    for name in names(out):
        assert (out / name).read_bytes() == (again / name).read_bytes()


def test_a_fresh_seed_is_printed_and_recorded(draw, capsys):
    first = read_record(draw("--count", 2, "--seed", "random"))
    said = capsys.readouterr().err
    assert f"--seed {first['seed']} repeats this" in said
    assert [entry["seed"] for entry in first["images"]] == [first["seed"], first["seed"] + 1]
    again = read_record(draw("--count", 2, "--seed", "random", out="again"))
    assert again["seed"] != first["seed"]


def test_options_not_given_are_the_configuration_s(pipe, tmp_path):
    sampling = SamplingConfig(cfg=2.0, top_k=5, smooth=True)
    config = replace(pipe.config, sampling=sampling)
    checkpoint.save(Pipeline(pipe.tokenizer, pipe.model, config), tmp_path / "model")
    out = tmp_path / "out"
    main(["sample", str(tmp_path / "model"), "--top-k", "3", "--no-smooth", "--out", str(out)])
    assert read_record(out)["sampling"] == vars(SamplingConfig(cfg=2.0, top_k=3))


def test_names_with_zeros_need_quotes_in_a_file(pipe, refused, tmp_path) -> None:
    named = Pipeline(pipe.tokenizer, pipe.model, replace(pipe.config, labels=("007", "010", "011")))
    checkpoint.save(named, tmp_path / "model")
    (tmp_path / "options.yaml").write_text("labels: [010]\n")
    words = ["--config", tmp_path / "options.yaml", "--out", tmp_path / "out"]
    assert "stands without quotes" in refused("sample", tmp_path / "model", *words)
    (tmp_path / "options.yaml").write_text("labels: ['010']\n")
    assert main(list(map(str, ["sample", tmp_path / "model", *words]))) == 0
    record = json.loads((tmp_path / "out" / "samples.json").read_text())["images"]
    assert [entry["name"] for entry in record] == ["010"]


def test_options_come_from_a_file_too(draw, tmp_path):
    (tmp_path / "options.yaml").write_text("count: 5\nlabels: [1, none]\nguidance: constant\n")
    record = read_record(draw("--config", tmp_path / "options.yaml", "--count", 3))
    assert [entry["name"] for entry in record["images"]] == ["bag", "none", "bag"]
    assert record["sampling"]["guidance"] == "constant"


def test_the_growing_grid_ends_as_the_grid(draw):
    out = draw("--count", 6, "--batch", 4, "--grow", "--seed", 2)
    with Image.open(out / "growing.gif") as animation:
        assert animation.n_frames == 3  # scales
        shown = []
        for frame in range(animation.n_frames):
            animation.seek(frame)
            shown.append(np.asarray(animation.convert("L")).astype(int))
    assert np.array_equal(shown[-1], pixels(out / "grid.png"))
    assert not np.array_equal(shown[0], shown[-1])
    plain = draw("--count", 6, "--batch", 4, "--seed", 2, out="plain")
    assert (plain / "grid.png").read_bytes() == (out / "grid.png").read_bytes()


def test_the_grid_is_sorted_by_label(draw):
    out = draw("--labels", 2, 0, "--count", 5)
    whole, record = pixels(out / "grid.png"), read_record(out)["images"]
    assert grid_size(out) == (3, 2)
    for j, i in enumerate([1, 3]):  # label 0 is drawn second
        cell = whole[0:32:4, j * CELL : j * CELL + 32 : 4]
        assert np.array_equal(cell, pixels(out / record[i]["file"]))
    assert (whole[:32, 2 * CELL :] == 255).all()


@pytest.mark.parametrize(
    ("labels", "columns", "rows"),
    [
        ([0, 1, 2], None, [[0, 1, 2]]),
        ([2, 0, 2, 0, 2], None, [[1, 3], [0, 2, 4]]),
        ([2, 0, 2, 0, 2], 2, [[1, 3], [0, 2], [4]]),
        ([2, 0, 2, 0, 2], 3, [[1, 3, 0], [2, 4]]),
        ([0, 1, 0, 1, 0, 1], 4, [[0, 2, 4, 1], [3, 5]]),
        ([0, 1, 0, 1], 9, [[0, 2, 1, 3]]),
        ([1, 1, 1], 2, [[0, 1], [2]]),
        ([2, 1, 0], 2, [[2, 1], [0]]),
    ],
)
def test_rows_of_the_grid(labels, columns, rows):
    assert grid_rows(labels, columns) == rows


def test_a_hundred_of_ten_classes_make_ten_rows_of_ten():
    rows = grid_rows([i % 10 for i in range(100)], None)
    assert [len(row) for row in rows] == [10] * 10
    assert rows[3] == list(range(3, 100, 10))
    wide = grid_rows([i % 2 for i in range(100)], None)
    assert [len(row) for row in wide] == [20, 20, 10] * 2


def test_of_many_classes_a_few_are_drawn_by_the_seed(make_model, tokenizer):
    model = make_model(tokenizer, classes=40)
    pipe = Pipeline(tokenizer, model, ModelConfig(tokenizer.config, model.config))
    few, many, others = (
        choose_wanted(pipe, None, count, seed).tolist()
        for count, seed in ((None, 0), (100, 0), (None, 1))
    )
    assert len(set(few)) == 8
    assert few == many[:8]
    assert few != others
    spread = Counter(many)
    assert len(spread) == 40
    assert set(spread.values()) == {2, 3}


def test_an_unconditional_model_draws_none(make_model, tokenizer, tmp_path):
    model = make_model(tokenizer, classes=0)
    config = ModelConfig(tokenizer.config, model.config)
    checkpoint.save(Pipeline(tokenizer, model, config), tmp_path / "free")
    out = tmp_path / "out"
    assert main(["sample", str(tmp_path / "free"), "--count", "12", "--out", str(out)]) == 0
    assert names(out)[:2] == ["0000-none.png", "0001-none.png"]
    assert grid_size(out) == (4, 3)
    assert {entry["label"] for entry in read_record(out)["images"]} == {None}


def test_names_of_files_are_safe(make_model, pipe, tmp_path):
    labels = ("T-shirt/top", "../..", "ü" * 99)
    config = replace(pipe.config, labels=labels)
    checkpoint.save(Pipeline(pipe.tokenizer, pipe.model, config), tmp_path / "model")
    out = tmp_path / "out"
    assert main(["sample", str(tmp_path / "model"), "--out", str(out)]) == 0
    assert names(out)[:3] == ["0000-T-shirt-top.png", "0001-1.png", f"0002-{'ü' * 40}.png"]


def test_the_surest_images_are_kept(draw, saved, monkeypatch):
    def dark(name, pipe):
        return lambda images: -images.mean((1, 2, 3))[:, None].expand(-1, 3)

    monkeypatch.setattr("nextscale.judges.classifiers.load_judge", dark)
    kept = draw("--count", 3, "--keep", 0.5, "--classifier", "dark", out="kept")
    every = draw("--labels", 0, 0, 1, 1, 2, 2, "--count", 6, out="every")
    record = read_record(kept)
    assert (record["keep"], record["classifier"]) == (0.5, "dark")
    drawn = [pixels(every / entry["file"]) for entry in read_record(every)["images"]]
    for i, entry in enumerate(record["images"]):
        pair = drawn[2 * i : 2 * i + 2]
        darkest = min((0, 1), key=lambda j: pair[j].mean())
        assert entry["seed"] == 2 * i + darkest
        assert np.abs(pixels(kept / entry["file"]) - pair[darkest]).max() <= 1


def test_other_files_stay_and_those_of_the_same_name_are_replaced(draw, tmp_path):
    out = tmp_path / "drawn"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "grid.png").write_text("old")
    draw()
    assert (out / "notes.txt").read_text() == "mine"
    assert Image.open(out / "grid.png").format == "PNG"
    assert not [name for name in names(out) if name.startswith(".")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labels", "hat"], "unknown label 'hat'; the model knows Ankle boot, bag, coat"),
        (["--labels", "0", "3"], "label 3 is out of range; the model knows 0 to 2 and none"),
        (["--labels", "-1"], "-1"),
        (["--count", "0"], "--count is 0; it must be from 1"),
        (["--batch", "0"], "--batch is 0; it must be from 1"),
        (["--grid-columns", "0"], "--grid-columns is 0; it must be from 1"),
        (["--seed", "-1"], "--seed is -1; it must be from 0"),
        (["--seed", str(2**63 - 1)], "--seed is"),
        (["--top-k", "17"], "top_k is 17; it must be from 0 (off) to 16 codes"),
        (["--top-p", "1.5"], "top_p is 1.5"),
        (["--temperature", "0"], "temperature is 0.0; it must be from 1e-06"),
        (["--cfg", "-1"], "cfg is -1.0"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
        (["--device", "meta"], "device 'meta' cannot be used"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(refused, saved, tmp_path, words, said):
    out = tmp_path / "out"
    assert said in refused("sample", saved, "--out", out, *words)
    assert not out.exists()


def test_keeping_without_a_judge_is_refused(refused, saved):
    assert "--keep needs a classifier" in refused("sample", saved, "--keep", 0.5)
    judged = ("sample", saved, "--keep", 0.5, "--classifier", "nobody")
    assert "unknown classifier 'nobody'" in refused(*judged)
    said = refused("sample", saved, "--keep", 0.5, "--classifier", "fashion-mnist")
    assert "judges images of 1 channels and 28 pixels; the model draws 1 and 8" in said


def test_bad_models_are_refused(refused, tokenizer, saved, tmp_path):
    out = tmp_path / "out"
    assert "nothing is known as 'unheard'" in refused("sample", "unheard", "--out", out)
    alone = Pipeline(tokenizer, None, ModelConfig(tokenizer.config))
    checkpoint.save(alone, tmp_path / "alone")
    assert "a tokenizer alone" in refused("sample", tmp_path / "alone", "--out", out)
    (tmp_path / "foreign").mkdir()
    assert "is no checkpoint" in refused("sample", tmp_path / "foreign", "--out", out)
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_refused_before_drawing(refused, saved, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file" in refused("sample", "unheard", "--out", tmp_path / "file")
    assert "is a file" in refused("sample", "unheard", "--out", tmp_path / "file" / "below")
    (tmp_path / "out" / "grid.png").mkdir(parents=True)
    assert "grid.png cannot be written" in refused("sample", saved, "--out", tmp_path / "out")


def test_drawing_needs_nothing_of_training(saved, tmp_path):
    code = (
        "import sys; from nextscale.cli.main import main; main(sys.argv[1:]);"
        "bad = ('torchvision', 'accelerate', 'scipy', 'torch._dynamo', 'sympy');"
        "sys.exit(' '.join(m for m in bad if m in sys.modules) or 0)"
    )
    words = ["sample", saved, "--grow", "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_largest_seed_is_a_seed(draw):
    record = read_record(draw("--labels", "bag", "--seed", LARGEST_SEED))
    assert [entry["seed"] for entry in record["images"]] == [LARGEST_SEED]
