"""`python -m studies NAME`: the table of studies; run it in the root of the repository."""

import sys
from collections.abc import Sequence

from nextscale.console.commands import Program
from nextscale.console.options import Stop
from nextscale.errors import UsageError, to_install

# Study: (file in this folder, what it does). Two words where a study has steps.
STUDIES = {
    "compare run": (
        "comparison.compare",
        "train, tune and judge next-scale, next-token and diffusion",
    ),
    "compare time": ("comparison.compare", "measure seconds an image and rates of training"),
    "compare table": ("comparison.compare", "write docs/results/comparison.md and its figures"),
    "compare judge": ("comparison.compare", "print the figures of one checkpoint's images"),
    "diffusion train": ("diffusion.train", "train the diffusion peer, a DiT"),
    "edits run": ("edits", "fill holes by next-scale and its peers, and judge them"),
    "edits table": ("edits", "write docs/results/edits.md and its pictures"),
    "coherence": ("coherence", "measure FID with the first scales taken from real images"),
    "likelihood": ("likelihood", "classify test images by a generative model"),
    "methods": ("methods", "measure next-scale, next-token and diffusion on one trunk"),
    "growth": ("growth", "measure how attention's cost grows with the token map"),
    "tiles": ("tiles", "measure what decoding in tiles saves and changes"),
    "page": ("page", "measure the page under load"),
    "performance": ("performance", "run the measurements of docs/results/performance.md"),
}
PROGRAM = Program(
    name="python -m studies",
    what="Studies that compare nextscale with its peers and measure what it claims.",
    package="studies",
    commands=STUDIES,
    note="python -m studies COMMAND --help shows its options.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a study; returns its exit code as `nextscale` does, 2 at bad input."""
    try:
        return PROGRAM.run(list(sys.argv[1:] if arguments is None else arguments))
    except Stop as stop:
        return stop.code
    except KeyboardInterrupt:
        print("studies: interrupted; run this again to go on", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        said = f"{error.name} is not installed; {to_install('bench')}"
    except (UsageError, OSError) as error:  # the latter: a full disk, a place without permission
        said = str(error)
    print(f"studies: error: {said}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
