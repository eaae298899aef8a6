"""What is read of a run's files, which may come from anyone: types and bounds."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nextscale.config.limits import LARGEST_COUNT, LARGEST_DEPTH, LARGEST_WIDTH
from nextscale.config.validation import check_type
from nextscale.scales import MOST_SCALES

STRICT = ConfigDict(strict=True, allow_inf_nan=False)
Figure = Annotated[float, Field(ge=0, lt=1e30)]
Figures = Annotated[list[Figure], Field(min_length=1, max_length=MOST_SCALES)]
Count = Annotated[int, Field(ge=1, le=10**12)]


class Shape(BaseModel):
    """A transformer, in `config.json`."""

    model_config = STRICT
    depth: Annotated[int, Field(ge=1, le=LARGEST_DEPTH)]
    width: Annotated[int, Field(ge=1, le=LARGEST_WIDTH)]
    adaln: bool
    shared_adaln: bool
    mlp_ratio: Annotated[float, Field(gt=0, le=64)]


class Data(BaseModel):
    """The data of a run, in `config.json`."""

    model_config = STRICT
    share: Annotated[float, Field(gt=0, le=1)] = 1.0


class Configuration(BaseModel):
    """The `config.json` of a run."""

    model_config = STRICT
    command: str
    batch_size: Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
    model: Shape
    data: Data


class Start(BaseModel):
    """The first line of a log."""

    model_config = STRICT
    event: Literal["start"]
    steps: Count
    training_flops_per_image: Annotated[float, Field(gt=0, lt=1e30)]


class Validation(BaseModel):
    """A line of a log on unseen images."""

    model_config = STRICT
    step: Count
    images: Count
    loss: Annotated[float, Field(gt=0, lt=1e30)]
    accuracy: Annotated[float, Field(ge=0, le=1)]
    unigram_entropy: Figure
    scale_loss: Figures
    scale_accuracy: Figures


class Made(BaseModel):
    """What is read of the finished model's `config.json`."""

    model_config = STRICT
    tokenizer_hash: str


def check_records(config: Any, start: Any, judged: list[Any], made: Any) -> None:
    """Raises UsageError naming the first value of a run's files that cannot be."""
    check_type(Configuration, config, "config.json")
    check_type(Start, start, "log.jsonl, start")
    for entry in judged:
        check_type(Validation, entry, "log.jsonl, validation")
    check_type(Made, made, "final/config.json")
