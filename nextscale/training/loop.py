"""The training loop of both stages, in the order in which it happens.

accelerate gives device, precision and distribution; the order of data, the schedule and the
checkpoints are ours, so that a run resumes exactly and does not depend on the number of processes.
"""

import json
import math
import resource
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import set_seed
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as distributed
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from nextscale import checkpoint
from nextscale.complexity import count_flops, measure_peak, parameters
from nextscale.config.run import TrainingConfig
from nextscale.data.images import Batch, Source, batches
from nextscale.data.order import Part, steps_in_epoch, training_parts, validation_parts
from nextscale.errors import UsageError
from nextscale.pipeline import Pipeline
from nextscale.training.average import MovingAverage
from nextscale.training.schedule import learning_rate, set_rates, weight_decay
from nextscale.training.state import RunDirectory, load_training

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SHOWN = 16  # images of the pictures made at a validation


class Stage(Protocol):
    """What is trained: a network with its loss, and how it is judged."""

    command: str
    better: str
    notes: list[str]

    def build(self, steps: int, accelerator: Accelerator) -> nn.Module: ...
    def parameter_groups(self) -> list[dict[str, Any]]: ...
    def step(
        self, network: nn.Module, batch: Batch, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]: ...
    def after_step(self, step: int, optimizer: Optimizer, accelerator: Accelerator) -> None: ...
    def figures(self, accelerator: Accelerator) -> dict[str, Any]: ...
    def validate(
        self, network: nn.Module, batches: Iterable[Batch], accelerator: Accelerator
    ) -> dict[str, Any]: ...
    def pictures(self, pipe: Pipeline, batch: Batch) -> dict[str, Tensor]: ...
    def pipeline(self, state: Mapping[str, Tensor]) -> Pipeline: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class Diverged(UsageError):
    """The loss is not finite any more."""


class Interrupted(Exception):
    """A signal asked the run to stop; it has saved. The signal's number is its argument."""


class Run:
    """A training from its directory to its final model.

    Args:
        config: of the run.
        stage: what is trained.
        training, validation: its data.
        accelerator: made by `start_accelerator`, before anything touches a device.
    """

    def __init__(
        self,
        config: TrainingConfig,
        stage: Stage,
        training: Source,
        validation: Source,
        accelerator: Accelerator,
    ) -> None:
        self.config, self.stage, self.accelerator = config, stage, accelerator
        self.training, self.validation = training, validation
        self.steps_in_epoch = steps_in_epoch(len(training), config.batch_size)
        self.steps = max(1, round(config.epochs * self.steps_in_epoch))
        self.last = min(self.steps, config.max_steps or self.steps)
        self.directory = RunDirectory(Path(config.out), accelerator.is_main_process)
        self.best = {"step": -1, "value": math.inf}
        self.first_bad = torch.full((), math.inf, device=accelerator.device)  # step
        self.skipped = 0

    def train(self) -> Path:
        """Trains to the end and gives the directory of the final model.

        Raises:
            UsageError: if the run's directory holds another run, or data and batch do not fit.
            Diverged: if the loss becomes NaN or infinite; names the last good checkpoint.
            Interrupted: after SIGTERM or Ctrl-C, once the state is saved.
        """
        config, accelerator = self.config, self.accelerator
        objective = self.stage.build(self.steps, accelerator)
        found = self.directory.open(self.stage.command, config, accelerator.wait_for_everyone)
        if config.compile:
            objective.compile()
        optimizer = AdamW(
            self.stage.parameter_groups(), lr=config.learning_rate, betas=config.betas, fused=True
        )
        self.network, self.optimizer = accelerator.prepare(objective, optimizer)
        self.average = MovingAverage(self.network, config.ema) if config.ema else None
        first = self.restore(found)
        self.measure_machine(objective)
        accelerator.init_trackers("tensorboard")
        loader = self.reader(self.training, self.parts(first))
        window = Window()
        with interruptible() as interruption, self.progress(first) as show:
            stream = iter(loader)
            for step in range(first, self.last):
                window.add(self.optimizer_step(step, stream))
                done = step + 1
                if done % config.log_every == 0 or done == self.last:
                    self.log(done, window, show)
                    window = Window()
                show(done, None)
                if done % self.validate_steps == 0 or done == self.last:
                    self.judge(done)
                    self.save(done)
                elif config.save_every and done % config.save_every == 0:
                    self.save(done)
                if self.agreed(interruption):
                    self.save(done)
                    raise Interrupted(interruption[0] if interruption else signal.SIGTERM)
        final = self.finish()
        accelerator.end_training()
        return final

    def optimizer_step(self, step: int, stream: Iterator[Batch]) -> dict[str, Tensor]:
        """One update of the weights from `accumulation` micro-steps; returns the mean terms."""
        config, accelerator = self.config, self.accelerator
        rate = learning_rate(
            step,
            self.steps,
            self.warmup_steps,
            config.learning_rate,
            config.warmup_from,
            config.final,
            config.schedule,
        )
        decay = weight_decay(step, self.steps, config.weight_decay, config.weight_decay_end)
        set_rates(self.optimizer, rate, decay)
        self.network.train()
        terms: dict[str, Tensor] = {}
        for micro in range(config.accumulation):
            batch = self.on_device(next(stream))
            set_seed(seed_of(config.seed, step * config.accumulation + micro, accelerator))
            last = micro + 1 == config.accumulation
            with nullcontext() if last else accelerator.no_sync(self.network):
                with accelerator.autocast():
                    loss, found = self.stage.step(self.network, batch, step)
                accelerator.backward(loss / config.accumulation)
            self.first_bad.clamp_(max=torch.where(loss.detach().isfinite(), math.inf, step))
            for name, value in {"loss": loss.detach(), **found}.items():
                terms[name] = terms.get(name, 0) + value / config.accumulation
        if config.clip:
            terms["gradient_norm"] = self.clip()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.stage.after_step(step, self.optimizer.optimizer, accelerator)
        if self.average:
            self.average.update(step)
        return terms

    def clip(self) -> Tensor:
        """Clips the gradient's norm, an adversary's (other betas) apart; returns the first."""
        self.accelerator.unscale_gradients(self.optimizer)
        families: dict[tuple[float, float], list[nn.Parameter]] = {}
        for group in self.optimizer.param_groups:
            families.setdefault(tuple(group["betas"]), []).extend(group["params"])
        norms = [nn.utils.clip_grad_norm_(p, self.config.clip) for p in families.values()]
        norm = norms[0].detach()
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def judge(self, step: int) -> None:
        """Validates with the weights that would be kept, logs figures and pictures."""
        self.check_finite()
        count = self.config.validation_images or len(self.validation)
        count = min(count, len(self.validation))
        micro = self.config.batch_size // self.config.accumulation // self.world
        if self.accelerator.distributed_type == DistributedType.FSDP:  # all meet in every batch
            micro = max(1, min(micro, count // self.world))
            count -= count % (micro * self.world)
        parts = list(validation_parts(count, micro, self.accelerator.process_index, self.world))
        loader = self.reader(self.validation, parts)
        self.network.eval()
        with self.shown_weights(), self.accelerator.autocast():
            figures = self.stage.validate(self.network, loader, self.accelerator)
            state = self.whole_state()
        value = float(figures[self.stage.better])
        if not math.isfinite(value):
            self.first_bad.clamp_(max=step)
            self.check_finite()
        if value < self.best["value"]:
            self.best = {"step": step, "value": value}
        self.directory.log({"step": step, "event": "validation", **figures})
        if self.accelerator.is_main_process:
            flat = flatten({f"validation/{name}": value for name, value in figures.items()})
            self.accelerator.log(flat, step=step)
            shown = validation_parts(min(SHOWN, count), SHOWN, 0, 1)
            batch = next(iter(batches(self.validation, shown, 0, False)))
            pipe = self.stage.pipeline(state).to(self.accelerator.device)
            for name, picture in self.stage.pictures(pipe, batch).items():
                writer = cast(SummaryWriter, self.accelerator.get_tracker("tensorboard", True))
                writer.add_image(name, picture.clamp(0, 1).cpu(), step)
            self.accelerator.print(f"step {step}: {summary(figures)}")

    def log(self, step: int, window: "Window", show: Any) -> None:
        """Writes what happened since the last line: terms, rates, speed and memory."""
        self.check_finite()
        images = window.steps * self.config.batch_size
        rate = images / window.seconds
        terms = {
            name: float(self.accelerator.reduce(value, "mean"))  # pyright: ignore
            for name, value in window.means().items()
        }
        entry = {
            "step": step,
            "epoch": step / self.steps_in_epoch,
            "images": step * self.config.batch_size,
            **terms,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            **self.stage.figures(self.accelerator),
            "images_per_second": rate,
            "flops_per_second": rate * self.flops / self.world,
            "share_of_peak": rate * self.flops / self.world / self.peak,
            "peak_memory_gib": peak_memory(self.accelerator.device) / 2**30,
        }
        if self.skipped:
            entry["skipped_files"] = self.skipped
        self.directory.log(entry)
        self.accelerator.log(flatten(entry), step=step)
        show(step, entry)

    def measure_machine(self, objective: nn.Module) -> None:
        """Counts one image's training FLOPs and the device's fp32 peak; tells and logs both.

        Nothing of it stays: neither draws nor statistics.
        """
        self.peak = measure_peak(self.accelerator.device)
        part = next(iter(validation_parts(len(self.validation), 2, 0, 1)))
        batch = self.on_device(next(iter(batches(self.validation, [part], 0, False))))
        was = torch.get_rng_state()
        counts = {name: value.clone() for name, value in self.stage.state_dict().items()}

        def forward_and_backward() -> None:
            self.stage.step(objective, batch, 0)[0].backward()

        self.flops = count_flops(forward_and_backward) / len(batch.labels)
        objective.zero_grad(set_to_none=True)
        self.stage.figures(self.accelerator)
        self.stage.load_state_dict(counts)
        torch.set_rng_state(was)
        entry = {
            "event": "start",
            "parameters": parameters(objective),
            "steps": self.steps,
            "training_flops_per_image": self.flops,
            "fp32_peak_flops": self.peak,
            "processes": self.world,
            "device": str(self.accelerator.device),
        }
        self.directory.log(entry)
        self.accelerator.print(
            f"{entry['parameters']:,} parameters, {self.flops / 1e9:.2f} GFLOP an image in"
            f" training, fp32 peak {self.peak / 1e9:.0f} GFLOP/s, {self.steps} steps of"
            f" {self.config.batch_size} images"
        )
        for note in self.stage.notes:
            self.accelerator.print(note)

    def save(self, step: int) -> None:
        """Writes a checkpoint from which `restore` continues exactly. All processes take part."""
        self.check_finite()
        own = self.whole_state()
        optimizer = self.optimizer_state()
        with self.shown_weights():
            shown = self.whole_state() if self.average else own
        average = self.average.state_dict() if self.average else []
        scaler = self.accelerator.scaler  # of fp16 gradients
        counts = {
            name: self.accelerator.reduce(value, "sum")
            for name, value in self.stage.state_dict().items()
        }

        def write(place: Path) -> None:
            checkpoint.write(self.stage.pipeline(shown), place)
            training = {
                "step": step,
                "best": self.best,
                "network": own,
                "optimizer": optimizer,
                "stage": counts,
                "average": average,
                "scaler": scaler.state_dict() if scaler else {},
            }
            torch.save(training, place / "training.pt")

        self.directory.save(step, write, self.config.keep, self.best["step"])
        self.accelerator.wait_for_everyone()

    def restore(self, place: Path | None) -> int:
        """Reads a checkpoint of `save`; returns the step to go on with."""
        if place is None:
            self.directory.forget_log_after(0)
            return 0
        state = load_training(place)
        options = distributed.StateDictOptions(full_state_dict=True)
        distributed.set_state_dict(
            self.network,
            self.optimizer.optimizer,
            model_state_dict=state["network"],
            optim_state_dict=state["optimizer"],
            options=options,
        )
        if self.accelerator.is_main_process:  # the counts are those of all processes
            self.stage.load_state_dict(state["stage"])
        if self.average:
            self.average.load_state_dict(state["average"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.best = state["best"]
        self.directory.forget_log_after(state["step"])
        self.accelerator.print(f"continuing from {place}")
        return state["step"]

    def finish(self) -> Path:
        """Writes the final model; what was trained is rounded to the configured precision."""
        dtype = DTYPES[self.config.export]
        with self.shown_weights():
            state = self.whole_state()
        final = self.directory.path / "final"
        if self.accelerator.is_main_process:
            rounded = {name: value.to(dtype) for name, value in state.items()}
            checkpoint.save(self.stage.pipeline(rounded), final)
        self.accelerator.wait_for_everyone()
        return final

    def whole_state(self) -> dict[str, Tensor]:
        """Copies of the objective's weights, gathered where they are sharded."""
        options = distributed.StateDictOptions(full_state_dict=True)
        state = distributed.get_model_state_dict(self.network, options=options)
        return {name: cast(Tensor, value).clone() for name, value in state.items()}

    def optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state by parameter name, gathered where it is sharded."""
        options = distributed.StateDictOptions(full_state_dict=True)
        return distributed.get_optimizer_state_dict(
            self.network, self.optimizer.optimizer, options=options
        )

    def shown_weights(self) -> Any:
        """A context in which the network holds the weights that are judged and kept."""
        return self.average.applied() if self.average else nullcontext()

    def check_finite(self) -> None:
        """Raises Diverged if any loss so far was NaN or infinite on any process.

        A checkpoint from which that loss was computed is not a good one.
        """
        first_bad = -float(self.accelerator.reduce(-self.first_bad, "max"))  # pyright: ignore
        if math.isfinite(first_bad):
            good = self.directory.latest(before=int(first_bad))
            where = f"the last good checkpoint is {good}" if good else "there is no good checkpoint"
            raise Diverged(
                f"the loss became NaN or infinite; {where}; try a lower learning rate or --clip"
            )

    def agreed(self, interruption: list[int]) -> bool:
        """Whether any process was asked to stop; all learn it at the same step."""
        if self.world == 1:
            return bool(interruption)
        flag = torch.tensor(float(bool(interruption)), device=self.accelerator.device)
        return float(self.accelerator.reduce(flag, "sum")) > 0  # pyright: ignore

    def parts(self, first: int) -> Iterator[Part]:
        """What this process reads from a step on."""
        config = self.config
        return training_parts(
            config.seed,
            len(self.training),
            config.batch_size,
            config.accumulation,
            first,
            self.last,
            self.accelerator.process_index,
            self.world,
        )

    def reader(self, source: Source, parts: Iterable[Part]) -> DataLoader[Batch]:
        """Reads parts ahead; its processes leave Ctrl-C to this one, which saves first."""
        loader = batches(source, parts, self.workers, self.pin)
        loader.worker_init_fn = ignore_interrupt
        return loader

    def on_device(self, batch: Batch) -> Batch:
        """The batch's tensors on this process's device; counts skipped files."""
        self.skipped += batch.skipped
        device = self.accelerator.device
        values = batch.values.to(device, non_blocking=True)
        return Batch(values, batch.labels.to(device, non_blocking=True), batch.part, batch.skipped)

    @contextmanager
    def progress(self, first: int) -> Iterator[Any]:
        """A bar with loss, rate and time left on the main process."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        disable = not self.accelerator.is_main_process
        with Progress(*columns, disable=disable) as bar:
            task = bar.add_task(self.stage.command, total=self.last, completed=first, note="")

            def show(done: int, entry: dict[str, Any] | None) -> None:
                bar.update(task, completed=done)
                if entry is not None:
                    bar.update(task, note=speed_of(entry))
                    if not bar.console.is_terminal and not disable:
                        print(f"step {done}/{self.last}  {speed_of(entry)}", flush=True)

            yield show

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.accelerator.num_processes

    @property
    def workers(self) -> int:
        """Reading processes; data that lies in memory needs none."""
        return self.config.data.workers if self.training.reads_files else 0

    @property
    def pin(self) -> bool:
        """Whether batches are read into page-locked memory."""
        return self.accelerator.device.type == "cuda"

    @property
    def warmup_steps(self) -> int:
        """Optimizer steps of rising learning rate."""
        epochs = self.config.warmup_epochs
        return round((epochs if epochs >= 0 else self.config.epochs / 50) * self.steps_in_epoch)

    @property
    def validate_steps(self) -> int:
        """Optimizer steps between validations."""
        return max(1, round(self.config.validate_every * self.steps_in_epoch))


class Window:
    """Terms of the steps since the last line of the log."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.steps = 0
        self.began = time.perf_counter()

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Counts a step; a term may be missing in some."""
        self.steps += 1
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, Tensor]:
        """Mean of every term over the steps that had it."""
        return {name: value / self.counts[name] for name, value in self.sums.items()}

    @property
    def seconds(self) -> float:
        """Since the window was opened."""
        return time.perf_counter() - self.began


def start_accelerator(config: TrainingConfig) -> Accelerator:
    """The engine of a run: one process, or those that `torchrun` or `accelerate launch` started."""
    accelerator = Accelerator(
        mixed_precision=config.precision,
        cpu=not torch.accelerator.is_available(),  # else torchrun's processes would not meet
        log_with="tensorboard",
        project_dir=config.out,
        gradient_accumulation_steps=1,  # the loop divides batches itself
    )
    if accelerator.distributed_type not in (
        DistributedType.NO,
        DistributedType.MULTI_CPU,
        DistributedType.MULTI_GPU,
        DistributedType.FSDP,
    ):
        raise UsageError(f"{accelerator.distributed_type} is not supported; use DDP or FSDP")
    if config.precision == "fp16" and accelerator.device.type == "cpu":
        raise UsageError("precision fp16 needs a GPU; on a CPU give bf16 or no")
    return accelerator


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Collects SIGTERM and Ctrl-C instead of dying; a second one acts at once."""
    received: list[int] = []
    known = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def remember(number: int, frame: Any) -> None:
        del frame
        received.append(number)
        signal.signal(number, known[signal.Signals(number)])

    try:
        for number in known:
            signal.signal(number, remember)
        yield received
    finally:
        for number, handler in known.items():
            signal.signal(number, handler)


def ignore_interrupt(worker: int) -> None:
    """Makes a reading process deaf to the Ctrl-C that a terminal sends to all of a run."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def seed_of(seed: int, micro_step: int, accelerator: Accelerator) -> int:
    """Seed of a process's micro-step; no two of a run are equal."""
    mixed = (seed * 1_000_003 + micro_step) * accelerator.num_processes
    return (mixed + accelerator.process_index) % 2**32


def peak_memory(device: torch.device) -> int:
    """Largest memory in bytes so far: of the device, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def flatten(entry: Mapping[str, Any]) -> dict[str, float]:
    """Numbers for TensorBoard; a list a scale becomes one number each."""
    flat: dict[str, float] = {}
    for name, value in entry.items():
        if isinstance(value, list):
            flat |= {f"{name}/scale_{k + 1}": float(v) for k, v in enumerate(value)}
        elif isinstance(value, int | float):
            flat[name] = float(value)
    return flat


def speed_of(entry: Mapping[str, Any]) -> str:
    """What the progress bar shows."""
    return (
        f"loss {entry['loss']:.4f}, {entry['images_per_second']:.0f} images/s,"
        f" {entry['flops_per_second'] / 1e9:.0f} GFLOP/s"
        f" ({entry['share_of_peak']:.0%} of fp32 peak), {entry['peak_memory_gib']:.1f} GiB"
    )


def summary(figures: Mapping[str, Any]) -> str:
    """Validation figures in a line."""
    return ", ".join(
        f"{name} {[round(v, 3) for v in value] if isinstance(value, list) else round(value, 4)}"
        for name, value in figures.items()
    )


def read_log(path: Path) -> list[dict[str, Any]]:
    """All lines of a run's log."""
    return [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
