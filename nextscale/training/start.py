"""Where a training starts: at nothing, or at a checkpoint fitted to other classes or scales."""

from copy import deepcopy
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale import checkpoint
from nextscale.complexity import TRAINED, check_room
from nextscale.config.model import TokenizerConfig, TransformerConfig
from nextscale.config.run import TokenizerTraining, VarTraining
from nextscale.errors import UsageError
from nextscale.models.build import Model, build_model
from nextscale.pipeline import Pipeline
from nextscale.sampling import check_options
from nextscale.scales import Scale, Scales, describe, parse_scales, position, spans
from nextscale.tokenizer.tokenizer import Tokenizer

PHIS = "quantizer.phis."  # of the names of a tokenizer's weights


def start_tokenizer(
    config: TokenizerTraining,
) -> tuple[TokenizerTraining, Pipeline | None, list[str]]:
    """The configuration with the architecture that is trained, and what it starts from.

    With `init`, the architecture is the checkpoint's; the scales may be others.

    Returns:
        configuration; pipeline of `init` or None; lines on what a change costs.

    Raises:
        UsageError: if `tokenizer` is given beside `init` and is another one.
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
    """The tokenizer that a transformer is trained on, in the precision of computation.

    Returns:
        a pipeline without transformer; lines on what other scales cost.

    Raises:
        UsageError: if neither `tokenizer` nor `init` names one, or they hold two different ones.
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
    config: VarTraining, tokenizer: TokenizerConfig, classes: int
) -> tuple[VarTraining, Model, list[str]]:
    """The configuration with the architecture that is trained, and the transformer to start from.

    Args:
        tokenizer: of `load_tokenizer`.
        classes: that the data has.

    Raises:
        UsageError: if `model` is given beside `init` and is another one, or it cannot be drawn
            from as `sampling` says.
    """
    if config.init:
        start = checkpoint.load(config.init).model
        if config.model not in (TransformerConfig(), replace(start.config, classes=1000)):
            raise UsageError(
                f"{config.init} holds another transformer than the model options describe; leave "
                "them out, the architecture comes from --init"
            )
        model, notes = fitted(start, tokenizer.scales, classes)
    else:
        torch.manual_seed(config.seed)
        architecture = replace(config.model, classes=classes)
        check_room(
            lambda: build_model(architecture, tokenizer), "training this transformer", TRAINED
        )
        model, notes = build_model(architecture, tokenizer), []
    check_options(model, torch.zeros(1, dtype=torch.long), **vars(config.sampling))
    return replace(config, model=model.config), model, notes


def with_scales(tokenizer: Tokenizer, scales: Scales) -> tuple[Tokenizer, list[str]]:
    """The same weights under another pyramid, and a line on what that costs.

    Where every scale has a φ of its own, a new scale takes a copy of the φ at the nearest place.
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


def fitted(model: Model, scales: Scales, classes: int) -> tuple[Model, list[str]]:
    """A transformer for other scales or another number of classes, and lines on what that costs.

    Positions of a new scale are interpolated from the old scale at the nearest place in the
    pyramid, levels linearly. Where the number of classes changes, every class starts as "none".
    """
    config = replace(model.config, classes=classes)
    weights = dict(model.state_dict())
    notes = []
    if classes != model.config.classes:
        none = weights["condition.embedding.weight"][-1:]
        weights["condition.embedding.weight"] = none.repeat(classes + 1, 1)
        notes.append(
            f"{model.config.classes} classes become {classes}: every class starts as 'none', what "
            "the model knew of its classes is lost"
        )
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
        changed = type(model)(config, scales, model.codes, model.latent)
    changed.load_state_dict(weights, assign=True)
    return changed, notes


def nearest_scale(k: int, count: int, old_count: int) -> int:
    """The old scale whose place in its pyramid is nearest to that of scale k of `count`."""
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
