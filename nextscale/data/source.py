"""Opens the images that a configuration names."""

from pathlib import Path

from nextscale.config.registry import SOURCES
from nextscale.config.run import DataConfig
from nextscale.data.augment import Augmentation
from nextscale.data.folder import open_folder
from nextscale.data.images import Share, Source
from nextscale.errors import UsageError, did_you_mean


def open_data(
    config: DataConfig, size: tuple[int, int], channels: int, seed: int
) -> tuple[Source, Source]:
    """Opens training and validation images; only the former are augmented.

    Args:
        size: (height, width) of the images.
        channels: 1 or 3.
        seed: of the augmentation, of the split if a folder has no `val/`, and of the share.

    Raises:
        UsageError: if there is no such data, it cannot be read, or `config.size` differs.
    """
    if config.size and (config.size, config.size) != size:
        raise UsageError(
            f"data.size is {config.size}, but the network takes images of {size[0]}x{size[1]} "
            "pixels; a tokenizer's come from its scales, the last of which is the image size over "
            "the downsampling, a classifier's from --classifier.image-size"
        )
    augmentation = Augmentation(size, channels, config.augment, config.flip, seed)
    training, validation = open_all(config, augmentation)
    return training if config.share == 1 else Share(training, config.share, seed), validation


def open_all(config: DataConfig, augmentation: Augmentation) -> tuple[Source, Source]:
    """Opens all training and validation images."""
    if config.path in SOURCES.homes:
        return SOURCES.load(config.path)(config, augmentation)
    if not config.path or not Path(config.path).is_dir():
        raise UsageError(
            f"no data at {config.path!r}{did_you_mean(config.path, SOURCES.homes) or ';'} give "
            f"{', '.join(SOURCES.homes)} or an existing folder of images"
        )
    return open_folder(Path(config.path), augmentation, config.validation, config.strict)
