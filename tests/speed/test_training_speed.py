"""The measured step is a training step, and what it will take is known before."""

import subprocess
import sys

import pytest
import torch

from nextscale.checkpoints import checkpoint
from nextscale.config.speed import PRECISIONS, EstimateConfig, TrainConfig
from nextscale.cost.flops import parameters, transformer_flops
from nextscale.errors import UsageError
from nextscale.machine.instructions import made_for
from nextscale.speed import estimate, training_speed
from nextscale.speed.training_speed import Kind, open_step

CPU = torch.device("cpu")


@pytest.mark.parametrize("stage", ["tokenizer", "transformer"])
def test_a_step_changes_the_weights_and_leaves_no_gradient(stage: str) -> None:
    step = open_step(TrainConfig(), Kind(stage, "bfloat16"), 2, CPU)
    before = [weight.clone() for weight in step.network.parameters()]
    assert step.run()["seconds"] > 0
    changed = [
        not torch.equal(a, b) for a, b in zip(step.network.parameters(), before, strict=True)
    ]
    assert sum(changed) > len(changed) / 2
    assert all(weight.grad is None for weight in step.network.parameters())


def test_gradients_do_not_depend_on_checkpointing() -> None:
    found = []
    for recompute in (0.0, 0.5, 1.0):
        step = open_step(TrainConfig(), Kind("transformer", "float32", recompute), 2, CPU)
        step.loss().backward()
        found.append([weight.grad for weight in step.network.parameters()])
    for kept, *recomputed in zip(*found, strict=True):
        for gradient in recomputed:
            assert (kept is None) == (gradient is None)
            if kept is not None:
                torch.testing.assert_close(kept, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("has", [True, False])
def test_what_the_device_is_made_for_is_measured(
    has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        training_speed, "made_for", lambda precision, device: has or precision == "float32"
    )
    kinds = training_speed.kinds(TrainConfig(stages=("transformer",)), CPU)
    assert [kind.precision for kind in kinds] == ["float32", "bfloat16"][: 1 + has]
    asked = training_speed.kinds(TrainConfig(stages=("transformer",), precision=("bfloat16",)), CPU)
    assert [kind.precision for kind in asked] == ["bfloat16"]


def test_report_is_near_its_estimate() -> None:
    precision = "bfloat16" if made_for("bfloat16", CPU) else "float32"
    config = TrainConfig(precision=(precision,), batch=(24,), repeats=1)
    told = []
    rows = training_speed.measure(config, CPU, told.append)["rows"]
    assert sum(told) == training_speed.runs(config, CPU)
    before = EstimateConfig(tasks=config.stages, precision=config.precision, batch=config.batch)
    estimated = estimate.estimate(before, CPU, lambda _: None)["rows"]
    assert len(rows) == len(estimated) == 2
    for row, guess in zip(rows, estimated, strict=True):
        assert (row["stage"], row["precision"]) == (guess["task"], guess["precision"])
        assert row["parameters"] == guess["parameters"]
        assert row["flops_per_image"] == guess["flops_per_image"]
        memory = row["memory_before_bytes"] + guess["tensor_bytes"]
        # Scratch within operators is not estimated: 1.31 was seen where bfloat16 is native.
        assert 0.87 < row["peak_memory_bytes"] / memory < 1.6


def test_two_small_batches_determine_every_batch() -> None:
    config = EstimateConfig(
        tasks=("transformer",), precision=("float32",), batch=(1, 2, 3, 40, 41), rate=1
    )
    rows = estimate.estimate(config, CPU, lambda _: None)["rows"]
    one, two, three, many, more = (row["tensor_bytes"] for row in rows)
    assert 0 < two - one <= three - two <= more - many
    assert more - many == pytest.approx((many - three) / 37, rel=0.05)


@pytest.mark.parametrize("task", ["sample", "tokenizer", "transformer"])
def test_fake_tensors_give_what_real_ones_give(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = EstimateConfig(
        tasks=(task,), precision=("float32",), batch=(1, 64), activation_checkpointing=0.5, rate=1
    )
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    found = []
    for flops in (1e12, 0.0):
        monkeypatch.setattr(estimate, "SMALL_FLOPS", flops)
        rows = estimate.estimate(config, CPU, lambda _: None)["rows"]
        found.append([{**row, "memory_bytes": 0} for row in rows])
    assert found[0] == found[1]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("has", [True, False])
def test_what_the_device_is_made_for_is_estimated(
    has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        estimate, "made_for", lambda precision, device: has or precision == "float32"
    )
    kinds = estimate.precisions(EstimateConfig(), CPU)
    assert kinds == ("float32", "bfloat16")[: 1 + has]
    assert estimate.runs(EstimateConfig(), CPU) == 3 * 2 * len(kinds)
    asked = EstimateConfig(precision=("bfloat16",))
    assert estimate.precisions(asked, CPU) == ("bfloat16",)


def test_estimating_imports_no_more_than_it_needs() -> None:
    code = (
        "import sys, torch;"
        "from nextscale.speed.estimate import estimate;"
        "from nextscale.config.speed import EstimateConfig;"
        "estimate(EstimateConfig(), torch.device('cpu'), lambda _: None);"
        "heavy = ('torchvision', 'torch._dynamo', 'sympy');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_estimate_of_drawing() -> None:
    config = EstimateConfig(
        model="var-d16", tasks=("sample",), precision=PRECISIONS, batch=(2,), rate=1000
    )
    rows = estimate.estimate(config, CPU, lambda _: None)["rows"]
    assert rows[0]["parameters"] == rows[1]["parameters"] == pytest.approx(418e6, rel=0.02)
    assert rows[0]["seconds_per_image"] == pytest.approx(0.951, abs=0.001)
    weights = 4 * rows[0]["parameters"]
    assert weights < rows[0]["tensor_bytes"] < 1.5 * weights
    assert rows[1]["tensor_bytes"] == pytest.approx(rows[0]["tensor_bytes"] / 2, rel=0.05)


def test_checkpointing_costs_a_pass_and_saves_memory() -> None:
    found = []
    for recompute in (0.0, 0.5, 1.0):
        config = EstimateConfig(
            tasks=("transformer",), precision=("float32",), batch=(64,),
            activation_checkpointing=recompute,
        )  # fmt: skip
        found += estimate.estimate(config, CPU, lambda _: None)["rows"]
    none, half, whole = (row["tensor_bytes"] for row in found)
    assert whole < 0.4 * none
    assert whole < half < 0.65 * none
    forward = transformer_flops(checkpoint.config_of("fashion-mnist"))
    extra = found[2]["flops_per_image"] - found[0]["flops_per_image"]
    assert 0.8 * forward < extra < forward  # the blocks', without the head


def test_a_tokenizer_alone(tokenizer, tmp_path) -> None:
    from nextscale.config.model import ModelConfig
    from nextscale.pipeline import Pipeline

    alone = str(tmp_path / "alone")
    checkpoint.save(Pipeline(tokenizer, None, ModelConfig(tokenizer.config)), alone)
    config = EstimateConfig(model=alone, tasks=("tokenizer",), precision=("float32",), batch=(1,))
    (row,) = estimate.estimate(config, CPU, lambda _: None)["rows"]
    assert row["parameters"] == parameters(tokenizer)
    for task in ("sample", "transformer"):
        with pytest.raises(UsageError, match="a tokenizer alone"):
            estimate.estimate(EstimateConfig(model=alone, tasks=(task,)), CPU, lambda _: None)
