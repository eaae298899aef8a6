"""The README's commands are ones that the program knows, and its files are there."""

import re
import shlex
import subprocess
import sys
from glob import glob
from pathlib import Path

import pytest

from nextscale.cli.main import COMMANDS, PROGRAM, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
LINES = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]
CALLS = [line.partition("nextscale ")[2] for line in LINES if re.search(r"\bnextscale ", line)]


def test_there_are_commands_to_check() -> None:
    assert len(CALLS) > 8


@pytest.mark.parametrize("call", CALLS)
def test_commands_of_the_readme_parse(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(call, comments=True)
    count = 2 if " ".join(words[:2]) in COMMANDS else 1
    name = " ".join(words[:count])
    parser, _ = PROGRAM.command(name)
    assert parser.parse(words[count:])


SHORTER = {  # options that end a command sooner; the last of two equal options holds
    "train": "--epochs 1 --data.share 0.2",
    "evaluate": "--count 30 --no-bounds",
}


@pytest.mark.slow
def test_commands_of_the_readme_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the example folder to the evaluation, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nextscale.training.monitor.measure_peak", lambda device, **_: 1e15)
    (example,) = [line for line in LINES if "recipes/" in line]
    _, script, *given = shlex.split(example, comments=True)
    subprocess.run([sys.executable, str(ROOT / script), *given], check=True)
    for call in CALLS:
        words = shlex.split(call, comments=True)
        words = [name for word in words for name in sorted(glob(word)) or [word]]
        words += SHORTER.get(words[0], "").split()
        assert main(words) == 0, f"nextscale {call}: {capsys.readouterr().err}"


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "python"])
def test_python_of_the_readme_compiles(text: str) -> None:
    compile(text, "README.md", "exec")


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_links_of_the_readme_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
