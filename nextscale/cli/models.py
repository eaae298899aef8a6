"""`nextscale models` lists what can be loaded by name, `nextscale convert` reads other weights."""

import json
import warnings
from typing import Any

from jsonargparse import Namespace

from nextscale.console.messages import inform
from nextscale.console.options import Parser


def add_listing_arguments(parser: Parser) -> None:
    """Adds the options of `models`."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def list_models(options: Namespace) -> int:
    """Prints the models, bundled ones first."""
    from nextscale.checkpoints.checkpoint import known_models

    models = known_models()
    if options.json:
        print(json.dumps([{"name": name, "what": what} for name, what in models.items()], indent=2))
        return 0
    width = max(map(len, models)) + 2
    for name, what in models.items():
        print(f"{name:<{width}}{what}")
    return 0


def add_conversion_arguments(parser: Parser) -> None:
    """Adds the options of `convert`."""
    add = parser.add_argument
    add("tokenizer", type=str, help="published state dict, or a trainer's file, which holds both")
    add("transformer", type=str, nargs="?", help="the same [of a trainer's file, else none]")
    add("out", type=str, help="checkpoint directory to write")
    add("--scales", type=str, nargs="+", help="sides or HxW [as in the transformer, else released]")
    add(
        "--precision",
        choices=("float32", "float16", "bfloat16"),
        help="weights are rounded to it [as in the files]",
    )
    add("--z-norm", action="store_true", help="the tokenizer chooses codes by cosine similarity")
    add("--phi-ratio", type=float, help="of the tokenizer's residual φ [0.5, the released one]")


def convert(options: Namespace) -> int:
    """Converts published weights and writes a checkpoint."""
    from pathlib import Path

    import torch

    from nextscale.checkpoints.checkpoint import FILES, read_config, save
    from nextscale.checkpoints.published.var import describe_released, from_released, holds_both
    from nextscale.scales import parse_scales
    from nextscale.storage.files import check_replaceable
    from nextscale.storage.weights import read_pickle

    out = Path(options.out)
    check_replaceable(out.resolve(), FILES)
    scales = None if options.scales is None else parse_scales(options.scales)
    told: dict[str, Any] = {"z_norm": True} if options.z_norm else {}
    if options.phi_ratio is not None:
        told["phi_ratio"] = options.phi_ratio
    tokenizer = read_pickle(options.tokenizer)
    transformer = tokenizer if holds_both(tokenizer) else None
    if options.transformer is not None:
        transformer = read_pickle(options.transformer)
    with warnings.catch_warnings(record=True) as assumed:
        warnings.simplefilter("always")
        pipe = from_released(tokenizer, transformer, scales, **told)
    dtype = None if options.precision is None else getattr(torch, options.precision)
    save(pipe, out, dtype=dtype)
    for warning in assumed:
        inform(str(warning.message))
    print(f"{out}: {describe_released(pipe)}, tokenizer {read_config(out).tokenizer_hash}")
    return 0


COMMANDS = {
    "models": (add_listing_arguments, list_models),
    "convert": (add_conversion_arguments, convert),
}
