"""How images are judged: against what, by which network, and which of them. No torch."""

from dataclasses import dataclass

from nextscale.config.limits import LARGEST_SIDE
from nextscale.config.seeds import LARGEST_SEED
from nextscale.errors import check_range, unknown

MOST_IMAGES = 10**7  # that one command makes
METRICS = ("fid", "is", "precision", "recall", "kid")


@dataclass(frozen=True)
class EvaluationConfig:
    """`nextscale evaluate`.

    Attributes:
        reference: real images: `fashion-mnist` (its test images), `fashion-mnist:train`, a folder,
            an `.npz` file with `arr_0`, or stored statistics; empty is for models of Fashion-MNIST.
        root: where a named data set lies; empty looks in the usual places, then downloads.
        size: resize and centre-crop finished images to a square of this side in pixels; 0 takes
            them as they are.
        extractor: network whose features are compared: `inception`, a bundled classifier, or a
            directory of `nextscale train classifier`.
        metrics: figures to compute, of fid, is, precision, recall, kid.
        kid_subset: images of each of KID's subsets; of fewer images, the default metrics leave KID
            out.
        count: images to draw; papers take 50000.
        seed: image i is drawn with seed + i.
        batch: images drawn at once; a part of what shapes them, by rounding.
        keep: share of the drawn images that is kept, those of which the classifier is surest.
        classifier: for `keep`: a bundled one, a directory, or a torchvision model such as
            resnet101; empty takes the extractor, if it is a classifier.
        reconstruct: judge the tokenizer by its reconstructions of the reference.
        perceptual: distance of reconstructions, as `perceptual_network` in training; `auto` is
            lpips where its weights can be had, and else none.
        bounds: also report the FID of as many real training images as are judged, and that of the
            tokenizer's reconstructions of the reference, which a model may still pass; where the
            reference is a named data set, or a folder with `train` and `val`.
        out: directory of what is drawn; an evaluation that was stopped goes on there. Any number of
            processes draws the same images, on a CPU if each has as many threads
            (OMP_NUM_THREADS).
        npz: also write the images for OpenAI's evaluator.
        save_statistics: also store the images' features, to serve as a reference.
        json: also write the report there.
    """

    reference: str = ""
    root: str = ""
    size: int = 0
    extractor: str = "inception"
    metrics: tuple[str, ...] = METRICS
    kid_subset: int = 1000
    count: int = 10000
    seed: int = 0
    batch: int = 250
    keep: float = 1.0
    classifier: str = ""
    reconstruct: bool = False
    perceptual: str = "auto"
    bounds: bool = True
    out: str = "evaluation"
    npz: str = ""
    save_statistics: str = ""
    json: str = ""

    def __post_init__(self) -> None:
        check_range(self, "size", 0, LARGEST_SIDE)
        check_range(self, "seed", 0, LARGEST_SEED)
        check_range(self, "count batch", 1, MOST_IMAGES)
        check_range(self, "kid_subset", 2, MOST_IMAGES)
        check_range(self, "keep", 1e-6, 1)
        for metric in self.metrics:
            if metric not in METRICS:
                raise unknown("metric", metric, METRICS)
