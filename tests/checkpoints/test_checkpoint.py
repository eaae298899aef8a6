"""Checkpoint directories: written whole, read back, refused where they do not fit."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import nextscale
from nextscale.checkpoints import checkpoint
from nextscale.config import presets
from nextscale.config.architecture import TokenizerConfig, TransformerConfig
from nextscale.config.model import ModelConfig, SamplingConfig
from nextscale.errors import UsageError
from nextscale.models.model import Model
from nextscale.pipeline import Pipeline
from nextscale.storage import files
from nextscale.tokenizer.tokenizer import Tokenizer

TOKENIZER_CONFIG = TokenizerConfig(
    scales=((1, 1), (2, 2), (4, 4)),
    image_channels=1,
    width=8,
    multipliers=(1, 1),
    blocks=1,
    groups=4,
    latent=4,
    codes=16,
)
MODEL_CONFIG = TransformerConfig(classes=3, depth=2, width=16, heads=2)


def make_pipe(seed: int = 0, config: TokenizerConfig = TOKENIZER_CONFIG) -> Pipeline:
    torch.manual_seed(seed)
    tokenizer = Tokenizer(config)
    model = Model(MODEL_CONFIG, config.scales, config.alphabet, config.latent)
    whole = ModelConfig(
        config,
        MODEL_CONFIG,
        SamplingConfig(cfg=1.5, top_k=5),
        labels=("boot", "shirt", "säckchen"),
        data="shoes",
    )
    return Pipeline(tokenizer, model, whole)


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return make_pipe()


@pytest.fixture
def saved(pipe: Pipeline, tmp_path: Path) -> Path:
    nextscale.save(pipe, tmp_path / "model")
    return tmp_path / "model"


def drawn(pipe: Pipeline) -> list[Tensor]:
    return [state.tokens for state in pipe.states(["boot", 1, None], seed=5)]


def assert_same_weights(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    left, right = ours.state_dict(), theirs.state_dict()
    assert list(left) == list(right)
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype
        assert torch.equal(tensor, right[name]), name


def edit_config(folder: Path, **changes: object) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **changes}))


# Round trips


def test_round_trip(pipe: Pipeline, saved: Path) -> None:
    loaded = nextscale.load(saved)
    assert_same_weights(loaded.tokenizer, pipe.tokenizer)
    assert_same_weights(loaded.model, pipe.model)
    assert not loaded.tokenizer.training
    assert not loaded.model.training
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    assert len(loaded.config.tokenizer_hash) == 64
    assert set(loaded.config.versions) == {"nextscale", "torch", "python"}
    assert replace(loaded.config, tokenizer_hash="", tokenizer_dtype="", versions={}) == pipe.config
    for ours, theirs in zip(drawn(loaded), drawn(pipe), strict=True):
        assert torch.equal(ours, theirs)
    assert sorted(path.name for path in saved.parent.iterdir()) == ["model"]


def test_a_tokenizer_alone_is_a_checkpoint(pipe: Pipeline, tmp_path: Path) -> None:
    nextscale.save(Pipeline(pipe.tokenizer, None, pipe.config), tmp_path / "t")
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == [
        "config.json",
        "tokenizer.safetensors",
    ]
    loaded = nextscale.load(tmp_path / "t")
    assert loaded.config.model is None
    with pytest.raises(UsageError, match="tokenizer alone"):
        loaded.sample(0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_storage(pipe: Pipeline, tmp_path: Path, dtype: torch.dtype) -> None:
    nextscale.save(pipe, tmp_path / "half", dtype=dtype)
    nextscale.save(pipe, tmp_path / "full")
    halved, full = tmp_path / "half" / "model.safetensors", tmp_path / "full" / "model.safetensors"
    assert halved.stat().st_size < 0.7 * full.stat().st_size
    loaded = nextscale.load(tmp_path / "half")
    for name, tensor in loaded.model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, pipe.model.state_dict()[name].to(dtype).float())
    assert pipe.model.head.weight.dtype == torch.float32  # what was saved is left as it was
    stored = nextscale.load(tmp_path / "half", dtype=dtype)
    assert stored.model.head.weight.dtype == dtype
    again = tmp_path / "again"
    nextscale.save(loaded, again, dtype=dtype)  # rounding twice is rounding once
    assert nextscale.load(again).config.tokenizer_hash == loaded.config.tokenizer_hash


def test_weights_are_mapped_and_changes_stay_in_memory(saved: Path) -> None:
    before = (saved / "model.safetensors").read_bytes()
    loaded = nextscale.load(saved)
    if Path("/proc/self/maps").exists():
        assert str(saved / "model.safetensors") in Path("/proc/self/maps").read_text()
    with torch.no_grad():
        loaded.model.head.weight.zero_()
    assert (saved / "model.safetensors").read_bytes() == before


def test_a_loaded_pipeline_may_replace_its_own_directory(saved: Path) -> None:
    loaded = nextscale.load(saved)
    nextscale.save(loaded, saved)
    assert_same_weights(nextscale.load(saved).model, loaded.model)


# Writing whole or not at all


def test_save_replaces_a_checkpoint(saved: Path) -> None:
    other = make_pipe(seed=1)
    nextscale.save(Pipeline(other.tokenizer, None, other.config), saved)
    loaded = nextscale.load(saved)
    assert_same_weights(loaded.tokenizer, other.tokenizer)
    assert not (saved / "model.safetensors").exists()
    assert sorted(path.name for path in saved.parent.iterdir()) == ["model"]


def test_save_takes_an_empty_directory_and_makes_parents(pipe: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    nextscale.save(pipe, tmp_path / "empty")
    nextscale.save(pipe, tmp_path / "a" / "b")
    assert nextscale.load(tmp_path / "empty").config == nextscale.load(tmp_path / "a/b").config


@pytest.mark.parametrize("name", ["notes.txt", "config.json"])
def test_save_refuses_a_foreign_directory(pipe: Pipeline, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match="give a new directory"):
        nextscale.save(pipe, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_save_refuses_a_checkpoint_with_foreign_files(pipe: Pipeline, saved: Path) -> None:
    (saved / "notes.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        nextscale.save(pipe, saved)
    assert (saved / "notes.txt").read_text() == "precious"


def test_save_refuses_a_file_and_a_file_as_parent(pipe: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        nextscale.save(pipe, tmp_path / "file")
    with pytest.raises(UsageError, match="cannot be written"):
        nextscale.save(pipe, tmp_path / "file" / "model")


@pytest.mark.parametrize("stage", ["write", "rename"])
def test_a_failure_leaves_the_old_checkpoint_and_no_temporary(
    saved: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    before = nextscale.load(saved).config
    rename = Path.rename

    def fail_to_write(*args: object) -> None:
        raise OSError("the disk is full")

    def fail_to_rename(source: Path, target: Path) -> Path:
        if ".tmp-" in source.name:
            raise OSError("the disk is full")
        return rename(source, target)

    if stage == "write":
        monkeypatch.setattr(checkpoint, "write_tensors", fail_to_write)
    else:
        monkeypatch.setattr(files, "exchange", lambda one, other: False)
        monkeypatch.setattr(Path, "rename", fail_to_rename)
    with pytest.raises(OSError, match="full"):
        nextscale.save(make_pipe(seed=1), saved)
    assert nextscale.load(saved).config == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


# Another tokenizer


def test_another_tokenizer_is_refused(saved: Path, tmp_path: Path) -> None:
    nextscale.save(make_pipe(seed=1), tmp_path / "other")
    other = nextscale.load(tmp_path / "other").config.tokenizer_hash
    recorded = nextscale.load(saved).config.tokenizer_hash
    (tmp_path / "other" / "tokenizer.safetensors").replace(saved / "tokenizer.safetensors")
    with pytest.raises(UsageError, match="train a transformer") as caught:
        nextscale.load(saved)
    message = str(caught.value)
    assert other[:12] in message
    assert recorded[:12] in message
    assert other[:13] not in message
    assert "\n" not in message


# Bad checkpoints


@pytest.mark.parametrize("file", ["tokenizer.safetensors", "model.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "missing"])
def test_broken_weights_are_refused(saved: Path, file: str, damage: str) -> None:
    path = saved / file
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"PNG, perhaps, or a text" * 9 if damage == "foreign" else b"")
    wanted = "incomplete" if damage == "missing" else "truncated or no safetensors"
    with pytest.raises(UsageError, match=wanted) as caught:
        nextscale.load(saved)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"tokenizer": {', "not valid JSON"),
        ("\x00\xff", "no text in UTF-8"),
        ("[1, 2]", "a table of keys is needed"),
        ('{"architectures": ["Other"]}', "unknown configuration key architectures"),
        ('{"tokenizer": {"colour": 1}}', "unknown configuration key colour in tokenizer"),
        ('{"tokenizer": 3}', "a table of keys is needed"),
        ('{"tokenizer": {"width": "wide"}}', "width is 'wide'; a whole number"),
        ('{"labels": 5}', "labels is 5; a list"),
        ('{"labels": ["a", 5]}', r"labels\.1 is 5; a text"),
        ('{"labels": ["\\ud800"]}', r"labels is '\\ud800'; .*half a character"),
        ('{"tokenizer": null}', "tokenizer is None; a table"),
        ('{"sampling": null}', "sampling is None; a table"),
        ('{"sampling": {"temperature": NaN}}', "temperature is nan; a finite number"),
        ('{"sampling": {"cfg": 1e30}}', "cfg is 1e[+]30; it must be from 0"),
        ('{"sampling": {"smooth": 1}}', "smooth is 1; true or false"),
        ('{"model": {"depth": 1000000000}}', "depth is 1000000000; it must be from 1 to"),
        ('{"model": {"depth": true}}', "depth is True; a whole number"),
        ('{"model": {"width": 1e30}}', "width is 1e[+]30; a whole number"),
        ('{"tokenizer": {"scales": [1, [2, 1e30]]}}', "scale .*1e[+]30.* is neither"),
        ('{"tokenizer": {"scales": [1, 1000000000]}}', "scales is 1000000000; it must be from 1"),
        ('{"tokenizer": {"multipliers": [1, "2"]}}', r"multipliers\.1 is '2'; a whole number"),
        ('{"tokenizer": {"codes": 1e999}}', "codes is inf; a whole number"),
        ('{"versions": {"torch": 2}}', r"versions\.torch is 2; a text"),
        ("[" * 100_000, "nested too deeply"),
        ('{"labels": ' + "[" * 900 + "]" * 900 + "}", r"labels\.0 is \[\[.*a text"),
    ],
)
def test_a_broken_configuration_is_refused(saved: Path, text: str, message: str) -> None:
    (saved / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=message) as caught:
        nextscale.load(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda weight: weight * torch.nan, "head.weight holds NaN"),
        (lambda weight: weight / 0, "head.weight holds NaN or infinity"),
        (lambda weight: weight.int(), "head.weight is of type int32; floating"),
        (lambda weight: weight > 0, "head.weight is of type bool; floating"),
        (lambda weight: weight.to(torch.complex64), "head.weight is of type complex64; floating"),
        (lambda weight: weight[:0], r"head.weight \(0, "),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused(
    saved: Path, damage: Callable[[Tensor], Tensor], told: str
) -> None:
    tensors = load_file(saved / "model.safetensors")
    tensors["head.weight"] = damage(tensors["head.weight"]).contiguous()
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(UsageError, match=told) as caught:
        nextscale.load(saved)
    assert str(saved) in str(caught.value)


def test_weights_that_do_not_fit_the_configuration_are_refused(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    edit_config(saved, model={**config["model"], "depth": 3})
    with pytest.raises(UsageError, match=r"transformer in .* missing: transformer\.blocks\.2"):
        nextscale.load(saved)


def test_unknown_names_are_told_the_known_ones(tmp_path: Path, pipe: Pipeline) -> None:
    with pytest.raises(UsageError, match=r"var-d16.*owner/repo"):
        nextscale.load("nowhere")
    with pytest.raises(UsageError, match="nothing is known"):
        nextscale.load("../nowhere/at/all")
    with pytest.raises(UsageError, match="no checkpoint"):
        nextscale.load(tmp_path)
    nextscale.save(pipe, tmp_path / "model")
    with pytest.raises(UsageError, match="give the checkpoint directory"):
        nextscale.load(tmp_path / "model" / "model.safetensors")


def test_bundled_models_come_by_name(
    pipe: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "BUNDLED", tmp_path)
    nextscale.save(pipe, tmp_path / "shoes")
    assert_same_weights(nextscale.load("shoes").model, pipe.model)
    known = checkpoint.known_models()
    assert list(known) == ["shoes", *presets.RELEASED]
    assert known["shoes"] == "VAR of depth 2, 3 classes, 8x8 pixels, 21 tokens, bundled"
    assert "depth 16" in known["var-d16"]
    assert "256x256 pixels, 680 tokens" in known["var-d30"]
    assert "512x512 pixels, 2240 tokens" in known["var-d36-512"]


def test_a_pickle_as_a_name_is_sent_to_convert(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "var_d16.pth")
    with pytest.raises(UsageError, match="nextscale convert"):
        nextscale.load(tmp_path / "var_d16.pth")


# The package


def test_import_is_lazy_and_complete() -> None:
    code = (
        "import sys, nextscale; assert 'torch' not in sys.modules, 'torch'; "
        "assert nextscale.__version__; assert 'torch' not in sys.modules; "
        "import nextscale.config.presets; assert 'torch' not in sys.modules; "
        "assert set(nextscale.__all__) <= set(dir(nextscale)); "
        "[getattr(nextscale, name) for name in nextscale.__all__]; "
        "assert nextscale.released.from_released; assert not hasattr(nextscale, 'nothing')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
