import pytest
import torch
import torch.nn.functional as F

from nextscale.scales import areas
from nextscale.tokenizer.pyramid import Phi, choose_phis

PYRAMIDS = ["1 2 4", "4", "1x2 2x4 3x6", "1x1 1x3 2x3"]
SHARINGS = ["partial", "shared", "each"]


@pytest.fixture(scope="module")
def quantizer(tokenizer):
    return tokenizer.quantizer


@pytest.fixture(scope="module")
def features_of():
    """Seeded features (3, C, H, W) as large as the finest scale."""

    def make(quantizer):
        generator = torch.Generator().manual_seed(3)
        channels = quantizer.codebook.shape[1]
        return torch.randn(3, channels, *quantizer.scales[-1], generator=generator)

    return make


@pytest.mark.parametrize(
    ("modules", "scales", "chosen"),
    [
        (4, 10, (0, 0, 1, 1, 1, 2, 2, 3, 3, 3)),  # near-ties at scales 2 and 7
        (4, 5, (0, 1, 2, 2, 3)),
        (4, 1, (0,)),
        (1, 6, (0,) * 6),
    ],
)
def test_each_scale_takes_the_phi_of_the_nearest_tick(modules, scales, chosen):
    assert choose_phis(modules, scales) == chosen


@pytest.mark.parametrize("scales", range(1, 15))
def test_with_one_phi_a_scale_each_takes_its_own(scales):
    assert choose_phis(scales, scales) == tuple(range(scales))


@pytest.mark.parametrize(("sharing", "count"), zip(SHARINGS, [4, 1, 5], strict=True))
def test_a_scale_passes_the_phi_chosen_for_it(make_tokenizer, features_of, sharing, count):
    quantizer = make_tokenizer(scales="1 2 3 4 5", phi=sharing).quantizer
    assert len(quantizer.phis) == count
    before = features_of(quantizer)
    for k, (h, w) in enumerate(quantizer.scales):
        vectors = torch.randn(3, 4, h, w, generator=torch.Generator().manual_seed(k))
        enlarged = F.interpolate(vectors, (5, 5), mode="bicubic") if k < 4 else vectors
        added = quantizer.phis[choose_phis(count, 5)[k]](enlarged)
        assert torch.equal(quantizer.accumulate(before, vectors, k), before + added)


def test_phi_mixes_its_input_with_a_convolution():
    x = torch.randn(2, 3, 4, 5)
    phi = Phi(3, 0.25)
    torch.testing.assert_close(phi(x), 0.75 * x + 0.25 * phi.conv(x))
    assert torch.equal(Phi(3, 0.0)(x), x)


def test_nearest_is_the_code_at_the_smallest_distance(quantizer, features_of):
    vectors = features_of(quantizer)
    columns = vectors.permute(0, 2, 3, 1).reshape(-1, 1, 4).double()
    distances = (columns - quantizer.codebook.detach().double()).square().sum(-1)
    assert torch.equal(quantizer.code.quantize(vectors).flatten(), distances.argmin(1))


def test_z_norm_takes_the_code_at_the_smallest_angle(make_tokenizer, features_of):
    by_angle, by_distance = (make_tokenizer(z_norm=z).quantizer for z in (True, False))
    vectors = features_of(by_angle)
    columns = vectors.permute(0, 2, 3, 1).reshape(-1, 1, 4).double()
    cosines = F.cosine_similarity(columns, by_angle.codebook.detach().double(), dim=-1)
    codes = by_angle.code.quantize(vectors)
    assert torch.equal(codes.flatten(), cosines.argmax(1))
    assert torch.equal(codes, by_angle.code.quantize(100 * vectors))
    assert not torch.equal(codes, by_distance.code.quantize(vectors))


def test_lookup_puts_a_codes_vector_at_its_place(quantizer):
    tokens = torch.tensor([[[3, 5, 7]], [[0, 15, 3]]])  # (2, 1, 3)
    vectors = quantizer.lookup(tokens)
    assert vectors.shape == (2, 4, 1, 3)
    assert torch.equal(vectors[1, :, 0, 1], quantizer.codebook[15])


@pytest.mark.parametrize("pyramid", PYRAMIDS)
@pytest.mark.parametrize("sharing", SHARINGS)
@torch.inference_mode()
def test_tokens_lead_back_to_the_maps_the_encoder_saw(
    make_tokenizer, features_of, pyramid, sharing
):
    quantizer = make_tokenizer(scales=pyramid, phi=sharing).quantizer
    features = features_of(quantizer)
    tokens = quantizer.encode(features)
    assert [tuple(t.shape) for t in tokens] == [(3, *scale) for scale in quantizer.scales]

    before = torch.zeros_like(features)
    for token_map, after in zip(tokens, quantizer.accumulated_maps(tokens), strict=True):
        left = F.adaptive_avg_pool2d(features - before, token_map.shape[1:])
        torch.testing.assert_close(quantizer.code.quantize(left), token_map)
        before = after

    trained = quantizer(features)
    assert all(torch.equal(a, b) for a, b in zip(trained.tokens, tokens, strict=True))
    torch.testing.assert_close(trained.output, before)


@torch.inference_mode()
def test_the_first_maps_do_not_wait_for_the_last(quantizer, features_of):
    tokens = quantizer.encode(features_of(quantizer))
    whole = quantizer.accumulated_maps(tokens)
    for k in (1, 2, 3):
        part = quantizer.accumulated_maps(tokens[:k])
        assert len(part) == k
        assert torch.equal(torch.stack(part), torch.stack(whole[:k]))


@pytest.mark.parametrize("pyramid", PYRAMIDS)
@torch.inference_mode()
def test_teacher_inputs_are_the_maps_so_far_at_the_next_scale(make_tokenizer, features_of, pyramid):
    quantizer = make_tokenizer(scales=pyramid).quantizer
    tokens = quantizer.encode(features_of(quantizer))
    inputs = quantizer.teacher_inputs(tokens)
    later = areas(quantizer.scales)[1:]
    assert inputs.shape == (3, sum(later), 4)
    for k, part in enumerate(inputs.split(later, 1) if later else [], start=1):
        shrunk = F.adaptive_avg_pool2d(
            quantizer.accumulated_maps(tokens)[k - 1], quantizer.scales[k]
        )
        torch.testing.assert_close(part.transpose(1, 2).view_as(shrunk), shrunk)


@torch.inference_mode()
def test_a_token_reaches_the_inputs_of_finer_scales_only(quantizer, features_of):
    tokens = quantizer.encode(features_of(quantizer))
    changed = [tokens[0], (tokens[1] + 1) % 16, tokens[2]]
    before, after = map(quantizer.teacher_inputs, (tokens, changed))
    assert torch.equal(before[:, :4], after[:, :4])  # scale 1, from scale 0
    assert not torch.isclose(before[:, 4:], after[:, 4:]).all()


def test_the_gradient_goes_straight_through(quantizer, features_of):
    features = features_of(quantizer).requires_grad_()
    result = quantizer(features)
    weights = torch.randn_like(features)
    (gradient,) = torch.autograd.grad((result.output * weights).sum(), features, retain_graph=True)
    assert torch.equal(gradient, weights)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(result.output.sum(), quantizer.codebook)


def test_each_loss_pulls_its_own_side(quantizer, features_of):
    features = features_of(quantizer).requires_grad_()
    result = quantizer(features)
    both = [features, quantizer.codebook]
    pulls = [
        [g is not None and g.abs().sum() > 0 for g in torch.autograd.grad(loss, both, **options)]
        for loss in (result.commitment_loss, result.codebook_loss)
        for options in [{"allow_unused": True, "retain_graph": True}]
    ]
    assert pulls == [[True, False], [False, True]]


def test_losses_average_the_error_over_scales(quantizer, features_of):
    features = features_of(quantizer)
    result = quantizer(features)
    maps = quantizer.accumulated_maps(result.tokens)
    error = torch.stack([(m - features).square().mean() for m in maps]).mean()
    torch.testing.assert_close(result.codebook_loss, error)
    torch.testing.assert_close(result.commitment_loss, error.detach())


def test_training_keeps_what_each_scale_had_to_code(quantizer, features_of):
    result = quantizer(features_of(quantizer))
    for residual, tokens in zip(result.residuals, result.tokens, strict=True):
        assert not residual.requires_grad
        assert torch.equal(quantizer.code.quantize(residual), tokens)


def test_mixed_precision_does_not_reach_the_quantizer(quantizer, features_of):
    features = features_of(quantizer).bfloat16()
    plain = quantizer(features.float())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = quantizer(features)
    assert mixed.output.dtype == torch.float32
    assert torch.equal(mixed.output, plain.output)


def test_finer_scales_mend_what_is_disturbed(quantizer, features_of):
    features = features_of(quantizer)

    def first_code(tokens):
        return torch.zeros_like(tokens) if tokens.shape[1] == 1 else tokens  # only at 1x1

    tokens, placed = quantizer.encode_disturbed(features, first_code)
    assert torch.equal(tokens[0], quantizer.encode(features)[0])
    assert not placed[0].any()
    assert all(torch.equal(a, b) for a, b in zip(tokens[1:], placed[1:], strict=True))
    left = features - quantizer.accumulated_maps(placed[:1])[0]  # what scale 2 has to code
    expected = quantizer.code.quantize(quantizer.shrink(left, quantizer.scales[1]))
    assert torch.equal(tokens[1], expected)
