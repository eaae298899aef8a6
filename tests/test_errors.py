"""Messages show what stands in names; they never let a terminal obey it."""

import os

import pytest

from nextscale.cli.main import main
from nextscale.errors import UsageError, check_keywords, did_you_mean, escaped, unknown


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("über 日本 👩‍🚀 é", "über 日本 👩‍🚀 é"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\rd", "a\\x0ab\\x09c\\x0dd"),
        ("\x9b31m\x7f\0", "\\x9b31m\\x7f\\x00"),
        ("gnp.\u202eexe", "gnp.\\u202eexe"),
        ("\u2066x\u2069\u200f", "\\u2066x\\u2069\\u200f"),
        ("a\u2028b", "a\\u2028b"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("\ud800", "\\ud800"),
    ],
)
def test_controls_are_shown(text: str, seen: str) -> None:
    assert escaped(text) == seen


def test_errors_of_the_command_line_are_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tokenizer", "--out", "x", "--data.path", "no\x1b]0;x\x07\nwhere"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "\\x1b]0;x\\x07" in line


def test_a_mistyped_name_is_guessed_whatever_its_case():
    known = ("Ankle boot", "bag", "coat")
    assert did_you_mean("ankel BOOT", known) == "; did you mean 'Ankle boot'?"
    assert did_you_mean("trousers", known) == ""
    assert did_you_mean(3, known) == ""


def test_an_unknown_name_is_told_with_what_may_be_given():
    assert str(unknown("preset", "d99", ["small"])) == "unknown preset 'd99'; known: small"
    said = str(unknown("model", "smal", ["small"], "give a name"))
    assert said == "unknown model 'smal'; did you mean 'small'? give a name"


def test_keywords_of_several_functions():
    def outer(image, *, rule, **drawing): ...

    def inner(*, cfg=0, labels=(), constrain=None): ...

    check_keywords({"rule": 1, "cfg": 2}, outer, inner)
    for name in ("image", "drawing", "labels"):
        with pytest.raises(UsageError, match=f"unknown option '{name}'.* rule, cfg, constrain$"):
            check_keywords([name], outer, inner, hidden=("labels",))
