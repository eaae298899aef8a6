"""The token cache: what it holds, what it is keyed by, and how it survives interruptions."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nextscale.data import tokens as module
from nextscale.data.images import Batch
from nextscale.data.order import Part
from nextscale.data.record import Record
from nextscale.data.tokens import (
    TokenCache,
    cache_key,
    cache_tokens,
    encode_missing,
    prepare,
    shape,
)
from nextscale.errors import UsageError
from nextscale.tokenizer.tokenizer import Tokenizer

CHUNK = 4


class Noise:
    """Images that are a function of epoch and sample, with the sample's number modulo 3 as label.

    Attributes:
        asked: (epoch, samples) of every call.
    """

    names = ("a", "b", "c")
    reads_files = False
    record = Record(names)

    def __init__(self, count: int = 10, identity: str = "noise") -> None:
        self.count, self.identity = count, identity
        self.asked: list[tuple[int, list[int]]] = []

    def __len__(self) -> int:
        return self.count

    def load(self, part: Part) -> Batch:
        self.asked.append((part.epoch, part.samples.tolist()))
        seeds = [1000 * part.epoch + int(sample) for sample in part.samples]
        images = [
            torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds
        ]
        return Batch(
            part=part,
            images=torch.stack(images).clamp(-1, 1),
            labels=torch.from_numpy(part.samples % 3),
        )


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", CHUNK)


@pytest.fixture
def make_cache(tokenizer: Tokenizer, tmp_path: Path) -> Callable[..., TokenCache]:
    def make(source: Noise, copies: int = 2, **options) -> TokenCache:
        return cache_tokens(tokenizer, "hash", source, copies, tmp_path, **options)

    return make


@pytest.fixture
def encode_into(tokenizer: Tokenizer) -> Callable[..., TokenCache]:
    def encode(directory: Path, source: Noise, **options) -> TokenCache:
        return cache_tokens(tokenizer, "hash", source, 2, directory, **options)

    return encode


@torch.no_grad()
def directly(tokenizer: Tokenizer, source: Noise, copy: int) -> Tensor:
    """Tokens (N, L) of one pass, in the chunks of the cache."""
    parts = np.array_split(np.arange(len(source)), range(CHUNK, len(source), CHUNK))
    maps = [tokenizer.encode(source.load(Part(copy, part)).images) for part in parts]
    return torch.cat([torch.cat([t.flatten(1) for t in m], 1) for m in maps])


def test_cache_holds_what_encoding_gives(tokenizer: Tokenizer, make_cache) -> None:
    source = Noise()
    cache = make_cache(source)
    assert len(cache) == len(source)
    assert (cache.names, cache.reads_files) == (source.names, False)
    samples = np.array([7, 0, 3])
    copies = [directly(tokenizer, source, copy) for copy in (0, 1)]
    assert not torch.equal(*copies)
    for epoch in (0, 1, 2, 5):
        batch = cache.load(Part(epoch, samples))
        assert batch.tokens.dtype == batch.labels.dtype == torch.int64
        assert torch.equal(batch.tokens, copies[epoch % 2][samples])
        assert batch.labels.tolist() == [1, 0, 0]
        assert batch.skipped == 0


def test_a_finished_cache_is_only_read(make_cache) -> None:
    first = make_cache(Noise())
    source, told = Noise(), []
    again = make_cache(source, progress=lambda *step: told.append(step))
    assert source.asked == told == []
    assert np.array_equal(again.tokens, first.tokens)
    assert again.identity == first.identity


def test_key_tells_all_that_shapes_tokens(tokenizer: Tokenizer, make_tokenizer) -> None:
    def key(tokenizer=tokenizer, digest="a", source=None, copies=1) -> str:
        return cache_key(shape(tokenizer, digest, source or Noise(), copies))

    others = [
        key(digest="b"),
        key(copies=2),
        key(source=Noise(identity="other noise")),
        key(source=Noise(count=11)),
        key(tokenizer=make_tokenizer(scales=(1, 3, 4))),
        key(tokenizer=make_tokenizer(z_norm=True)),
        key(tokenizer=make_tokenizer(phi_ratio=0.25)),
    ]
    assert len({key(), *others}) == len(others) + 1
    assert key() == key(tokenizer=make_tokenizer())


def test_an_interrupted_encoding_goes_on(make_cache, encode_into, tmp_path: Path) -> None:
    whole = make_cache(Noise())
    other = tmp_path / "other"

    class Cut(Exception):
        pass

    def cut(done: int, total: int) -> None:
        assert total == 6
        if done == 2:
            raise Cut

    source = Noise()
    with pytest.raises(Cut):
        encode_into(other, source, progress=cut)
    assert not [path for path in other.iterdir() if not path.name.startswith(".")]
    assert len(source.asked) == 2
    cache = encode_into(other, source)
    assert len(source.asked) == 6
    assert len({(epoch, samples[0]) for epoch, samples in source.asked}) == 6  # none twice
    assert np.array_equal(cache.tokens, whole.tokens)
    assert np.array_equal(cache.numbers, whole.numbers)


def test_processes_fill_one_cache(
    tokenizer: Tokenizer, make_cache, tmp_path: Path, encode_into
) -> None:
    whole = make_cache(Noise())
    barrier = threading.Barrier(2, timeout=60)
    sources, caches = [Noise(), Noise()], [None, None]

    def work(rank: int) -> None:
        place, options = tmp_path / "shared", {"rank": rank, "processes": 2, "wait": barrier.wait}
        caches[rank] = encode_into(place, sources[rank], **options)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chunks = [{(epoch, samples[0]) for epoch, samples in source.asked} for source in sources]
    assert not chunks[0] & chunks[1]
    assert len(chunks[0] | chunks[1]) == 6
    for cache in caches:
        assert cache is not None
        assert np.array_equal(cache.tokens, whole.tokens)
        assert np.array_equal(cache.numbers, whole.numbers)


def test_two_commands_share_the_work(make_cache, encode_into, tmp_path: Path) -> None:
    """The second waits for the first, then reads what that has written."""
    whole = make_cache(Noise())
    sources, caches = [Noise(), Noise()], []

    def work(source: Noise) -> None:
        caches.append(encode_into(tmp_path / "shared", source))

    threads = [threading.Thread(target=work, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(source.asked) for source in sources) == [0, 6]
    assert all(np.array_equal(cache.tokens, whole.tokens) for cache in caches)
    assert len(caches) == 2


def test_a_cut_off_layout_is_laid_out_again(tokenizer: Tokenizer, tmp_path: Path) -> None:
    prepare(tmp_path, 10, 1, tokenizer)
    (tmp_path / "done.npy").unlink()
    (tmp_path / "tokens.npy").write_bytes(b"cut")
    prepare(tmp_path, 10, 1, tokenizer)
    encode_missing(tmp_path, tokenizer, Noise(), 0, 1, lambda done, total: None)
    assert np.load(tmp_path / "done.npy").all()


@pytest.mark.parametrize(
    ("codes", "kind"), [(16, np.uint16), (2**16, np.uint16), (2**16 + 1, np.int32)]
)
def test_tokens_take_the_room_they_need(codes: int, kind, make_tokenizer, tmp_path: Path) -> None:
    prepare(tmp_path, 3, 1, make_tokenizer(codes=codes))
    assert np.load(tmp_path / "tokens.npy").dtype == kind


def test_files_that_could_not_be_read_are_counted(make_cache) -> None:
    class Broken(Noise):
        def load(self, part: Part) -> Batch:
            return replace(super().load(part), skipped=int((part.samples % 4 == 3).sum()))

    assert make_cache(Noise()).skipped == 0
    broken = Broken(identity="broken")
    assert make_cache(broken).skipped == 2 * 2
    assert make_cache(broken).skipped == 2 * 2  # also when it is only read


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 50)


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def link(file: Path) -> None:
    """To the same content, outside of the cache."""
    outside = file.parents[1] / "outside"
    shutil.copy(file, outside)
    file.unlink()
    file.symlink_to(outside)


def written(content: bytes) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(content) and None


def saved(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda file: np.save(file, change(np.load(file)))


def first(value: int) -> Callable[[Path], None]:
    """Damage of one value alone."""

    def change(values: np.ndarray) -> np.ndarray:
        values.flat[0] = value
        return values

    return saved(change)


def header(content: bytes) -> Callable[[Path], None]:
    return written(b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content)


BROKEN = "truncated or no .npy file"
DAMAGE = {  # the file, what happens to it, and what is said then
    "no file": ("tokens.npy", Path.unlink, "No such file"),
    "no labels": ("labels.npy", Path.unlink, "No such file"),
    "no marks": ("done.npy", Path.unlink, "No such file"),
    "no record": ("cache.json", Path.unlink, "No such file"),
    "fifo": ("tokens.npy", fifo, "no plain file"),
    "fifo for a record": ("cache.json", fifo, "no plain file"),
    "folder": ("labels.npy", folder, "no plain file"),
    "link": ("tokens.npy", link, "a link"),
    "link for a record": ("cache.json", link, "a link"),
    "cut": ("tokens.npy", cut, "bytes are stored of it"),
    "longer": ("tokens.npy", lambda file: file.write_bytes(file.read_bytes() + b"x"), "stored"),
    "empty": ("tokens.npy", written(b""), BROKEN),
    "no array": ("tokens.npy", written(b"PK\x03\x04"), BROKEN),
    "brackets": ("tokens.npy", header(b"(" * 9000), BROKEN),
    "signs": ("tokens.npy", header(b"-" * 9000 + b"1\n"), BROKEN),
    "objects": ("labels.npy", saved(lambda values: values.astype(object)), "object"),
    "large code": ("tokens.npy", first(60000), "holds 60000; it must be from 0 to 15"),
    "other code": ("tokens.npy", saved(lambda values: values[::-1]), "tokens.npy was changed"),
    "fewer images": ("tokens.npy", saved(lambda values: values[:, :5]), "is needed"),
    "fewer tokens": ("tokens.npy", saved(lambda values: values[..., :-1]), "is needed"),
    "floats": ("tokens.npy", saved(lambda values: values.astype(np.float64)), "float64"),
    "transposed": ("tokens.npy", saved(np.asfortranarray), "is needed"),
    "negative label": ("labels.npy", first(-5), "holds -5; it must be from 0 to 2"),
    "large label": ("labels.npy", first(9), "holds 9; it must be from 0 to 2"),
    "other label": ("labels.npy", first(1), "labels.npy was changed"),
    "fewer labels": ("labels.npy", saved(lambda values: values[:, :3]), "is needed"),
    "undone": ("done.npy", first(0), "holds 0; it must be from 1 to 5"),
    "other mark": ("done.npy", first(2), "done.npy was changed"),
    "no JSON": ("cache.json", written(b"{"), "not valid JSON"),
    "another record": ("cache.json", written(b"{}"), "another cache"),
}
UNFINISHED = {  # what a part of a cache may look like
    "no marks",
    "no record",
    "other code",
    "other label",
    "undone",
    "other mark",
    "no JSON",
    "another record",
}


def entries(place: Path) -> list[tuple[str, int, int, bytes]]:
    """All that is below a folder: names, kinds, times and contents."""
    found = []
    for path in sorted(place.rglob("*")):
        facts = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found.append((str(path), facts.st_mode, facts.st_mtime_ns, content))
    return found


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_refused(damage: str, make_cache, tmp_path: Path) -> None:
    make_cache(Noise())
    (place,) = (path for path in tmp_path.iterdir() if path.is_dir())
    name, spoil, complaint = DAMAGE[damage]
    spoil(place / name)
    before, source = entries(place), Noise()
    with pytest.raises(UsageError) as refusal:
        make_cache(source)
    line = str(refusal.value)
    assert line.startswith(str(place / name))
    assert complaint in line
    assert line.endswith(f"; remove {place} to encode again")
    assert "\n" not in line
    assert entries(place) == before
    assert source.asked == []
    shutil.rmtree(place)
    make_cache(source)
    assert len(source.asked) == 6


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name not in UNFINISHED])
def test_a_damaged_part_of_a_cache_is_refused(damage: str, make_cache, tmp_path: Path) -> None:
    make_cache(Noise())
    (finished,) = (path for path in tmp_path.iterdir() if path.is_dir())
    place = finished.rename(tmp_path / f".{finished.name}.partial")
    name, spoil, complaint = DAMAGE[damage]
    spoil(place / name)
    before = entries(place)
    with pytest.raises(UsageError) as refusal:
        make_cache(Noise())
    line = str(refusal.value)
    assert line.startswith(str(place / name))
    assert complaint in line
    assert line.endswith(f"; remove {place} to encode again")
    assert entries(place) == before
    assert not finished.exists()


def test_every_process_refuses_a_damaged_cache(make_cache, encode_into, tmp_path: Path) -> None:
    make_cache(Noise())
    (place,) = (path for path in tmp_path.iterdir() if path.is_dir())
    cut(place / "tokens.npy")
    barrier, refusals = threading.Barrier(2, timeout=60), []

    def work(rank: int) -> None:
        with pytest.raises(UsageError) as refusal:
            encode_into(tmp_path, Noise(), rank=rank, processes=2, wait=barrier.wait)
        refusals.append(str(refusal.value))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refusals) == 2
    assert len(set(refusals)) == 1


def test_a_file_in_place_of_a_cache_is_refused(make_cache, tmp_path: Path) -> None:
    make_cache(Noise())
    (place,) = (path for path in tmp_path.iterdir() if path.is_dir())
    for folder in (place, tmp_path / f".{place.name}.partial"):
        shutil.rmtree(place, ignore_errors=True)
        folder.write_text("")
        with pytest.raises(UsageError, match=f"remove {folder} to encode again"):
            make_cache(Noise())
        folder.unlink()


def test_caches_of_older_versions_hold_no_hashes(make_cache, tmp_path: Path) -> None:
    whole = make_cache(Noise())
    (record,) = tmp_path.glob("*/cache.json")
    entries = json.loads(record.read_text())
    assert sorted(entries.pop("hashes")) == ["done", "labels", "tokens"]
    record.write_text(json.dumps(entries, indent=2))
    source = Noise()
    assert np.array_equal(make_cache(source).tokens, whole.tokens)
    assert source.asked == []
    first(16)(record.with_name("tokens.npy"))
    with pytest.raises(UsageError, match="holds 16; it must be from 0 to 15"):
        make_cache(source)
