"""The released sizes, d16 and its tokenizer at 256 pixels: 1.7 GB of weights, filled by rule."""

import pytest
import torch
import torch.nn.functional as F

from tests.parity.figures import SHARED, compute_forward, compute_sample, load

PATH = SHARED / "d16_256.safetensors"
DRAW = {"seed": 0, "cfg": 1.5, "top_k": 900, "top_p": 0.96}  # the released FID setting
THINNED = {
    "image": lambda x: x[..., ::8, ::8],
    "features": lambda x: F.avg_pool2d(x, 4),
    "reconstruction": lambda x: F.avg_pool2d(x, 16),
    "sample_filtered.image": lambda x: F.avg_pool2d(x, 16),
    "teacher_inputs": lambda x: x[:, ::17],
    "logits": lambda x: x[:, ::17, ::64],
    "logits_unconditional": lambda x: x[:, ::17, ::64],
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PATH.is_file(), reason="../shared/parity is not here"),
]


@pytest.fixture(scope="module")
def figures():
    return load(PATH)


@pytest.fixture(scope="module")
def ours(figures):
    pipe, labels = figures.pipeline(), figures.tensors["labels"]
    computed = compute_forward(pipe, figures.image(), labels)
    image, tokens = compute_sample(pipe, labels, **DRAW)
    return computed | {"sample_filtered.image": image, "sample_filtered.tokens": tokens}


@pytest.mark.parametrize("key", ["tokens", "sample_filtered.tokens"])
def test_tokens_of_d16_are_identical(key, figures, ours):
    assert torch.equal(ours[key], figures.tensors[key])


@pytest.mark.parametrize("key", ["loss", *THINNED])
def test_floats_of_d16_agree(key, figures, ours):
    thinned = THINNED.get(key, torch.clone)(ours[key])
    torch.testing.assert_close(thinned, figures.tensors[key], rtol=0, atol=1e-3)


def test_no_figure_of_d16_is_left_out(figures):
    tested = {"labels", "loss", "tokens", "sample_filtered.tokens", *THINNED}
    assert set(figures.tensors) == tested
