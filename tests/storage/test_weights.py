"""Tensors in files: what is refused, and what a hash sees."""

import os
from pathlib import Path

import pytest
import torch

from nextscale.errors import UsageError
from nextscale.storage import weights


def test_hash_sees_names_shapes_dtypes_and_bytes() -> None:
    base = {"a": torch.arange(6.0), "b": torch.ones(2, dtype=torch.bfloat16)}
    variants = [
        base,
        {"c": base["a"], "b": base["b"]},
        {"a": base["a"].view(2, 3), "b": base["b"]},
        {"a": base["a"].view(torch.int32), "b": base["b"]},
        {"a": base["a"] + 1e-6, "b": base["b"]},
        {"a": base["a"], "b": base["b"] * 2},
        {"a": base["a"]},
        {**base, "d": torch.ones(0, 3)},
        {**base, "d": torch.tensor(1.0)},
    ]
    assert len({weights.hash_weights(tensors) for tensors in variants}) == len(variants)
    strided = torch.arange(6.0).repeat_interleave(2)[::2]
    reordered = {"b": base["b"].clone(), "a": strided}
    assert weights.hash_weights(reordered) == weights.hash_weights(base)


class Bomb:
    """Unpickled, it would leave a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, zipped: bool) -> None:
    trace, path = tmp_path / "trace", tmp_path / "bomb.pth"
    state = {"weight": torch.ones(3), "bomb": Bomb(trace)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UsageError, match=r"would run code \(\w+\.mkdir\)") as caught:
        weights.read_pickle(path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the bomb is live
    assert trace.is_dir()


@pytest.mark.parametrize("zipped", [True, False])
def test_read_pickle(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "state.pth"
    torch.save({"a": torch.arange(5)}, path, _use_new_zipfile_serialization=zipped)
    assert torch.equal(weights.read_pickle(path)["a"], torch.arange(5))
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:-30], b"", b"hello", b"PK\x03\x04 and so on"):
        path.write_bytes(broken)
        with pytest.raises(UsageError, match=r"truncated or no file of torch\.save"):
            weights.read_pickle(path)
    with pytest.raises(UsageError, match="no file"):
        weights.read_pickle(tmp_path / "absent.pth")
    torch.save(torch.ones(2), path)
    with pytest.raises(UsageError, match="holds a Tensor"):
        weights.read_pickle(path)
