"""A ladder of models from which scaling laws are read, and how far a law is stretched.

Names are those of the command line, with dashes there. Nothing here imports torch.
"""

from dataclasses import dataclass, field, replace
from operator import attrgetter

from nextscale.config.limits import LARGEST_DEPTH, LARGEST_WIDTH
from nextscale.config.run import VarTraining
from nextscale.config.seeds import LARGEST_SEED
from nextscale.config.speed import FASTEST
from nextscale.errors import UsageError, check_range, shown

GIVEN_BY_LADDER = ("model.depth", "model.width", "model.heads", "learning_rate", "out", "resume")


@dataclass(frozen=True)
class LadderConfig:
    """`nextscale scaling-laws run`.

    Attributes:
        out: directory of the runs; any number of processes may share it.
        depths: of the models. A model of depth d has width d times `width_step` and 18 d w² weights
            in its blocks (VAR Sec. 4.2).
        width_step: width over depth.
        head: width of an attention head.
        learning_rate: peak of a model of width `rate_width`; that of width w has `learning_rate`
            times (`rate_width` / w) to the power `rate_exponent`.
        rate_width: see `learning_rate`.
        rate_exponent: see `learning_rate`.
        sweep_depths: at which the rule is checked by short runs.
        sweep_factors: what the rule's rate is multiplied by there.
        sweep_epochs: length of those runs.
        shares: of the training images, for loss against data, with as many steps.
        share_depth: of the model that is trained on shares.
        training: what all runs share; the ladder itself gives depth, width, heads, learning rate,
            directory and resumption.
    """

    out: str = ""
    depths: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    width_step: int = 32
    head: int = 32
    learning_rate: float = 1e-3
    rate_width: int = 192
    rate_exponent: float = 1.0
    sweep_depths: tuple[int, ...] = (2, 5)
    sweep_factors: tuple[float, ...] = (0.5, 1, 2)
    sweep_epochs: float = 1.0
    shares: tuple[float, ...] = (0.1, 0.3)
    share_depth: int = 4
    training: VarTraining = field(default_factory=VarTraining)

    def __post_init__(self) -> None:
        check_range(self, "width_step head rate_width", 1, LARGEST_WIDTH)
        for depth in (*self.depths, *self.sweep_depths, self.share_depth):
            if not 1 <= depth <= LARGEST_DEPTH:
                raise UsageError(f"depth is {shown(depth)}; it must be from 1 to {LARGEST_DEPTH}")
            if depth * self.width_step % self.head:
                raise UsageError(
                    f"depth {depth} has width {depth * self.width_step}, which heads of "
                    f"{self.head} do not divide; give other depths, --width-step or --head"
                )
        check_range(self, "learning_rate sweep_epochs", 1e-12, 1e6)
        check_range(self, "rate_exponent", -10, 10)
        if not all(0 < factor <= 1e6 for factor in self.sweep_factors):
            raise UsageError(
                f"sweep_factors are {self.sweep_factors}; they must be above 0, and 1e6 at most"
            )
        if not all(0 < share < 1 for share in self.shares):
            raise UsageError(f"shares are {self.shares}; each must be above 0 and below 1")
        if self.sweep_depths and self.sweep_epochs >= self.training.epochs:
            raise UsageError(
                f"sweep_epochs is {self.sweep_epochs:g}; it must be below training.epochs, "
                f"{self.training.epochs:g}: sweeps are the shorter runs"
            )
        usual = VarTraining()
        for name in GIVEN_BY_LADDER:
            if attrgetter(name)(self.training) != attrgetter(name)(usual):
                raise UsageError(f"training.{name} is given by the ladder; leave it out")

    def rate(self, depth: int) -> float:
        """The learning rate of a depth, by the rule."""
        return self.learning_rate * (self.rate_width / (depth * self.width_step)) ** (
            self.rate_exponent
        )

    def of_depth(self, depth: int, factor: float = 1.0) -> VarTraining:
        """The training of a depth, its learning rate times a factor."""
        width = depth * self.width_step
        model = replace(self.training.model, depth=depth, width=width, heads=width // self.head)
        return replace(self.training, model=model, learning_rate=factor * self.rate(depth))

    def runs(self) -> dict[str, VarTraining]:
        """All trainings by the name of their directory, in the order in which they run."""
        found = {}
        for depth in self.sweep_depths:
            for factor in self.sweep_factors:
                run = replace(self.of_depth(depth, factor), epochs=self.sweep_epochs)
                found[f"sweep-d{depth}-x{factor:g}"] = run
        for depth in self.depths:
            found[f"d{depth}"] = self.of_depth(depth)
        for share in self.shares:
            run, data = self.of_depth(self.share_depth), self.training.data
            few = replace(data, share=share)
            found[f"share-{share:g}"] = replace(
                run, data=few, epochs=run.epochs / share, validate_every=run.validate_every / share
            )
        return found


@dataclass(frozen=True)
class FitConfig:
    """`nextscale scaling-laws fit`.

    Attributes:
        held_out: largest models that a second fit leaves out and predicts.
        confidence: of the intervals.
        samples: of the bootstrap.
        seed: of the bootstrap.
        out: directory of `fit.json`, `fit.md` and the figures.
    """

    held_out: int = 2
    confidence: float = 0.95
    samples: int = 4000
    seed: int = 0
    out: str = "scaling"

    def __post_init__(self) -> None:
        check_range(self, "held_out seed", 0, LARGEST_SEED)
        check_range(self, "confidence", 0.01, 0.9999)
        check_range(self, "samples", 100, 10**6)


@dataclass(frozen=True)
class PredictConfig:
    """`nextscale scaling-laws predict`.

    Attributes:
        params: N, weights in the blocks of the model to be predicted.
        rate: GFLOP/s of the machine, for hours; 0 leaves them out.
        reach: how many times larger than the largest fitted model, or smaller than the smallest, N
            may be.
        confidence: of the interval.
    """

    params: float = 0.0
    rate: float = 0.0
    reach: float = 10.0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_range(self, "params", 1, 1e30)
        check_range(self, "rate", 0, FASTEST)
        check_range(self, "reach", 1, 1e30)
        check_range(self, "confidence", 0.01, 0.9999)
