"""How likely a model takes images to be: exact from one teacher-forced pass (VAR Eq. 6)."""

import torch
from torch import Tensor

from nextscale.errors import UsageError
from nextscale.models.model import Model
from nextscale.tokenizer.tokenizer import Tokenizer


@torch.inference_mode()
def token_log_probabilities(
    model: Model, tokenizer: Tokenizer, tokens: list[Tensor], labels: Tensor
) -> Tensor:
    """Log-probability in nats of every token given those before it, (B, L).

    Args:
        tokens: K maps int64 (B, h, w).
        labels: int64 (B,); the number of classes means none.
    """
    read = model.order.teacher_inputs(tokenizer.quantizer, tokens)
    wanted = torch.cat([part.flatten(1) for part in tokens], 1)  # (B, L)
    return model.head.log_probabilities(model(labels, read), wanted)


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
