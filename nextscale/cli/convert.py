"""`nextscale convert`: a checkpoint directory from released or published state dicts."""

from typing import Any

from jsonargparse import Namespace

from nextscale.cli.options import Parser


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add = parser.add_argument
    add("tokenizer", type=str, help="published state dict, or a trainer's file")
    add("transformer", type=str, nargs="?", help="the same; may be the trainer's file once more")
    add("out", type=str, help="checkpoint directory to write")
    add("--scales", type=str, nargs="+", help="sides or HxW [as the transformer tells]")
    add(
        "--precision",
        choices=("float32", "float16", "bfloat16"),
        help="weights are rounded to it [as in the files]",
    )
    add("--z-norm", action="store_true", help="the tokenizer chooses codes by cosine similarity")
    add("--phi-ratio", type=float, help="of the tokenizer's residual φ [0.5, the released one]")


def run(options: Namespace) -> int:
    """Converts published weights and writes a checkpoint."""
    from pathlib import Path

    import torch

    from nextscale.checkpoint import FILES, read_config, save
    from nextscale.files import check_replaceable
    from nextscale.released import describe_released, from_released
    from nextscale.scales import parse_scales
    from nextscale.weights import read_pickle

    out = Path(options.out)
    check_replaceable(out.resolve(), FILES)
    scales = None if options.scales is None else parse_scales(options.scales)
    told: dict[str, Any] = {"z_norm": True} if options.z_norm else {}
    if options.phi_ratio is not None:
        told["phi_ratio"] = options.phi_ratio
    tokenizer = read_pickle(options.tokenizer)
    transformer = None if options.transformer is None else read_pickle(options.transformer)
    pipe = from_released(tokenizer, transformer, scales, **told)
    dtype = None if options.precision is None else getattr(torch, options.precision)
    save(pipe, out, dtype=dtype)
    print(f"{out}: {describe_released(pipe)}, tokenizer {read_config(out).tokenizer_hash}")
    return 0
