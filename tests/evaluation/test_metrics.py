"""Figures against the same formulas written with scipy and scikit-learn, and on sets whose
figures are known."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors

from nextscale.errors import UsageError
from nextscale.evaluation.metrics import (
    IS_SPLITS,
    KID_SUBSETS,
    NEIGHBORS,
    SEED,
    Features,
    Statistics,
    compare,
)

SUBSET = 100


def drawn(count: int, shift: float, seed: int) -> Features:
    random = np.random.default_rng(seed)
    values = random.normal(shift, 1, (count, 6)) @ random.normal(size=(6, 6))
    logits = random.normal(0, 3, (count, 5))
    return Features("test", values.astype(np.float32), logits.astype(np.float32))


@pytest.fixture(scope="module")
def images() -> Features:
    return drawn(400, 0.0, 0)


@pytest.fixture(scope="module")
def real() -> Features:
    return drawn(300, 0.3, 1)


@pytest.fixture(scope="module")
def figures(images: Features, real: Features) -> dict[str, float]:
    return compare(images, real, kid_subset=SUBSET)


def test_fid(images: Features, real: Features, figures: dict[str, float]) -> None:
    a, b = images.values.astype(float), real.values.astype(float)
    covariances = np.cov(a.T), np.cov(b.T)
    root = sqrtm(covariances[0] @ covariances[1]).real
    distance = np.square(a.mean(0) - b.mean(0)).sum()
    expected = distance + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert figures["fid"] == pytest.approx(expected, abs=1e-6)


def test_precision_and_recall(images: Features, real: Features, figures: dict[str, float]) -> None:
    def covered(points: np.ndarray, manifold: np.ndarray) -> float:
        neighbors = NearestNeighbors(n_neighbors=NEIGHBORS + 1, algorithm="brute").fit(manifold)
        radius = neighbors.kneighbors(manifold)[0][:, -1]
        distances = np.linalg.norm(points[:, None] - manifold[None], axis=-1)
        return float((distances <= radius).any(1).mean())

    a, b = images.values.astype(float), real.values.astype(float)
    assert figures["precision"] == pytest.approx(covered(a, b), abs=1e-6)
    assert figures["recall"] == pytest.approx(covered(b, a), abs=1e-6)


def test_kid(images: Features, real: Features, figures: dict[str, float]) -> None:
    random, found = np.random.RandomState(SEED), []
    for _ in range(KID_SUBSETS):
        a = images.values[random.choice(len(images), SUBSET, replace=False)].astype(float)
        b = real.values[random.choice(len(real), SUBSET, replace=False)].astype(float)
        within = [polynomial_kernel(x, degree=3, coef0=1) for x in (a, b)]
        own = sum((k.sum() - np.trace(k)) / (SUBSET * (SUBSET - 1)) for k in within)
        found.append(own - 2 * polynomial_kernel(a, b, degree=3, coef0=1).mean())
    assert figures["kid"] == pytest.approx(np.mean(found), rel=1e-6, abs=1e-6)


def test_inception_score(images: Features, figures: dict[str, float]) -> None:
    order = np.random.RandomState(SEED).permutation(len(images))
    exponentials = np.exp(images.logits.astype(float))[order]
    p = exponentials / exponentials.sum(1, keepdims=True)
    scores = [
        np.exp((part * np.log(part / part.mean(0))).sum(1).mean())
        for part in np.array_split(p, IS_SPLITS)
    ]
    assert figures["inception_score"] == pytest.approx(np.mean(scores), abs=1e-6)


def test_a_set_against_itself(images: Features) -> None:
    figures = compare(images, images, kid_subset=SUBSET)
    assert figures["fid"] == pytest.approx(0, abs=1e-6)
    assert figures["precision"] == figures["recall"] == 1


def test_stored_statistics_serve_fid_alone(images: Features, real: Features, figures) -> None:
    found = compare(images, real.statistics(), ("fid", "precision", "recall", "kid"))
    assert found == {"fid": figures["fid"]}
    unnamed = Statistics("", real.statistics().mean, real.statistics().covariance)
    assert compare(images, unnamed, ("fid",))["fid"] == figures["fid"]


def test_what_is_not_asked_for_is_not_computed(images: Features, real: Features) -> None:
    assert set(compare(images, real, ("precision", "is"))) == {
        "precision",
        "inception_score",
        "inception_score_std",
    }


@pytest.mark.parametrize(
    ("count", "metrics", "said"),
    [
        (1, ("fid",), "fid needs at least 2 images; there are 1"),
        (3, ("recall",), "recall needs at least 4 images; there are 3"),
        (9, ("is",), "is needs at least 10 images"),
        (99, ("kid",), "kid needs at least 100 images; there are 99; give more, or a smaller"),
    ],
)
def test_too_few_images_are_counted(real: Features, count, metrics, said) -> None:
    few = Features("test", real.values[:count], real.logits[:count])
    with pytest.raises(UsageError, match=said):
        compare(few, real, metrics, SUBSET)


def test_a_reference_of_another_extractor_is_refused(images: Features, real: Features) -> None:
    other = Features("another", real.values, real.logits)
    with pytest.raises(UsageError, match="give the extractor of the reference"):
        compare(images, other)
    narrow = Statistics("", np.zeros(3), np.eye(3))
    with pytest.raises(UsageError, match="have 3 features, the extractor gives 6"):
        compare(images, narrow, ("fid",))
