"""What to train a folder of images with: presets, batch, epochs and rates to begin with.

The rates are those of the recipes that were measured; how long to train follows from the number of
images. A first run tells more than any rule.
"""

from dataclasses import dataclass

from nextscale.config.model import TokenizerConfig, TransformerConfig
from nextscale.config.presets import TOKENIZER_TRAINING, TOKENIZERS, TRANSFORMERS

LARGE = 100_000  # images from which presets beyond SMALL pixels are worth their time
SMALL = 128
DEPTHS = ((3_000, 4), (20_000, 6), (100_000, 8), (500_000, 12))  # images below which a depth serves
DEEPEST = 16
BATCH, LEAST_BATCH = 64, 8
STEPS_IN_EPOCH = 16  # a small folder takes smaller batches rather than fewer steps
TOKENIZER_STEPS, TRANSFORMER_STEPS = (2_000, 10_000), (3_000, 20_000)  # least and most
VALIDATIONS = 20  # in a training


@dataclass(frozen=True)
class Advice:
    """A configuration of both trainings.

    Attributes:
        tokenizer, transformer: names of presets.
        channels: of the images; the tokenizer's preset may have others.
        batch: images a step.
        tokenizer_epochs, transformer_epochs: passes over the images.
    """

    tokenizer: str
    transformer: str
    channels: int
    batch: int
    tokenizer_epochs: int
    transformer_epochs: int

    def tokenizer_words(self) -> list[str]:
        """Options of `train tokenizer`, without data and directory."""
        own = TOKENIZERS[self.tokenizer].image_channels
        channels = ["--tokenizer.image-channels", str(self.channels)]
        rates = "--learning-rate 1e-3 --loss.revive-every 50 --loss.revive-until 0.5"
        return [
            *("--preset", self.tokenizer),
            *(channels if own != self.channels else []),
            *self.shared(self.tokenizer_epochs),
            *([] if self.tokenizer in TOKENIZER_TRAINING else rates.split()),
        ]

    def transformer_words(self) -> list[str]:
        """Options of `train var`, without tokenizer, data and directory."""
        return [
            *("--preset", self.transformer),
            *self.shared(self.transformer_epochs),
            *("--optimizer", "muon", "--learning-rate", "6e-3", "--ema", "0.999"),
        ]

    def shared(self, epochs: int) -> list[str]:
        """Options of both."""
        every = max(1, epochs // VALIDATIONS)
        words = ["--batch-size", self.batch, "--epochs", epochs, "--validate-every", every]
        return [*map(str, words), "--schedule", "cosine", "--precision", "auto"]


def advise(images: int, short_side: int, grey: bool) -> Advice:
    """What to begin with.

    Args:
        images: for training.
        short_side: of them in the median, in pixels.
        grey: whether none has a colour.
    """
    channels = 1 if grey else 3
    batch = BATCH
    while batch > LEAST_BATCH and images < batch * STEPS_IN_EPOCH:
        batch //= 2
    batch = min(batch, images)
    steps = max(1, images // batch)
    return Advice(
        tokenizer_for(images, short_side, channels),
        transformer_for(images),
        channels,
        batch,
        epochs_of(images // 2, TOKENIZER_STEPS, steps),
        epochs_of(images, TRANSFORMER_STEPS, steps),
    )


def tokenizer_for(images: int, short_side: int, channels: int) -> str:
    """The preset of the largest images that need no enlarging, with these channels if there is one.

    Where all presets are larger than the images, it is the smallest.
    """
    limit = short_side if images >= LARGE else min(short_side, SMALL)

    def order(item: tuple[str, TokenizerConfig]) -> tuple[bool, int, bool]:
        side = max(item[1].image_size)
        fits = side <= limit
        return fits, side if fits else -side, item[1].image_channels == channels

    return max(TOKENIZERS.items(), key=order)[0]


def transformer_for(images: int) -> str:
    """The preset of the depth that serves so many images, the plainest of that depth."""
    depth = next((depth for most, depth in DEPTHS if images < most), DEEPEST)

    def order(item: tuple[str, TransformerConfig]) -> tuple[int, bool]:
        return abs(item[1].depth - depth), item[0] != f"d{depth}"

    return min(TRANSFORMERS.items(), key=order)[0]


def epochs_of(wanted: int, bounds: tuple[int, int], steps: int) -> int:
    """Epochs of so many steps that make the wanted number of them, within bounds."""
    return max(1, round(min(max(wanted, bounds[0]), bounds[1]) / steps))
