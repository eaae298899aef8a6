"""Runs on the disk whose losses follow a known law."""

import json
from pathlib import Path

import numpy as np
import pytest

ALPHA, LOG_BETA = -0.1, 2.0
STEPS, BATCH, SCALES = 40, 8, 3


def cost(size: float) -> float:
    """Arithmetic of training on an image: blocks, attention, maps to and from tokens."""
    return 6 * size + 400 * size ** (2 / 3) + 9e4 * size ** (1 / 3)


def write_run(folder: Path, depth: int, noise: float = 0.0, **changes) -> Path:
    """A run of `nextscale train var` of depth d and width 16 d, as its files tell it."""
    width = 16 * depth
    size = 18 * depth * width**2
    final = np.exp(ALPHA * (LOG_BETA + np.log(size)) + noise)
    config = {
        "command": "train var",
        "batch_size": BATCH,
        "data": {"share": changes.get("share", 1.0)},
        "model": {
            "depth": depth,
            "width": width,
            "mlp_ratio": 4.0,
            "adaln": True,
            "shared_adaln": False,
        },
    }
    steps, scales = changes.get("steps", STEPS), changes.get("scales", SCALES)
    entries = [{"event": "start", "steps": steps, "training_flops_per_image": cost(size)}]
    for step in (steps // 4, steps // 2, steps):
        loss = final * (steps / step) ** 0.05
        entries.append(
            {
                "event": "validation",
                "step": step,
                "images": 50,
                "loss": loss,
                "accuracy": 1 - loss / 10,
                "unigram_entropy": changes.get("entropy", 5.0),
                "scale_loss": [loss * (1 + k / 10) for k in range(scales)],
                "scale_accuracy": [1 - loss * (1 + k / 10) / 10 for k in range(scales)],
            }
        )
    entries = entries[: changes.get("lines", len(entries))] + changes.get("more", [])
    (folder / "final").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    made = {"tokenizer_hash": changes.get("tokenizer", "a" * 64)}
    (folder / "final/config.json").write_text(json.dumps(made))
    return folder


@pytest.fixture
def ladder(tmp_path) -> Path:
    """Eight models, two shares, two sweeps."""
    for depth in range(1, 9):
        write_run(tmp_path / f"d{depth}", depth)
    for share in (0.1, 0.3):
        write_run(tmp_path / f"share-{share}", 4, noise=0.1, share=share)
    for factor in (1, 2):
        write_run(tmp_path / f"sweep-d2-x{factor}", 2, noise=0.1 * factor, steps=STEPS // 4)
    return tmp_path
