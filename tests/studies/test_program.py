"""`python -m studies`: the table of studies, their help, and bad names."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from studies.__main__ import PROGRAM, STUDIES, main

ROOT = Path(__file__).parents[2]


def test_the_overview_names_every_study() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "studies"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert all(f"  {name} " in done.stdout for name in STUDIES)


@pytest.mark.parametrize("name", STUDIES)
def test_the_help_of_a_study(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert f"usage: python -m studies {name} " in said
    assert STUDIES[name][1] in " ".join(said.split())


def test_a_bad_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grwoth"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("studies: error: unknown command 'grwoth'; did you mean 'growth'?")


def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        import_module("package_that_nobody_has")

    monkeypatch.setattr(type(PROGRAM), "command", lambda *_: missing(""))
    assert main(["tiles"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("studies: error: package_that_nobody_has is not installed; `pip install")


def test_studies_do_not_know_the_command_line() -> None:
    for file in (ROOT / "studies").rglob("*.py"):
        assert "nextscale.cli" not in file.read_text(), file
