"""A generative model as a classifier: Bayes' rule over the classes, on Fashion-MNIST's test images.

    python benchmarks/likelihood.py

writes docs/results/likelihood.json.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch

from nextscale.checkpoints import checkpoint
from nextscale.console.progress import progress
from nextscale.data.fashion_mnist import IMAGES, LABELS, PARTS, find, read_idx
from nextscale.generation.likelihood import class_log_probabilities
from nextscale.machine.heap import keep_freed_memory
from nextscale.pictures.pixels import to_tensor
from nextscale.storage.files import write_text

MODEL = "fashion-mnist"
RESULT = Path(__file__).parents[1] / "docs/results/likelihood.json"
BATCH = 250


def main() -> None:
    keep_freed_memory()
    pipe = checkpoint.load(MODEL)
    pixels = read_idx(find(), f"{PARTS['validation']}-{IMAGES}")
    labels = torch.from_numpy(read_idx(find(), f"{PARTS['validation']}-{LABELS}").astype(np.int64))
    found, begin = [], time.perf_counter()
    with progress("classifying", len(pixels)) as advance:
        for part in range(0, len(pixels), BATCH):
            images = to_tensor(pixels[part : part + BATCH], 1)
            found.append(class_log_probabilities(pipe.model, pipe.tokenizer, images))
            advance(len(images))
    scores = torch.cat(found)  # (N, classes)
    result = {
        "model": MODEL,
        "images": len(pixels),
        "accuracy": float((scores.argmax(1) == labels).double().mean()),
        "top_2_accuracy": float((scores.topk(2).indices == labels[:, None]).any(1).double().mean()),
        "nats_of_the_right_class": float(-scores.gather(1, labels[:, None]).double().mean()),
        "seconds": time.perf_counter() - begin,
    }
    write_text(RESULT, json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
