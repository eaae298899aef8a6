import pickle

import pytest
import torch

from nextscale.checkpoints import checkpoint
from nextscale.checkpoints.published.var import from_released
from nextscale.cli.main import main
from nextscale.storage import weights
from tests.parity.figures import COPY, load


class Malicious:
    """Would write a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture(scope="module")
def states():
    """A published tiny tokenizer and transformer, scales 1 2 3 4 6."""
    figures = load(COPY / "tiny.safetensors")
    return figures.state("tokenizer"), figures.state("transformer")


@pytest.fixture
def files(states, tmp_path):
    """The states as published files."""
    paths = [tmp_path / "vae.pth", tmp_path / "var.pth"]
    for state, path in zip(states, paths, strict=True):
        torch.save(state, path)
    return [str(path) for path in paths]


def test_two_published_files_make_a_checkpoint(files, states, tmp_path, capsys):
    out = tmp_path / "model"
    assert main(["convert", *files, str(out)]) == 0
    pipe = checkpoint.load(out)
    assert capsys.readouterr().out == (
        f"{out}: VAR of depth 2, 128 codes, scales 1 2 3 4 6, "
        f"tokenizer {pipe.config.tokenizer_hash}\n"
    )
    expected = from_released(*states)
    for part in ("tokenizer", "model"):
        mine, theirs = getattr(pipe, part).state_dict(), getattr(expected, part).state_dict()
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_tokenizer_alone_with_what_shapes_cannot_tell(files, tmp_path, capsys):
    out = tmp_path / "alone"
    words = ["--scales", "1", "2x3", "6", "--z-norm", "--phi-ratio", "0.25"]
    assert main(["convert", files[0], str(out), *words]) == 0
    config = checkpoint.load(out).config
    assert config.model is None
    assert config.tokenizer.scales == ((1, 1), (2, 3), (6, 6))
    assert (config.tokenizer.z_norm, config.tokenizer.phi_ratio) == (True, 0.25)
    assert "tokenizer alone" in capsys.readouterr().out


def test_a_trainer_s_file_may_be_given_twice(states, tmp_path):
    path, out = str(tmp_path / "trainer.pth"), tmp_path / "model"
    torch.save({"trainer": {"vae_local": states[0], "var_wo_ddp": states[1]}, "epoch": 3}, path)
    assert main(["convert", path, path, str(out)]) == 0
    assert checkpoint.load(out).config.model.depth == 2


def test_a_trainer_s_file_alone_gives_both_parts(states, tmp_path, capsys):
    path, out = str(tmp_path / "ar-ckpt-best.pth"), tmp_path / "model"
    torch.save({"trainer": {"vae_local": states[0], "var_wo_ddp": states[1]}, "epoch": 3}, path)
    assert main(["convert", path, str(out)]) == 0
    said = capsys.readouterr()
    assert "VAR of depth 2, 128 codes, scales 1 2 3 4 6" in said.out
    assert said.err == ""
    pipe = checkpoint.load(out)
    expected = from_released(*states)
    assert all(
        torch.equal(value, expected.model.state_dict()[name])
        for name, value in pipe.model.state_dict().items()
    )


def test_assumed_scales_are_said(files, tmp_path, capsys):
    assert main(["convert", files[0], str(tmp_path / "assumed")]) == 0
    assert "released 1 2 3 4 5 6 8 10 13 16 are assumed" in capsys.readouterr().err
    assert main(["convert", files[0], str(tmp_path / "given"), "--scales", "1", "2", "6"]) == 0
    assert capsys.readouterr().err == ""


def test_precision_rounds_and_the_hash_is_of_what_is_stored(files, tmp_path, capsys):
    out = tmp_path / "half"
    assert main(["convert", *files, str(out), "--precision", "float16"]) == 0
    stored = weights.read_tensors(out / checkpoint.TOKENIZER)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert weights.hash_weights(stored) in capsys.readouterr().out


def test_a_checkpoint_is_replaced_and_nothing_else(files, refused, tmp_path):
    out = tmp_path / "model"
    assert main(["convert", *files, str(out)]) == 0
    assert main(["convert", files[0], str(out)]) == 0
    assert checkpoint.load(out).config.model is None
    (out / "notes.txt").write_text("mine")
    assert "not a checkpoint alone" in refused("convert", *files, out)
    assert "is a file" in refused("convert", *files)  # OUT forgotten
    assert (out / "notes.txt").read_text() == "mine"


def test_bad_input_writes_nothing(files, refused, tmp_path):
    out = tmp_path / "out"
    assert "there is no file" in refused("convert", tmp_path / "missing.pth", out)
    assert "this is no published tokenizer" in refused("convert", files[1], files[0], out)
    assert "shrink" in refused("convert", *files, out, "--scales", 2, 1)
    assert "does not fit" in refused("convert", *files, out, "--scales", 1, 2, 6)
    assert "--precision is int8" in refused("convert", *files, out, "--precision", "int8")
    torn = tmp_path / "torn.pth"
    torn.write_bytes((tmp_path / "vae.pth").read_bytes()[:1000])
    assert "is truncated" in refused("convert", torn, out)
    assert not out.exists()


def test_a_file_that_would_run_code_is_refused(refused, tmp_path):
    trap, trace = tmp_path / "trap.pth", tmp_path / "trace"
    trap.write_bytes(pickle.dumps({"weight": Malicious(str(trace))}, protocol=2))
    assert "would run code" in refused("convert", trap, tmp_path / "out")
    assert not trace.exists()
    assert not (tmp_path / "out").exists()
