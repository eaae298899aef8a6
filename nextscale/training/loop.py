"""The training loop of all stages, in the order of its steps.

accelerate provides device, precision and distribution. The order of data, the schedule and the
checkpoints are our own, so that a run resumes exactly and does not depend on the number of
processes.
"""

import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from nextscale.config.run import TrainingConfig
from nextscale.cost.flops import parameters
from nextscale.data.images import Batch, Source
from nextscale.machine.instructions import can_compile
from nextscale.storage.files import replacing
from nextscale.storage.weights import write_pickle
from nextscale.training.best import Best
from nextscale.training.directory import FINAL, RunDirectory
from nextscale.training.divergence import Divergence
from nextscale.training.ending import Ending
from nextscale.training.engine import JoinedProcesses, deterministic, seed_of, shortcomings
from nextscale.training.feed import Feed
from nextscale.training.interruption import Interrupted, interruptible
from nextscale.training.monitor import Monitor
from nextscale.training.optimizer import build_optimizer
from nextscale.training.saved import TRAINING, check_tensors, load_training
from nextscale.training.schedule import Schedule, set_rates
from nextscale.training.stage import Stage, Weights
from nextscale.training.state import TrainState

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SHOWN = 16  # images of the pictures made at a validation


class Run:
    """A training from its directory to its final model.

    Args:
        config: of the run.
        stage: the stage to train.
        training, validation: sources of its data.
        accelerator: of `engine.start_accelerator`, which is called before any use of a device.
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
        self.processes = JoinedProcesses(accelerator)
        self.feed = Feed(config, training, validation, self.processes)
        self.steps_in_epoch = self.feed.steps_in_epoch
        self.directory = RunDirectory(Path(config.out), self.processes.is_main)
        self.best = Best(stage.better)
        self.divergence = Divergence(self.processes, self.directory)
        self.monitor = Monitor(
            accelerator, self.directory, config, stage.command, self.steps_in_epoch
        )

    def train(self) -> Path:
        """Trains to the end and returns the directory of the final model.

        Raises:
            UsageError: if the run's directory holds another run or is in use by another process,
                or if data and batch size do not fit.
            Diverged: if the loss becomes NaN or infinite; it names the last good checkpoint.
            Interrupted: after SIGTERM or Ctrl-C, once the state is saved.
        """
        try:
            return self.run()
        except Interrupted:
            raise
        except BaseException as error:  # a second Ctrl-C too
            self.directory.fail(error)
            raise
        finally:
            self.directory.close()

    def run(self) -> Path:
        """Builds, restores, trains and exports; see `train`."""
        objective, found = self.build()
        first = self.restore(found)
        if self.ending.reached(first) and self.directory.finished(first):
            self.monitor.say(self.ending.ways_on(first))
        else:
            self.keep_best()  # the run may have been killed between a checkpoint and this copy
            self.begin(objective)
            self.finish(self.take_steps(first))
        self.accelerator.end_training()
        return self.directory.final

    def build(self) -> tuple[nn.Module, Path | None]:
        """Builds network and optimizer, and opens the run's directory.

        Returns:
            the objective, not yet distributed; the checkpoint to resume from.
        """
        config, stage, accelerator = self.config, self.stage, self.accelerator
        command, data = stage.command, self.feed.record
        record = self.directory.check(command, config, data)  # before anything slow
        self.schedule = Schedule(config, record["planned_epochs"], self.steps_in_epoch)
        self.ending = Ending(config, self.schedule, self.best)
        objective = stage.build(self.schedule.planned, self.processes)
        found = self.directory.open(command, config, data, self.processes.wait)
        stage.notes += self.directory.changes + self.directory.notes
        if config.resume and found is None:
            stage.notes.append(
                f"{self.directory.path} holds no checkpoint: the run starts from the beginning"
            )
        stage.notes += shortcomings(config, accelerator)
        if config.compile and can_compile():
            objective.compile()
        groups = stage.parameter_groups(objective)
        optimizer = build_optimizer(groups, config.learning_rate, config.betas)
        self.network, self.optimizer = accelerator.prepare(objective, optimizer)
        self.state = TrainState(accelerator, self.network, self.optimizer, config.ema)
        return objective, found

    def restore(self, place: Path | None) -> int:
        """Reads a checkpoint of `save`; returns the next step."""
        if place is None:
            self.directory.forget_log_after(0)
            return 0
        saved = load_training(place)
        self.state.load_state_dict(saved, place)
        check_tensors(saved["stage"], self.stage.state_dict(), "stage", place)
        if self.processes.is_main:  # the counts are those of all processes
            self.stage.load_state_dict(saved["stage"])
        self.best.load_state_dict(saved["best"])
        self.directory.forget_log_after(saved["step"])
        self.directory.forget(self.config.keep, self.best.step)
        self.monitor.say(f"continuing from {place}")
        return saved["step"]

    def begin(self, objective: nn.Module) -> None:
        """Measures the device's peak and the FLOPs of a step, and prints the run's facts."""
        batch = self.feed.on_device(self.feed.shown(2))
        random_state = torch.get_rng_state()
        counts = {name: value.clone() for name, value in self.stage.state_dict().items()}
        with deterministic():  # the first compilation happens here
            self.monitor.measure(
                lambda: self.stage.step(objective, batch, 0)[0].backward(), len(batch)
            )
        objective.zero_grad(set_to_none=True)
        self.stage.figures(self.processes)  # resets its sums
        self.stage.load_state_dict(counts)
        torch.set_rng_state(random_state)
        facts = {"judged_by": self.best.figure, **self.feed.facts(SHOWN)}
        self.monitor.start(parameters(objective), self.schedule.steps, self.stage.notes, facts)

    def take_steps(self, first: int) -> int:
        """Trains from step `first` on; returns the number of completed steps."""
        config, monitor, last = self.config, self.monitor, self.ending.last
        done, stream = first, self.feed.training_batches(first, last)
        with (
            deterministic(),
            interruptible() as interruption,
            monitor.progress(self.stage.command, first, last),
        ):
            while not self.ending.reached(done):
                monitor.window.add(self.optimizer_step(done, stream))
                done += 1
                if done % config.log_every == 0 or done == last:
                    self.divergence.check()
                    monitor.steps(done, self.figures())
                monitor.show(done, None)
                with monitor.window.pause():
                    self.keep(done)
                if self.agreed(interruption):
                    self.save(done)
                    raise Interrupted(interruption[0] if interruption else signal.SIGTERM)
        return done

    def optimizer_step(self, step: int, stream: Iterator[Batch]) -> dict[str, Tensor]:
        """One update of the weights from `accumulation` micro-steps; returns the mean terms."""
        config, accelerator = self.config, self.accelerator
        set_rates(self.optimizer, self.schedule.rate(step), self.schedule.decay(step))
        self.network.train()
        terms: dict[str, Tensor] = {}
        for micro in range(config.accumulation):
            batch = next(stream)
            set_seed(seed_of(config.seed, step * config.accumulation + micro, self.processes))
            last = micro + 1 == config.accumulation
            with nullcontext() if last else accelerator.no_sync(self.network):
                with accelerator.autocast():
                    loss, found = self.stage.step(self.network, batch, step)
                accelerator.backward(loss / config.accumulation)
            self.divergence.watch(loss, step)
            for name, value in {"loss": loss.detach(), **found}.items():
                terms[name] = terms.get(name, 0) + value / config.accumulation
        if config.clip:
            terms["gradient_norm"] = self.clip()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.stage.after_step(step, self.optimizer.optimizer, self.processes)
        if self.state.average:
            self.state.average.update(step)
        return terms

    def clip(self) -> Tensor:
        """Clips gradient norms and returns the network's.

        An adversary has its own betas and is clipped separately.
        """
        self.accelerator.unscale_gradients(self.optimizer)
        families: dict[tuple[float, float], list[nn.Parameter]] = {}
        for group in self.optimizer.param_groups:
            families.setdefault(tuple(group["betas"]), []).extend(group["params"])
        norms = [nn.utils.clip_grad_norm_(p, self.config.clip) for p in families.values()]
        norm = norms[0].detach()
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def figures(self) -> dict[str, Any]:
        """Returns what the log records besides the terms of the loss."""
        rate = {"learning_rate": self.optimizer.param_groups[0]["lr"]}
        return rate | self.stage.figures(self.processes) | self.feed.figures()

    def keep(self, step: int) -> None:
        """Validates and saves if this step is the time."""
        if step % self.validate_steps == 0 or step == self.ending.last:
            better = self.judge(step)
            self.save(step)
            if better:
                self.keep_best()
            self.monitor.report()
        elif self.config.save_every and step % self.config.save_every == 0:
            self.save(step)

    def judge(self, step: int) -> bool:
        """Validates the weights that would be kept; logs figures and pictures.

        Returns:
            whether this validation is the best so far.
        """
        self.divergence.check()
        self.network.eval()
        with self.state.averaged(), self.accelerator.autocast():
            figures = self.stage.validate(
                self.network, self.feed.validation_batches(), self.processes
            )
            weights = self.state.weights()
        value = float(figures[self.stage.better])
        self.divergence.watch(value, step)
        self.divergence.check()
        better = self.best.add(step, value, counts=step % self.validate_steps == 0)
        self.monitor.validation(step, figures, self.best)
        if self.processes.is_main:
            self.monitor.pictures(step, self.stage.pictures(weights, self.feed.shown(SHOWN)))
        return better

    def save(self, step: int) -> None:
        """Writes a checkpoint from which a run resumes exactly. All processes take part."""
        self.divergence.check()
        state = self.state.state_dict()
        weights = self.state.averaged_weights() if self.state.average else state["network"]
        counts = {
            name: self.processes.sum(value) for name, value in self.stage.state_dict().items()
        }

        def write(place: Path) -> None:
            self.stage.write(weights, place)
            training = {"step": step, "best": self.best.state_dict(), "stage": counts, **state}
            write_pickle(training, place / TRAINING)

        self.directory.save(step, write)
        self.directory.forget(self.config.keep, self.best.step)
        self.processes.wait()

    def keep_best(self) -> None:
        """Exports the model of the best checkpoint to `best/`."""
        place = self.directory.place(self.best.step)
        if place.is_dir():
            self.export(self.stage.read(place), self.directory.best)

    def finish(self, step: int) -> None:
        """Exports the final model and reports how it compares with the best one."""
        self.export(self.state.averaged_weights(), self.directory.final)
        self.monitor.finish(step, self.best, self.ending.early(step))

    def export(self, weights: Weights, folder: Path) -> None:
        """Writes a model with trained weights in the configured precision."""
        if self.processes.is_main:
            dtype = DTYPES[self.config.export]
            rounded = {name: value.to(dtype) for name, value in weights.items()}
            with replacing(folder, FINAL) as beside:
                self.stage.write(rounded, beside)
        self.processes.wait()

    def agreed(self, interruption: list[int]) -> bool:
        """Whether any process received a signal to stop; all processes agree at the same step."""
        if self.processes.count == 1:
            return bool(interruption)
        flag = torch.tensor(float(bool(interruption)), device=self.processes.device)
        return float(self.processes.sum(flag)) > 0

    @property
    def validate_steps(self) -> int:
        """Number of optimizer steps between validations."""
        return max(1, round(self.config.validate_every * self.steps_in_epoch))
