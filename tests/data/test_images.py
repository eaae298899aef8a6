"""What a batch holds, and how it is pinned and moved."""

import numpy as np
import pytest
import torch
from torch import Tensor

from nextscale.data.images import Batch, batches
from nextscale.data.order import Part

PART = Part(3, np.array([4, 0]))
LABELS = torch.tensor([1, 2])
CONTENTS = {
    "images": torch.zeros(2, 1, 4, 4),
    "tokens": torch.zeros(2, 21, dtype=torch.long),
    "features": torch.zeros(2, 4, 2, 2),
}


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Tensors that were pinned; no GPU is needed."""
    found: list[Tensor] = []

    def pin(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    return found


@pytest.mark.parametrize("given", [(), ("images", "tokens"), ("tokens", "features")])
def test_a_batch_holds_one_kind_of_data(given: tuple[str, ...]) -> None:
    contents = {name: CONTENTS[name] for name in given}
    with pytest.raises(ValueError, match=f"{len(given)} are given"):
        Batch(part=PART, labels=LABELS, **contents)


@pytest.mark.parametrize("kind", CONTENTS)
def test_every_tensor_is_pinned(kind: str, pinned: list[Tensor]) -> None:
    batch = Batch(part=PART, labels=LABELS, skipped=1, **{kind: CONTENTS[kind]})
    copy = batch.pin_memory()
    assert [id(tensor) for tensor in pinned] == [id(CONTENTS[kind]), id(LABELS)]
    assert torch.equal(getattr(copy, kind), CONTENTS[kind])
    assert getattr(copy, kind) is not CONTENTS[kind]
    assert (copy.part, copy.skipped, len(copy)) == (PART, 1, 2)


def test_the_loader_pins_a_batch(pinned: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    class Source:
        def load(self, part: Part) -> Batch:
            return Batch(part=part, labels=LABELS, images=CONTENTS["images"])

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert len(list(batches(Source(), [PART], pin=True))) == 1
    assert len(pinned) == 2
    assert len(list(batches(Source(), [PART]))) == 1
    assert len(pinned) == 2


def test_a_batch_is_moved_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def to(tensor: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
        asked.append((device, non_blocking))
        return tensor

    batch = Batch(part=PART, labels=LABELS, tokens=CONTENTS["tokens"])
    assert torch.equal(batch.to(torch.device("cpu")).tokens, CONTENTS["tokens"])
    monkeypatch.setattr(Tensor, "to", to)
    batch.to(torch.device("cuda"))
    assert asked == [(torch.device("cuda"), True)] * 2
