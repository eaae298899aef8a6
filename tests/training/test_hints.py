"""Every hint: when it is given, when not, and that the options it names exist."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from nextscale.config.run import ClassifierTraining, TokenizerTraining, VarTraining
from nextscale.console.options import add_dataclass, parser_for
from nextscale.training import hints
from nextscale.training.history import Entry, History

OPTIONS = {
    "batch_size": 128, "epochs": 10.0, "data.flip": False, "data.augment": "plain", "ema": 0.0,
    "patience": 0, "clip": 2.0, "learning_rate": 1e-4, "validation_images": 0,
    "tokenizer.codes": 100, "tokenizer.scales": [[1, 1], [2, 2]], "loss.revive_every": 0,
    "model.drop_path": 0.0,
}  # fmt: skip


def validations(values: list[float], **more: Any) -> tuple[Entry, ...]:
    return tuple({"step": i, "loss": value, **more} for i, value in enumerate(values))


def clipped_steps(norm: float) -> tuple[Entry, ...]:
    return tuple({"step": i, "gradient_norm": norm} for i in range(10))


def told(hint: Callable[[History], str], options: Entry | None = None, **parts: Any) -> str:
    return hint(History(OPTIONS | dict(options or {}), **parts))


GIVEN = {
    "few_steps": (
        {"start": {"steps_in_epoch": 13, "steps": 130}},
        "13 steps an epoch, 130 in all: give a smaller --batch-size than 128 or more --epochs",
    ),
    "rising": (
        {"validations": validations([3, 1, 2, 3, 4])},
        "validation loss rose for 3 validations, it was best at step 1 (1): try --data.flip",
    ),
    "still_falling": (
        {"validations": validations([4, 3, 2, 1]), "finished": {"step": 3}},
        "still fell by 50% at the end: give more --epochs",
    ),
    "unused_codes": (
        {"validations": validations([1], code_use=[0.03, 0.5], images=100)},
        "scale 1 uses 3.0% of codes: try --loss.revive-every",
    ),
    "knows_little": (
        {"validations": validations([1, 1, 1], loss_over_unigram=0.99)},
        "99% of what the tokens' frequencies alone give",
    ),
    "single_code": (
        {"validations": validations([1], unigram_entropy=0.0)},
        "all validation tokens are one code",
    ),
    "clipped": ({"steps": clipped_steps(5.0)}, "5, is clipped to 2 nearly always: try a lower"),
    "imbalance": (
        {"start": {"fewest": ["boot", 3], "most": ["bag", 900]}},
        "the class bag has 900 images, boot has 3",
    ),
    "few_validation_images": (
        {"validations": validations([1], images=12)},
        "validations look at 12 images",
    ),
    "skipped_files": (
        {"steps": ({"step": 1, "skipped_files": 2}, {"step": 2, "skipped_files": 7})},
        "7 files could not be read: --data.strict",
    ),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_hint_is_given(name: str) -> None:
    parts, line = GIVEN[name]
    assert line in told(getattr(hints, name), **parts)


def test_every_hint_is_tested_and_used() -> None:
    assert {hint.__name__ for hint in hints.HINTS} == GIVEN.keys()
    assert hints.hints(History(OPTIONS)) == []
    assert hints.hints(History()) == []


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("few_steps", {"start": {"steps_in_epoch": 13, "steps": 5000}}),
        ("few_steps", {"start": {"steps_in_epoch": 60, "steps": 130}}),
        ("rising", {"validations": validations([3, 1, 2, 3])}),
        ("rising", {"validations": validations([1, 2, 3, 4, 0.5])}),
        ("still_falling", {"validations": validations([4, 3, 2, 1])}),
        ("still_falling", {"validations": validations([4, 3, 3, 1]), "finished": {"step": 3}}),
        ("unused_codes", {"validations": validations([1], code_use=[0.03, 0.5], images=10)}),
        ("unused_codes", {"validations": validations([1], code_use="all", images=100)}),
        ("unused_codes", {"validations": validations([1], code_use=[0.0, 0.5], images=20)}),
        ("knows_little", {"validations": validations([1, 1, 1], loss_over_unigram=0.9)}),
        ("clipped", {"steps": clipped_steps(1.9)}),
        ("clipped", {"steps": clipped_steps(5.0)[1:]}),
        ("imbalance", {"start": {"fewest": ["boot", 100], "most": ["bag", 900]}}),
        ("few_validation_images", {"validations": validations([1], images=50)}),
    ],
)
def test_a_hint_is_not_given(name: str, parts: dict[str, Any]) -> None:
    assert told(getattr(hints, name), **parts) == ""


def test_what_is_on_already_is_not_advised() -> None:
    parts = GIVEN["rising"][0]
    on = {"data.flip": True, "data.augment": "shift", "ema": 0.9, "patience": 5}
    assert "--model.drop-path, a smaller network" in told(hints.rising, on, **parts)
    assert "--patience" not in told(hints.rising, on, **parts)
    line = told(hints.unused_codes, {"loss.revive_every": 9}, **GIVEN["unused_codes"][0])
    assert line.endswith("try fewer --tokenizer.codes than 100")
    line = told(
        hints.few_validation_images, {"validation_images": 12}, **GIVEN["few_validation_images"][0]
    )
    assert "--validation-images" in line
    all_of_them = {"start": {"held_out": 12}, **GIVEN["few_validation_images"][0]}
    line = told(hints.few_validation_images, {"validation_images": 12}, **all_of_them)
    assert line.endswith("give a val/ folder or a larger --data.validation")


def test_the_options_exist() -> None:
    known: set[str] = set()
    for kind in (TokenizerTraining, VarTraining, ClassifierTraining):
        parser = parser_for("any", "")
        add_dataclass(parser, kind)
        known |= {option for action in parser._actions for option in action.option_strings}
    lines = [told(getattr(hints, name), **parts) for name, (parts, _) in GIVEN.items()]
    named = {option for line in lines for option in re.findall(r"--[a-z.-]+[a-z]", line)}
    assert len(named) > 8
    assert named <= known
