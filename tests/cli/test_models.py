import json

from nextscale.checkpoints import checkpoint
from nextscale.cli.main import main
from nextscale.config.presets import RELEASED


def test_a_line_for_every_model(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(checkpoint.known_models())
    assert len({len(line) - len(line.split(maxsplit=1)[1]) for line in lines}) == 1  # aligned
    assert set(RELEASED) <= {line.split()[0] for line in lines}


def test_json_holds_the_same(capsys):
    assert main(["models", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {entry["name"]: entry["what"] for entry in found} == checkpoint.known_models()


def test_bundled_models_come_first(pipe, tmp_path, monkeypatch, capsys):
    checkpoint.save(pipe, tmp_path / "tiny")
    monkeypatch.setattr(checkpoint, "BUNDLED", tmp_path)
    main(["models"])
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("tiny  ")
    assert first.endswith("3 classes, 8x8 pixels, 21 tokens, bundled")
