"""Checkpoint directories, published pickles, and the hub through its own client over HTTP."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import nextscale
from nextscale import checkpoint
from nextscale.config import presets
from nextscale.config.model import (
    ModelConfig,
    SamplingConfig,
    TokenizerConfig,
    TransformerConfig,
)
from nextscale.errors import UsageError
from nextscale.models.var import VAR
from nextscale.pipeline import Pipeline
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
    model = VAR(MODEL_CONFIG, config.scales, config.codes, config.latent)
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
        monkeypatch.setattr(checkpoint, "save_file", fail_to_write)
    else:
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
        ("\x00\xff", "not valid JSON"),
        ("[1, 2]", "a table of keys is needed"),
        ('{"architectures": ["Other"]}', "unknown configuration key architectures"),
        ('{"tokenizer": {"colour": 1}}', "unknown configuration key colour in tokenizer"),
        ('{"tokenizer": 3}', "a table of keys is needed"),
        ('{"tokenizer": {"width": "wide"}}', "cannot be read"),
        ('{"labels": 5}', "wrong type"),
    ],
)
def test_a_broken_configuration_is_refused(saved: Path, text: str, message: str) -> None:
    (saved / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=message) as caught:
        nextscale.load(saved)
    assert "\n" not in str(caught.value)


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


# The hub


class Hub(BaseHTTPRequestHandler):
    """The few answers of a model hub that its client asks for here."""

    repositories: ClassVar[dict[str, dict[str, bytes]]] = {}
    gated: ClassVar[set[str]] = set()
    asked: ClassVar[list[str]] = []

    def log_message(self, format: str, *args: object) -> None:
        """Stays silent."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def commit(self, name: str) -> str:
        return hashlib.sha1(repr(sorted(self.repositories[name].items())).encode()).hexdigest()

    def parts(self) -> list[str]:
        self.asked.append(f"{self.command} {self.path}")
        return self.path.split("?")[0].strip("/").split("/")

    def refuse(self, name: str) -> bool:
        if name in self.gated:
            self.answer(403, X_Error_Code="GatedRepo")
        elif name not in self.repositories:
            self.answer(404, X_Error_Code="RepoNotFound")
        else:
            return False
        return True

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        match self.parts():
            case [owner, name, "resolve", _, file]:
                if self.refuse(f"{owner}/{name}"):
                    return
                body = self.repositories[f"{owner}/{name}"].get(file)
                if body is None:
                    self.answer(404, X_Error_Code="EntryNotFound")
                    return
                etag = f'"{hashlib.sha1(body).hexdigest()}"'
                commit = self.commit(f"{owner}/{name}")
                self.answer(200, body, ETag=etag, X_Repo_Commit=commit)
            case ["api", "models", owner, name, "revision", _]:
                if not self.refuse(f"{owner}/{name}"):
                    commit = self.commit(f"{owner}/{name}")
                    self.answer_json({"id": f"{owner}/{name}", "sha": commit, "siblings": []})
            case ["api", "models", owner, name, "tree", _]:
                files = self.repositories[f"{owner}/{name}"]
                self.answer_json(
                    [
                        {
                            "type": "file",
                            "path": file,
                            "size": len(body),
                            "oid": hashlib.sha1(body).hexdigest(),
                        }
                        for file, body in files.items()
                    ]
                )
            case _:
                self.answer(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match self.parts():
            case ["api", "repos", "create"]:
                wanted = json.loads(body)
                name = f"{wanted['organization']}/{wanted['name']}"
                if wanted["organization"] != "me":
                    self.answer(403)
                    return
                self.repositories.setdefault(name, {})
                self.answer_json({"url": f"http://{self.headers['Host']}/{name}"})
            case ["api", "models", owner, name, "preupload", _]:
                if self.refuse(f"{owner}/{name}"):
                    return
                modes = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                self.answer_json({"files": modes})
            case ["api", "models", owner, name, "commit", _]:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                        self.repositories[f"{owner}/{name}"][line["value"]["path"]] = content
                commit = self.commit(f"{owner}/{name}")
                url = f"http://{self.headers['Host']}/{owner}/{name}/commit/{commit}"
                self.answer_json({"commitUrl": url, "commitOid": commit})
            case _:
                self.answer(404)


def use_endpoint(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    for table in (Hub.repositories, Hub.gated, Hub.asked):
        table.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    use_endpoint(monkeypatch, url, tmp_path / "cache")
    yield url
    server.shutdown()
    server.server_close()
    thread.join()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_load_from_the_hub(hub: str, pipe: Pipeline, saved: Path) -> None:
    Hub.repositories["me/shoes"] = {**contents(saved), "training.safetensors": b"large"}
    loaded = nextscale.load("me/shoes")
    assert_same_weights(loaded.model, pipe.model)
    assert loaded.config.tokenizer_hash == nextscale.load(saved).config.tokenizer_hash
    assert not any("training" in line for line in Hub.asked)
    Hub.asked.clear()
    assert_same_weights(nextscale.load("me/shoes").model, pipe.model)
    assert not any(line.startswith("GET /me") for line in Hub.asked)  # the cache has them


def test_the_variable_of_the_hub_client_is_heeded(hub: str, saved: Path, tmp_path: Path) -> None:
    Hub.repositories["me/shoes"] = contents(saved)
    code = "import nextscale; print(nextscale.load('me/shoes').config.labels[1])"
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "shirt"


def test_push(hub: str, pipe: Pipeline, tmp_path: Path) -> None:
    url = nextscale.push(pipe, "me/mine", dtype=torch.float16)
    assert url == f"{hub}/me/mine"
    assert set(Hub.repositories["me/mine"]) == set(checkpoint.FILES)
    nextscale.save(pipe, tmp_path / "here", dtype=torch.float16)
    assert contents(tmp_path / "here") == Hub.repositories["me/mine"]
    loaded = nextscale.load("me/mine")
    assert torch.equal(loaded.model.head.weight, pipe.model.head.weight.half().float())
    nextscale.push(make_pipe(seed=1), "me/mine")  # a repository that exists is updated
    assert (
        len(Hub.repositories["me/mine"]["model.safetensors"])
        > 1.5 * (tmp_path / "here" / "model.safetensors").stat().st_size
    )


def test_released_names(hub: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    released = presets.RELEASED["var-d16"]
    monkeypatch.setitem(presets.RELEASED, "var-d16", replace(released, scales=((1, 1), (2, 2))))
    tokenizer_state, transformer_state = published_tokenizer(), published_transformer()
    for name, state in [("vae", tokenizer_state), ("var", transformer_state)]:
        torch.save(state, tmp_path / name)
    files = {
        "vae_ch160v4096z32.pth": (tmp_path / "vae").read_bytes(),
        "var_d16.pth": (tmp_path / "var").read_bytes(),
    }
    Hub.repositories["FoundationVision/var"] = files
    loaded = nextscale.load("var-d16")
    assert torch.equal(
        loaded.tokenizer.quantizer.codebook, tokenizer_state["quantize.embedding.weight"]
    )
    assert torch.equal(loaded.model.head.weight, transformer_state["head.weight"])
    assert loaded.config.tokenizer.scales == ((1, 1), (2, 2))
    assert loaded.config.sampling.cfg == 1.5
    assert len(loaded.config.tokenizer_hash) == 64
    assert loaded.sample(1)[0].size == (4, 4)
    nextscale.save(loaded, tmp_path / "converted")
    again = nextscale.load(tmp_path / "converted")
    assert again.config.tokenizer_hash == loaded.config.tokenizer_hash
    assert_same_weights(again.model, loaded.model)
    assert nextscale.load("var-d16", dtype=torch.float16).model.head.weight.dtype == torch.float16
    Hub.repositories["FoundationVision/var"]["var_d16.pth"] = files["var_d16.pth"][:-99]
    with pytest.raises(UsageError, match="truncated"):
        nextscale.load("var-d16")
    del Hub.repositories["FoundationVision/var"]["var_d16.pth"]
    with pytest.raises(UsageError, match=r"no file .*var_d16\.pth"):
        nextscale.load("var-d16")


def test_a_foreign_repository_is_refused_before_its_weights(hub: str) -> None:
    Hub.repositories["them/text"] = {
        "config.json": b'{"architectures": ["Other"]}',
        "model.safetensors": b"many gigabytes",
    }
    with pytest.raises(UsageError, match="unknown configuration key architectures"):
        nextscale.load("them/text")
    assert not any("model.safetensors" in line for line in Hub.asked)
    Hub.repositories["them/pictures"] = {"model_index.json": b"{}"}
    with pytest.raises(UsageError, match=r"holds no config\.json") as caught:
        nextscale.load("them/pictures")
    assert "\n" not in str(caught.value)


def test_refusals_of_the_hub_are_one_line(hub: str, pipe: Pipeline) -> None:
    Hub.gated.add("them/secret")
    Hub.gated.add("me/locked")
    for call, message in [
        (lambda: nextscale.load("them/absent"), "neither a directory here nor a repository"),
        (lambda: nextscale.load("them/secret"), "gated"),
        (lambda: nextscale.load("them/bad--name"), "refuses"),
        (lambda: nextscale.push(pipe, "them/theirs"), "refuses"),
        (lambda: nextscale.push(pipe, "me/locked"), "gated"),
    ]:
        with pytest.raises(UsageError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_hub_out_of_reach_is_one_line(
    pipe: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        port = server.server_port  # closed again: nobody listens there
    use_endpoint(monkeypatch, f"http://127.0.0.1:{port}", tmp_path / "cache")
    for call in (
        lambda: nextscale.load("me/shoes"),
        lambda: nextscale.load("var-d16"),
        lambda: nextscale.push(pipe, "me/shoes"),
    ):
        with pytest.raises(UsageError, match="cannot be reached") as caught:
            call()
        assert "\n" not in str(caught.value)


def published_tokenizer() -> dict[str, Tensor]:
    """A tiny state dict in the published format: width 32, two levels, one block each."""
    width, latent, codes = 32, 4, 16
    state: dict[str, Tensor] = {}

    def convolution(key: str, inputs: int, outputs: int, side: int = 3) -> None:
        state[f"{key}.weight"] = (
            torch.randn(outputs, inputs, side, side) / (inputs * side**2) ** 0.5
        )
        state[f"{key}.bias"] = torch.randn(outputs) * 0.1

    def norm(key: str) -> None:
        state[f"{key}.weight"] = 1 + 0.1 * torch.randn(width)
        state[f"{key}.bias"] = 0.1 * torch.randn(width)

    def block(key: str) -> None:
        for i in (1, 2):
            norm(f"{key}.norm{i}")
            convolution(f"{key}.conv{i}", width, width)

    def attention(key: str) -> None:
        norm(f"{key}.norm")
        convolution(f"{key}.qkv", width, 3 * width, 1)
        convolution(f"{key}.proj_out", width, width, 1)

    torch.manual_seed(3)
    for half, levels, count in (("encoder", "down", 1), ("decoder", "up", 2)):
        encodes = half == "encoder"
        convolution(f"{half}.conv_in", 3 if encodes else latent, width)
        convolution(f"{half}.conv_out", width, latent if encodes else 3)
        norm(f"{half}.norm_out")
        for name in ("block_1", "block_2"):
            block(f"{half}.mid.{name}")
        attention(f"{half}.mid.attn_1")
        for i in range(count):
            block(f"{half}.{levels}.0.block.{i}")
            block(f"{half}.{levels}.1.block.{i}")
            attention(f"{half}.{levels}.1.attn.{i}")
    convolution("encoder.down.0.downsample.conv", width, width)
    convolution("decoder.up.1.upsample.conv", width, width)
    convolution("quant_conv", latent, latent)
    convolution("post_quant_conv", latent, latent)
    for i in range(4):
        convolution(f"quantize.quant_resi.qresi_ls.{i}", latent, latent)
    state["quantize.embedding.weight"] = torch.randn(codes, latent)
    state["quantize.ema_vocab_hit_SV"] = torch.zeros(10, codes)
    return state


def published_transformer() -> dict[str, Tensor]:
    """A tiny state dict in the published format: depth 1, two heads, scales 1 2, 3 classes."""
    width, heads, latent, codes, tokens = 32, 2, 4, 16, 5
    shapes = {
        "class_emb.weight": (4, width),
        "pos_start": (1, 1, width),
        "pos_1LC": (1, tokens, width),
        "lvl_embed.weight": (2, width),
        "word_embed.weight": (width, latent),
        "word_embed.bias": (width,),
        "blocks.0.attn.mat_qkv.weight": (3 * width, width),
        "blocks.0.attn.q_bias": (width,),
        "blocks.0.attn.v_bias": (width,),
        "blocks.0.attn.zero_k_bias": (width,),
        "blocks.0.attn.scale_mul_1H11": (1, heads, 1, 1),
        "blocks.0.attn.proj.weight": (width, width),
        "blocks.0.attn.proj.bias": (width,),
        "blocks.0.ffn.fc1.weight": (4 * width, width),
        "blocks.0.ffn.fc1.bias": (4 * width,),
        "blocks.0.ffn.fc2.weight": (width, 4 * width),
        "blocks.0.ffn.fc2.bias": (width,),
        "blocks.0.ada_lin.1.weight": (6 * width, width),
        "blocks.0.ada_lin.1.bias": (6 * width,),
        "head_nm.ada_lin.1.weight": (2 * width, width),
        "head_nm.ada_lin.1.bias": (2 * width,),
        "head.weight": (codes, width),
        "head.bias": (codes,),
        "attn_bias_for_masking": (1, 1, tokens, tokens),
    }
    torch.manual_seed(4)
    state = {key: 0.1 * torch.randn(shape) for key, shape in shapes.items()}
    return {**state, "lvl_1L": torch.tensor([[0, 1, 1, 1, 1]])}


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
