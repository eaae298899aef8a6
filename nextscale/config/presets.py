"""Named configurations of tokenizers and transformers, and which files hold the released models.

Sizes and gates are those of arXiv 2404.02905 where a name is released. Nothing here imports torch.
"""

from dataclasses import dataclass
from typing import Any

from nextscale.config.architecture import (
    RELEASED_256,
    RELEASED_512,
    TokenizerConfig,
    TransformerConfig,
)
from nextscale.scales import Scales, parse_scales


def small(scales: str, width: int, multipliers: tuple[int, ...]) -> TokenizerConfig:
    """A tokenizer for small folders of colour pictures."""
    return TokenizerConfig(
        scales=parse_scales(scales),
        width=width,
        multipliers=multipliers,
        blocks=1,
        groups=2,
        latent=16,
        codes=4096,
        phi="each",
        z_norm=True,
        commitment=1.0,
    )


TOKENIZERS: dict[str, TokenizerConfig] = {
    "released-256": TokenizerConfig(scales=RELEASED_256),
    "released-512": TokenizerConfig(scales=RELEASED_512),
    "fashion-mnist": TokenizerConfig(
        scales=parse_scales("1 3 4 5 6 7"),
        image_channels=1,
        width=32,
        multipliers=(1, 2, 3),
        blocks=1,
        groups=8,
        latent=16,
        codes=256,
        phi="each",
        z_norm=True,
        commitment=1.0,
    ),
    # For a few thousand colour pictures and two cores: little width at full resolution, which costs
    # most, few groups a norm, so that these keep colours, and TOKENIZER_TRAINING. Measured on
    # emojis (recipes/emoji): `small-64` reaches 22.2 dB on unseen concepts in 44 minutes of one
    # core, `small-128` 27.4 dB on one style from there in 24, `small-32` 24.2 dB in 40.
    "small-32": small("1 2 3 4 6 8", width=16, multipliers=(1, 2, 4)),
    "small-64": small("1 2 3 4 6 8", width=8, multipliers=(1, 2, 4, 8)),
    "small-128": small("1 2 3 4 6 9 12 16", width=8, multipliers=(1, 2, 4, 8)),
}

# Options of a training that come with a preset: those of recipes/emoji/tokenizer.yaml.
TOKENIZER_TRAINING: dict[str, dict[str, Any]] = {
    name: {
        "batch_size": 16,
        "learning_rate": 3e-3,
        "schedule": "cosine",
        "loss.revive_every": 25,
        "loss.revive_until": 0.7,
    }
    for name in ("small-32", "small-64", "small-128")
}

TRANSFORMERS: dict[str, TransformerConfig] = {
    "d2": TransformerConfig(depth=2),
    "d4": TransformerConfig(depth=4),
    "d6": TransformerConfig(depth=6),
    "d8": TransformerConfig(depth=8),
    "d12": TransformerConfig(depth=12),
    "d16": TransformerConfig(depth=16, gate_init=1e-3),
    "d20": TransformerConfig(depth=20, gate_init=1e-3),
    "d24": TransformerConfig(depth=24, gate_init=1e-4),
    "d30": TransformerConfig(depth=30, gate_init=1e-5),
    "d36-512": TransformerConfig(depth=36, shared_adaln=True, gate_init=5e-6),
}


@dataclass(frozen=True)
class ReleasedModel:
    """Where a published model lies.

    Attributes:
        repository: on the hub.
        tokenizer_file: published state dict of the tokenizer; it serves any pyramid.
        transformer_file: published state dict of the transformer.
        scales: the pyramid that the transformer was trained with.
    """

    repository: str
    tokenizer_file: str
    transformer_file: str
    scales: Scales


def _released(transformer_file: str, scales: Scales) -> ReleasedModel:
    return ReleasedModel("FoundationVision/var", "vae_ch160v4096z32.pth", transformer_file, scales)


# "var-" and the name of the transformer's preset.
RELEASED: dict[str, ReleasedModel] = {
    "var-d16": _released("var_d16.pth", RELEASED_256),
    "var-d20": _released("var_d20.pth", RELEASED_256),
    "var-d24": _released("var_d24.pth", RELEASED_256),
    "var-d30": _released("var_d30.pth", RELEASED_256),
    "var-d36-512": _released("var_d36.pth", RELEASED_512),
}
