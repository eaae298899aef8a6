"""Published state dicts of arXiv 2404.02905 to a pipeline by one rename table.

Reads the released files, the published trainer's nested ones, and compiled or distributed prefixes.
"""

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nextscale.config.architecture import (
    RELEASED_256,
    RELEASED_512,
    TokenizerConfig,
    TransformerConfig,
)
from nextscale.config.model import ModelConfig, SamplingConfig
from nextscale.errors import UsageError, shown
from nextscale.models.model import build_model
from nextscale.pipeline import Pipeline
from nextscale.scales import Scales, describe, length, parse_scales
from nextscale.storage.weights import check_numbers, load_weights, shorten
from nextscale.tokenizer.tokenizer import Tokenizer

StateDict = Mapping[str, Tensor]

SAMPLING = SamplingConfig(cfg=1.5, top_k=900, top_p=0.96)  # the released models' FID setting
NESTED = {"tokenizer": "vae_local", "transformer": "var_wo_ddp"}  # below `trainer`
PREFIXES = ("_orig_mod.", "module.")
TELLING = {  # keys whose shapes give the configuration
    "tokenizer": (
        "quantize.embedding.weight",
        "encoder.conv_in.weight",
        "encoder.down.0.block.0.conv1.weight",
    ),
    "transformer": ("word_embed.weight", "class_emb.weight", "pos_1LC", "blocks.0.ffn.fc1.weight"),
}

AXES = {  # of tensors that are read before their shapes are compared, by patterns of their keys
    r"quantize\.embedding\.weight|word_embed\.weight|class_emb\.weight": 2,
    r"blocks\.\d+\.ffn\.fc1\.weight": 2,
    r"pos_1LC": 3,
    r"encoder\.conv_in\.weight|encoder\.down\.\d+\.block\.\d+\.conv1\.weight": 4,
}

# Published name (a pattern for the whole key) to ours; empty is a buffer that carries nothing.
TOKENIZER_NAMES = {
    r"quantize\.ema_vocab_hit_SV": "",
    r"quantize\.embedding\.weight": "quantizer.codebook",
    r"quantize\.quant_resi\.qresi_ls\.(\d+)\.(\w+)": r"quantizer.phis.\1.conv.\2",
    r"quantize\.quant_resi\.qresi\.(\w+)": r"quantizer.phis.0.conv.\1",
    r"quantize\.quant_resi\.(\d+)\.(\w+)": r"quantizer.phis.\1.conv.\2",
    r"quant_conv\.(\w+)": r"to_latent.\1",
    r"post_quant_conv\.(\w+)": r"from_latent.\1",
    r"(encoder|decoder)\.(conv_in|conv_out|norm_out)\.(\w+)": r"\1.\2.\3",
    r"(encoder|decoder)\.mid\.block_([12])\.nin_shortcut\.(\w+)": r"\1.middle.block\2.shortcut.\3",
    r"(encoder|decoder)\.mid\.block_([12])\.(\w+)\.(\w+)": r"\1.middle.block\2.\3.\4",
    r"(encoder|decoder)\.mid\.attn_1\.norm\.(\w+)": r"\1.middle.attention.norm.\2",
    r"(encoder|decoder)\.mid\.attn_1\.qkv\.(\w+)": r"\1.middle.attention.query_key_value.\2",
    r"(encoder|decoder)\.mid\.attn_1\.proj_out\.(\w+)": r"\1.middle.attention.project.\2",
    r"(encoder|decoder)\.(?:down|up)\.(\d+)\.block\.(\d+)\.nin_shortcut\.(\w+)": (
        r"\1.levels.\2.blocks.\3.shortcut.\4"
    ),
    r"(encoder|decoder)\.(?:down|up)\.(\d+)\.block\.(\d+)\.(\w+)\.(\w+)": (
        r"\1.levels.\2.blocks.\3.\4.\5"
    ),
    r"(encoder|decoder)\.(?:down|up)\.(\d+)\.attn\.(\d+)\.norm\.(\w+)": (
        r"\1.levels.\2.attentions.\3.norm.\4"
    ),
    r"(encoder|decoder)\.(?:down|up)\.(\d+)\.attn\.(\d+)\.qkv\.(\w+)": (
        r"\1.levels.\2.attentions.\3.query_key_value.\4"
    ),
    r"(encoder|decoder)\.(?:down|up)\.(\d+)\.attn\.(\d+)\.proj_out\.(\w+)": (
        r"\1.levels.\2.attentions.\3.project.\4"
    ),
    r"encoder\.down\.(\d+)\.downsample\.conv\.(\w+)": r"encoder.downsamples.\1.conv.\2",
    r"decoder\.up\.(\d+)\.upsample\.conv\.(\w+)": r"decoder.upsamples.\1.conv.\2",
}
TRANSFORMER_NAMES = {
    r"lvl_1L|attn_bias_for_masking|blocks\.\d+\.attn\.zero_k_bias": "",
    r"class_emb\.weight": "condition.embedding.weight",
    r"pos_start": "start_position",
    r"pos_1LC": "position_embedding",
    r"lvl_embed\.weight": "level_embedding",
    r"word_embed\.(\w+)": r"word_embedding.\1",
    r"shared_ada_lin\.1\.(\w+)": r"transformer.shared_modulation.\1",
    r"blocks\.(\d+)\.ada_gss": r"transformer.blocks.\1.offset",
    r"blocks\.(\d+)\.ada_lin\.1\.(\w+)": r"transformer.blocks.\1.modulation.\2",
    r"blocks\.(\d+)\.attn\.mat_qkv\.weight": (
        r"transformer.blocks.\1.attention.query_key_value.weight"
    ),
    r"blocks\.(\d+)\.attn\.q_bias": r"transformer.blocks.\1.attention.query_bias",
    r"blocks\.(\d+)\.attn\.v_bias": r"transformer.blocks.\1.attention.value_bias",
    r"blocks\.(\d+)\.attn\.scale_mul_1H11": r"transformer.blocks.\1.attention.log_scale",
    r"blocks\.(\d+)\.attn\.proj\.(\w+)": r"transformer.blocks.\1.attention.project.\2",
    r"blocks\.(\d+)\.ffn\.fc1\.(\w+)": r"transformer.blocks.\1.mlp.expand.\2",
    r"blocks\.(\d+)\.ffn\.fc2\.(\w+)": r"transformer.blocks.\1.mlp.project.\2",
    r"head_nm\.ada_lin\.1\.(\w+)": r"head_modulation.\1",
    r"head\.(\w+)": r"head.\1",
}


def from_released(
    tokenizer_state: Mapping[str, Any],
    transformer_state: Mapping[str, Any] | None,
    scales: Any = None,
    **config: Any,
) -> Pipeline:
    """Builds a pipeline from published state dicts.

    Args:
        tokenizer_state: `vae_ch160v4096z32.pth`, or a trainer's file.
        transformer_state: `var_d*.pth`, or a trainer's file; None gives a tokenizer alone.
        scales: the pyramid; None reads it from `lvl_1L`. Without that it is taken to be a released
            one, with a warning.
        config: fields of `TokenizerConfig` that cannot be inferred from shapes (z_norm, phi_ratio,
            commitment); the released values unless given.

    Raises:
        UsageError: naming the keys that are missing, unknown or of another shape.
    """
    tokenizer_tensors = flatten_released(tokenizer_state, "tokenizer")
    tensors = None
    if transformer_state is not None:
        tensors = flatten_released(transformer_state, "transformer")
    pyramid = read_scales(tensors) if scales is None else parse_scales(scales)
    tokenizer_config = replace(read_tokenizer_config(tokenizer_tensors, pyramid), **config)
    with torch.device("meta"):
        tokenizer = Tokenizer(tokenizer_config)
    load_weights(tokenizer, rename(tokenizer_tensors, TOKENIZER_NAMES), "tokenizer")
    if tensors is None:
        return Pipeline(tokenizer, None, ModelConfig(tokenizer_config))
    model_config = read_transformer_config(tensors)
    with torch.device("meta"):
        model = build_model(model_config, tokenizer_config)
    load_weights(model, rename(tensors, TRANSFORMER_NAMES), "transformer")
    sampling = replace(SAMPLING, top_k=min(SAMPLING.top_k, tokenizer_config.codes))
    whole = ModelConfig(tokenizer_config, model_config, sampling)
    return Pipeline(tokenizer, model, whole)


def holds_both(state: Mapping[str, Any]) -> bool:
    """Whether this is a trainer's file, with tokenizer and transformer in it."""
    trainer = state.get("trainer")
    return isinstance(trainer, Mapping) and all(part in trainer for part in NESTED.values())


def flatten_released(state: Mapping[str, Any], part: str) -> dict[str, Tensor]:
    """The state dict of one part: taken out of a trainer's nesting, prefixes removed."""
    trainer = state.get("trainer")
    if isinstance(trainer, Mapping):
        if NESTED[part] not in trainer:
            raise UsageError(f"the trainer's file holds no {part} ({NESTED[part]})")
        state = trainer[NESTED[part]]
    if not isinstance(state, Mapping):
        raise UsageError(f"the {part} is {shown(state)}; a table of tensors is needed")
    tensors = {}
    for key, value in state.items():
        if not isinstance(key, str):
            raise UsageError(f"the {part} has a key {shown(key)}; names are needed")
        for prefix in PREFIXES * 2:
            key = key.removeprefix(prefix)
        if isinstance(value, Tensor):
            tensors[key] = value
    absent = [key for key in TELLING[part] if key not in tensors]
    if absent:
        raise UsageError(f"this is no published {part}: it has no {', '.join(absent)}")
    for key, value in tensors.items():
        axes = next((count for pattern, count in AXES.items() if re.fullmatch(pattern, key)), None)
        if value.numel() == 0 or (axes is not None and value.ndim != axes):
            needed = f"{axes} axes are" if value.numel() and axes else "at least one number is"
            shape = tuple(value.shape)
            raise UsageError(f"{key} of the {part} has the shape {shape}; {needed} needed")
    return tensors


def rename(tensors: StateDict, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Our keys for published ones. Raises UsageError at keys that the table does not know."""
    renamed, unknown = {}, []
    for key, value in tensors.items():
        for pattern, ours in names.items():
            match = re.fullmatch(pattern, key)
            if match:
                if ours:
                    renamed[match.expand(ours)] = value
                break
        else:
            unknown.append(key)
    if unknown:
        raise UsageError(f"unknown keys in the released file: {shorten(unknown)}")
    return renamed


def read_scales(transformer: StateDict | None) -> Scales:
    """The pyramid: each level's count in `lvl_1L` is its area; else the released ones by length.

    Warns where the file does not record them.
    """
    if transformer is None:
        return assumed(RELEASED_256)
    if "lvl_1L" in transformer:
        levels = transformer["lvl_1L"]
        check_numbers(levels, False, "lvl_1L")
        if levels.min() < 0 or levels.max() >= levels.numel():
            raise UsageError(f"lvl_1L holds the level {shown(int(levels.max()))}; it is damaged")
        counts = torch.bincount(levels.flatten().long()).tolist()
        sides = [math.isqrt(count) for count in counts]
        if [side * side for side in sides] != counts:
            raise UsageError(f"scales are not square (areas {counts}); give them as scales")
        return parse_scales(sides)
    tokens = transformer["pos_1LC"].shape[1]
    for scales in (RELEASED_256, RELEASED_512):
        if length(scales) == tokens:
            return assumed(scales)
    raise UsageError(f"{tokens} positions fit no released pyramid; give the scales")


def assumed(scales: Scales) -> Scales:
    """Released scales that stand for those that a file does not hold; warns of it."""
    warnings.warn(
        f"the file holds no scales (lvl_1L): the released {describe(scales)} are assumed; give "
        "the scales if they are others",
        stacklevel=4,
    )
    return scales


def read_tokenizer_config(tensors: StateDict, scales: Scales) -> TokenizerConfig:
    """What is inferred from the shapes of a published tokenizer."""
    width, channels = tensors["encoder.conv_in.weight"].shape[:2]
    codes, latent = tensors["quantize.embedding.weight"].shape
    multipliers, blocks = [], 0
    while f"encoder.down.{len(multipliers)}.block.0.conv1.weight" in tensors:
        level = f"encoder.down.{len(multipliers)}.block"
        multipliers.append(tensors[f"{level}.0.conv1.weight"].shape[0] // width)
        blocks = sum(key.startswith(level) and key.endswith("conv1.weight") for key in tensors)
    phis = [key for key in tensors if key.startswith("quantize.quant_resi.")]
    phi = "each"
    if any("qresi_ls" in key for key in phis):
        phi = "partial"
    elif any(".qresi." in key for key in phis):
        phi = "shared"
    return TokenizerConfig(
        scales=scales,
        image_channels=channels,
        width=width,
        multipliers=tuple(multipliers),
        blocks=blocks,
        attention="encoder.mid.attn_1.qkv.weight" in tensors,
        latent=latent,
        codes=codes,
        phi=phi,
        phi_count=len(phis) // 2 if phi == "partial" else TokenizerConfig.phi_count,
    )


def read_transformer_config(tensors: StateDict) -> TransformerConfig:
    """What is inferred from the shapes of a published transformer."""
    width = tensors["word_embed.weight"].shape[0]
    scale = tensors.get("blocks.0.attn.scale_mul_1H11")
    depth = sum(key.endswith("attn.proj.weight") for key in tensors)
    return TransformerConfig(
        classes=tensors["class_emb.weight"].shape[0] - 1,
        depth=depth,
        width=width,
        heads=width // 64 if scale is None else scale.numel(),
        shared_adaln="shared_ada_lin.1.weight" in tensors,
        normalized_attention=scale is not None,
        mlp_ratio=tensors["blocks.0.ffn.fc1.weight"].shape[0] / width,
    )


def describe_released(pipe: Pipeline) -> str:
    """One line on what a converted file holds."""
    model = pipe.config.model
    tokenizer = pipe.config.tokenizer
    what = "tokenizer alone" if model is None else f"VAR of depth {model.depth}"
    return f"{what}, {tokenizer.codes} codes, scales {describe(tokenizer.scales)}"
