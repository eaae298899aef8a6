import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nextscale.cli import models
from nextscale.cli.main import COMMANDS, main
from nextscale.errors import UsageError

HEAVY = ("torch", "numpy", "PIL", "rich", "torchvision", "accelerate", "huggingface_hub")


def imported_by(*words):
    """Modules among HEAVY that a command imports in a process of its own, and what it prints."""
    code = (
        "import sys; from nextscale.cli.main import main; code = main(sys.argv[1:]);"
        f"print(*[m for m in {HEAVY} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    return set(done.stderr.splitlines()[-1].split()), done.stdout


def test_the_overview_names_every_command_and_imports_nothing_heavy():
    modules, text = imported_by("--help")
    assert not modules
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_imports_nothing_heavy(name):
    modules, text = imported_by(*name.split(), "--help")
    assert not modules
    assert f"usage: nextscale {name} " in text
    assert COMMANDS[name][1] in " ".join(text.split())


def test_the_installed_program_runs():
    program = [sys.executable, "-m", "nextscale.cli.main"]
    assert subprocess.run(program, check=False).returncode == 0
    assert main(["--version"]) == 0


def test_an_unknown_command_names_the_known_ones(refused):
    said = refused("flatten", "x")
    assert "unknown command 'flatten x'; known: sample, " in said
    assert "train tokenizer" in said


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["smaple", "x"], "unknown command 'smaple'; did you mean 'sample'?"),
        (["train", "vra"], "unknown command 'train vra'; did you mean 'train var'?"),
        (["trian", "var"], "unknown command 'trian var'; did you mean 'train var'?"),
        (["--vrsion"], "did you mean '--version'?"),
        (["sample", "tiny", "--cgf", "3"], "--cgf 3; did you mean '--cfg'?"),
        (["sample", "fashion-mnsit"], "'fashion-mnsit'; did you mean 'fashion-mnist'?"),
        (["evaluate", "tiny", "--metrics", "fdi"], "metric 'fdi'; did you mean 'fid'?"),
        (["estimate", "--tasks", "smaple"], "unknown tasks 'smaple'; did you mean 'sample'?"),
        (
            ["train", "var", "--schedule", "lniear"],
            "linear, cosine or constant; did you mean 'linear'?",
        ),
        (["train", "tokenizer", "--out", "x", "--data.path", "fashion-mnits"], "'fashion-mnist'?"),
    ],
)
def test_what_is_mistyped_is_guessed(refused, words, meant):
    assert meant in refused(*words)


def test_help_may_come_first(capsys):
    assert main(["help", "models"]) == 0
    assert "usage: nextscale models [options]" in capsys.readouterr().out
    assert main(["help", "train"]) == 0
    assert "train var" in capsys.readouterr().out


def test_half_a_command_names_its_other_halves(refused, capsys):
    assert "known: train tokenizer, train var, train ar, train classifier" in refused("train", "x")
    assert "'edit' needs a second word; known: edit inpaint" in refused("edit")
    assert main(["train", "--help"]) == 0
    said = capsys.readouterr().out
    assert "train var" in said
    assert "sample" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample"], "arguments are required: model; `nextscale sample --help`"),
        (["sample", "tiny", "--color", "3"], "unrecognized arguments: --color 3"),
        (
            ["sample", "tiny", "--count", "many"],
            "--count is many; a whole number is needed; `nextscale sample --help`",
        ),
        (["sample", "tiny", "--guidance", "sine"], "is sine; it can be linear, constant or off"),
        (["sample", "tiny", "--seed", "some"], "--seed is some; a whole number or random is"),
        (["sample", "tiny", "--cfg", "nan"], "--cfg is nan; a number is needed"),
    ],
)
def test_bad_options_are_one_line(refused, words, said):
    assert said in refused(*words)


@pytest.mark.parametrize(
    ("missing", "extra", "words"),
    [
        ("accelerate", "eval", ["evaluate", "docs", "--reference", "docs"]),
        ("matplotlib", "eval", ["scaling-laws", "fit", "runs", "--out", "laws"]),
        ("gradio", "app", ["app", "tiny", "--port", "0"]),
        ("accelerate", "train", ["train", "var", "--tokenizer", "tiny", "--out", "run"]),
    ],
)
def test_a_package_that_is_missing_is_named_with_what_brings_it(missing, extra, words):
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from nextscale.cli.main import main;"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    wanted = f"`{words[0]}` needs {missing}, which is not installed; `pip install '.[{extra}]'`"
    assert done.stderr.startswith(f"nextscale: error: {wanted}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        lambda: bytearray(2**62),
        lambda: np.empty(2**62, np.uint8),
        lambda: torch.empty(2**62, dtype=torch.uint8),
        lambda: raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")),
    ],
)
def test_memory_that_ran_out_is_one_line(error, refused, monkeypatch):
    monkeypatch.setitem(models.COMMANDS, "models", (lambda parser: None, lambda options: error()))
    assert "memory ran out" in refused("models")


def raising(error):
    raise error


def test_debug_shows_where_an_error_arose():
    with pytest.raises(UsageError, match="nothing is known as 'nothing'"):
        main(["sample", "nothing", "--debug"])


def shell(line, **environment):
    """Exit code, stdout and stderr of a line of bash, of buffered commands as users have them."""
    known = {**os.environ, "PY": sys.executable, **environment}
    known.pop("PYTHONUNBUFFERED", None)
    done = subprocess.run(["bash", "-c", line], env=known, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


UNKNOWN = b"nextscale: error: unknown command 'nothing'"
FULL = b"nextscale: error: the disk is full"


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("(sleep 0.2; exec $PY -m nextscale --version) | true; exit ${PIPESTATUS[0]}", 141, b""),
        ("$PY -m nextscale --version >/dev/full", 2, FULL),
        ("$PY -m nextscale --version >&-", 0, b""),
        ("$PY -m nextscale --version <&- >&- 2>&-", 0, b""),
        ("$PY -m nextscale nothing <&- >&-", 2, UNKNOWN),
        ("$PY -m nextscale nothing 2>&-", 2, b""),
        ("$PY -m nextscale nothing 2>/dev/full", 2, b""),
        ("$PY -m nextscale nothing 2> >(true)", 2, b""),
    ],
)
def test_streams_that_are_closed_full_or_left(line, code, said):
    """A reader that left needs no words, and no file takes the place of a closed stream."""
    found, out, err = shell(line)
    assert (found, out) == (code, b"")
    assert err.startswith(said)
    assert err.count(b"\n") == bool(said)


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


@pytest.mark.parametrize("words", [["train", "tokenizer", "--help"], ["convert", "--help"]])
def test_help_prints_in_a_locale_of_few_characters(words):
    command = [sys.executable, "-m", "nextscale", *words]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **ASCII}, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u03c6" in done.stdout


def test_the_first_process_speaks_for_all(refused, monkeypatch, capsys):
    assert main(["sample", "nothing"]) == 2
    alone = capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    assert refused("sample", "nothing") == alone
    code = (
        "import sys; from nextscale.cli import main; print('up', flush=True);"
        "sys.exit(main.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "train", "vra"]
    with subprocess.Popen(
        command, env={**os.environ, "RANK": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        time.sleep(2)  # it waits for the first process by now
        process.send_signal(signal.SIGTERM)  # as torchrun does
        assert process.wait() == 2
        assert process.stderr.read() == b""


def test_an_error_of_one_process_alone_names_it(refused, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("nextscale.cli.main.PATIENCE", 0)
    monkeypatch.setenv("RANK", "1")
    assert "error: rank 1: unknown command 'train vra'" in refused("train", "vra")
    signal.signal(signal.SIGTERM, before)


def test_pillow_is_quiet_in_commands_and_not_in_programs_that_import_us(tmp_path: Path) -> None:
    cut_off = b"Exif\0\0II*\0\x08\0\0\0\x05\0"
    for name in ("a.jpg", "b.jpg"):
        Image.new("L", (28, 28)).save(tmp_path / name, exif=cut_off)
    read = (
        "import nextscale.pictures.pixels as p; from PIL import Image; "
        "p.checked(Image.open('a.jpg'))"
    )
    program = subprocess.run(
        [sys.executable, "-W", "always", "-c", read], cwd=tmp_path, capture_output=True, text=True
    )
    command = subprocess.run(
        [sys.executable, "-m", "nextscale", "data", "check", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert command.returncode == 0
    assert "Warning" in program.stderr
    assert "Warning" not in command.stderr


def test_a_lost_process_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose(words: list[str]) -> int:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer")

    monkeypatch.setattr("nextscale.cli.main.answer", lose)
    with pytest.raises(RuntimeError):
        main(["train", "var"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "var"]) == 2
    assert "another process of this run has ended" in capsys.readouterr().err
