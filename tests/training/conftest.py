"""A folder of pictures, a tokenizer trained on it, and engines that do not know each other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState

from tests.training import runs


@pytest.fixture(autouse=True)
def _own_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test starts accelerate anew, and no run measures the machine's peak."""
    monkeypatch.setattr("nextscale.training.monitor.measure_peak", lambda device, **_: 1e15)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 8 training and 4 validation pictures."""
    return runs.write_pictures(tmp_path_factory.mktemp("pictures") / "data")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A tokenizer's run of 3 steps, for what stands on one."""
    out = tmp_path_factory.mktemp("tokenizer") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nextscale.training.monitor.measure_peak", lambda device, **_: 1e15)
        assert runs.train("tokenizer", out, pictures, "--epochs", 1) == 0
    return out / "final"
