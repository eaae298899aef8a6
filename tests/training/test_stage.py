"""What every stage shares, and what it may not know."""

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nextscale import training
from nextscale.training.processes import Processes
from nextscale.training.stage import Stage, with_weights

FOLDER = Path(training.__file__).parent
STAGES = ("tokenizer_stage", "transformer_stage", "classifier_stage")


class Line(Stage):
    """The least that a stage is."""

    command, better, file, prefix = "train line", "loss", "line.safetensors", "network."

    def build(self, steps, processes):
        return nn.ModuleDict({"network": nn.Linear(2, 1), "judge": nn.Linear(1, 1)})

    def step(self, network, batch, step):
        return torch.zeros(()), {}

    def validate(self, network, batches, processes):
        return {"loss": 0.0}

    def write(self, weights, folder):
        raise NotImplementedError


def test_stages_do_not_import_accelerate() -> None:
    modules = ", ".join(f"nextscale.training.{name}" for name in STAGES)
    code = f"import sys, {modules}; print('accelerate' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    for name in STAGES:  # nor for types
        assert "from accelerate" not in (FOLDER / f"{name}.py").read_text()


def test_defaults_do_nothing() -> None:
    stage, alone = Line(), Processes(torch.device("cpu"))
    objective = stage.build(1, alone)
    groups = stage.parameter_groups(objective)
    assert sum(len(group["params"]) for group in groups) == 4
    assert (stage.figures(alone), stage.pictures({}, None), stage.state_dict()) == ({}, {}, {})
    stage.load_state_dict({})
    stage.after_step(0, torch.optim.SGD(objective.parameters()), alone)
    assert stage.notes == []
    assert stage.notes is not Line().notes


def test_weights_are_stored_without_prefix_and_without_the_judge(tmp_path: Path) -> None:
    stage = Line()
    weights = stage.build(1, Processes(torch.device("cpu"))).state_dict()
    stored = stage.stored(weights)
    assert sorted(stored) == ["bias", "weight"]
    save_file(stored, tmp_path / stage.file)
    read = stage.read(tmp_path)
    assert sorted(read) == ["network.bias", "network.weight"]
    network = with_weights(lambda: nn.Linear(2, 1), stage.stored(read))
    assert torch.equal(network.weight, weights["network.weight"])
    assert network.weight.data_ptr() == read["network.weight"].data_ptr()


def test_one_process_reduces_to_copies() -> None:
    alone, value = Processes(torch.device("cpu")), torch.ones(2)
    for reduce in (alone.sum, alone.mean, alone.maximum):
        result: Tensor = reduce(value)
        assert torch.equal(result, value)
        assert result.data_ptr() != value.data_ptr()
    assert (alone.is_main, alone.index, alone.count, alone.sharded) == (True, 0, 1, False)
