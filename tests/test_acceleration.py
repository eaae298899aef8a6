"""Compiled blocks give the same logits in two graphs; int8 stays near; freed memory is kept."""

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from nextscale import acceleration
from nextscale.checkpoints import checkpoint
from nextscale.config.architecture import RELEASED_256
from nextscale.config.model import ModelConfig
from nextscale.errors import UsageError
from nextscale.generation.generate import prepare
from nextscale.machine import instructions
from nextscale.machine.instructions import can_compile
from nextscale.pipeline import Pipeline
from nextscale.scales import Scales, areas

BATCH = 2
compiles = pytest.mark.skipif(not can_compile(), reason="there is no C++ compiler")


@pytest.fixture
def make_pipe(make_tokenizer, make_model):
    """Builds a pipeline of ten scales whose large maps are wide enough for int8."""

    def make(scales: Scales = RELEASED_256) -> Pipeline:
        tokenizer = make_tokenizer(scales=scales)
        model = make_model(tokenizer, width=64, heads=2 * BATCH)  # as many as guided images
        return Pipeline(tokenizer, model, ModelConfig(tokenizer.config, model.config))

    return make


@torch.inference_mode()
def cached_logits(pipe: Pipeline, guided: bool = True) -> torch.Tensor:
    """Logits (2B, L, V) of all scales, teacher-forced, as drawing computes them."""
    generator = torch.Generator().manual_seed(0)
    predict, x = prepare(pipe.model, torch.tensor([0, 1])[:BATCH], guided)
    parts = []
    for area in areas(pipe.model.scales):
        if parts:
            x = torch.randn(len(x), area, pipe.model.config.width, generator=generator)
        parts.append(predict(x))
    return torch.cat(parts, 1)


@compiles
def test_compiled_logits_are_those_of_plain_blocks_and_few_graphs_serve_all(make_pipe) -> None:
    plain, pipe = make_pipe(), make_pipe().compile()
    counters.clear()
    first = cached_logits(pipe)
    torch.testing.assert_close(first, cached_logits(plain), rtol=0, atol=1e-4)
    assert not counters["graph_break"]
    compiled = counters["stats"]["unique_graphs"]
    assert 1 <= compiled <= 2  # of ten scales and two blocks: one token, more tokens
    assert torch.equal(cached_logits(pipe), first)
    pipe.sample([0] * 5, cfg=1.5)
    pipe.sample([0, 1], cfg=0)
    pipe.sample([1, None, 2], cfg=0)
    assert counters["stats"]["unique_graphs"] == compiled
    assert not counters["graph_break"]
    pipe.sample([0], cfg=0)  # a single row
    assert counters["stats"]["unique_graphs"] <= 2 * compiled


@compiles
def test_graphs_of_fixed_sizes_give_the_same_logits(make_pipe, monkeypatch) -> None:
    """What an accelerator would run, without CUDA graphs, which a CPU has not."""
    scales = RELEASED_256[:3]
    plain, pipe, begun = make_pipe(scales), make_pipe(scales), []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(1))
    acceleration.compile_for_each_size(pipe.model, pipe.tokenizer)
    counters.clear()
    logits = cached_logits(pipe)
    torch.testing.assert_close(logits, cached_logits(plain), rtol=0, atol=1e-4)
    assert len(begun) == len(scales)  # one a step
    assert counters["stats"]["unique_graphs"] == len(scales)
    assert not counters["graph_break"]
    codes = pipe.tokenizer.quantizer.empty(1)
    with torch.inference_mode():
        image = pipe.tokenizer.decode_accumulated(codes)
        expected = plain.tokenizer.decode_accumulated(codes)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-4)
    assert len(begun) == len(scales) + 1


def test_next_token_models_are_not_compiled_for_an_accelerator(make_tokenizer, make_model) -> None:
    tokenizer = make_tokenizer(scales=RELEASED_256[-1:])
    model = make_model(tokenizer, order="raster")
    with pytest.raises(UsageError, match="leave --compile out"):
        acceleration.compile_for_each_size(model, tokenizer)


@pytest.mark.parametrize(
    ("avx512_bf16", "amx", "taken"),
    [(False, False, False), (True, False, True), (True, True, True)],
)
def test_emulated_bfloat16_is_not_what_a_cpu_is_made_for(
    avx512_bf16, amx, taken, monkeypatch
) -> None:
    """oneDNN supports bfloat16 on every CPU with AVX-512, and emulates it on most."""
    monkeypatch.setattr(instructions.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert instructions.made_for("bfloat16", torch.device("cpu")) is taken


@pytest.mark.parametrize(
    ("compiled", "device", "has", "taken"),
    [
        (True, "cpu", True, "float32"),
        (True, "cuda", True, "bfloat16"),
        (True, "cuda", False, "float32"),
        (False, "cuda", True, "float32"),
    ],
)
def test_precision_where_none_is_asked_for(compiled, device, has, taken, monkeypatch) -> None:
    monkeypatch.setattr(instructions, "made_for", lambda precision, device: has)
    assert instructions.drawing_precision(compiled, torch.device(device)) == taken


@compiles
def test_int8_is_near_and_as_near_compiled(make_pipe) -> None:
    plain, pipe = cached_logits(make_pipe()), make_pipe().quantize()
    eager = cached_logits(pipe)
    error = ((eager - plain).std() / plain.std()).item()
    assert 0.001 < error < 0.1
    compiled = cached_logits(pipe.compile())
    assert ((compiled - eager).std() / plain.std()).item() < error


def test_int8_takes_the_large_maps_alone(make_pipe, tmp_path) -> None:
    pipe = make_pipe().quantize()
    kinds = {
        name: type(part.weight).__name__
        for name, part in pipe.model.named_modules()
        if isinstance(part, nn.Linear)
    }
    quantized = {name for name, kind in kinds.items() if kind == "Int8Tensor"}
    ends = ("query_key_value", "attention.project", "mlp.expand", "mlp.project")
    assert quantized == {name for name in kinds if name.endswith(ends)}
    assert {"head", "word_embedding"} <= set(kinds) - quantized
    with pytest.raises(UsageError, match="int8 weights cannot be saved"):
        checkpoint.save(pipe, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_told(pipe, monkeypatch) -> None:
    monkeypatch.setattr(acceleration, "can_compile", lambda: False)
    with pytest.raises(UsageError, match=r"a C\+\+ compiler"):
        pipe.compile()
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(UsageError, match="pip install torchao"):
        pipe.quantize()
    assert not pipe.quantized


def test_kernels_lie_in_the_cache_or_where_the_variable_says(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert acceleration.kernels() == tmp_path / "nextscale/kernels"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    assert str(acceleration.kernels()) == "/elsewhere"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="acts on glibc alone")
def test_freed_memory_is_kept() -> None:
    program = """
import re, torch
from nextscale.machine.heap import keep_freed_memory
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = resident()
torch.ones(50 * 2**20); given_back = resident() - before
keep_freed_memory()
torch.ones(50 * 2**20); kept = resident() - before
print(given_back, kept)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    given_back, kept = map(int, done.stdout.split())
    assert given_back < 100_000 < kept  # KiB, of 200 MiB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="acts on glibc alone")
def test_memory_of_threads_is_shared_and_returns() -> None:
    program = """
import ctypes, re, sys, threading
from nextscale.machine.heap import give_back_memory, keep_freed_memory, share_memory
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.memset.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
library.free.argtypes = [ctypes.c_void_p]
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
def work(done, over):
    places = [library.malloc(20 * 2**20) for _ in range(10)]
    [library.memset(place, 1, 20 * 2**20) for place in places]
    [library.free(place) for place in places]
    done.set()
    over.wait()
if sys.argv[1] == "shared":
    share_memory()
keep_freed_memory()
before, over = resident(), threading.Event()
for _ in range(4):
    done = threading.Event()
    threading.Thread(target=work, args=(done, over)).start()
    done.wait()
kept = resident() - before
give_back_memory()
print(kept, resident() - before)
over.set()
"""
    grown = {}
    for mode in ("own", "shared"):
        command = [sys.executable, "-c", program, mode]
        done = subprocess.run(command, capture_output=True, check=True)
        grown[mode] = list(map(int, done.stdout.split()))
    assert grown["own"][1] > 150_000  # KiB, of 200 MiB in each of four threads
    assert grown["shared"][0] < 250_000
    assert grown["shared"][1] < 20_000
