"""The hub, through its own client over HTTP: loading, pushing, published pickles, refusals."""

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
from nextscale.checkpoints import checkpoint
from nextscale.config import presets
from nextscale.errors import UsageError
from nextscale.pipeline import Pipeline
from tests.checkpoints.test_checkpoint import assert_same_weights, make_pipe


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return make_pipe()


@pytest.fixture
def saved(pipe: Pipeline, tmp_path: Path) -> Path:
    nextscale.save(pipe, tmp_path / "model")
    return tmp_path / "model"


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
