"""Where these tests run: on CUDA; NEXTSCALE_TEST_DEVICE=cpu tries the tests themselves."""

import os

import pytest
import torch

DEVICE = torch.device(os.environ.get("NEXTSCALE_TEST_DEVICE", "cuda"))


@pytest.fixture(autouse=True, scope="session")
def _needs_the_device() -> None:
    if DEVICE.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
