"""Our code against the published implementation on tiny models, to the last token."""

import pytest
import torch
from torch import Tensor

from tests.parity.figures import COPY, SHARED, TINY, Figures, compute_tiny, load, thin

GIVEN = (".mask", "labels")  # inputs, nothing to compute
ELSEWHERE = "schedule_lin0"  # the optimizer's schedule has its own test
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/parity is not here")


def assert_equal(ours: Tensor, figure: Tensor, key: str) -> None:
    """Tokens must be identical, gradients within 1e-5, other floats within 1e-4."""
    tolerance = 1e-5 if ".grad_" in key else 1e-4
    absolute = 0.0 if not figure.is_floating_point() else tolerance
    torch.testing.assert_close(ours, figure, rtol=0, atol=absolute)


def cases() -> list:
    """Every computed key of every tiny model, once from the copy and once from the whole file."""
    found = []
    for name in TINY:
        keys = load(COPY / f"{name}.safetensors").tensors
        computed = [key for key in keys if not key.endswith(GIVEN) and key != ELSEWHERE]
        found += [pytest.param(name, key, id=f"{name}-{key}") for key in sorted(computed)]
    return found


@pytest.fixture(scope="module")
def whole() -> dict[str, Figures]:
    return {name: load(SHARED / f"{name}.safetensors") for name in TINY}


@pytest.mark.parametrize(("name", "key"), cases())
def test_our_code_gives_the_published_figures(name, key):
    figure = load(COPY / f"{name}.safetensors").tensors[key]
    assert_equal(thin(compute_tiny(name)[key]), figure, key)


@needs_shared
@pytest.mark.parametrize(("name", "key"), cases())
def test_our_code_gives_the_published_figures_in_full(name, key, whole):
    assert_equal(compute_tiny(name)[key], whole[name].tensors[key], key)


@needs_shared
@pytest.mark.parametrize("name", TINY)
def test_the_copy_is_the_whole_file_thinned(name, whole):
    copy = load(COPY / f"{name}.safetensors")
    assert copy.metadata == whole[name].metadata
    assert set(copy.tensors) == set(whole[name].tensors)
    for key, value in copy.tensors.items():
        assert torch.equal(value, thin(whole[name].tensors[key])), key
