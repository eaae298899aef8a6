"""The token cache: what it holds, what it is keyed by, and how it survives interruptions."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nextscale.data import tokens as module
from nextscale.data.order import Samples
from nextscale.data.record import Record
from nextscale.data.tokens import TokenCache, cache_key, cache_tokens, fill, prepare, shape
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

    def load(self, epoch: int, samples: Samples) -> tuple[Tensor, Tensor, int]:
        self.asked.append((epoch, samples.tolist()))
        images = [
            torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(1000 * epoch + int(s)))
            for s in samples
        ]
        return torch.stack(images).clamp(-1, 1), torch.from_numpy(samples % 3), 0


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
    maps = [tokenizer.encode(source.load(copy, part)[0]) for part in parts]
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
        tokens, labels, skipped = cache.load(epoch, samples)
        assert tokens.dtype == labels.dtype == torch.int64
        assert torch.equal(tokens, copies[epoch % 2][samples])
        assert labels.tolist() == [1, 0, 0]
        assert skipped == 0


def test_a_finished_cache_is_only_read(make_cache) -> None:
    first = make_cache(Noise())
    source, told = Noise(), []
    again = make_cache(source, tell=lambda *step: told.append(step))
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
        encode_into(other, source, tell=cut)
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
    fill(tmp_path, tokenizer, Noise(), 0, 1, lambda done, total: None)
    assert np.load(tmp_path / "done.npy").all()


@pytest.mark.parametrize(
    ("codes", "kind"), [(16, np.uint16), (2**16, np.uint16), (2**16 + 1, np.int32)]
)
def test_tokens_take_the_room_they_need(codes: int, kind, make_tokenizer, tmp_path: Path) -> None:
    prepare(tmp_path, 3, 1, make_tokenizer(codes=codes))
    assert np.load(tmp_path / "tokens.npy").dtype == kind


def test_files_that_could_not_be_read_are_counted(make_cache) -> None:
    class Broken(Noise):
        def load(self, epoch: int, samples: Samples) -> tuple[Tensor, Tensor, int]:
            images, labels, _ = super().load(epoch, samples)
            return images, labels, int((samples % 4 == 3).sum())

    assert make_cache(Noise()).skipped == 0
    broken = Broken(identity="broken")
    assert make_cache(broken).skipped == 2 * 2
    assert make_cache(broken).skipped == 2 * 2  # also when it is only read
