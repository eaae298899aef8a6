"""A generative model as a classifier: Bayes' rule over the classes, on Fashion-MNIST's test images.

python -m studies likelihood
"""

import json
import time

import numpy as np
import torch
from jsonargparse import Namespace

from nextscale.checkpoints import checkpoint
from nextscale.console.options import Parser
from nextscale.console.progress import progress
from nextscale.console.report import check_report, write_report
from nextscale.data.fashion_mnist import IMAGES, LABELS, PARTS, find, read_idx
from nextscale.generation.likelihood import class_log_probabilities
from nextscale.machine.heap import keep_freed_memory
from nextscale.pictures.pixels import to_tensor

MODEL = "fashion-mnist"
RESULT = "docs/results/likelihood.json"
BATCH = 250


def add_arguments(parser: Parser) -> None:
    """Adds the options of `likelihood`."""
    parser.add_argument("--json", type=str, default=RESULT, help="file of the report")


def run(options: Namespace) -> None:
    """Classifies all test images, writes the report and prints it."""
    check_report(options.json)
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
    write_report(result, options.json)
    print(json.dumps(result, indent=2))
