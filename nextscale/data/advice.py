"""Recommends presets, batches, epochs and rates for training on a folder of images.

Rates and batches are those of the measured recipes. The number of images determines the length of a
training; the machine's FLOP/s determine the size of the transformer and the number of steps.
"""

from dataclasses import dataclass

from nextscale.config.architecture import TokenizerConfig
from nextscale.config.model import ModelConfig
from nextscale.config.presets import TOKENIZER_TRAINING, TOKENIZERS, TRANSFORMERS

LARGE = 100_000  # number of images from which presets above SMALL pixels are recommended
SMALL = 128
DEPTHS = (
    (3_000, 4),
    (20_000, 6),
    (100_000, 8),
    (500_000, 12),
)  # number of images below which a depth suffices
DEEPEST = 16
BATCH, LEAST_BATCH = 64, 16  # of a transformer
STEPS_IN_EPOCH = 16  # at least; batches of a small folder become smaller
TOKENIZER_STEPS, TRANSFORMER_STEPS = (2_000, 10_000), (3_000, 20_000)  # least and most
VALIDATIONS = 20  # in a training


@dataclass(frozen=True)
class Advice:
    """Options of both trainings.

    Attributes:
        tokenizer, transformer: names of presets.
        channels: of the images; the tokenizer's preset may have others.
        tokenizer_batch, transformer_batch: images a step.
        tokenizer_epochs, transformer_epochs: passes over the images.
        muon: whether the transformer's optimizer is Muon; AdamW otherwise.
    """

    tokenizer: str
    transformer: str
    channels: int
    tokenizer_batch: int
    transformer_batch: int
    tokenizer_epochs: int
    transformer_epochs: int
    muon: bool

    def tokenizer_words(self) -> list[str]:
        """Options of `train tokenizer`, without data and directory."""
        own = TOKENIZERS[self.tokenizer].image_channels
        channels = ["--tokenizer.image-channels", str(self.channels)]
        rates = "--schedule cosine --learning-rate 1e-3 --loss.revive-every 50"
        return [
            *("--preset", self.tokenizer),
            *(channels if own != self.channels else []),
            *duration(self.tokenizer_batch, self.tokenizer_epochs),
            *([] if self.tokenizer in TOKENIZER_TRAINING else rates.split()),
        ]

    def transformer_words(self) -> list[str]:
        """Options of `train var`, without tokenizer, data and directory."""
        muon = "--optimizer muon --learning-rate 6e-3 --ema 0.999"
        adamw = "--learning-rate 1.5e-3 --ema 0.99"
        return [
            *("--preset", self.transformer),
            *duration(self.transformer_batch, self.transformer_epochs),
            *("--schedule", "cosine", "--precision", "auto"),
            *(muon if self.muon else adamw).split(),
        ]


def advise(images: int, short_side: int, grey: bool, flops: float, muon: bool) -> Advice:
    """Returns recommended options.

    Args:
        images: number of training images.
        short_side: median of their shorter sides, in pixels.
        grey: whether all images are grey.
        flops: FLOPs that the transformer's training may take.
        muon: whether the device computes natively in bfloat16, as Muon does.
    """
    channels = 1 if grey else 3
    tokenizer = tokenizer_for(images, short_side, channels)
    own = TOKENIZER_TRAINING.get(tokenizer, {}).get("batch_size", BATCH)
    transformer, affordable = transformer_for(images, TOKENIZERS[tokenizer], flops)
    batch = BATCH
    while batch > LEAST_BATCH and affordable < batch * TRANSFORMER_STEPS[0]:
        batch //= 2
    own, batch = batch_of(images, own), batch_of(images, batch)
    least, most = TRANSFORMER_STEPS
    most = min(most, max(least, int(affordable // batch)))
    return Advice(
        tokenizer,
        transformer,
        channels,
        own,
        batch,
        epochs_of(images // 2, TOKENIZER_STEPS, images // own),
        epochs_of(images, (least, most), images // batch),
        muon,
    )


def tokenizer_for(images: int, short_side: int, channels: int) -> str:
    """The preset of the largest size that enlarges no image, with these channels if there is one.

    If all presets are larger than the images, it is the smallest one.
    """
    limit = short_side if images >= LARGE else min(short_side, SMALL)

    def order(item: tuple[str, TokenizerConfig]) -> tuple[bool, int, bool]:
        side = max(item[1].image_size)
        fits = side <= limit
        return fits, side if fits else -side, item[1].image_channels == channels

    return max(TOKENIZERS.items(), key=order)[0]


def transformer_for(images: int, tokenizer: TokenizerConfig, flops: float) -> tuple[str, float]:
    """Returns a preset and the number of images that its training may see for these FLOPs.

    It is the deepest preset that the number of images justifies and that can train for the minimum
    number of steps, or the shallowest if none can. Of the presets of a depth, it is the plain one.
    """
    from nextscale.cost.flops import transformer_flops

    deepest = next((depth for most, depth in DEPTHS if images < most), DEEPEST)
    plain = {p.depth: name for name, p in TRANSFORMERS.items() if name == f"d{p.depth}"}
    name, affordable = "", 0.0
    for depth in sorted((d for d in plain if d <= deepest), reverse=True):
        name = plain[depth]
        affordable = flops / (3 * transformer_flops(ModelConfig(tokenizer, TRANSFORMERS[name])))
        if affordable >= LEAST_BATCH * TRANSFORMER_STEPS[0]:
            break
    return name, affordable


def batch_of(images: int, batch: int) -> int:
    """A batch size of at most `batch`, smaller for few images."""
    while batch > LEAST_BATCH // 2 and images < batch * STEPS_IN_EPOCH:
        batch //= 2
    return min(batch, images)


def epochs_of(wanted: int, bounds: tuple[int, int], steps: int) -> int:
    """Number of epochs of `steps` steps that reach the wanted steps, limited by the bounds."""
    return max(1, min(max(wanted, bounds[0]), bounds[1]) // max(1, steps))


def duration(batch: int, epochs: int) -> list[str]:
    """Options of batch size and duration."""
    every = max(1, epochs // VALIDATIONS)
    words = ("--batch-size", batch, "--epochs", epochs, "--validate-every", every)
    return [str(word) for word in words]
