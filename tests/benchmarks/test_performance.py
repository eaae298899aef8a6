"""The page of performance is made of what the commands print."""

from pathlib import Path

import performance
import pytest

from nextscale.cli.main import COMMANDS


def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performance, "RESULTS", tmp_path)
    monkeypatch.setattr(performance, "RECORDS", tmp_path / "performance")
    command = "nextscale estimate --tasks sample --batch 1 --rate 100"
    monkeypatch.setitem(performance.BENCHMARKS, "growth", ("What grows", command))
    assert performance.main(["growth"]) == 0
    told = (tmp_path / "performance.md").read_text()
    assert f"## What grows\n\n`{command}`\n\n| task " in told
    assert (tmp_path / "performance/growth.json").is_file()
    assert performance.main(["growth", "nothing"]) == 2


def test_a_benchmark_that_fails_leaves_no_record(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(performance, "RECORDS", tmp_path)
    monkeypatch.setattr(performance, "RESULTS", tmp_path)
    monkeypatch.setitem(performance.BENCHMARKS, "growth", ("", "nextscale estimate --batch 0"))
    assert performance.main(["growth"]) == 2
    assert not list(tmp_path.iterdir())


def test_every_command_is_one() -> None:
    for _, command in performance.BENCHMARKS.values():
        program, *words = command.split()
        if program == "python":
            assert (performance.REPOSITORY / words[0]).is_file()
            continue
        assert any(f"{command} ".startswith(f"nextscale {name} ") for name in COMMANDS)
