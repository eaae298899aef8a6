"""What the log averages, and what it does not count."""

from types import SimpleNamespace

import pytest
import torch

from nextscale.config.run import TrainingConfig
from nextscale.training import monitor
from nextscale.training.monitor import Monitor, Window, flatten, speed_of


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


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch):
    """A monitor of a run in a precision, whose device's peaks are these, one after the other."""

    def make(precision: str, *peaks: float) -> Monitor:
        told, kinds = iter(peaks), []

        def measure(device, dtype, **_):
            kinds.append(dtype)
            return next(told)

        monkeypatch.setattr(monitor, "measure_peak", measure)
        monkeypatch.setattr(monitor, "count_flops", lambda step: 6)
        accelerator = SimpleNamespace(device=torch.device("cpu"), mixed_precision=precision)
        config = TrainingConfig(batch_size=4)
        made = Monitor(accelerator, None, config, "train var", steps_in_epoch=1)
        made.measure(lambda: None, 3)
        made.kinds = kinds
        return made

    return make


def test_a_peak_that_is_exceeded_is_taken_again(watched) -> None:
    busy = watched("no", 100.0, 400.0)
    assert busy.flops == 2
    assert busy.share_of_peak(50.0) == {"share_of_peak": 0.5, "peak": "fp32"}
    assert busy.share_of_peak(200.0) == {"share_of_peak": 0.5, "peak": "fp32"}
    assert busy.window.paused > 0


def test_a_share_above_one_is_left_out(watched) -> None:
    odd = watched("no", 100.0, 90.0)
    assert odd.share_of_peak(200.0) == {}
    assert odd.share_of_peak(10.0) == {}  # that peak is none
    odd.measure_again()
    entry = {"loss": 1.0, "images_per_second": 3.0, "flops_per_second": 2e9, "peak_memory_gib": 1.0}
    assert speed_of(entry) == "loss 1.0000, 3 images/s, 2 GFLOP/s, 1.0 GiB"
    share = {"share_of_peak": 0.25, "peak": "bf16"}
    assert "2 GFLOP/s (25% of bf16 peak), 1.0 GiB" in speed_of(entry | share)


def test_the_peak_is_that_of_the_precision(watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "made_for", lambda precision, device: precision == "bfloat16")
    assert watched("bf16", 100.0).share_of_peak(50.0) == {"share_of_peak": 0.5, "peak": "bf16"}
    assert watched("bf16", 100.0).kinds == [torch.bfloat16]
    assert watched("fp16").share_of_peak(50.0) == {}  # emulated: nothing is measured


def test_a_device_that_was_busy_is_looked_at_again(watched) -> None:
    busy = watched("no", 100.0, 400.0, 300.0)
    busy.measure_again()
    busy.measure_again()
    assert busy.share_of_peak(100.0)["share_of_peak"] == 0.25
