"""Decides when a run ends, and describes why and how it can be continued."""

from nextscale.config.run import TrainingConfig
from nextscale.training.best import Best
from nextscale.training.schedule import Schedule


class Ending:
    """The end of a run: its last step, or a validation after which patience is exhausted.

    Args:
        config: of the run.
        schedule: of the run.
        best: the run's validations so far.

    Attributes:
        last: number of optimizer steps after which this call ends.
    """

    def __init__(self, config: TrainingConfig, schedule: Schedule, best: Best) -> None:
        self.config, self.steps, self.best = config, schedule.steps, best
        self.last = min(self.steps, config.max_steps or self.steps)

    def reached(self, step: int) -> bool:
        """Whether the run ends after a number of steps."""
        return step >= self.last or self.best.exhausted(self.config.patience)

    def early(self, step: int) -> str:
        """Returns why the run ends before its last step; "" if it does not."""
        if step >= self.last:
            return ""
        patience = self.config.patience
        return f"stopped at step {step} of {self.last}: no new best in {patience} validations"

    def ways_on(self, step: int) -> str:
        """Returns a line on the finished run and on how to train it further."""
        config, out = self.config, self.config.out
        ways = [f"--init {out} and another --out train on from it"]
        if config.max_steps and step < self.steps:
            ways.insert(0, f"--max-steps above {step}, or 0, continues it")
        if self.best.exhausted(config.patience):
            ways.insert(0, f"--patience above {config.patience}, or 0, continues it")
        elif config.endless:
            ways.insert(0, f"--epochs above {config.epochs:g} continues it")
        done = f"{out} is finished, {step} of {self.steps} steps are done"
        return f"{done}; {self.best.verdict(step)}; {'; '.join(ways)}"
