"""Damaged and malicious files of every kind, through the commands that read them."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.fuzz.harness import complaint

CASES = int(os.environ.get("NEXTSCALE_FUZZ_FILES", "130"))  # of each kind
VALUES: list[Any] = [
    None, True, -1, 0, 1, 10**9, 10**30, 1e30, -1e-300, float("nan"), float("inf"), 1.5, "", "abc",
    "\ud800", "\x1b[2J", "x" * 5000, [], [5], ["a", 5], [[[]]], {}, {"a": 1}, [None] * 9,
]  # fmt: skip
TENSORS: list[Callable[[torch.Tensor], torch.Tensor]] = [
    lambda x: x * float("nan"),
    lambda x: x / 0,
    lambda x: x.int(),
    lambda x: x > 0,
    lambda x: x.to(torch.complex64),
    lambda x: x[:0],
    lambda x: x.flatten(),
    lambda x: x[None],
    lambda x: x.double(),
    lambda x: x.to(torch.float8_e4m3fn),
    lambda x: torch.zeros(()),
]


def inside(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to every value of nested tables and lists."""
    items = values.items() if isinstance(values, dict) else enumerate(values[:2])
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from inside(value, (*path, key))


def changed(values: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of nested tables with another value at one place."""
    copy = json.loads(json.dumps(values))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


def json_texts(values: Any) -> Iterator[bytes]:
    """One value replaced, a key left out, and what is no JSON."""
    for path in inside(values):
        for value in VALUES:
            yield json.dumps(changed(values, path, value)).encode()
    yield from (b"", b"[]", b"5", b"null", b"{", b"\xff\xfe", b"[" * 10**5, b'{"a":' * 10**5)
    yield from (b'{"a": ' + b"9" * 5000 + b"}", b'{"a": "\\ud800"}', b"\0" * 100)


def damaged_bytes(content: bytes, seed: int = 0) -> Iterator[bytes]:
    """Cut, with bytes changed, removed, doubled; as another program's."""
    source = random.Random(seed)
    while True:
        cut, at = source.randrange(len(content)), source.randrange(len(content))
        flipped = bytearray(content)
        for _ in range(source.randrange(1, 9)):
            flipped[source.randrange(min(len(content), 2000))] = source.randrange(256)
        yield from (content[:cut], bytes(flipped), content[:at] + content[at + 7 :])
        yield from (content + content[:99], bytes(len(content)), b"PK\x03\x04" + content[:cut])


def some(every: Iterator[Any], count: int, seed: int = 0) -> list[Any]:
    """A seeded choice of cases."""
    found = list(every)
    return random.Random(seed).sample(found, min(count, len(found)))


class Judge:
    """Puts a case where it belongs, runs the commands that read it, and collects complaints."""

    def __init__(self, things: Path, folder: Path) -> None:
        self.things, self.folder, self.wrong = things, folder, list[str]()

    def copy(self, name: str) -> Path:
        """A valid thing that a case may damage."""
        target = self.folder / name
        if not target.exists():
            source = self.things / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        return target

    def ask(self, what: str, *words: object) -> None:
        """Runs a command without an output folder of an earlier one."""
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        said = complaint([*map(str, words)], self.folder)
        if said:
            self.wrong.append(f"{what}: {said}")

    def done(self) -> None:
        """Fails with all complaints."""
        assert not self.wrong, f"{len(self.wrong)} wrong\n" + "\n".join(self.wrong[:40])


@pytest.fixture
def judge(things: Path, tmp_path: Path) -> Judge:
    return Judge(things, tmp_path)


def sample(judge: Judge, model: Path) -> list[object]:
    return ["sample", model, "--count", "1", "--device", "cpu", "--out", judge.folder / "out"]


def test_configurations(judge: Judge) -> None:
    model = judge.copy("model")
    values = json.loads((model / "config.json").read_text())
    for text in some(json_texts(values), 2 * CASES):
        (model / "config.json").write_bytes(text)
        judge.ask(f"config {text[:400]!r}", *sample(judge, model))
    judge.done()


def test_configurations_of_classifiers(judge: Judge) -> None:
    folder, images = judge.copy("classifier"), judge.copy("images.npz")
    values = json.loads((folder / "config.json").read_text())
    words = ["evaluate", images, "--reference", images, "--metrics", "fid", "--device", "cpu"]
    for text in some(json_texts(values), CASES // 2):
        (folder / "config.json").write_bytes(text)
        judge.ask(f"config {text[:400]!r}", *words, "--extractor", folder)
    judge.done()


@pytest.mark.parametrize("name", ["tokenizer", "model"])
def test_weights(name: str, judge: Judge) -> None:
    model = judge.copy("model")
    place = model / f"{name}.safetensors"
    tensors, content = load_file(place), place.read_bytes()
    chosen = some(iter([(key, damage) for key in tensors for damage in TENSORS]), CASES // 2)
    for key, damage in chosen:
        save_file({**tensors, key: damage(tensors[key]).contiguous()}, place)
        judge.ask(f"{key} {damage(tensors[key]).dtype}", *sample(judge, model))
    for cut in islice(damaged_bytes(content), CASES // 2):
        place.write_bytes(cut)
        judge.ask("bytes", *sample(judge, model))
    judge.done()


def test_arrays(judge: Judge) -> None:
    place, words = judge.folder / "x.npz", ["evaluate", "--metrics", "fid", "--device", "cpu"]
    images = judge.copy("images.npz")
    words += ["--extractor", str(judge.copy("classifier"))]
    arrays: list[Any] = [
        np.zeros((0, 8, 8), np.uint8), np.zeros((3, 8), np.uint8), np.zeros((3, 8, 8, 7), np.uint8),
        np.zeros((3, 8, 8)), np.array("text"), np.array([{"a": 1}]), np.array(5), np.zeros((9, 0)),
        np.full((4,), np.nan), np.full((4, 4), np.inf), np.array(["a"] * 4), np.zeros((4, 4), bool),
        np.zeros((4, 4), complex), np.zeros((1, 1)), np.zeros((2, 2, 2)), np.eye(4), np.zeros(4),
        np.zeros((12, 0, 8), np.uint8), np.zeros((3, 70000, 1), np.uint8), -np.eye(4),
    ]  # fmt: skip
    for one in arrays:
        for other in (np.eye(4), arrays[8]):
            for pair in (("mu", "sigma"), ("sigma", "mu"), ("values", "logits"), ("arr_0", "x")):
                np.savez(place, **{pair[0]: one, pair[1]: other, "extractor": np.array("")})
                judge.ask(f"{pair} {one.shape} {one.dtype}", *words, images, "--reference", place)
        np.savez(place, arr_0=one)
        judge.ask(f"images {one.shape} {one.dtype}", *words, place, "--reference", images)
    content = images.read_bytes()
    for cut in islice(damaged_bytes(content), CASES // 2):
        place.write_bytes(cut)
        judge.ask("bytes", *words, place, "--reference", images)
    judge.done()


def test_pictures(judge: Judge) -> None:
    model, place = judge.copy("model"), judge.folder / "p.png"
    content = judge.copy("picture.png").read_bytes()
    words = ["--device", "cpu", "--out", judge.folder / "out"]
    for number, cut in enumerate(islice(damaged_bytes(content), CASES)):
        place.write_bytes(cut)
        edit = ["edit", "inpaint", model, place, "--box", "0", "0", "4", "4"]
        judge.ask("bytes", *(edit if number % 2 else ["reconstruct", model, place]), *words)
    judge.done()


def test_fits(judge: Judge) -> None:
    place = judge.copy("fit.json")
    values = json.loads(place.read_text())
    read = {key: values[key] for key in ("models", "laws", "cost", "images")}
    for text in some(json_texts(read), CASES):
        place.write_bytes(text)
        judge.ask(f"fit {text[-300:]!r}", "scaling-laws", "predict", place, "--params", "1e6")
    judge.done()


def test_runs(judge: Judge) -> None:
    ladder = judge.copy("ladder")
    words = ["scaling-laws", "fit", ladder, "--out", judge.folder / "out", "--samples", "100"]
    words += ["--held-out", "0"]
    for name in ("config.json", "log.jsonl", "final/config.json"):
        place = ladder / "d2" / name
        lines = place.read_bytes().splitlines() if name.endswith("l") else [place.read_bytes()]
        for text in some(json_texts(json.loads(lines[-1])), CASES // 3):
            place.write_bytes(b"\n".join([*lines[:-1], text, b""]))
            judge.ask(f"{name} {text[:300]!r}", *words)
        place.write_bytes(b"\n".join(lines) + b"\n")
    judge.done()


def test_state_dicts(judge: Judge) -> None:
    place = judge.copy("state.pth")
    words = ["convert", place, judge.folder / "out"]
    told = {
        "quantize.embedding.weight": (16, 4),
        "encoder.conv_in.weight": (8, 1, 3, 3),
        "encoder.down.0.block.0.conv1.weight": (8, 8, 3, 3),
    }
    states: list[Any] = [
        5, [1], {1: torch.zeros(2)}, {}, {"trainer": 5}, {"trainer": {}},
        {"trainer": {"vae_local": 3}},
        {"a": {1: 2}}, {"trainer": {"vae_local": [torch.zeros(2)]}},
        {"a": torch.zeros(1).expand(10**10)}, {"a": torch.zeros(3).to_sparse()},
    ]  # fmt: skip
    for key, shape in told.items():
        whole = {name: torch.zeros(size) for name, size in told.items()}
        for other in (
            torch.zeros(0),
            torch.zeros(()),
            torch.zeros(1, *shape),
            torch.zeros(0, *shape),
        ):
            states += [{**whole, key: other}, {**whole, key: 5}, {**whole, 3: other}]
        states += [{**whole, "pos_1LC": torch.zeros(shape)}, {"trainer": {"vae_local": whole}}]
    for number, state in enumerate(states):
        torch.save(state, place)
        judge.ask(f"state {number}", *words)
    content = place.read_bytes()
    for cut in islice(damaged_bytes(content), CASES):
        place.write_bytes(cut)
        judge.ask("bytes", *words)
    judge.done()


def test_options(judge: Judge) -> None:
    place = judge.copy("options.yaml")
    words = ["train", "tokenizer", "--out", judge.folder / "out", "--config", place]
    words += ["--data.path", judge.things / "pictures", "--max-steps", "1"]
    keys = (
        "seed", "epochs", "data", "tokenizer", "betas", "out", "resume", "schedule", "preset",
        "loss", "nothing", "data.path", "config", "5", "null",
    )  # fmt: skip
    texts = [f"{key}: {json.dumps(value)}\n" for value in VALUES for key in keys]
    texts += [f"data: {{path: {json.dumps(value)}}}\n" for value in VALUES]
    texts += [f"tokenizer: {{scales: {json.dumps(value)}}}\n" for value in VALUES]
    for text in some(iter(texts), CASES):
        place.write_bytes(text.encode(errors="surrogatepass"))
        judge.ask(f"yaml {text[:200]!r}", *words)
    valid = b"data: {path: x, size: 3}\nloss: {l1: 2.0}\nseed: 5\n"
    for cut in islice(damaged_bytes(valid), CASES // 2):
        place.write_bytes(cut)
        judge.ask(f"yaml {cut[:200]!r}", *words)
    judge.done()
