"""Makes a folder of 200 colour images in three classes, to try training on a folder with.

    python recipes/example_folder.py my_images

Cuts random squares out of three photographs that scikit-image ships (a cat, a cup, galaxies).
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

PHOTOGRAPHS = {"cat": data.chelsea, "cup": data.coffee, "galaxies": data.hubble_deep_field}
COUNT, SIDE, SMALLEST = 200, 96, 120  # images, their pixels, pixels of the smallest cut
SEED = 0


def main(folder: Path) -> None:
    """Writes folder/train/CLASS/*.png, the classes in turn."""
    generator = np.random.default_rng(SEED)
    names = list(PHOTOGRAPHS)
    photographs = {name: Image.fromarray(load()) for name, load in PHOTOGRAPHS.items()}
    for i in range(COUNT):
        name = names[i % len(names)]
        photograph = photographs[name]
        side = int(generator.integers(SMALLEST, min(photograph.size) + 1))
        left = int(generator.integers(0, photograph.width - side + 1))
        top = int(generator.integers(0, photograph.height - side + 1))
        place = folder / "train" / name
        place.mkdir(parents=True, exist_ok=True)
        cut = photograph.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
        cut.save(place / f"{i:03d}.png")
    print(f"{COUNT} images of {', '.join(names)} are in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
