import pytest
import torch

from nextscale.checkpoints import checkpoint
from nextscale.errors import UsageError
from nextscale.machine.devices import best_device, usable_device


def test_auto_is_an_accelerator_if_there_is_one(monkeypatch):
    assert usable_device("auto") == best_device()
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
    assert usable_device("auto") == torch.device("cpu")


def test_what_torch_finds_is_taken_as_it_is():
    assert usable_device("cpu") == usable_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("name", ["abacus", "meta", "cpu:x"])
def test_what_cannot_be_used_is_named(name):
    with pytest.raises(UsageError, match=f"device '{name}' cannot be used .*give auto, cpu"):
        usable_device(name)


def test_a_checkpoint_is_loaded_as_the_commands_do(saved, monkeypatch):
    monkeypatch.setattr("nextscale.machine.devices.best_device", lambda: torch.device("meta"))
    with pytest.raises(UsageError, match="device 'auto' cannot be used"):
        checkpoint.load(saved, device="auto")
    assert checkpoint.load(saved).device.type == "cpu"
    monkeypatch.undo()
    assert checkpoint.load(saved, device="auto").device.type == best_device().type
