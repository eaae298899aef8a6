"""What finished runs measured: test loss and token error against images and arithmetic."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextscale.errors import UsageError
from nextscale.scaling_laws.records import check_records
from nextscale.storage.files import read_json
from nextscale.training.log import read_log

LEAST = 3  # models, for a law and its residuals
SAME_ENTROPY = 1e-3  # nats between tokens that are the same but for rounding
QUANTITIES = {  # L and Err of the paper, over all tokens and over those of the last scale
    "loss": "test loss, all scales",
    "loss_last": "test loss, last scale",
    "error": "token error, all scales",
    "error_last": "token error, last scale",
}
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """One run.

    Attributes:
        folder: of the run.
        depth, width: of the model.
        parameters: N, weights in the blocks.
        share: of the training images that it saw.
        tokens: that it learnt, as an identity: tokenizer, test images and scales.
        entropy: of the test images' codes, in nats; machines round a few codes otherwise.
        steps: of the training.
        images: seen at each validation, (T,).
        flops: of training until then, (T,).
        scale_loss, scale_error: in nats and from 0 to 1, (T, K).
        loss, error: means over all tokens, (T,).
    """

    folder: Path
    depth: int
    width: int
    parameters: int
    share: float
    tokens: str
    entropy: float
    steps: int
    images: Values
    flops: Values
    scale_loss: Values
    scale_error: Values
    loss: Values
    error: Values

    def values(self, quantity: str) -> Values:
        """One of `QUANTITIES` at each validation, (T,)."""
        return {
            "loss": self.loss,
            "error": self.error,
            "loss_last": self.scale_loss[:, -1],
            "error_last": self.scale_error[:, -1],
        }[quantity]

    @property
    def name(self) -> str:
        """Of its directory."""
        return self.folder.name

    @property
    def overfit(self) -> float:
        """How much higher the last test loss is than the lowest, as a share of it."""
        return float(self.loss[-1] / self.loss.min() - 1)


def read_ladder(
    places: Sequence[str | Path],
) -> tuple[list[Curve], list[Curve], list[Curve], dict[str, str]]:
    """The runs in directories, or in directories of them.

    Returns:
        the ladder, models that saw all images as often, by size; those that saw a share of them;
        the sweeps, whose trainings were shorter, as their names say; why others are left out,
        by their directories.

    Raises:
        UsageError: if there are no runs, too few sizes, or different tokens.
    """
    found, left_out = [], {}
    for folder in run_folders(places):
        try:
            found.append(read_curve(folder))
        except UsageError as error:
            left_out[str(folder)] = str(error)
    check_tokens(found)
    sweeps = [curve for curve in found if curve.name.startswith("sweep-")]
    others = [curve for curve in found if curve not in sweeps]
    whole = [curve for curve in others if curve.share == 1]
    seen = Counter(curve.images[-1] for curve in whole)
    usual = max(seen, key=lambda images: (seen[images], images), default=0)
    ladder = sorted((c for c in whole if c.images[-1] == usual), key=lambda c: c.parameters)
    for curve in whole:
        if curve not in ladder:
            reason = f"it saw {curve.images[-1]:,.0f} images, most others {usual:,.0f}"
            left_out[str(curve.folder)] = reason
    sizes = {curve.parameters for curve in ladder}
    if len(sizes) < LEAST:
        why = "".join(f"; {folder}: {reason}" for folder, reason in left_out.items())
        raise UsageError(
            f"{len(sizes)} finished sizes are found, at least {LEAST} are needed for a law{why}"
        )
    shares = sorted((c for c in others if c.share < 1), key=lambda c: c.share)
    return ladder, shares, sweeps, left_out


def beside_whole(shares: Sequence[Curve], ladder: Sequence[Curve]) -> list[Curve]:
    """Runs on shares of the images and those of the same sizes on all, by size and share."""
    sizes = {curve.parameters for curve in shares}
    runs = [*shares, *(curve for curve in ladder if curve.parameters in sizes)]
    return sorted(runs, key=lambda curve: (curve.parameters, curve.share))


def check_tokens(curves: Sequence[Curve]) -> None:
    """Raises UsageError naming two runs that learnt different tokens."""
    ordered = sorted(curves, key=lambda curve: (curve.tokens, curve.entropy))
    for one, other in pairwise(ordered):
        if one.tokens != other.tokens or other.entropy - one.entropy > SAME_ENTROPY:
            told = [f"{curve.tokens}, {curve.entropy:.4f} nats" for curve in (one, other)]
            raise UsageError(
                f"{one.name} and {other.name} learnt different tokens ({'; '.join(told)}); their "
                "losses cannot be compared"
            )


def run_folders(places: Sequence[str | Path]) -> list[Path]:
    """Directories that hold a run, those given and those in them, each once."""
    found: list[Path] = []
    for place in map(Path, places):
        if not place.is_dir():
            raise UsageError(f"there is no directory {place}; give runs, or directories of them")
        inside = [place] if (place / "log.jsonl").is_file() else sorted(place.iterdir())
        found += [folder for folder in inside if (folder / "log.jsonl").is_file()]
    if not found:
        raise UsageError(f"{', '.join(map(str, places))} hold no runs of `nextscale train var`")
    return list({folder.resolve(): folder for folder in found}.values())


def read_curve(folder: Path) -> Curve:
    """A run. Raises UsageError, saying why, if it is unfinished, diverged or of another kind."""
    config = read_json(folder / "config.json")
    if config.get("command") != "train var":
        raise UsageError("it is no run of `nextscale train var`")
    try:
        return curve_of(folder, config, read_log(folder / "log.jsonl"))
    except UsageError:
        raise
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"its files are not those of a run ({reason})") from error


def curve_of(folder: Path, config: dict[str, Any], entries: list[dict[str, Any]]) -> Curve:
    """A run from what its files hold."""
    start = next((entry for entry in entries if entry.get("event") == "start"), None)
    judged = [entry for entry in entries if entry.get("event") == "validation"]
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    ends = [entry["event"] for entry in entries if entry.get("event") in ("failed", "validation")]
    if ends[-1:] == ["failed"] or not np.isfinite(losses).all():  # one resumed is no failure
        raise UsageError("it diverged or failed")
    if start is None or not judged or judged[-1]["step"] < start["steps"]:
        raise UsageError("it is unfinished")
    made = read_json(folder / "final/config.json")
    check_records(config, start, judged, made)
    model, batch = config["model"], config["batch_size"]
    images = np.array([entry["step"] * batch for entry in judged], float)
    modulated = 6 if model["adaln"] and not model["shared_adaln"] else 0
    per_block = 4 + round(2 * model["mlp_ratio"]) + modulated  # 18 w² as in the paper
    last = judged[-1]
    kind = f"{made['tokenizer_hash'][:12]}, {last['images']} test images"
    return Curve(
        folder=folder,
        depth=model["depth"],
        width=model["width"],
        parameters=per_block * model["depth"] * model["width"] ** 2,
        share=config["data"].get("share", 1.0),
        tokens=f"{kind}, {len(last['scale_loss'])} scales",
        entropy=float(last["unigram_entropy"]),
        steps=last["step"],
        images=images,
        flops=images * start["training_flops_per_image"],
        scale_loss=np.array([entry["scale_loss"] for entry in judged]),
        scale_error=1 - np.array([entry["scale_accuracy"] for entry in judged]),
        loss=np.array([entry["loss"] for entry in judged]),
        error=1 - np.array([entry["accuracy"] for entry in judged]),
    )
