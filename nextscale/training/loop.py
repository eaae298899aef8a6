"""The training loop of both stages, in the order in which it happens.

accelerate gives device, precision and distribution; the order of data, the schedule and the
checkpoints are ours, so that a run resumes exactly and does not depend on the number of processes.
"""

import math
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as distributed
from torch.distributed.tensor import DTensor

from nextscale.acceleration import EMULATED, can_compile, made_for
from nextscale.complexity import parameters
from nextscale.config.run import TrainingConfig
from nextscale.data.images import Batch, Source
from nextscale.errors import UsageError, escaped
from nextscale.files import replacing
from nextscale.training.average import MovingAverage
from nextscale.training.engine import deterministic, seed_of
from nextscale.training.feed import Feed
from nextscale.training.interruption import Interrupted, interruptible
from nextscale.training.monitor import Monitor
from nextscale.training.optimizer import build_optimizer
from nextscale.training.saved import TRAINING, check_fits, load_training, refused
from nextscale.training.schedule import learning_rate, set_rates, weight_decay
from nextscale.training.stage import Stage
from nextscale.training.state import FINAL, RunDirectory
from nextscale.weights import write_pickle

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SHOWN = 16  # images of the pictures made at a validation


class Diverged(UsageError):
    """The loss is not finite any more."""


class Run:
    """A training from its directory to its final model.

    Args:
        config: of the run.
        stage: what is trained.
        training, validation: its data.
        accelerator: made by `engine.start_accelerator`, before anything touches a device.
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
        self.feed = Feed(config, training, validation, accelerator)
        self.steps_in_epoch = self.feed.steps_in_epoch
        self.steps = max(1, round(config.epochs * self.steps_in_epoch))
        self.last = min(self.steps, config.max_steps or self.steps)
        self.directory = RunDirectory(Path(config.out), accelerator.is_main_process)
        self.best = {"step": -1, "value": math.inf}
        self.monitor = Monitor(accelerator, self.directory, config.batch_size, self.steps_in_epoch)
        self.told_of_skipped = False
        self.first_bad = torch.full((), math.inf, device=accelerator.device)  # step

    def train(self) -> Path:
        """Trains to the end and gives the directory of the final model.

        Raises:
            UsageError: if the run's directory holds another run or is trained in by another
                process, or data and batch do not fit.
            Diverged: if the loss becomes NaN or infinite; names the last good checkpoint.
            Interrupted: after SIGTERM or Ctrl-C, once the state is saved.
        """
        try:
            return self.run()
        except Exception as error:
            if not isinstance(error, Interrupted):
                self.directory.fail(error)
            raise
        finally:
            self.directory.close()

    def run(self) -> Path:
        """What `train` does, in its order."""
        config, accelerator = self.config, self.accelerator
        command, data = self.stage.command, self.feed.record
        self.directory.check(command, config, data)  # before anything takes long
        objective = self.stage.build(self.steps, accelerator)
        found = self.directory.open(command, config, data, accelerator.wait_for_everyone)
        self.stage.notes += self.directory.changes
        if config.resume and found is None:
            self.stage.notes.append(
                f"{self.directory.path} holds no checkpoint: the run starts anew"
            )
        if config.compile and can_compile():
            objective.compile()
        elif config.compile:
            self.stage.notes.append(
                "no C++ compiler or no headers of Python are found: training goes on uncompiled, "
                "which is slower"
            )
        if accelerator.mixed_precision == "bf16" and not made_for("bfloat16", accelerator.device):
            advice = "precision auto takes what the device is made for"
            self.stage.notes.append(f"{EMULATED.format('bf16')}; {advice}")
        groups = self.stage.parameter_groups()
        optimizer = build_optimizer(groups, config.learning_rate, config.betas)
        self.network, self.optimizer = accelerator.prepare(objective, optimizer)
        self.average = MovingAverage(self.network, config.ema) if config.ema else None
        first = self.restore(found)
        with deterministic():  # the first compilation happens here
            self.measure_machine(objective)
        monitor = self.monitor
        monitor.start(parameters(objective), self.steps, self.stage.notes)
        stream = self.feed.training_batches(first, self.last)
        with (
            deterministic(),
            interruptible() as interruption,
            monitor.progress(self.stage.command, first, self.last),
        ):
            for step in range(first, self.last):
                monitor.window.add(self.optimizer_step(step, stream))
                done = step + 1
                if done % config.log_every == 0 or done == self.last:
                    self.check_finite()
                    monitor.steps(done, self.figures())
                monitor.show(done, None)
                with monitor.window.pause():
                    self.keep(done)
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
            batch = next(stream)
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

    def figures(self) -> dict[str, Any]:
        """What the log tells beside the terms of the loss."""
        figures = {
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            **self.stage.figures(self.accelerator),
        }
        if not self.feed.skipped:
            return figures
        if not self.told_of_skipped:
            self.told_of_skipped = True
            print(
                f"{self.feed.skipped} files could not be read so far; their neighbours stand for "
                "them, the log counts them, and --data.strict names the first"
            )
        return {**figures, "skipped_files": self.feed.skipped}

    def keep(self, step: int) -> None:
        """Validates and saves if this step is the time."""
        if step % self.validate_steps == 0 or step == self.last:
            self.judge(step)
            self.save(step)
        elif self.config.save_every and step % self.config.save_every == 0:
            self.save(step)

    def judge(self, step: int) -> None:
        """Validates with the weights that would be kept, logs figures and pictures."""
        self.check_finite()
        self.network.eval()
        with self.shown_weights(), self.accelerator.autocast():
            figures = self.stage.validate(
                self.network, self.feed.validation_batches(), self.accelerator
            )
            state = self.whole_state()
        value = float(figures[self.stage.better])
        if not math.isfinite(value):
            self.first_bad.clamp_(max=step)
            self.check_finite()
        if value < self.best["value"]:
            self.best = {"step": step, "value": value}
        self.monitor.validation(step, figures)
        if self.accelerator.is_main_process:
            self.monitor.pictures(step, self.stage.pictures(state, self.feed.first(SHOWN)))

    def measure_machine(self, objective: nn.Module) -> None:
        """Measures device and work. Nothing of it stays: neither draws nor statistics."""
        batch = self.feed.on_device(self.feed.first(2))
        was = torch.get_rng_state()
        counts = {name: value.clone() for name, value in self.stage.state_dict().items()}
        self.monitor.measure(
            lambda: self.stage.step(objective, batch, 0)[0].backward(), len(batch.labels)
        )
        objective.zero_grad(set_to_none=True)
        self.stage.figures(self.accelerator)
        self.stage.load_state_dict(counts)
        torch.set_rng_state(was)

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
            self.stage.write(shown, place)
            training = {
                "step": step,
                "best": self.best,
                "network": own,
                "optimizer": optimizer,
                "stage": counts,
                "average": average,
                "scaler": scaler.state_dict() if scaler else {},
            }
            write_pickle(training, place / TRAINING)

        self.directory.save(step, write, self.config.keep, self.best["step"])
        self.accelerator.wait_for_everyone()

    def restore(self, place: Path | None) -> int:
        """Reads a checkpoint of `save`; returns the step to go on with."""
        if place is None:
            self.directory.forget_log_after(0)
            return 0
        state = load_training(place)
        options = distributed.StateDictOptions(full_state_dict=True)
        check_fits(state, distributed.get_model_state_dict(self.network), place)
        try:
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
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise refused(place, f"it does not fit this run: {reason}") from error
        self.best = state["best"]
        self.directory.forget_log_after(state["step"])
        self.accelerator.print(escaped(f"continuing from {place}"))
        return state["step"]

    def finish(self) -> Path:
        """Writes the final model; what was trained is rounded to the configured precision."""
        dtype = DTYPES[self.config.export]
        with self.shown_weights():
            state = self.whole_state()
        final = self.directory.final
        if self.accelerator.is_main_process:
            rounded = {name: value.to(dtype) for name, value in state.items()}
            with replacing(final, FINAL) as folder:
                self.stage.write(rounded, folder)
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

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.accelerator.num_processes

    @property
    def warmup_steps(self) -> int:
        """Optimizer steps of rising learning rate."""
        epochs = self.config.warmup_epochs
        return round((epochs if epochs >= 0 else self.config.epochs / 50) * self.steps_in_epoch)

    @property
    def validate_steps(self) -> int:
        """Optimizer steps between validations."""
        return max(1, round(self.config.validate_every * self.steps_in_epoch))
