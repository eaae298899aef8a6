"""What the parser says is said again in the words of this command line."""

from pathlib import Path

import pytest

from nextscale.cli.main import main


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--batch-size x", "--batch-size is x; a whole number is needed"),
        ("--epochs x", "--epochs is x; a number is needed"),
        ("--schedule foo", "--schedule is foo; it can be linear, cosine or constant"),
        ("--betas a b", "--betas, value 1, is a; a number is needed"),
        ("--tokenizer.multipliers 1 2.5", "--tokenizer.multipliers, value 2, is 2.5; a whole"),
        ("--seed 99999999999999999999999", "seed is 99999999999999999999999; it must be from 0"),
    ],
)
def test_a_wrong_value(line: str, told: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tokenizer", "--out", "nowhere", *line.split()]) == 2
    (said,) = capfd.readouterr().err.splitlines()
    assert told in said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sampling:\n  guidance: off\n", "linear, constant or off (in YAML with quotes: 'off')"),
        ("batch_sise: 3\n", "unknown configuration key batch_sise"),
        ("model:\n  dept: 3\n", "unknown configuration key model.dept"),
        ("batch_size: many\n", "--batch-size is many; a whole number is needed"),
    ],
)
def test_a_wrong_file(
    text: str, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(text)
    assert main(["train", "var", "--config", str(tmp_path / "run.yaml")]) == 2
    (said,) = capfd.readouterr().err.splitlines()
    assert told in said
