"""Training arithmetic of models that nobody has trained, from that of smaller ones."""

import numpy as np
from scipy.optimize import nnls

from nextscale.scaling_laws.fit import Values


def fit_cost(sizes: Values, flops: Values) -> Values:
    """What a N + b N^(2/3) + c N^(1/3), none of them negative, comes nearest to the arithmetic.

    Where depth and width grow together, blocks take arithmetic as N, attention as depth times width
    and maps to and from tokens as width.

    Returns:
        a, b, c, by least squares of the relative error.
    """
    return nnls(cost_terms(sizes) / flops[:, None], np.ones(len(sizes)))[0]


def cost_terms(sizes: Values) -> Values:
    """What `fit_cost` adds up, (n, 3)."""
    return np.stack([sizes, sizes ** (2 / 3), sizes ** (1 / 3)], 1)
