"""Reports a run: its log, TensorBoard, the progress bar, pictures, and its speed."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, BinaryIO, cast

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import save_image

from nextscale.config.run import TrainingConfig
from nextscale.cost.flops import count_flops
from nextscale.errors import escaped
from nextscale.machine.instructions import made_for
from nextscale.machine.peaks import PEAK_PRODUCTS, measure_peak, peak_memory
from nextscale.storage.files import replacing_file
from nextscale.training.best import Best
from nextscale.training.directory import PICTURES, RunDirectory
from nextscale.training.hints import hints
from nextscale.training.history import History
from nextscale.training.run_options import flat
from nextscale.training.run_report import REPORT, picture_name, write_report

PRECISIONS = {  # by accelerate's name: our name in messages, and the dtype of products
    "fp16": ("fp16", torch.float16),
    "bf16": ("bf16", torch.bfloat16),
}


class Monitor:
    """Gathers the terms of training steps and reports them.

    Args:
        accelerator: of the run.
        directory: of the run; its log is written here.
        config: of the run.
        command: the command that trains.
        steps_in_epoch: optimizer steps.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        directory: RunDirectory,
        config: TrainingConfig,
        command: str,
        steps_in_epoch: int,
    ) -> None:
        self.accelerator, self.directory = accelerator, directory
        self.options, self.command = flat(asdict(config)), command
        self.batch_size, self.steps_in_epoch = config.batch_size, steps_in_epoch
        self.window = Window()
        self.peak: float | None = None
        precision = str(accelerator.mixed_precision)
        self.precision, self.dtype = PRECISIONS.get(precision, ("fp32", torch.float32))

    def say(self, line: str) -> None:
        """Prints a line on the main process, with unprintable characters escaped."""
        self.accelerator.print(escaped(line))

    def measure(self, step: Callable[[], object], images: int) -> None:
        """Measures the device's peak rate, and counts the FLOPs per image of a step.

        The peak is that of the run's precision; it is not measured where the device emulates that.

        Args:
            step: a forward and backward pass.
            images: number of images in it.
        """
        self.peak = None
        device = self.accelerator.device
        if self.precision == "fp32" or made_for(str(self.dtype).removeprefix("torch."), device):
            self.peak = measure_peak(device, dtype=self.dtype)
        self.flops = count_flops(step) / images

    def start(
        self, parameters: int, steps: int, notes: list[str], facts: Mapping[str, Any]
    ) -> None:
        """Prints and logs the run's facts; opens TensorBoard.

        Args:
            parameters: number of them.
            steps: optimizer steps of the whole run.
            notes: lines to print.
            facts: further entries of the log: on the data, and the figure that judges.
        """
        processes = self.accelerator.num_processes
        entry = {
            "event": "start",
            "parameters": parameters,
            "steps": steps,
            "steps_in_epoch": self.steps_in_epoch,
            **facts,
            "training_flops_per_image": self.flops,
            **({} if self.peak is None else {f"{self.precision}_peak_flops": self.peak}),
            "processes": processes,
            "device": str(self.accelerator.device),
            "precision": self.accelerator.mixed_precision,
        }
        self.directory.log(entry)
        peak = "" if self.peak is None else f"{self.precision} peak {self.peak / 1e9:.0f} GFLOP/s, "
        self.say(
            f"{parameters:,} parameters, {self.flops / 1e9:.2f} GFLOP an image in training, {peak}"
            f"{steps} steps of {self.batch_size} images"
        )
        for note in notes:
            self.say(note)
        self.accelerator.init_trackers("tensorboard")

    def steps(self, step: int, figures: Mapping[str, Any]) -> None:
        """Logs terms, rates, speed and memory since the last call.

        Args:
            step: number of completed optimizer steps.
            figures: further figures to log, the same on every process.
        """
        window, self.window = self.window, Window()
        images_per_second = window.steps * self.batch_size / window.seconds
        flops_per_second = images_per_second * self.flops / self.accelerator.num_processes
        terms = {
            name: float(cast(Tensor, self.accelerator.reduce(value, "mean")))
            for name, value in window.means().items()
        }
        entry = {
            "step": step,
            "epoch": step / self.steps_in_epoch,
            "images": step * self.batch_size,
            **terms,
            **figures,
            "images_per_second": images_per_second,
            "flops_per_second": flops_per_second,
            **self.share_of_peak(flops_per_second),
            "peak_memory_gib": peak_memory(self.accelerator.device) / 2**30,
        }
        self.directory.log(entry)
        self.accelerator.log(flatten(entry), step=step)
        self.show(step, entry)

    def validation(self, step: int, figures: Mapping[str, Any], best: Best) -> None:
        """Logs and prints the figures of a validation, which are the same on every process.

        Args:
            best: the run's validations, including this one.
        """
        self.measure_again()
        entry = {"step": step, "event": "validation", **figures, "best": best.step == step}
        self.directory.log(entry)
        flat = flatten({f"validation/{name}": value for name, value in figures.items()})
        self.accelerator.log(flat, step=step)
        self.say(f"step {step}: {summary(figures)}; {best.standing()}")

    def finish(self, step: int, best: Best, stopped: str) -> None:
        """Logs the end of the run, and prints which checkpoint is better and hints.

        Args:
            step: number of completed optimizer steps.
            stopped: why the run ends before its last step; empty if it does not.
        """
        for line in filter(None, (stopped, best.verdict(step))):
            self.say(line)
        entry = {"step": step, "event": "finished", "stopped": stopped}
        self.directory.log(entry | {"best_step": best.step, "best": best.value, "last": best.last})
        history = self.report()
        for line in hints(history):
            self.say(f"hint: {line}")
        report = self.directory.path / REPORT
        self.say(f"curves, pictures and hints are in {report}")

    def share_of_peak(self, rate: float) -> dict[str, Any]:
        """Returns a rate in FLOP/s as a share of the peak; nothing if no peak is known.

        A rate above the peak means that the device was busy when the peak was measured: then the
        peak is measured again, and dropped if the rate is still above it.
        """
        if self.peak is not None and rate > self.peak:
            with self.window.pause():
                self.measure_again()
            if rate > self.peak:
                self.peak = None
        if self.peak is None:
            return {}
        return {"share_of_peak": rate / self.peak, "peak": self.precision}

    def measure_again(self) -> None:
        """Measures the peak again, within a fraction of a second: the device may be less busy."""
        if self.peak is not None:
            again = measure_peak(
                self.accelerator.device, repeats=2, products=PEAK_PRODUCTS[1:], dtype=self.dtype
            )
            self.peak = max(self.peak, again)

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Writes pictures (channels, H, W) in [0, 1] to TensorBoard and to PNG files.

        Only the main process may call this.
        """
        writer = cast(SummaryWriter, self.accelerator.get_tracker("tensorboard", True))
        folder = self.directory.path / PICTURES
        for name, picture in pictures.items():
            folder.mkdir(exist_ok=True)
            shown = picture.clamp(0, 1).cpu()
            writer.add_image(name, shown, step)
            with replacing_file(folder / picture_name(name, step)) as file:
                save_image(shown, cast(BinaryIO, file), format="png")

    def report(self) -> History:
        """Writes the report page; returns the history that the log records."""
        history = History.of(self.directory.entries(), self.options)
        if self.accelerator.is_main_process:
            write_report(self.directory.path, self.command, history)
        return history

    @contextmanager
    def progress(self, title: str, first: int, total: int) -> Iterator[None]:
        """Shows loss and speed on the main process: a progress bar, or lines if not a terminal."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        speaks, console = self.accelerator.is_main_process, Console()
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task(title, total=total, completed=first, note="")

            def show(done: int, entry: dict[str, Any] | None) -> None:
                bar.update(task, completed=done)
                if entry is not None:
                    bar.update(task, note=speed_of(entry))
                    if speaks and not console.is_terminal:
                        print(f"step {done}/{total}  {speed_of(entry)}", flush=True)

            self.show: Callable[[int, dict[str, Any] | None], None] = show
            self.window = Window()
            yield


class Window:
    """Sums of the terms of the steps since the last line of the log, and their duration."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.steps = 0
        self.began = time.perf_counter()
        self.paused = 0.0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Adds the terms of a step; a term may be missing in some steps."""
        self.steps += 1
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, Tensor]:
        """Mean of each term over the steps that have it."""
        return {name: value / self.counts[name] for name, value in self.sums.items()}

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Excludes the time in this context, such as validating and saving."""
        began = time.perf_counter()
        yield
        self.paused += time.perf_counter() - began

    @property
    def seconds(self) -> float:
        """Seconds of training since the window was opened."""
        return time.perf_counter() - self.began - self.paused


def flatten(entry: Mapping[str, Any]) -> dict[str, float]:
    """Numbers for TensorBoard; a list with a value per scale becomes one number per scale."""
    flat: dict[str, float] = {}
    for name, value in entry.items():
        if isinstance(value, list):
            flat |= {f"{name}/scale_{k + 1}": float(v) for k, v in enumerate(value)}
        elif isinstance(value, int | float):
            flat[name] = float(value)
    return flat


def speed_of(entry: Mapping[str, Any]) -> str:
    """Loss and speed as the progress bar shows them."""
    share = ""
    if "share_of_peak" in entry:
        share = f" ({entry['share_of_peak']:.0%} of {entry['peak']} peak)"
    return (
        f"loss {entry['loss']:.4f}, {entry['images_per_second']:.0f} images/s,"
        f" {entry['flops_per_second'] / 1e9:.0f} GFLOP/s{share}, {entry['peak_memory_gib']:.1f} GiB"
    )


def summary(figures: Mapping[str, Any]) -> str:
    """Validation figures as one line."""
    return ", ".join(
        f"{name} {[round(v, 3) for v in value] if isinstance(value, list) else round(value, 4)}"
        for name, value in figures.items()
    )
