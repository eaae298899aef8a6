"""Dataclasses to options and back: dashes, lists, switches, files, presets, and one-line errors."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

import pytest

from nextscale.config.architecture import TransformerConfig
from nextscale.config.presets import TOKENIZERS, TRANSFORMERS
from nextscale.config.run import ClassifierTraining, TokenizerTraining, VarTraining
from nextscale.console.options import (
    Parser,
    Stop,
    add_config,
    add_dataclass,
    from_options,
    parser_for,
)
from nextscale.errors import UsageError
from nextscale.training.command import THEMES, add_presets, add_training_arguments


@dataclass(frozen=True)
class Inner:
    """A part.

    Attributes:
        long_name: of the part; it goes
            over two lines.
    """

    long_name: str = ""


@dataclass(frozen=True)
class Outer:
    """A whole.

    Attributes:
        rate, share: two in 100 % of cases.
        sides: a list.
        quick: without detours.
    """

    rate: float = 0.5
    share: float = 1.0
    sides: tuple[int, ...] = (1, 2)
    quick: bool = False
    careful: bool = True
    kind: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)


@pytest.fixture
def parser() -> Parser:
    parser = parser_for("nextscale try", "tries options")
    add_config(parser)
    add_dataclass(parser, Outer)
    return parser


def parsed(parser: Parser, line: str) -> Outer:
    return from_options(Outer, parser.parse(line.split()))


def test_nothing_given_is_the_default(parser: Parser) -> None:
    assert parsed(parser, "") == Outer()


def test_dashes_lists_and_switches(parser: Parser) -> None:
    line = "--rate 2 --sides 1 8 9 --quick --no-careful --kind b --inner.long-name x"
    assert parsed(parser, line) == Outer(2.0, 1.0, (1, 8, 9), True, False, "b", Inner("x"))
    assert parsed(parser, "--inner.long-name=x --rate=3").rate == 3


def test_a_file_gives_defaults_that_later_options_override(parser: Parser, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("rate: 3\nsides: [4, 5]\nquick: true\ninner:\n  long_name: from file\n")
    given = parsed(parser, f"--config {file} --sides 7 --inner.long-name line")
    assert given == Outer(rate=3.0, sides=(7,), quick=True, inner=Inner("line"))
    assert not from_options(Outer, parser.parse(["--config", str(file), "--no-quick"])).quick


def test_later_files_override_earlier_ones(parser: Parser, tmp_path: Path) -> None:
    for name, text in (("a", "rate: 1\nshare: 2\n"), ("b", "rate: 3\n")):
        (tmp_path / name).write_text(text)
    given = parsed(parser, f"--config {tmp_path / 'a'} --config {tmp_path / 'b'}")
    assert (given.rate, given.share) == (3, 2)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--rate much", "rate"),
        ("--sides 1 two", "sides"),
        ("--kind c", "kind"),
        ("--unknown 1", "unrecognized arguments: --unknown 1; "),
        ("--inner.nothing 1", "nothing"),
        ("--rat 1", "--rat 1; did you mean '--rate'\\? "),
        ("--inner.longname x", "did you mean '--inner.long-name'"),
        ("stray", "stray"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(line: str, told: str, parser: Parser) -> None:
    with pytest.raises(UsageError, match=told) as error:
        parser.parse(line.split())
    assert "\n" not in str(error.value)
    assert "`nextscale try --help` shows the options" in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rates: 3\n", "rates"),
        ("rate: much\n", "rate"),
        ("rate: [\n", r"run\.yaml is no YAML file"),
        ("- 1\n", r"run\.yaml holds \[1\]; a table of options is needed"),
        ("", r"run\.yaml holds nothing; a table"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(
    text: str, told: str, parser: Parser, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(UsageError, match=told) as error:
        parser.parse(["--config", str(tmp_path / "run.yaml")])
    assert "\n" not in str(error.value)


def test_help_tells_defaults_and_the_docstring(
    parser: Parser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Stop) as stop:
        parser.parse(["--help"])
    assert stop.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "two in 100 % of cases. [0.5]" in told
    assert "a list. [1 2]" in told
    assert "of the part; it goes over two lines. [none]" in told
    assert "--quick, --no-quick without detours. [off]" in told
    assert "default:" not in told
    assert "type:" not in told


def test_the_help_of_a_training_shows_no_code(capsys: pytest.CaptureFixture[str]) -> None:
    parser = parser_for("nextscale train", "trains")
    add_presets(parser, TOKENIZERS, "tokenizer")
    add_training_arguments(parser, TokenizerTraining)
    with pytest.raises(Stop):
        parser.parse(["--preset", "fashion-mnist", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "the last is the size of the feature map. [1x1 " in told
    assert not any(word in told for word in ("<function", "Literal", "null", "(1, 1)"))


@pytest.mark.parametrize(
    ("kind", "presets", "at", "name"),
    [
        (TokenizerTraining, TOKENIZERS, "tokenizer", "fashion-mnist"),
        (VarTraining, TRANSFORMERS, "model", "d36-512"),
    ],
)
@pytest.mark.parametrize("word", ["--preset {}", "--preset={}"])
def test_presets_are_defaults(kind, presets, at: str, name: str, word: str) -> None:
    parser = parser_for("nextscale train", "trains")
    add_presets(parser, presets, at)
    add_training_arguments(parser, kind)
    run = from_options(kind, parser.parse([*word.format(name).split(), "--epochs", "3"]))
    assert getattr(run, at) == presets[name]
    assert run.epochs == 3
    field = {"tokenizer": "codes", "model": "classes"}[at]
    words = [f"--{at}.{field}", "7", *word.format(name).split()]  # the order does not matter
    changed = getattr(from_options(kind, parser.parse(words)), at)
    assert getattr(changed, field) == 7
    assert changed != presets[name]


def test_an_unknown_preset_tells_the_known_ones() -> None:
    parser = parser_for("nextscale train", "trains")
    add_presets(parser, TOKENIZERS, "tokenizer")
    add_training_arguments(parser, TokenizerTraining)
    for words in (["--preset", "big"], ["--preset=big"], ["--preset"]):
        with pytest.raises(UsageError, match=r"unknown preset '(big)?'; known: released-256"):
            parser.parse(words)


def test_a_preset_that_is_mistyped_is_guessed() -> None:
    parser = parser_for("nextscale train", "trains")
    add_presets(parser, TRANSFORMERS, "model")
    with pytest.raises(UsageError, match="unknown preset 'd36'; did you mean 'd36-512'"):
        parser.parse(["--preset", "d36"])


def test_the_help_of_a_long_command_is_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    parser = parser_for("nextscale train", "trains")
    parser.add_argument("where", nargs="+")
    add_training_arguments(parser, VarTraining)
    with pytest.raises(Stop):
        parser.parse(["--help"])
    told = capsys.readouterr().out
    assert told.startswith("usage: nextscale train [options] where [where ...]\n")
    parts = {part.split(":")[0]: part for part in told.split("\n\n") if "  --" in part}
    titles = {"options", "data", "model", "sampling", *THEMES}
    found = {line[:-1] for line in told.splitlines() if line.endswith(":") and line[0] != " "}
    assert titles <= found
    assert "--learning-rate" in parts["optimisation"]
    assert "--warmup-epochs" in parts["schedule"]
    assert "--keep" in parts["output"]
    assert "--out" in parts["options"]
    assert max(part.count("\n  --") for part in parts.values()) <= 12


def test_groups_of_the_help_name_fields_that_exist() -> None:
    kinds = (TokenizerTraining, VarTraining, ClassifierTraining)
    known = {item.name for kind in kinds for item in fields(kind)}
    known |= {f"model.{item.name}" for item in fields(TransformerConfig)}
    named = " ".join(THEMES.values()).split()
    assert set(named) <= known
    assert len(named) == len(set(named))


def test_a_preset_may_stand_in_a_file_and_the_line_goes_before_it(tmp_path: Path) -> None:
    parser = parser_for("nextscale train", "trains")
    add_presets(parser, TOKENIZERS, "tokenizer")
    add_training_arguments(parser, TokenizerTraining)
    file = tmp_path / "run.yaml"
    file.write_text("preset: small-64\ntokenizer:\n  codes: 7\n")
    words = ["--config", str(file)]
    found = from_options(TokenizerTraining, parser.parse(words)).tokenizer
    assert found == replace(TOKENIZERS["small-64"], codes=7)
    words += ["--preset", "fashion-mnist"]
    found = from_options(TokenizerTraining, parser.parse(words)).tokenizer
    assert found == replace(TOKENIZERS["fashion-mnist"], codes=7)
    file.write_text("preset: big\n")
    with pytest.raises(UsageError, match="unknown preset 'big'"):
        parser.parse(["--config", str(file)])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rate: null", "rate is null; give a value"),
        ("inner: [1]", r"inner is \[1\]; a table"),
        ("inner: 5", "inner is 5; a table"),
        ("inner: null", "inner is null; a table"),
        ('inner: {long_name: "a\\0b"}', r"--inner.long-name is 'a\\x00b'; it holds a NUL"),
        ("rates: 1", "rates"),
        ("{", "parsing"),
        ("rate: 1\x00\udcff", "utf-8"),
    ],
)
def test_a_file_of_the_wrong_kind_is_one_line(parser: Parser, text: str, told: str, tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=told):
        from_options(Outer, parser.parse(["--config", str(file)]))


def test_scales_are_sides_or_pairs_on_the_line_and_in_a_file(tmp_path: Path) -> None:
    parser = parser_for("nextscale train", "trains")
    add_presets(parser, TOKENIZERS, "tokenizer")
    add_training_arguments(parser, TokenizerTraining)

    def scales(*words: str) -> object:
        return from_options(TokenizerTraining, parser.parse(words)).tokenizer.scales

    assert scales("--tokenizer.scales", "1", "2x3", "4") == ((1, 1), (2, 3), (4, 4))
    file = tmp_path / "run.yaml"
    file.write_text("tokenizer:\n  scales: [1, [2, 3], 4]\n")
    assert scales("--config", str(file)) == ((1, 1), (2, 3), (4, 4))
    file.write_text("tokenizer:\n  scales: [1, 2x3, 4]\n")
    assert scales("--config", str(file)) == ((1, 1), (2, 3), (4, 4))
    with pytest.raises(UsageError, match="shrink"):
        scales("--tokenizer.scales", "1", "3", "2")


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 10, "accumulation": 4},
        {"epochs": 0},
        {"learning_rate": 0},
        {"ema": 1.0},
        {"keep": 0},
    ],
)
def test_values_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        VarTraining(**wrong)  # pyright: ignore[reportArgumentType]
