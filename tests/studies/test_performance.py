"""The page of performance is made of what the commands print."""

from pathlib import Path

import pytest

from nextscale.cli.main import COMMANDS
from studies import performance
from studies.__main__ import STUDIES, main


def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performance, "RESULTS", tmp_path)
    monkeypatch.setattr(performance, "RECORDS", tmp_path / "performance")
    command = "nextscale estimate --tasks sample --batch 1 --rate 100"
    monkeypatch.setitem(performance.MEASUREMENTS, "growth", ("What grows", command))
    assert main(["performance", "growth"]) == 0
    told = (tmp_path / "performance.md").read_text()
    assert f"## What grows\n\n`{command}`\n\n| task " in told
    assert (tmp_path / "performance/growth.json").is_file()
    assert main(["performance", "growth", "nothing"]) == 2


def test_a_measurement_that_fails_leaves_no_record(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(performance, "RECORDS", tmp_path)
    monkeypatch.setattr(performance, "RESULTS", tmp_path)
    monkeypatch.setitem(performance.MEASUREMENTS, "growth", ("", "nextscale estimate --batch 0"))
    assert main(["performance", "growth"]) == 2
    assert not list(tmp_path.iterdir())


def test_every_command_is_one() -> None:
    for _, command in performance.MEASUREMENTS.values():
        known = [f"nextscale {name} " for name in COMMANDS]
        known += [f"python -m studies {name} " for name in STUDIES]
        assert not command or f"{command} ".startswith(tuple(known))


def test_a_record_whose_program_is_gone_stays(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["performance", "steps"]) == 2
    assert "steps is only a record" in capsys.readouterr().err
    assert "Measured on 2026-11-26" in performance.page()
