"""Likelihoods are sums of the teacher-forced loss; classes follow from them by Bayes' rule."""

import pytest
import torch
import torch.nn.functional as F

from nextscale.errors import UsageError
from nextscale.generation.likelihood import (
    class_log_probabilities,
    log_likelihood,
    token_log_probabilities,
)


@pytest.mark.parametrize("order", ["scales", "spiral"])
@torch.inference_mode()
def test_likelihood_is_the_loss_summed(order, make_tokenizer, make_model) -> None:
    tokenizer = make_tokenizer(scales=(1, 2, 4) if order == "scales" else (4,))
    model = make_model(tokenizer, order=order)
    images, labels = torch.rand(2, 1, 8, 8) * 2 - 1, torch.tensor([0, 3])
    maps = tokenizer.encode(images)
    read = model.order.teacher_inputs(tokenizer.quantizer, maps)
    logits, tokens = model(labels, read), torch.cat([part.flatten(1) for part in maps], 1)
    losses = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
    found = token_log_probabilities(model, tokenizer, maps, labels)
    torch.testing.assert_close(found, -losses)
    total = log_likelihood(model, tokenizer, images, labels)
    torch.testing.assert_close(total, -losses.sum(1))


def test_classes_by_bayes(model, make_tokenizer, make_model, tokenizer) -> None:
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    found = class_log_probabilities(model, tokenizer, images)
    assert found.shape == (2, 3)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2))
    scores = [log_likelihood(model, tokenizer, images, torch.tensor([c, c])) for c in range(3)]
    expected = torch.stack(scores, 1)
    torch.testing.assert_close(found, expected - expected.logsumexp(1, keepdim=True))
    with pytest.raises(UsageError, match="knows no classes"):
        class_log_probabilities(make_model(tokenizer, classes=0), tokenizer, images)
