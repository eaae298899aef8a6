"""The report of drawing: its rows, its nominal arithmetic, its memory."""

import pytest
import torch

from nextscale.checkpoints import checkpoint
from nextscale.config.speed import MODES, SampleConfig
from nextscale.cost.flops import drawing_flops, transformer_flops
from nextscale.machine.instructions import can_compile
from nextscale.scales import length, spans
from nextscale.speed import sampling_speed
from nextscale.speed.sampling_speed import open_pipeline

CPU = torch.device("cpu")
compiles = pytest.mark.skipif(not can_compile(), reason="there is no C++ compiler")


def test_report() -> None:
    config = SampleConfig(modes=("exact",), batch=(1, 2), repeats=1)
    told = []
    report = sampling_speed.measure(config, CPU, told.append)
    assert sum(told) == sampling_speed.runs(config, CPU)
    assert [(row["mode"], row["batch"]) for row in report["rows"]] == [("exact", 1), ("exact", 2)]
    for row in report["rows"]:
        parts = row["transformer_seconds"] + row["decoder_seconds"]
        assert abs(parts - row["seconds_per_image"]) < 1e-6  # one repeat: medians add up
        rate = report["flops_per_image"] / row["seconds_per_image"]
        assert abs(rate / report["fp32_peak_gflops"] / 1e9 - row["share_of_peak"]) < 1e-6
        weights = 4 * report["parameters"]
        assert row["peak_memory_bytes"] - row["memory_before_bytes"] > weights / 2


@compiles
def test_modes_are_what_they_say() -> None:
    config = SampleConfig(modes=MODES, batch=(3,), repeats=1, memory=False)
    exact, compiled, int8 = sampling_speed.measure(config, CPU, lambda _: None)["rows"]
    assert [row["mode"] for row in (exact, compiled, int8)] == ["exact", "compiled", "int8"]
    assert "token_agreement" not in exact
    assert 0.8 < int8["token_agreement"] < compiled["token_agreement"] > 0.99
    assert not open_pipeline(config, CPU, "compiled").quantized
    assert open_pipeline(config, CPU, "int8").quantized


def test_random_weights_have_the_model_s_shape() -> None:
    own = open_pipeline(SampleConfig(), CPU, "exact")
    fresh = open_pipeline(SampleConfig(random_weights=True), CPU, "exact")
    for module, other in ((own.model, fresh.model), (own.tokenizer, fresh.tokenizer)):
        shapes = {name: value.shape for name, value in module.state_dict().items()}
        assert {name: value.shape for name, value in other.state_dict().items()} == shapes
    first = next(own.model.parameters()), next(fresh.model.parameters())
    assert not torch.equal(*first)


def test_arithmetic_of_d16() -> None:
    """The network's products by hand: 991 GFLOP an image, 40 fewer as it upsamples small maps."""
    whole = checkpoint.config_of("var-d16")
    model, scales = whole.model, whole.tokenizer.scales
    assert model is not None
    tokens, width = length(scales), model.width
    pairs = sum((end - begin) * end for begin, end in spans(scales))
    block = tokens * 12 * width**2 + 2 * width * pairs
    once = (6 * model.depth + 2) * width**2 + (tokens - 1) * 32 * width + tokens * width * 4096
    expected = 2 * (model.depth * block + once)
    assert transformer_flops(whole) == pytest.approx(
        expected, rel=2e-3
    )  # coarse scales share a call
    assert round(drawing_flops(whole, guided=True) / 1e9) == 951
