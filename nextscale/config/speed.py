"""What `nextscale speed` measures and `nextscale estimate` predicts, and how often. No torch."""

from dataclasses import dataclass

from nextscale.config.presets import TOKENIZERS, TRANSFORMERS
from nextscale.errors import UsageError, check_range, shown, unknown

MOST_REPEATS = 10**6
MOST_AT_ONCE = 2**16  # images
FASTEST = 1e12  # GFLOP/s
MODES = ("exact", "compiled", "int8")
STAGES = ("tokenizer", "transformer")
TASKS = ("sample", *STAGES)
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class SampleConfig:
    """`nextscale speed sample`.

    Attributes:
        model: as `nextscale sample` takes it.
        random_weights: of the model's shape instead of its own; what takes time is the same.
        modes: ways of drawing: exact, compiled (torch.compile), int8 (compiled too); without it
            those that the device has instructions for.
        batch: images drawn at once.
        repeats: measurements of each row; the median is reported.
        memory: also measure peak memory, each row in a process of its own.
        json: also write the report there.
    """

    model: str = "fashion-mnist"
    random_weights: bool = False
    modes: tuple[str, ...] = ()
    batch: tuple[int, ...] = (1, 8)
    repeats: int = 5
    memory: bool = True
    json: str = ""

    def __post_init__(self) -> None:
        check_range(self, "repeats", 1, MOST_REPEATS)
        check_batch(self.batch)
        if self.modes:
            check_choices("modes", self.modes, MODES)


@dataclass(frozen=True)
class TrainConfig:
    """`nextscale speed train`.

    Attributes:
        model: whose shape is trained, as `nextscale sample` takes it; weights are fresh.
        stages: of tokenizer and transformer; tokens are cached for the latter.
        precision: of the arithmetic, of float32 and bfloat16; without it those that the device has
            instructions for.
        batch: images an optimizer step.
        activation_checkpointing: share of the transformer's blocks; see `train var`.
        compile: through torch.compile.
        repeats: measurements of each row; the median is reported.
        memory: also measure peak memory, each row in a process of its own.
        json: also write the report there.
    """

    model: str = "fashion-mnist"
    stages: tuple[str, ...] = STAGES
    precision: tuple[str, ...] = ()
    batch: tuple[int, ...] = (64,)
    activation_checkpointing: float = 0.0
    compile: bool = False
    repeats: int = 5
    memory: bool = True
    json: str = ""

    def __post_init__(self) -> None:
        check_range(self, "repeats", 1, MOST_REPEATS)
        check_range(self, "activation_checkpointing", 0, 1)
        check_batch(self.batch)
        check_choices("stages", self.stages, STAGES)
        if self.precision:
            check_choices("precision", self.precision, PRECISIONS)


@dataclass(frozen=True)
class EstimateConfig:
    """`nextscale estimate`.

    Attributes:
        model: whose shape is meant, as `nextscale sample` takes it; its weights are not needed.
        tokenizer_preset: shape of a tokenizer instead of the model's, as `train tokenizer --preset`
            takes it.
        transformer_preset: shape of a transformer instead of the model's, as `train var --preset`
            takes it; with a tokenizer's preset alone, only the tokenizer is estimated.
        training: YAML file of options, as `train tokenizer --config` or `train var --config` takes
            it: network, task and batch are those of that training.
        tasks: sample, and the stages that may be trained: tokenizer and transformer.
        precision: float32 or bfloat16, in training of the arithmetic alone; without it those that
            the device has instructions for.
        batch: images at once.
        activation_checkpointing: share of the blocks, in training the transformer.
        rate: GFLOP/s that the time is computed from; 0 measures what this machine reaches in
            float32.
        json: also write the report there.
    """

    model: str = "fashion-mnist"
    tokenizer_preset: str = ""
    transformer_preset: str = ""
    training: str = ""
    tasks: tuple[str, ...] = TASKS
    precision: tuple[str, ...] = ()
    batch: tuple[int, ...] = (1, 8)
    activation_checkpointing: float = 0.0
    rate: float = 0.0
    json: str = ""

    def __post_init__(self) -> None:
        for name, known in (("tokenizer_preset", TOKENIZERS), ("transformer_preset", TRANSFORMERS)):
            if getattr(self, name):
                check_choices(name, (getattr(self, name),), tuple(known))
        check_range(self, "rate", 0, FASTEST)
        check_range(self, "activation_checkpointing", 0, 1)
        check_batch(self.batch)
        check_choices("tasks", self.tasks, TASKS)
        if self.precision:
            check_choices("precision", self.precision, PRECISIONS)


def check_batch(batch: tuple[int, ...]) -> None:
    """Raises UsageError unless there are sizes of batches."""
    if not batch or min(batch) < 1 or max(batch) > MOST_AT_ONCE:
        raise UsageError(f"batch is {shown(batch)}; give sizes from 1 to {MOST_AT_ONCE}")


def check_choices(name: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raises UsageError unless there are words, all of them known."""
    for word in given:
        if word not in known:
            raise unknown(name, word, known)
    if not given:
        raise UsageError(f"{name} is empty; known: {', '.join(known)}")
