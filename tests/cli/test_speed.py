"""`nextscale speed` and `nextscale estimate`: tables, reports, refusals."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nextscale.checkpoints.checkpoint import config_of
from nextscale.cli.estimate import described
from nextscale.cli.main import main
from nextscale.config.model import ModelConfig
from nextscale.config.presets import TOKENIZERS, TRANSFORMERS
from nextscale.config.speed import EstimateConfig, SampleConfig
from nextscale.speed import sampling_speed, training_speed


def test_sample(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sample.json"
    words = ["--model", saved, "--batch", "2", "--repeats", "1", "--json", str(file)]
    assert main(["speed", "sample", *words, "--no-memory", "--modes", "exact"]) == 0
    assert "| exact | 2     |" in capsys.readouterr().out
    (row,) = json.loads(file.read_text())["rows"]
    assert "peak_memory_bytes" not in row


def test_train(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "train.json"
    words = ["--model", saved, "--batch", "2", "--repeats", "1", "--json", str(file)]
    assert main(["speed", "train", *words, "--no-memory", "--precision", "float32"]) == 0
    assert "| transformer | float32   | 2     |" in capsys.readouterr().out
    assert [row["stage"] for row in json.loads(file.read_text())["rows"]] == [
        "tokenizer",
        "transformer",
    ]


def test_what_a_device_emulates_is_left_out(
    saved: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sampling_speed, training_speed):
        monkeypatch.setattr(module, "made_for", lambda precision, device: precision == "float32")
    words = ["--model", saved, "--batch", "1", "--repeats", "1", "--no-memory"]
    assert main(["speed", "train", *words]) == 0
    told = capsys.readouterr()
    assert "bfloat16 is left out" in told.err
    assert "--precision float32 bfloat16 measures it" in told.err
    assert "bfloat16" not in told.out
    assert sampling_speed.modes(SampleConfig(), torch.device("cpu")) == ("exact", "compiled")
    assert sampling_speed.modes(SampleConfig(modes=("int8",)), torch.device("cpu")) == ("int8",)


def test_estimate(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "estimate.json"
    words = ["--model", saved, "--batch", "2", "--rate", "100", "--json", str(file)]
    words += ["--precision", "float32", "bfloat16"]
    assert main(["estimate", *words]) == 0
    told = capsys.readouterr().out
    assert "| train tokenizer   | bfloat16  | 2     |" in told
    assert "seconds at 100 GFLOP/s" in told
    assert len(json.loads(file.read_text())["rows"]) == 6


def test_bad_input(refused, saved: str, tmp_path: Path) -> None:
    assert "nothing is known as 'x'" in refused("speed", "sample", "--model", "x")
    said = refused("speed", "sample", "--model", "x", "--random-weights")
    assert "nothing is known as 'x'" in said
    said = refused("speed", "sample", "--model", saved, "--batch", "0")
    assert "batch is (0,)" in said
    said = refused("speed", "sample", "--model", saved, "--modes", "fast")
    assert "known: exact, compiled, int8" in said
    assert "known: sample, tokenizer" in refused("estimate", "--tasks", "fly")
    said = refused("speed", "train", "--precision", "half")
    assert "unknown precision 'half'; known: float32, bfloat16" in said
    assert "is a directory" in refused("speed", "sample", "--json", tmp_path)
    assert "known: speed sample, speed train" in refused("speed", "x")


def test_the_old_name_is_told_the_new_ones(refused) -> None:
    for words in (["benchmark"], ["benchmark", "--help"], ["benchmark", "sample", "--batch", "1"]):
        said = refused(*words)
        assert "`nextscale speed sample` or `nextscale speed train`" in said
        assert "`python -m studies methods`" in said


def test_estimate_of_presets_and_recipes(saved: str, tmp_path: Path) -> None:
    config, whole = described(EstimateConfig(tokenizer_preset="small-64"))
    assert (config.tasks, whole) == (("tokenizer",), ModelConfig(TOKENIZERS["small-64"]))
    both = EstimateConfig(tokenizer_preset="small-64", transformer_preset="d4")
    config, whole = described(both)
    assert config.tasks == both.tasks
    assert whole == ModelConfig(TOKENIZERS["small-64"], TRANSFORMERS["d4"])
    _, whole = described(EstimateConfig(model=saved, transformer_preset="d4"))
    assert whole.tokenizer == config_of(saved).tokenizer

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("preset: small-64\ntokenizer: {codes: 512}\nbatch_size: 8\naccumulation: 2")
    config, whole = described(EstimateConfig(training=str(recipe)))
    assert (config.tasks, config.batch) == (("tokenizer",), (4,))
    assert whole == ModelConfig(replace(TOKENIZERS["small-64"], codes=512))
    recipe.write_text("model: {depth: 3}\nactivation_checkpointing: 0.5\nscales: ['1', '4']\n")
    config, whole = described(EstimateConfig(training=str(recipe), model=saved))
    assert (config.tasks, config.activation_checkpointing) == (("transformer",), 0.5)
    assert whole.model is not None
    assert (whole.model.depth, whole.tokenizer.scales) == (3, ((1, 1), (4, 4)))
    recipe.write_text(f"init: {saved}\n")
    _, whole = described(EstimateConfig(training=str(recipe)))
    assert (whole.tokenizer, whole.model) == (config_of(saved).tokenizer, config_of(saved).model)


def test_estimates_that_name_no_network(refused, tmp_path: Path) -> None:
    assert "unknown tokenizer_preset 'x'" in refused("estimate", "--tokenizer-preset", "x")
    words = ["--training", tmp_path / "none.yaml"]
    assert "none.yaml" in refused("estimate", *words)
    assert "give one of them" in refused("estimate", *words, "--transformer-preset", "d4")
