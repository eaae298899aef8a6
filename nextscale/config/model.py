"""The options of sampling, and all that a checkpoint records. No torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nextscale.config.architecture import TokenizerConfig, TransformerConfig
from nextscale.config.building import build
from nextscale.config.limits import (
    LARGEST_COUNT,
    LARGEST_DEPTH,
    LARGEST_STRENGTH,
    LEAST_TEMPERATURE,
)
from nextscale.errors import UsageError, check_range


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How images are sampled; see `generation.generate`.

    Attributes:
        cfg: strength of classifier-free guidance at the finest scale; 0 is off.
        guidance: how the strength runs over the scales; `linear` rises from 0.
        temperature: logits are divided by it.
        top_k: sample from the k likeliest codes; 0 is off.
        top_p: sample from the likeliest codes of probability p; 0 is off.
        smooth: use Gumbel-softmax mixtures of codes instead of sampled ones.
        mean_scales: number of finest scales that use expected codes instead of sampled ones.
    """

    cfg: float = 0.0
    guidance: Literal["linear", "constant", "off"] = "linear"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 0.0
    smooth: bool = False
    mean_scales: int = 0

    def __post_init__(self) -> None:
        if self.guidance not in ("linear", "constant", "off"):
            raise UsageError(
                f"guidance is {self.guidance!r}; it can be linear, constant or off (in YAML: 'off')"
            )
        check_range(self, "cfg", 0, LARGEST_STRENGTH)
        check_range(self, "top_k", 0, LARGEST_COUNT)
        check_range(self, "mean_scales", 0, LARGEST_DEPTH)
        check_range(self, "top_p", 0, 1)
        check_range(self, "temperature", LEAST_TEMPERATURE, LARGEST_STRENGTH)


@dataclass(frozen=True)
class ModelConfig:
    """Everything that a checkpoint directory records, the content of its `config.json`.

    Attributes:
        model: None where the checkpoint holds a tokenizer alone.
        tokenizer_hash: of the tokenizer that the transformer was trained with.
        tokenizer_dtype: in which the tokenizer is stored, and stored again unless told otherwise,
            so that its hash stays; empty keeps the dtype it has in memory.
        labels: names of the classes, in the order of their numbers; may be empty.
        data: the data set's name.
        versions: of the libraries that wrote the checkpoint.
    """

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: TransformerConfig | None = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    tokenizer_hash: str = ""
    tokenizer_dtype: str = ""
    labels: tuple[str, ...] = ()
    data: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """The inverse of `to_dict`. Raises UsageError at an unknown or missing key."""
        return build(cls, values, "the checkpoint")
