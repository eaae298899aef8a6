"""What the log averages, and what it does not count."""

import pytest
import torch

from nextscale.training import monitor
from nextscale.training.monitor import Window, flatten


def test_window_averages_terms_over_the_steps_that_had_them() -> None:
    window = Window()
    window.add({"loss": torch.tensor(1.0)})
    window.add({"loss": torch.tensor(3.0), "adversarial": torch.tensor(5.0)})
    assert window.steps == 2
    assert {k: float(v) for k, v in window.means().items()} == {"loss": 2.0, "adversarial": 5.0}


def test_lists_become_a_number_a_scale() -> None:
    flat = flatten({"loss": 1, "use": [0.5, 1.0], "event": "validation"})
    assert flat == {"loss": 1.0, "use/scale_1": 0.5, "use/scale_2": 1.0}


def test_a_pause_is_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 12.0, 17.0, 20.0])
    monkeypatch.setattr(monitor.time, "perf_counter", lambda: next(times))
    window = Window()
    with window.pause():
        pass
    assert window.seconds == 5.0
