"""Hints on a run: each is a function of its history and names options to try."""

from collections.abc import Callable
from itertools import pairwise

from nextscale.training.history import History, curve, is_number

Hint = Callable[[History], str]

RISES = 3  # validations in a row that are worse than the one before
FALLS, FALL = 3, 0.01  # validations in a row that gain at least this share
FEW_STEPS_IN_EPOCH, FEW_STEPS = 50, 2000
FEW_IMAGES = 50  # of a validation
CODES_USED = 0.1  # share of the codes that a scale could use at best
CODES_REACHED = 0.25  # at best by a scale, of all codes; with fewer there is no hint
IMBALANCE = 10  # images of the largest class over those of the smallest
CLIPPED = 10  # lines of the log in a row whose mean gradient is clipped
KNOWS_LITTLE = 0.98  # loss over the entropy of the tokens' own frequencies


def hints(history: History) -> list[str]:
    """Returns the hints that apply, most important first."""
    return [line for hint in HINTS if (line := hint(history))]


def few_steps(history: History) -> str:
    """Detects runs of few optimizer steps."""
    in_epoch, steps = (history.start.get(name) for name in ("steps_in_epoch", "steps"))
    if not is_number(in_epoch) or not is_number(steps):
        return ""
    if in_epoch >= FEW_STEPS_IN_EPOCH or steps >= FEW_STEPS:
        return ""
    batch, epochs = (history.options.get(name) for name in ("batch_size", "epochs"))
    return (
        f"{in_epoch} steps an epoch, {steps} in all: give a smaller --batch-size than {batch} or "
        f"more --epochs than {epochs:g}"
    )


def rising(history: History) -> str:
    """Detects a validation figure that keeps rising."""
    values = [value for _, value in curve(history.validations, history.figure)]
    rises = 0
    while rises + 1 < len(values) and values[-rises - 1] > values[-rises - 2]:
        rises += 1
    if rises < RISES or history.best is None:
        return ""
    step, value = history.best
    return (
        f"validation {history.figure} rose for {rises} validations, it was best at step {step:.0f} "
        f"({value:.4g}): {against_overfitting(history)}"
    )


def against_overfitting(history: History) -> str:
    """Names up to three unused options against overfitting."""
    options = history.options
    ways = [
        ("--data.flip", not options.get("data.flip", True)),
        ("--data.augment shift", options.get("data.augment") == "plain"),
        ("a larger --model.drop-path", "model.drop_path" in options),
        ("--ema 0.999", not options.get("ema", True)),
        ("a smaller network", True),
    ]
    tried = [way for way, is_off in ways if is_off][:3]
    stop = "" if options.get("patience") else "; --patience 3 stops such a run"
    return f"try {', '.join(tried)}{stop}"


def still_falling(history: History) -> str:
    """Detects a run that ended while validations still improved."""
    values = [value for _, value in curve(history.validations, history.figure)][-FALLS - 1 :]
    gains = [1 - after / before for before, after in pairwise(values) if before]
    if not history.finished or len(gains) < FALLS or min(gains) < FALL:
        return ""
    return (
        f"validation {history.figure} still fell by {gains[-1]:.0%} at the end: give more "
        "--epochs, or start another run with --init from this one"
    )


def unused_codes(history: History) -> str:
    """Names scales that use few of the codes that this number of images could use."""
    used, images = history.last("code_use"), history.last("images")
    codes, scales = (history.options.get(f"tokenizer.{name}") for name in ("codes", "scales"))
    if not (isinstance(used, list) and is_number(images) and codes and scales):
        return ""
    few = []
    for k, ((height, width), share) in enumerate(zip(scales, used, strict=False), 1):
        possible = min(1.0, images * height * width / codes)
        if possible < CODES_REACHED:  # too few images to judge this scale
            continue
        if is_number(share) and share < CODES_USED * possible:
            few.append(f"{k} uses {share:.1%}")
    if not few:
        return ""
    if levels := history.options.get("tokenizer.levels"):
        return f"scale {', scale '.join(few)} of codes: try fewer --tokenizer.levels than {levels}"
    revive = not history.options.get("loss.revive_every")
    way = "--loss.revive-every 100" if revive else f"fewer --tokenizer.codes than {codes}"
    return f"scale {', scale '.join(few)} of codes: try {way}"


def knows_little(history: History) -> str:
    """Detects a transformer that is hardly better than token frequencies."""
    ratio = history.last("loss_over_unigram")
    if len(history.validations) < RISES or not is_number(ratio) or ratio < KNOWS_LITTLE:
        return ""
    rate = history.options.get("learning_rate", 0)
    return (
        f"the loss is {ratio:.0%} of what the tokens' frequencies alone give: the model knows "
        f"little yet; give more --epochs, or a higher --learning-rate than {rate:g}"
    )


def single_code(history: History) -> str:
    """Detects a tokenizer that encodes all images as a single code."""
    if history.last("unigram_entropy") != 0:
        return ""
    return "all validation tokens are one code: the tokenizer has collapsed; train another one"


def clipped(history: History) -> str:
    """Detects gradients that are clipped at nearly every step."""
    limit = history.options.get("clip", 0)
    norms = [norm for _, norm in curve(history.steps, "gradient_norm")][-CLIPPED:]
    if not limit or len(norms) < CLIPPED or min(norms) <= limit:
        return ""
    return (
        f"the gradient's norm, {norms[-1]:.2g}, is clipped to {limit:g} nearly always: try a lower "
        "--learning-rate or a higher --clip"
    )


def imbalance(history: History) -> str:
    """Detects classes of very different sizes."""
    fewest, most = history.start.get("fewest"), history.start.get("most")
    if not fewest or not most or most[1] < IMBALANCE * max(1, fewest[1]):
        return ""
    flip = "" if history.options.get("data.flip") else " or --data.flip"
    return (
        f"the class {most[0]} has {most[1]:,} images, {fewest[0]} has {fewest[1]:,}: rare classes "
        f"are sampled worse; add images to them, or try --init from a model of more data{flip}"
    )


def few_validation_images(history: History) -> str:
    """Detects validations of too few images."""
    images = history.last("images")
    if not is_number(images) or images >= FEW_IMAGES:
        return ""
    limited = history.options.get("validation_images")
    if is_number(held_out := history.start.get("held_out")):
        limited = images < held_out
    way = "more --validation-images" if limited else "a val/ folder or a larger --data.validation"
    return f"validations look at {images} images, so their figures are noisy: give {way}"


def skipped_files(history: History) -> str:
    """Reports files that could not be read."""
    skipped = curve(history.steps, "skipped_files")
    if not skipped:
        return ""
    return f"{skipped[-1][1]:.0f} files could not be read: --data.strict names the first"


HINTS: tuple[Hint, ...] = (
    rising,
    still_falling,
    few_steps,
    unused_codes,
    knows_little,
    single_code,
    clipped,
    imbalance,
    few_validation_images,
    skipped_files,
)
