"""FSQ: nearest levels, mixed radix, means by channel; and the pyramid over a fixed code."""

import pytest
import torch
from torch import nn

from nextscale.config.architecture import TokenizerConfig
from nextscale.errors import UsageError
from nextscale.tokenizer.code import FSQ, VQ

LEVELS = (5, 4, 3)
GRID = {"code": "fsq", "levels": LEVELS}


@pytest.fixture(scope="module")
def code() -> FSQ:
    return FSQ(TokenizerConfig(**GRID), nn.Module())


def test_every_token_leads_to_its_vector_and_back(code: FSQ) -> None:
    tokens = torch.arange(60).view(1, 6, 10)
    vectors = code.lookup(tokens)
    assert vectors.shape == (1, 3, 6, 10)
    assert torch.equal(code.quantize(vectors), tokens)
    assert torch.equal(code.vectors(), vectors.flatten(2)[0].T)
    assert vectors[0, :, 0, 0].tolist() == [-1, -1, -1]
    assert torch.equal(vectors[0, :, 5, 9], torch.ones(3))
    one = code.lookup(torch.tensor([[[1 * 12 + 2 * 3 + 1]]])).flatten()  # levels 1, 2 and 1
    torch.testing.assert_close(one, torch.tensor([-0.5, 1 / 3, 0.0]))


def test_the_code_of_a_vector_is_the_nearest_one(code: FSQ) -> None:
    vectors = 1.5 * torch.randn(2, 3, 7, 5)
    columns = vectors.permute(0, 2, 3, 1).reshape(-1, 1, 3)
    nearest = (columns - code.vectors()).square().sum(-1).argmin(1)
    assert torch.equal(code.quantize(vectors).flatten(), nearest)


def test_means_by_channel_are_the_means_over_all_tokens(code: FSQ) -> None:
    shares = [torch.rand(2, 4, size).softmax(-1) for size in LEVELS]
    joint = torch.einsum("bli,blj,blk->blijk", *shares).flatten(2)
    torch.testing.assert_close(code.average(shares), code.average([joint]))


def test_only_learned_vectors_are_replaced(code: FSQ) -> None:
    assert code.replace(torch.tensor([0]), torch.zeros(1, 3)) is None
    learned = VQ(TokenizerConfig(codes=8, latent=3), nn.Module())
    assert learned.replace(torch.tensor([2]), torch.ones(1, 3)) is learned.codebook
    assert torch.equal(learned.lookup(torch.tensor([[[2]]])).flatten(), torch.ones(3))


def test_levels_determine_width_and_number_of_codes() -> None:
    config = TokenizerConfig(**GRID)
    assert (config.latent, config.codes, config.alphabet) == (3, 60, LEVELS)
    for wrong in ({"code": "fsq"}, {"levels": (3, 3)}, {"code": "fsq", "levels": (1, 3)}):
        with pytest.raises(UsageError, match="levels"):
            TokenizerConfig(**wrong)
    with pytest.raises(UsageError, match="unknown code 'fqs'; did you mean 'fsq'"):
        TokenizerConfig(code="fqs")


def test_the_pyramid_scales_a_fixed_code_at_every_scale(make_tokenizer) -> None:
    pyramid = make_tokenizer(**GRID).quantizer
    with torch.no_grad():
        pyramid.gains.copy_(torch.tensor([2.0, 1.0, 0.5]))
    features = torch.randn(2, 3, 4, 4)
    tokens = pyramid.encode(features)
    assert [int(t.max()) < 60 for t in tokens] == [True] * 3
    maps = pyramid.accumulated_maps(tokens)
    left = features - maps[1]
    assert torch.equal(pyramid.code.quantize(left / 0.5), tokens[2])
    added = pyramid.phis[pyramid.phi_of_scale[2]](0.5 * pyramid.lookup(tokens[2]))
    torch.testing.assert_close(maps[2], maps[1] + added)


def test_training_moves_encoder_phi_and_gains(make_tokenizer) -> None:
    tokenizer = make_tokenizer(**GRID).train()
    reconstruction, quantized = tokenizer(torch.rand(2, 1, 8, 8) * 2 - 1)
    loss = reconstruction.square().mean() + quantized.codebook_loss + quantized.commitment_loss
    loss.backward()
    moved = {
        name for name, p in tokenizer.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert {"quantizer.gains", "to_latent.weight"} <= moved
    assert any(name.startswith("quantizer.phis") for name in moved)


def test_one_tokenizer_serves_several_pyramids(tokenizer) -> None:
    pyramid, features = tokenizer.quantizer, torch.randn(2, 4, 4, 4)
    other = ((1, 1), (2, 2), (2, 2), (3, 3), (4, 4))  # equal scales may follow each other
    tokens = pyramid.encode(features, other)
    assert [tuple(t.shape[1:]) for t in tokens] == list(other)
    maps = pyramid.accumulated_maps(tokens, len(other))
    errors = [(features - accumulated).square().mean().item() for accumulated in maps]
    assert errors[-1] < errors[0]
    assert pyramid.teacher_inputs(tokens).shape == (2, 4 + 4 + 9 + 16, 4)
