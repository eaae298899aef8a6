import pytest
import torch

from nextscale.config.architecture import TokenizerConfig
from nextscale.tokenizer.tokenizer import Tokenizer


def test_the_released_tokenizer_has_108_948_355_parameters():
    with torch.device("meta"):
        tokenizer = Tokenizer(TokenizerConfig())
    assert sum(p.numel() for p in tokenizer.parameters()) == 108_948_355


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pyramid", ["1 2 4", "4", "1x2 2x4 3x6"])
@torch.inference_mode()
def test_images_become_token_maps_and_images_again(make_tokenizer, channels, pyramid):
    tokenizer = make_tokenizer(image_channels=channels, scales=pyramid)
    images = torch.rand(2, channels, *tokenizer.config.image_size) * 2 - 1
    tokens = tokenizer.encode(images)
    assert [tuple(t.shape) for t in tokens] == [(2, *scale) for scale in tokenizer.config.scales]
    assert all(t.dtype == torch.int64 and t.min() >= 0 and t.max() < 16 for t in tokens)
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == images.shape
    assert -1 <= decoded.min() < decoded.max() <= 1


@torch.inference_mode()
def test_decoding_the_first_scales_gives_the_image_so_far(tokenizer, images):
    tokens = tokenizer.encode(images)
    maps = tokenizer.quantizer.accumulated_maps(tokens)
    stages = [tokenizer.decode(tokens[: k + 1]) for k in range(3)]
    for stage, accumulated in zip(stages, maps, strict=True):
        assert torch.equal(stage, tokenizer.decode_accumulated(accumulated))
    assert not torch.equal(stages[0], stages[1])


@torch.inference_mode()
def test_training_reconstructs_what_decoding_clamps(tokenizer, images):
    reconstruction, quantized = tokenizer(images)
    assert reconstruction.abs().max() > 1  # random weights overshoot
    decoded = tokenizer.decode(quantized.tokens)
    torch.testing.assert_close(reconstruction.clamp(-1, 1), decoded, rtol=0, atol=1e-5)


def test_reconstruction_errors_reach_the_encoder(make_tokenizer, images):
    tokenizer = make_tokenizer()
    reconstruction, _ = tokenizer(images)
    (reconstruction - images).square().mean().backward()
    assert tokenizer.encoder.conv_in.weight.grad.abs().sum() > 0
    assert tokenizer.quantizer.codebook.grad is None


@torch.inference_mode()
def test_an_image_is_encoded_alone_as_among_others(tokenizer, images):
    together = tokenizer.encode(images)
    alone = tokenizer.encode(images[3:4])
    assert all(torch.equal(a[0], t[3]) for a, t in zip(alone, together, strict=True))


@pytest.mark.parametrize("shape", [(1, 1, 8, 10), (1, 3, 8, 8), (1, 8, 8)])
def test_images_of_another_shape_are_refused(tokenizer, shape):
    with pytest.raises(ValueError, match=r"\(B, \*\(1, 8, 8\)\) is needed"):
        tokenizer.encode(torch.zeros(shape))
