"""Code counts and what follows from them, compared with numpy."""

import numpy as np
import pytest
import torch

from nextscale.training.code_use import CodeUse, entropy, perplexity, used_share


def test_code_use_and_perplexity_are_numpys() -> None:
    generator = np.random.default_rng(0)
    maps = [generator.integers(0, 5 + k, (4, s, s)) for k, s in enumerate((1, 2, 4))]
    use = CodeUse(3, 16, torch.device("cpu"))
    use.add([torch.from_numpy(m[:1]) for m in maps])
    added = use.add([torch.from_numpy(m[1:]) for m in maps])
    assert added.sum(1).tolist() == [3, 12, 48]
    for k, token_map in enumerate(maps):
        found, counts = np.unique(token_map, return_counts=True)
        shares = counts / counts.sum()
        assert used_share(use.counts)[k] == pytest.approx(len(found) / 16)
        expected = np.exp(-(shares * np.log(shares)).sum())
        assert perplexity(use.counts)[k] == pytest.approx(expected)
    assert entropy(torch.zeros(16)).item() == 0
