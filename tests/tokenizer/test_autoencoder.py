import pytest
import torch
import torch.nn.functional as F

from nextscale.config.architecture import TokenizerConfig
from nextscale.tokenizer.autoencoder import (
    Decoder,
    Downsample,
    Encoder,
    ResidualBlock,
    SpatialAttention,
    Upsample,
)


@pytest.mark.parametrize("multipliers", [(1,), (2, 1), (1, 2, 2)])
@pytest.mark.parametrize("channels", [1, 3])
@torch.inference_mode()
def test_each_further_level_halves_the_map(multipliers, channels):
    config = TokenizerConfig(
        scales="1 2x3",
        image_channels=channels,
        width=8,
        groups=4,
        multipliers=multipliers,
        blocks=1,
        latent=5,
    )
    height, width = config.image_size
    assert (height, width) == (2 * config.downsampling, 3 * config.downsampling)
    features = Encoder(config)(torch.randn(2, channels, height, width))
    assert features.shape == (2, 5, 2, 3)
    assert Decoder(config)(features).shape == (2, channels, height, width)


def test_attention_follows_each_block_of_the_lowest_level_and_the_middle():
    config = TokenizerConfig(scales="2", width=8, groups=4, multipliers=(1, 1), blocks=2)
    counts = [
        [len(level.attentions) for level in part(config).levels] for part in (Encoder, Decoder)
    ]
    assert counts == [[0, 2], [0, 3]]
    assert isinstance(Encoder(config).middle.attention, SpatialAttention)


def test_attention_can_be_left_out():
    config = TokenizerConfig(scales="2", width=8, groups=4, multipliers=(1, 1), attention=False)
    modules = [*Encoder(config).modules(), *Decoder(config).modules()]
    assert not any(isinstance(module, SpatialAttention) for module in modules)


@torch.inference_mode()
def test_attention_is_a_softmax_over_positions():
    layer, x = SpatialAttention(8, 4), torch.randn(2, 8, 3, 5)
    q, k, v = layer.query_key_value(layer.norm(x)).flatten(2).chunk(3, dim=1)  # 3 x (B, 8, 15)
    shares = (q.transpose(1, 2) @ k / 8**0.5).softmax(-1)  # (B, 15, 15)
    mixed = (v @ shares.transpose(1, 2)).view_as(x)
    torch.testing.assert_close(layer(x), x + layer.project(mixed))


@torch.inference_mode()
def test_downsampling_pads_right_and_bottom_only():
    layer = Downsample(1)
    layer.conv.weight.fill_(1)
    layer.conv.bias.zero_()
    x = torch.zeros(2, 1, 4, 4)
    x[0, 0, 1, 1] = x[1, 0, 2, 2] = 1  # windows start at 0 and 2, so all four meet at 2
    assert layer(x).flatten(1).tolist() == [[1, 0, 0, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_upsampling_repeats_pixels_before_its_convolution(layout):
    layer, x = Upsample(3).double(), torch.randn(2, 3, 2, 3, dtype=torch.double)
    x = x.contiguous(memory_format=layout).requires_grad_()
    plain = layer.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    doubled = layer(x)
    assert doubled.is_contiguous(memory_format=layout)
    torch.testing.assert_close(doubled, plain)
    learnt = (x, layer.conv.weight, layer.conv.bias)
    ours = torch.autograd.grad(doubled.square().sum(), learnt)
    torch.testing.assert_close(ours, torch.autograd.grad(plain.square().sum(), learnt))


@pytest.mark.parametrize("width_out", [4, 8])
@torch.inference_mode()
def test_a_residual_block_adds_to_its_input(width_out):
    block, x = ResidualBlock(4, width_out, 2), torch.randn(1, 4, 3, 3)
    hidden = block.conv1(F.silu(block.norm1(x)))
    added = block.conv2(F.silu(block.norm2(hidden)))
    torch.testing.assert_close(block(x) - added, x if width_out == 4 else block.shortcut(x))


def test_the_last_weight_is_the_one_next_to_the_pixels():
    decoder = Decoder(TokenizerConfig(scales="2", width=8, groups=4, multipliers=(1, 2), latent=5))
    assert decoder.last_weight is decoder.conv_out.weight
    assert decoder.last_weight.shape == (3, 8, 3, 3)
