"""Candidates come likeliest first; their score is the loss of the hole's tokens."""

import pytest
import torch
import torch.nn.functional as F

from nextscale.editing.candidates import CANDIDATE_STEP, attempt, best_of, hole_log_probability
from nextscale.editing.masks import keep_per_scale
from nextscale.editing.tasks import redraw
from nextscale.errors import UsageError


@pytest.fixture
def given(model) -> dict:
    keep = torch.ones(2, 4, 4)
    keep[:, 1:, 1:] = 0
    return {
        "images": torch.rand(2, 1, 8, 8) * 2 - 1,
        "masks": keep_per_scale(keep, model.scales),
        "labels": torch.tensor([0, 3]),
    }


@torch.inference_mode()
def test_score_is_the_loss_in_the_hole(model, tokenizer, given) -> None:
    edited = redraw(model, tokenizer, **given, seeds=[1, 2])
    logits = model(given["labels"], tokenizer.quantizer.teacher_inputs(edited.tokens))
    tokens = torch.cat([part.flatten(1) for part in edited.tokens], 1)
    losses = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
    redrawn = torch.cat([~mask.flatten(1) for mask in edited.kept], 1)
    expected = torch.stack([-losses[i][redrawn[i]].sum() for i in (0, 1)])
    found = hole_log_probability(model, tokenizer, edited, given["labels"])
    torch.testing.assert_close(found, expected)


def test_best_first(model, tokenizer, given) -> None:
    images, scores, seeds = best_of(
        lambda seeds: attempt(model, tokenizer, **given, seeds=seeds), 4, [10, 11]
    )
    assert images.shape == (2, 4, 1, 8, 8)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    edits = [
        redraw(model, tokenizer, **given, seeds=[10 + i * CANDIDATE_STEP, 11 + i * CANDIDATE_STEP])
        for i in range(4)
    ]
    alone = [hole_log_probability(model, tokenizer, e, given["labels"]) for e in edits]
    for image in (0, 1):
        best = max(range(4), key=lambda i, image=image: alone[i][image].item())
        assert torch.equal(images[image, 0], edits[best].images[image])
        assert seeds[image, 0] == 10 + image + best * CANDIDATE_STEP
    with pytest.raises(UsageError, match="candidates is 0"):
        best_of(lambda seeds: attempt(model, tokenizer, **given, seeds=seeds), 0, [0, 1])
