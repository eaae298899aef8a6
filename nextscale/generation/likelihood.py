"""How likely a model takes images to be: exact from one teacher-forced pass (VAR Eq. 6)."""

import torch
from torch import Tensor

from nextscale.errors import UsageError
from nextscale.models.ar import AR
from nextscale.models.build import Model
from nextscale.tokenizer.quantizer import Quantizer
from nextscale.tokenizer.tokenizer import Tokenizer


def read_by(model: Model, quantizer: Quantizer, tokens: list[Tensor]) -> Tensor:
    """Teacher inputs of a model, of K token maps (B, h, w)."""
    if isinstance(model, AR):
        return quantizer.lookup(tokens[0]).flatten(2).transpose(1, 2)  # (B, L, C)
    return quantizer.teacher_inputs(tokens)  # (B, L - l, C)


@torch.inference_mode()
def token_log_probabilities(
    model: Model, tokenizer: Tokenizer, tokens: list[Tensor], labels: Tensor
) -> Tensor:
    """Log-probability in nats of every token given those before it, (B, L).

    Args:
        tokens: K maps int64 (B, h, w).
        labels: int64 (B,); the number of classes means none.
    """
    logits = model(labels, read_by(model, tokenizer.quantizer, tokens))  # (B, L, V)
    wanted = torch.cat([part.flatten(1) for part in tokens], 1)  # (B, L)
    return logits.log_softmax(-1).gather(2, wanted.unsqueeze(2)).squeeze(2)


def log_likelihood(model: Model, tokenizer: Tokenizer, images: Tensor, labels: Tensor) -> Tensor:
    """Log-probability in nats of the tokens of images, (B,).

    Args:
        images: (B, channels, H, W) in [-1, 1].
        labels: int64 (B,); the number of classes means none.
    """
    with torch.inference_mode():
        tokens = tokenizer.encode(images)
    return token_log_probabilities(model, tokenizer, tokens, labels).sum(1)


def class_log_probabilities(model: Model, tokenizer: Tokenizer, images: Tensor) -> Tensor:
    """Log-probability of every class by Bayes' rule, all being as likely before, (B, classes).

    Raises:
        UsageError: if the model knows no classes.
    """
    classes = model.config.classes
    if classes == 0:
        raise UsageError("the model knows no classes")
    with torch.inference_mode():
        tokens = tokenizer.encode(images)
        scores = [
            token_log_probabilities(
                model, tokenizer, tokens, torch.full((len(images),), label, device=images.device)
            ).sum(1)
            for label in range(classes)
        ]
        return torch.stack(scores, 1).log_softmax(1)
