"""Tiny trainings through the command line: in this process, or in others that may be killed.

Other processes are forked from a server that has imported the package once, and so start at once.
"""

import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from PIL import Image
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from nextscale.cli.main import main
from nextscale.storage.weights import RecordingWriter
from nextscale.training import engine, loop, monitor, saved
from nextscale.training.stage import Weights
from nextscale.training.state import TrainState

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "nextscale.training.loop",
        "nextscale.training.tokenizer_stage",
        "nextscale.training.transformer_stage",
    ]
)


def words_of(text: str) -> list[str]:
    """The words of a command line."""
    return text.split()


DATA = words_of("--data.augment released --data.flip --data.workers 0")
TOKENIZER = words_of(
    "--tokenizer.scales 1 2 4 --tokenizer.image-channels 1 --tokenizer.width 8 "
    "--tokenizer.multipliers 1 2 --tokenizer.blocks 1 --tokenizer.groups 4 "
    "--tokenizer.latent 4 --tokenizer.codes 16 --batch-size 8 --learning-rate 1e-3"
)
EVERYTHING = words_of(
    "--loss.adversarial 0.5 --loss.adversarial-start 0.3 --loss.adversarial-warmup 0.2 "
    "--loss.discriminator-width 8 --loss.discriminator-layers 1 --loss.revive-every 2 "
    "--loss.revive-until 1"
)
VAR = words_of(
    "--model.depth 2 --model.width 16 --model.heads 2 --batch-size 8 --learning-rate 1e-3"
)
CLASSIFIER = words_of(
    "--classifier.image-size 8 8 --classifier.width 8 --classifier.blocks 1 --classifier.groups 4 "
    "--batch-size 8 --learning-rate 1e-2"
)


def write_pictures(root: Path, training: int = 8, validation: int = 4) -> Path:
    """A folder of three classes of coarse grey noise, 10x10 pixels, with `train` and `val`."""
    generator = np.random.default_rng(0)
    for part, count in (("train", training), ("val", validation)):
        for label in ("bag", "boot", "coat"):
            folder = root / part / label
            folder.mkdir(parents=True)
            for i in range(count):
                blocks = np.kron(generator.integers(0, 256, (3, 3)), np.ones((4, 4)))
                Image.fromarray(blocks[:10, :10].astype(np.uint8)).save(folder / f"{i}.png")
    return root


def train(stage: str, out: Path, data: Path, *words: Any) -> int:
    """Runs `nextscale train STAGE`; gives its exit code."""
    return main(train_words(stage, out, data, *words))


def train_words(stage: str, out: Path, data: Path, *words: Any) -> list[str]:
    """The words of a tiny training."""
    network = {"tokenizer": TOKENIZER, "var": VAR, "ar": VAR, "classifier": CLASSIFIER}[stage]
    run = ["--out", out, "--data.path", data, *DATA, *network, *words]
    return ["train", stage, *map(str, run)]


def run_and_die(words: list[str], moment: str, step: int) -> None:
    """Trains until optimizer step `step` (from 0) and kills itself there, without a farewell.

    Args:
        words: of the command.
        moment: `step`, with gradients at hand but the weights not yet moved; `writing`, with half
            of `training.pt` on the disk; `renaming`, with a whole checkpoint beside its place;
            `never`.
    """
    die, clip = _Death(step), loop.Run.clip
    if moment == "step":
        loop.Run.clip = lambda run: die.instead(run, clip)  # pyright: ignore
    elif moment == "writing":
        torch.save = die.half_written  # pyright: ignore
    elif moment == "renaming":
        Path.rename = die.before(Path.rename, "step-")  # pyright: ignore
    quiet_machine()
    raise SystemExit(main(words))


def run_and_die_at(words: list[str], event: str, place: str) -> None:
    """Trains and kills itself right before the first of Python's audit events about a place.

    Args:
        words: of the command.
        event: such as `os.rename`, `os.remove` or `open`.
        place: part of the path that the event is about.
    """

    def kill(name: str, arguments: tuple[Any, ...]) -> None:
        if name == event and any(place in str(argument) for argument in arguments[:2]):
            os.kill(os.getpid(), signal.SIGKILL)

    quiet_machine()
    sys.addaudithook(kill)
    raise SystemExit(main(words))


class _Death:
    """Counts calls and kills the process at one of them."""

    def __init__(self, step: int) -> None:
        self.left = step

    def now(self) -> bool:
        self.left -= 1
        return self.left < 0

    def instead(self, run: loop.Run, clip: Callable[[loop.Run], Tensor]) -> Tensor:
        if self.now():
            os.kill(os.getpid(), signal.SIGKILL)
        return clip(run)

    def half_written(self, obj: Any, writer: RecordingWriter) -> None:
        torch.serialization.save(obj, writer)
        if self.now():
            writer.flush()
            writer.file.truncate(writer.file.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, rename: Callable[..., Any], name: str) -> Callable[..., Any]:
        def perhaps(source: Path, target: Path) -> Any:
            if target.name.startswith(name) and self.now():
                os.kill(os.getpid(), signal.SIGKILL)
            return rename(source, target)

        return perhaps


def quiet_machine() -> None:
    """Spares a tiny training the seconds in which the machine's peak is measured."""
    monitor.measure_peak = lambda device, **_: 1e15


def attentive(function: Callable[..., None], *arguments: Any) -> None:
    """Calls a function that receives signals; a server that readers started passes its mask on."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    function(*arguments)


def start(function: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Runs a function in a process of its own."""
    process = FORKS.Process(target=attentive, args=(function, *arguments))
    process.start()
    return process


def exit_code(process: ForkServerProcess) -> int | None:
    """Waits for a process; minus the signal's number if one ended it."""
    process.join(600)
    if process.is_alive():
        process.kill()
    return process.exitcode


def together(
    function: Callable[..., None], *arguments: Any, processes: int = 2
) -> list[int | None]:
    """Runs a function in several processes that find each other as under torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        start(_ranked, rank, processes, port, function, arguments) for rank in range(processes)
    ]
    return [exit_code(process) for process in started]


def _ranked(
    rank: int, processes: int, port: int, function: Callable[..., None], arguments: Sequence[Any]
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    torch.set_num_threads(1)
    quiet_machine()
    Accelerator.end_training = lambda accelerator: None  # pyright: ignore # the next run meets
    function(*arguments)


def run_all(commands: Sequence[list[str]]) -> None:
    """Runs commands one after the other and leaves with the worst exit code."""
    worst = max(main(words) for words in commands)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    raise SystemExit(worst)


def run_all_sharded(commands: Sequence[list[str]]) -> None:
    """Runs commands under FSDP2, which accelerate does not grant to a CPU by itself."""
    os.environ |= {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    }
    start_accelerator = engine.Accelerator

    def sharding(**options: Any) -> Any:
        accelerator = start_accelerator(**options)
        for shared in (PartialState, AcceleratorState):
            shared._shared_state["distributed_type"] = DistributedType.FSDP
        AcceleratorState._shared_state["fsdp_plugin"] = FullyShardedDataParallelPlugin()
        return accelerator

    def sharded_weights(train_state: TrainState) -> Weights:
        modules = train_state.network.modules()
        shards = [type(m).__name__ for m in modules if isinstance(m, FSDPModule)]
        assert sorted(shards) == ["FSDPAdaLNBlock", "FSDPAdaLNBlock", "FSDPTransformerObjective"]
        return weights(train_state)

    weights = TrainState.weights
    TrainState.weights = sharded_weights  # pyright: ignore
    engine.Accelerator = sharding  # pyright: ignore
    run_all(commands)


def log(out: Path, event: str | None = None) -> list[dict[str, Any]]:
    """Lines of a run's log: those of an event, or those of steps."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("event") == event]


def checkpoints(out: Path) -> list[str]:
    """What lies in a run's checkpoint directory."""
    return sorted(path.name for path in (out / "checkpoints").iterdir())


def last_state(out: Path) -> dict[str, Any]:
    """All that the newest checkpoint of a run holds for its continuation."""
    return saved.load_training(sorted((out / "checkpoints").glob("step-*"))[-1])


def assert_identical(ours: Any, theirs: Any, where: str = "state") -> None:
    """Asserts that two nests of tensors and numbers are equal, bit for bit."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            assert_identical(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs), where
        for i, (left, right) in enumerate(zip(ours, theirs, strict=True)):
            assert_identical(left, right, f"{where}[{i}]")
    elif isinstance(theirs, Tensor):
        assert ours.dtype == theirs.dtype, where
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where


if __name__ == "__main__":
    quiet_machine()
    sys.exit(main(sys.argv[1:]))
