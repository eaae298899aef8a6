"""`nextscale COMMAND`: finds the command, imports its file alone, makes errors one line."""

import importlib
import os
import sys
from collections.abc import Collection, Sequence

from nextscale.cli.options import Stop, parser_for
from nextscale.errors import UsageError, escaped, to_install

# Command: (file in this folder, what it does). Two words where a command has parts.
COMMANDS = {
    "sample": ("sample", "draw images with a model"),
    "reconstruct": ("reconstruct", "encode and decode pictures, or show them scale by scale"),
    "edit inpaint": ("edit_inpaint", "fill what is marked of pictures"),
    "edit outpaint": ("edit_outpaint", "continue pictures beyond their sides"),
    "edit class": ("edit_class", "make what is marked of pictures one of another class"),
    "edit vary": ("edit_vary", "keep coarse scales of pictures and draw fine ones anew"),
    "edit interpolate": ("edit_interpolate", "make pictures from one to another"),
    "app": ("app", "serve a page to draw, edit and look inside"),
    "train tokenizer": ("train_tokenizer", "train a tokenizer, the first stage"),
    "train var": ("train_var", "train a transformer, the second stage"),
    "train ar": ("train_ar", "train the next-token baseline on a tokenizer of one scale"),
    "train classifier": ("train_classifier", "train a classifier that judges images"),
    "evaluate": (
        "evaluate",
        "measure a model, a tokenizer or images: FID, IS, precision, recall, KID",
    ),
    "benchmark sample": ("benchmark_sample", "measure how fast a model draws, and in what memory"),
    "benchmark train": ("benchmark_train", "measure how fast both stages train, in what memory"),
    "benchmark methods": (
        "benchmark_methods",
        "measure next-scale against next-token and diffusion on one trunk",
    ),
    "benchmark growth": (
        "benchmark_growth",
        "count and measure how attention's cost grows with the token map",
    ),
    "scaling-laws run": ("scaling_laws_run", "train a ladder of models"),
    "scaling-laws fit": ("scaling_laws_fit", "fit power laws to trained models"),
    "scaling-laws predict": ("scaling_laws_predict", "tell what a larger model would reach"),
    "scaling-laws draw": ("scaling_laws_draw", "draw one class over model size and training"),
    "estimate": ("estimate", "tell parameters, arithmetic, memory and time before a start"),
    "convert": ("convert", "make a checkpoint of released or published weights"),
    "models": ("models", "list the models that can be loaded by name"),
}
# The optional part of the package that a command needs, by its first word; `train` for the others.
EXTRAS = {"evaluate": "eval", "scaling-laws": "eval", "benchmark": "bench", "app": "app"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0, 2 at bad input, 128 + signal if interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        return run(words)
    except Stop as stop:
        return stop.code
    except UsageError as error:
        if debug:
            raise
        print(f"nextscale: error: {escaped(str(error))}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "nextscale").partition(".")[0]
        if debug or package == "nextscale":  # a fault of ours
            raise
        told = f"`{words[0]}` needs {package}, which is not installed"
        hint = to_install(EXTRAS.get(words[0], "train"))
        print(f"nextscale: error: {told}; {hint}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # 128 + SIGPIPE, as a shell expects of a writer whose reader left
    except OSError as error:  # a full disk, a directory that may not be written to
        if debug or error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"nextscale: error: {escaped(where)}{error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("nextscale: interrupted", file=sys.stderr)
        return 130


def run(words: list[str]) -> int:
    """Runs the command that the words begin with."""
    if words[:1] == ["--version"]:
        from importlib import metadata

        print(metadata.version("nextscale"))
        return 0
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview(COMMANDS))
        return 0
    parts = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if parts and words[1:2] in (["-h"], ["--help"], ["help"]):
        print(overview(parts))
        return 0
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in COMMANDS:
            file, what = COMMANDS[name]
            module = importlib.import_module(f"nextscale.cli.{file}")
            parser = parser_for(f"nextscale {name}", what)
            module.add_arguments(parser)
            return module.run(parser.parse(words[count:])) or 0
    known = ", ".join(parts or COMMANDS)
    raise UsageError(f"unknown command {' '.join(words[:2])!r}; known: {known}")


def overview(commands: Collection[str]) -> str:
    """The help of the whole program, or of the commands that share a first word."""
    width = max(map(len, commands)) + 2
    lines = [f"  {name:<{width}}{COMMANDS[name][1]}" for name in commands]
    return "\n".join(
        [
            "usage: nextscale COMMAND [options]",
            "",
            "Next-scale visual autoregressive generation (VAR, arXiv 2404.02905).",
            "",
            *lines,
            "",
            "nextscale COMMAND --help tells a command's options; --version, --debug (tracebacks).",
        ]
    )
