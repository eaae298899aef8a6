"""Figures of two sets of features: FID, Inception score, precision, recall, KID.

The arithmetic is torch-fidelity's, in float64; what is drawn at random has a seed of its own.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nextscale.config.evaluation import METRICS
from nextscale.errors import UsageError

NEIGHBORS = 3  # of the manifold's radius (Kynkäänniemi et al. 2019, arXiv 1904.06991)
IS_SPLITS = 10
KID_SUBSETS = 100
SEED = 0  # of KID's subsets and of the order in which the Inception score is computed
ROWS = 2500  # of a block of distances
SERVED_BY_STATISTICS = ("fid", "is")  # figures that need no single real image


@dataclass(frozen=True)
class Features:
    """What an extractor says of a set of images, in an order that depends on the pixels alone.

    Attributes:
        extractor: its identity.
        values: float32 (N, F).
        logits: float32 (N, classes).
    """

    extractor: str
    values: NDArray[np.float32]
    logits: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.values)

    def statistics(self) -> "Statistics":
        """Mean and covariance."""
        values = self.values.astype(np.float64)
        return Statistics(self.extractor, values.mean(0), np.cov(values, rowvar=False))


@dataclass(frozen=True)
class Statistics:
    """All that FID needs of a set of images.

    Attributes:
        extractor: its identity; empty if the file does not record it, as published ones do not.
        mean: float64 (F,).
        covariance: float64 (F, F).
    """

    extractor: str
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


def compare(
    images: Features,
    reference: Features | Statistics,
    metrics: Collection[str] = METRICS,
    kid_subset: int = 1000,
) -> dict[str, float]:
    """Figures of images against a reference.

    Args:
        images: that are judged.
        reference: real ones; `Statistics` serve FID alone, the Inception score needs none.
        metrics: some of `METRICS`.
        kid_subset: images of each of KID's subsets; 1000 in papers.

    Raises:
        UsageError: if the two are of different extractors, or too few for a figure.
    """
    if reference.extractor and images.extractor != reference.extractor:
        raise UsageError(
            f"the images were seen by the extractor {images.extractor}, the reference by "
            f"{reference.extractor}; give the extractor of the reference"
        )
    if isinstance(reference, Statistics):
        metrics = [metric for metric in metrics if metric in SERVED_BY_STATISTICS]
    check_counts(len(images), "images", metrics, kid_subset)
    found: dict[str, float] = {}
    if "fid" in metrics:
        found["fid"] = frechet_distance(images, reference)
    if "is" in metrics:
        found |= inception_score(images)
    if isinstance(reference, Features):
        check_counts(len(reference), "reference images", metrics, kid_subset)
        if "precision" in metrics or "recall" in metrics:
            both = precision_recall(images, reference)
            found |= {name: both[name] for name in ("precision", "recall") if name in metrics}
        if "kid" in metrics:
            found |= kernel_distance(images, reference, kid_subset)
    return found


def check_counts(count: int, what: str, metrics: Collection[str], kid_subset: int) -> None:
    """Raises UsageError naming the first figure that needs more images."""
    least = {"fid": 2, "is": IS_SPLITS, "precision": NEIGHBORS + 1, "recall": NEIGHBORS + 1}
    for metric, needed in {**least, "kid": kid_subset}.items():
        if metric in metrics and count < needed:
            smaller = ", or a smaller --kid-subset," if metric == "kid" else ""
            raise UsageError(
                f"{metric} needs at least {needed} {what}; there are {count}; give more{smaller} "
                "or leave it out of --metrics"
            )


def frechet_distance(images: Features, reference: Features | Statistics) -> float:
    """Fréchet distance of two normal distributions (FID, arXiv 1706.08500), never below 0."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    real = reference.statistics() if isinstance(reference, Features) else reference
    ours = images.statistics()
    if ours.mean.shape != real.mean.shape:
        raise UsageError(
            f"the reference's statistics have {len(real.mean)} features, the extractor gives "
            f"{len(ours.mean)}; give the extractor of the reference"
        )
    pair = [{"mu": s.mean, "sigma": s.covariance} for s in (ours, real)]
    return max(0.0, fid_statistics_to_metric(*pair, verbose=False)[KEY_METRIC_FID])


def inception_score(images: Features) -> dict[str, float]:
    """Inception score (arXiv 1606.03498) and its deviation over parts of a random order."""
    from torch_fidelity.metric_isc import (
        KEY_METRIC_ISC_MEAN,
        KEY_METRIC_ISC_STD,
        isc_features_to_metric,
    )

    found = isc_features_to_metric(torch.from_numpy(images.logits), IS_SPLITS, True, SEED)
    return {
        "inception_score": found[KEY_METRIC_ISC_MEAN],
        "inception_score_std": found[KEY_METRIC_ISC_STD],
    }


def precision_recall(images: Features, reference: Features) -> dict[str, float]:
    """Shares of each set that lie within the other's manifold (arXiv 1904.06991)."""
    from torch_fidelity.metric_prc import (
        KEY_METRIC_PRECISION,
        KEY_METRIC_RECALL,
        prc_features_to_metric,
    )

    found = prc_features_to_metric(
        as_double(images),
        as_double(reference),
        prc_neighborhood=NEIGHBORS,
        prc_batch_size=ROWS,
        save_cpu_ram=True,
        verbose=False,
    )
    return {"precision": found[KEY_METRIC_PRECISION], "recall": found[KEY_METRIC_RECALL]}


def kernel_distance(images: Features, reference: Features, subset: int) -> dict[str, float]:
    """Kernel distance (KID, arXiv 1801.01401): mean and deviation over random subsets."""
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        KEY_METRIC_KID_STD,
        kid_features_to_metric,
    )

    found = kid_features_to_metric(
        as_double(images),
        as_double(reference),
        kid_subsets=KID_SUBSETS,
        kid_subset_size=subset,
        rng_seed=SEED,
        verbose=False,
    )
    return {"kid": found[KEY_METRIC_KID_MEAN], "kid_std": found[KEY_METRIC_KID_STD]}


def as_double(features: Features) -> torch.Tensor:
    """The features as a tensor float64 (N, F)."""
    return torch.from_numpy(features.values.astype(np.float64))
