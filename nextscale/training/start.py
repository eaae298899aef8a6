"""Builds what a training starts from: new weights, or a checkpoint fitted to classes and scales."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.checkpoints import checkpoint
from nextscale.config.architecture import TokenizerConfig, TransformerConfig
from nextscale.config.run import TokenizerTraining, VarTraining
from nextscale.cost.room import TRAINED, check_room
from nextscale.errors import UsageError
from nextscale.generation.generate import check_sampling
from nextscale.models.model import Model, build_model
from nextscale.pipeline import Pipeline
from nextscale.scales import Scale, Scales, describe, parse_scales, position, spans
from nextscale.tokenizer.tokenizer import Tokenizer

NAMES_SHOWN = 4  # class names in a line
PHIS = "quantizer.phis."  # prefix in the names of a tokenizer's weights


def start_tokenizer(
    config: TokenizerTraining,
) -> tuple[TokenizerTraining, Pipeline | None, list[str]]:
    """Returns the configuration with the final architecture, and the start of the training.

    With `init`, the architecture is that of the checkpoint; the scales may differ.

    Returns:
        configuration; pipeline of `init` or None; lines on the effects of a change.

    Raises:
        UsageError: if `tokenizer` is given together with `init` and differs from it.
    """
    wanted, plain = config.tokenizer, TokenizerConfig()
    scales = parse_scales(config.scales) if config.scales else None
    if not config.init:
        architecture = replace(wanted, scales=scales or wanted.scales)
        return replace(config, tokenizer=architecture, scales=()), None, []
    pipe = checkpoint.load(config.init)
    found = pipe.tokenizer.config
    if wanted.scales != plain.scales:
        scales = scales or wanted.scales
    given = {k: v for k, v in vars(wanted).items() if k != "scales" and v != getattr(plain, k)}
    names = [name for name, value in given.items() if value != getattr(found, name)]
    if names:
        raise UsageError(
            f"{config.init} holds a tokenizer with another {', '.join(names)}; leave these options "
            "out, the architecture comes from --init"
        )
    tokenizer, notes = with_scales(pipe.tokenizer, scales or found.scales)
    config = replace(config, tokenizer=tokenizer.config, scales=())
    return config, Pipeline(tokenizer, None, pipe.config), notes


def load_tokenizer(config: VarTraining) -> tuple[Pipeline, list[str]]:
    """Loads the tokenizer on which a transformer is trained.

    Returns:
        a pipeline without transformer; lines on the effects of other scales.

    Raises:
        UsageError: if neither `tokenizer` nor `init` is given, or if their tokenizers differ.
    """
    if not config.tokenizer and not config.init:
        raise UsageError("a transformer needs a tokenizer; give --tokenizer CHECKPOINT")
    pipe = checkpoint.load(config.tokenizer or config.init)
    if config.tokenizer and config.init:
        recorded = checkpoint.load(config.init).config.tokenizer_hash
        if recorded != pipe.config.tokenizer_hash:
            raise UsageError(
                f"{config.init} was trained with the tokenizer {recorded[:12]}, but "
                f"{config.tokenizer} is {pipe.config.tokenizer_hash[:12]}; give that one or none"
            )
    scales = parse_scales(config.scales) if config.scales else pipe.tokenizer.config.scales
    tokenizer, notes = with_scales(pipe.tokenizer, scales)
    whole = replace(pipe.config, tokenizer=tokenizer.config, model=None)
    return Pipeline(tokenizer, None, whole), notes


def start_var(
    config: VarTraining, tokenizer: TokenizerConfig, names: Sequence[str]
) -> tuple[VarTraining, Model, list[str]]:
    """Returns the configuration with the final architecture, and the transformer to start from.

    Args:
        tokenizer: configuration of the tokenizer of `load_tokenizer`.
        names: of the data's classes, in the order of their numbers.

    Raises:
        UsageError: if `model` is given together with `init` and differs from it, or if the
            transformer cannot be sampled with the options `sampling`.
    """
    if config.init:
        pipe = checkpoint.load(config.init)
        start = pipe.model
        if config.model not in (TransformerConfig(), replace(start.config, classes=1000)):
            raise UsageError(
                f"{config.init} holds another transformer than the model options describe; leave "
                "them out, the architecture comes from --init"
            )
        model, notes = fitted(start, tokenizer.scales, pipe.config.labels, names)
    else:
        torch.manual_seed(config.seed)
        architecture = replace(config.model, classes=len(names))
        check_room(
            lambda: build_model(architecture, tokenizer), "training this transformer", TRAINED
        )
        model, notes = build_model(architecture, tokenizer), []
    check_sampling(model, config.sampling)
    return replace(config, model=model.config), model, notes


def with_scales(tokenizer: Tokenizer, scales: Scales) -> tuple[Tokenizer, list[str]]:
    """The same weights with another pyramid, and lines on the effects.

    If every scale has its own φ, a new scale takes a copy of the φ at the nearest position.
    """
    old = tokenizer.config
    if scales == old.scales:
        return tokenizer, []
    weights = tokenizer.state_dict()
    if old.phi == "each":
        nearest = [nearest_scale(k, len(scales), len(old.scales)) for k in range(len(scales))]
        phis = nn.ModuleList(deepcopy(tokenizer.quantizer.phis[source]) for source in nearest)
        others = {name: value for name, value in weights.items() if not name.startswith(PHIS)}
        weights = others | phis.state_dict(prefix=PHIS)
    config = replace(old, scales=scales)
    with torch.device("meta"):
        changed = Tokenizer(config)
    changed.load_state_dict(weights, assign=True)
    note = (
        f"scales {describe(old.scales)} become {describe(scales)}: the tokenizer's weights stay, "
        "its codes were not trained for the new residuals"
    )
    return changed.train(tokenizer.training), [note]


def fitted(
    model: Model, scales: Scales, old_names: Sequence[str], names: Sequence[str]
) -> tuple[Model, list[str]]:
    """A transformer for other scales or classes, and lines on the effects.

    Position embeddings of a new scale are interpolated from the old scale at the nearest position
    in the pyramid, level embeddings linearly. Class embeddings follow the names of the classes.

    Args:
        old_names: of the model's classes; empty or fewer than its classes if they have no names.
        names: of the new classes.
    """
    config = replace(model.config, classes=len(names))
    weights = dict(model.state_dict())
    sources, notes = rows_of_classes(model.config.classes, old_names, names)
    if sources != list(range(model.config.classes)):
        rows = weights["condition.embedding.weight"]
        weights["condition.embedding.weight"] = rows[[*sources, model.config.classes]]
    if scales != model.scales:
        old = weights["position_embedding"]
        sources = [nearest_scale(k, len(scales), len(model.scales)) for k in range(len(scales))]
        parts = [
            resized(old[slice(*spans(model.scales)[source])], model.scales[source], scale)
            for source, scale in zip(sources, scales, strict=True)
        ]
        weights["position_embedding"] = torch.cat(parts)
        weights["start_position"] = resized(weights["start_position"], model.scales[0], scales[0])
        weights["level_embedding"] = stretched(weights["level_embedding"], len(scales))
        notes.append(
            f"scales {describe(model.scales)} become {describe(scales)}: positions are "
            "interpolated scale by scale and need training before images are good again"
        )
    with torch.device("meta"):
        changed = Model(config, scales, model.alphabet, model.latent)
    changed.load_state_dict(weights, assign=True)
    return changed, notes


def rows_of_classes(
    count: int, old_names: Sequence[str], names: Sequence[str]
) -> tuple[list[int], list[str]]:
    """The number of the old embedding from which each class starts, and lines on changes.

    A class takes the row of its name; a new class takes that of "none", which follows the old
    classes. If the old classes have no names, rows keep their numbers if the number of classes is
    the same; otherwise all classes are new.

    Args:
        count: number of old classes.
        old_names: names of the old classes.
        names: of the new classes.
    """
    if len(old_names) != count:
        if len(names) == count:
            line = f"the {count} classes of --init have no names: rows of classes stay by number"
            return list(range(count)), [line]
        line = f"{count} classes without names become {len(names)}: every class starts as 'none'"
        return [count] * len(names), [line]
    known = {name: i for i, name in enumerate(old_names)}
    sources = [known.get(name, count) for name in names]
    if sources == list(range(count)):
        return sources, []
    groups = {
        "kept": [name for name in names if name in known],
        "new, started as 'none'": [name for name in names if name not in known],
        "dropped": [name for name in old_names if name not in names],
    }
    kinds = ", ".join(f"{len(group)} {what}{some_of(group)}" for what, group in groups.items())
    return sources, [f"{count} classes become {len(names)}, rows follow names: {kinds}"]


def some_of(names: Sequence[str]) -> str:
    """The first names in brackets; "" without names."""
    more = ", …" if len(names) > NAMES_SHOWN else ""
    return f" ({', '.join(names[:NAMES_SHOWN])}{more})" if names else ""


def nearest_scale(k: int, count: int, old_count: int) -> int:
    """The old scale whose position in its pyramid is nearest to that of scale k of `count`."""
    place = position(k, count)
    return min(range(old_count), key=lambda old: abs(position(old, old_count) - place))


def resized(positions: Tensor, old: Scale, new: Scale) -> Tensor:
    """Embeddings (old h * w, D) of one scale interpolated to another (new h * w, D)."""
    if old == new:
        return positions
    grid = positions.T.unflatten(1, old).unsqueeze(0)  # (1, D, h, w)
    grid = F.interpolate(grid, new, mode="bicubic", align_corners=False)
    return grid.squeeze(0).flatten(1).T.contiguous()


def stretched(levels: Tensor, count: int) -> Tensor:
    """Embeddings (K, D) of levels interpolated linearly to another number of them."""
    if len(levels) == count:
        return levels
    return F.interpolate(levels.T[None], count, mode="linear", align_corners=True)[0].T.contiguous()
