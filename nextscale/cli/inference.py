"""What the commands share that run a finished model: its options, its loading, and their output."""

import re
import time
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import Namespace

from nextscale.config.model import SamplingConfig
from nextscale.config.seeds import LARGEST_SEED, fresh_seed
from nextscale.console.messages import inform
from nextscale.console.options import Parser, add_config, add_device_argument, add_optional
from nextscale.errors import UsageError, shown

SAID_NONE = 'without such names; none, or "" where a class is called none, is no class'

if TYPE_CHECKING:
    from torch import Tensor

    from nextscale.generation.batches import Judge
    from nextscale.pipeline import Pipeline


def add_model_arguments(parser: Parser) -> None:
    """Adds which model runs, and where; the command adds what it runs on."""
    add_config(parser)
    parser.add_argument(
        "model",
        type=str,
        help="name (see `nextscale models`), checkpoint directory, or owner/repo on the hub",
    )


def add_running_arguments(parser: Parser) -> None:
    """Adds how the model runs and where its pictures go."""
    parser.add_argument("--batch", type=int, default=25, help="pictures at once")
    add_device_argument(parser)
    parser.add_argument("--out", type=str, default="outputs", help="directory")


def add_sampling_arguments(parser: Parser) -> None:
    """Adds how images are sampled."""
    what = "how images are sampled [as the model's configuration says]"
    add_optional(parser.add_argument_group("sampling", what), SamplingConfig)


def add_acceleration_arguments(parser: Parser) -> None:
    """Adds in which precision images are drawn, and whether by compiled networks."""
    add = parser.add_argument_group("speed").add_argument
    what = "of the networks [float32; bfloat16 if compiled on a GPU]; int8 needs torchao"
    add("--precision", choices=("float32", "bfloat16", "float16", "int8"), help=what)
    add("--compile", action="store_true", help="through torch.compile; the first run takes long")


def add_rejection_arguments(parser: Parser) -> None:
    """Adds which of the drawn images are kept."""
    add = parser.add_argument_group("rejection").add_argument
    share = "share of the sampled images to keep, those that the classifier finds likeliest"
    add("--keep", type=float, default=1.0, help=share)
    judges = "for --keep: fashion-mnist, a directory of `nextscale train classifier`, or a"
    add("--classifier", type=str, default="", help=f"{judges} torchvision model")


def judge_of(options: Namespace, pipe: "Pipeline") -> "Judge | None":
    """The classifier that chooses among drawn images; None if all are kept."""
    if options.keep == 1:
        return None
    if not options.classifier:
        raise UsageError("--keep needs a classifier; give --classifier")
    from nextscale.judges.classifiers import load_judge

    return load_judge(options.classifier, pipe)


def given_sampling(options: Namespace) -> dict[str, Any]:
    """Fields of `SamplingConfig` that stand on the line; the model's go for the rest.

    Raises:
        UsageError: if one is out of its range.
    """
    names = [item.name for item in fields(SamplingConfig)]
    given = {name: options[name] for name in names if options[name] is not None}
    SamplingConfig(**given)
    return given


def read_wanted(pipe: "Pipeline", given: Sequence[str | int]) -> "Tensor":
    """What is typed as the model takes it, (n,), on the CPU.

    Args:
        given: text; an integer is one that stands in a YAML file without quotes.

    Raises:
        UsageError: at a label that the model does not know, or an integer where names of classes
            have leading zeros, which YAML drops.
    """
    padded = [name for name in pipe.config.labels if re.fullmatch("0[0-9]+", name)]
    for label in given:
        if padded and not isinstance(label, str):
            raise UsageError(f"label {label} stands without quotes; write names as {padded[0]!r}")
    return pipe.read(list(map(str, given))).cpu()


def typed_label(value: Any) -> Any:
    """A label as it stands on the line or in a file; `read_wanted` reads it."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{value!r} is no name or number")
    return value


def check_between(least: float, most: float, **values: float | None) -> None:
    """Raises UsageError naming the first option that is given and too small or too large."""
    for name, value in values.items():
        if value is not None and not least <= value <= most:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} is {shown(value)}; it must be from {least} to {most}")


def add_seed_argument(parser: Parser, what: str) -> None:
    """Adds `--seed`; the help says what it is of."""
    text = f"{what}; `random` draws a fresh one and records it"
    parser.add_argument("--seed", type=int | Literal["random"], default=0, help=text)


def take_seed(options: Namespace) -> None:
    """Makes `--seed random` a number, prints it, and checks that it is a seed."""
    if options.seed == "random":
        options.seed = fresh_seed()
        inform(f"the fresh seed is {options.seed}; --seed {options.seed} repeats this")
    check_seeds(options.seed)


def check_seeds(seed: int, more: int = 0) -> None:
    """Raises UsageError unless `--seed` and the `more` seeds that follow it are seeds."""
    check_between(0, LARGEST_SEED, seed=seed)
    if seed + more > LARGEST_SEED:
        raise UsageError(f"--seed is {seed}; it can be {LARGEST_SEED - more} at most here")


def load_model(name: str, device: str, precision: str = "float32") -> "Pipeline":
    """Loads a model onto a device. Raises UsageError if either cannot be had.

    Args:
        precision: of the weights; int8 is made of float32, by `accelerate`.
    """
    import torch

    from nextscale.checkpoints.checkpoint import load
    from nextscale.machine.heap import keep_freed_memory

    if not name:
        raise UsageError("the model's name is empty; `nextscale models` lists what is known")
    keep_freed_memory()
    dtype = torch.float32 if precision == "int8" else getattr(torch, precision)
    return load(name, device=device, dtype=dtype)


def precision_of(options: Namespace) -> str:
    """What `--precision` says, or what stands for it where it is not given."""
    from nextscale.machine.devices import usable_device
    from nextscale.machine.instructions import drawing_precision

    return options.precision or drawing_precision(options.compile, usable_device(options.device))


def accelerate(
    pipe: "Pipeline",
    options: Namespace,
    batch: int,
    sampling: "SamplingConfig",
    prints: bool = True,
) -> dict[str, Any]:
    """Makes a pipeline as fast as the options of `add_acceleration_arguments` ask.

    Args:
        batch: images that will be drawn at once. Graphs of a CPU serve any number but one, those
            of an accelerator no other.
        sampling: options that they will be drawn with.
        prints: whether this process prints for the user.

    Returns:
        hash of the transformer as loaded, and what was made of it, for reports.
    """
    from nextscale.acceleration import kernels
    from nextscale.machine.instructions import EMULATED, made_for
    from nextscale.storage.weights import hash_weights

    made = {
        "transformer": hash_weights(pipe.model.state_dict()),
        "precision": precision_of(options),
        "compiled": options.compile,
    }
    if prints and not made_for(made["precision"], pipe.device):
        inform(EMULATED.format(made["precision"]))
    if made["precision"] == "int8":
        pipe.quantize()
    if options.compile:
        pipe.compile()
        begin, on_cpu = time.perf_counter(), pipe.device.type == "cpu"
        for _ in range(1 if on_cpu else 2):  # CUDA graphs record a second run
            pipe.sample([None] * (min(batch, 2) if on_cpu else batch), **vars(sampling))
        seconds = time.perf_counter() - begin
        if prints:
            inform(f"compiled in {seconds:.0f} s; the kernels are kept in {kernels()}")
    return made
