"""Text is a name first and a number only if no class has that name, wherever labels are read."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nextscale.app.store import Store
from nextscale.app.studio import Studio
from nextscale.checkpoints import checkpoint
from nextscale.cli.main import main
from nextscale.config.model import ModelConfig
from nextscale.errors import UsageError
from nextscale.models.labels import label_name, label_number
from nextscale.pipeline import Pipeline

NUMBERED = tuple(sorted(map(str, range(200))))  # as folders are sorted: 0, 1, 10, 100, 101 …
PADDED = tuple(f"{i:03d}" for i in range(1, 201))


@pytest.mark.parametrize(
    ("names", "label", "number"),
    [
        (NUMBERED, "2", NUMBERED.index("2")),
        (NUMBERED, 2, 2),
        (NUMBERED, np.int64(2), 2),
        (NUMBERED, torch.tensor(2), 2),
        (PADDED, "007", 6),
        (("bag", "007"), "007", 1),
        (("bag", "coat"), "1", 1),
        (("bag", "coat"), " COAT ", 1),
        (("bag", "coat"), "None", 2),
        (("bag", "coat"), "", 2),
        (("bag", "coat"), None, 2),
        (("bag", "none"), "none", 1),
        (("bag", "None"), "none", 1),
        (("bag", "none"), "", 2),
        (("bag", "none"), None, 2),
        (("Cat", "cat"), "Cat", 0),
        (("Cat", "cat"), "cat", 1),
        (("cat ", "cat"), "cat ", 0),
        (("-1", "bag"), "-1", 0),
        ((), "2", 2),
    ],
)
def test_a_label_is_read_by_name_then_by_number(names, label, number) -> None:
    assert label_number(label, names, len(names) or 3) == number


@pytest.mark.parametrize(
    ("names", "label", "said"),
    [
        (("Cat", "cat"), "CAT", r"'CAT' may be 'Cat' \(number 0\), 'cat' \(number 1\)"),
        (("cat", "cat"), "cat", r"may be 'cat' \(number 0\), 'cat' \(number 1\)"),
        (("cat ", " cat"), "cat", r"may be 'cat ' \(number 0\), ' cat'"),
        (PADDED, "7", r"'7' may be the class '007' or number 7, '008'"),
        (PADDED, "200", None),
        (("bag",), "hat", "unknown label 'hat'; the model knows bag"),
        (("bag",), "1", "label 1 is out of range; the model knows 0 and none"),
        (("bag",), "-1", "label -1 is out of range"),
        (("bag",), -1, "label -1 is out of range"),
        (("bag",), np.int32(2), "label 2 is out of range"),
        (("bag",), "²", "unknown label '²'"),
        (("bag",), "9" * 5000, "unknown label '9"),
        (("bag",), True, "label True is neither text nor an integer"),
        (("bag",), np.bool_(True), "neither text nor an integer"),
        (("bag",), 1.0, "label 1.0 is neither text nor an integer"),
    ],
)
def test_what_names_no_class_or_several_is_refused(names, label, said) -> None:
    if said is None:
        assert label_number(label, names, len(names)) == 199
        return
    with pytest.raises(UsageError, match=said):
        label_number(label, names, len(names))


@pytest.mark.parametrize("names", [NUMBERED, PADDED, ("none", "Cat", "cat", "cat "), ()])
def test_a_number_s_name_is_read_as_that_number(names) -> None:
    classes = len(names) or 3
    for number in range(classes + 1):
        assert label_number(label_name(number, names, classes), names, classes) == number


@pytest.fixture(scope="module")
def numbered(tokenizer, make_model) -> Pipeline:
    """A model of 200 classes whose names are other numbers than theirs."""
    model = make_model(tokenizer, classes=200)
    return Pipeline(tokenizer, model, ModelConfig(tokenizer.config, model.config, labels=NUMBERED))


def test_200_numbered_classes_are_drawn_by_name_everywhere(numbered, tmp_path) -> None:
    names = ["2", "10", "11", *random.Random(0).sample(NUMBERED, 5)]
    numbers = [NUMBERED.index(name) for name in names]
    assert numbers != list(map(int, names))
    wanted = numbered.sample(numbers, seed=3)
    assert [p.tobytes() for p in numbered.sample(names, seed=3)] == [p.tobytes() for p in wanted]
    model, out = str(tmp_path / "model"), tmp_path / "out"
    checkpoint.save(numbered, model)
    assert main(["sample", model, "--seed", "3", "--out", str(out), "--labels", *names]) == 0
    record = json.loads((out / "samples.json").read_text())["images"]
    assert [(entry["label"], entry["name"]) for entry in record] == [
        *zip(numbers, names, strict=True)
    ]
    for entry, picture in zip(record, wanted, strict=True):
        assert Image.open(out / entry["file"]).tobytes() == picture.tobytes()

    (tmp_path / "options.yaml").write_text(f"labels: [{', '.join(names)}]\n")
    words = ["--config", str(tmp_path / "options.yaml"), "--out", str(tmp_path / "file")]
    assert main(["sample", model, "--seed", "3", *words]) == 0
    again = json.loads((tmp_path / "file" / "samples.json").read_text())["images"]
    assert again == record

    image, box = out / record[0]["file"], (0, 0, 4, 8)
    (edit,) = numbered.edit(Image.open(image), box, numbers[1], seed=5)
    words = [
        "--label",
        names[1],
        "--box",
        *map(str, box),
        "--seed",
        "5",
        "--out",
        str(tmp_path / "e"),
    ]
    assert main(["edit", "class", model, str(image), *words]) == 0
    assert json.loads((tmp_path / "e" / "edits.json").read_text())["labels"] == [numbers[1]]
    (written,) = (tmp_path / "e").glob("*-class-1.png")
    assert Image.open(written).tobytes() == edit.tobytes()
    picture = Image.open(image)
    assert numbered.log_likelihood(picture, names[1]) == numbered.log_likelihood(
        picture, numbers[1]
    )

    (page := tmp_path / "page").mkdir()
    studio = Studio(numbered, model, Store(page))
    assert [studio.label(name) for name in names] == numbers
    assert studio.classes() == [*NUMBERED, "none"]
    *_, shown = studio.draw(names, len(names), 3, {})
    assert [p.tobytes() for p in shown.pictures] == [p.tobytes() for p in wanted]


def test_a_class_called_none_can_be_drawn_and_no_class_too(pipe, tmp_path) -> None:
    named = Pipeline(pipe.tokenizer, pipe.model, replace(pipe.config, labels=("none", "a", "b")))
    checkpoint.save(named, tmp_path / "model")
    words = ["sample", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    assert main([*words, "--labels", "none", "", "a"]) == 0
    record = json.loads((tmp_path / "out" / "samples.json").read_text())["images"]
    assert [(entry["label"], entry["name"]) for entry in record] == [
        (0, "none"),
        (None, ""),
        (1, "a"),
    ]
    assert Studio(named, "model", Store(tmp_path)).classes() == ["none", "a", "b", ""]
