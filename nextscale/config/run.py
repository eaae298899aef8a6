"""How a training runs: data, optimizer, schedule, losses, logging. One class a command.

Names are those of the command line, with dashes there. Nothing here imports torch.
"""

from dataclasses import dataclass, field
from typing import Literal

from nextscale.config.architecture import ClassifierConfig, TokenizerConfig, TransformerConfig
from nextscale.config.limits import LARGEST_SIDE, LARGEST_STRENGTH, LARGEST_WIDTH, MOST_LEVELS
from nextscale.config.model import SamplingConfig
from nextscale.config.registry import NEXT_TOKEN
from nextscale.errors import UsageError, check_range

MOST_STEPS = 10**12
MOST_WORKERS = 1024


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are varied.

    Attributes:
        path: `fashion-mnist`, or a folder of images: `train/CLASS/*.png` and `val/CLASS/*.png`, or
            `CLASS/*.png`, or plain files (unlabelled). `training`, `validation`, `valid` and `dev`
            are known too, in any case; `test` and `testing` are left alone.
        root: where a named data set lies; empty looks in the usual places, then downloads.
        size: side of the images in pixels, for a check; what follows from the scales must equal it.
            0 checks nothing.
        augment: `released` enlarges the short side to 1.125 of the size and crops at random;
            `plain` crops the centre; `shift` moves that crop by up to a fourteenth of a side.
        flip: mirror half of the images.
        validation: share split off, by seed, where a folder has no `val/`.
        share: of the training images that is used, chosen by the seed; 1 is all.
        strict: stop at a file that cannot be read instead of skipping it.
        workers: processes that read image folders; 0 reads in the training process.
        changed: continue a run although its data is no longer the same; its log records what
            differs. Classes keep their numbers, or it is refused.
    """

    path: str = "fashion-mnist"
    root: str = ""
    size: int = 0
    augment: Literal["released", "plain", "shift"] = "plain"
    flip: bool = False
    validation: float = 0.05
    share: float = 1.0
    strict: bool = False
    workers: int = 2
    changed: bool = False

    def __post_init__(self) -> None:
        check_range(self, "validation", 0.0001, 0.9999)
        check_range(self, "share", 1e-6, 1)
        check_range(self, "workers", 0, MOST_WORKERS)
        check_range(self, "size", 0, LARGEST_SIDE)


@dataclass(frozen=True)
class TrainingConfig:
    """What all trainings share.

    Attributes:
        out: directory of the run, for its configuration, log, checkpoints and final model.
        data: images.
        seed: of the weights' start, the order of images, their augmentation, and every draw.
        epochs: passes over the data. A run whose schedule does not end (`constant`, or with
            `restart_epochs`) may be continued with more.
        max_steps: stop after this number of optimizer steps; 0 is off. The schedule still counts
            epochs, and a continuation goes on to their end unless this is given again.
        batch_size: images an optimizer step, over all processes.
        accumulation: micro-steps that a batch is divided into.
        learning_rate: at the peak of the schedule; it is not scaled by the batch size.
        betas: decay of AdamW's two running means.
        weight_decay: of AdamW at the start; runs along a cosine to `weight_decay_end`.
        weight_decay_end: of AdamW at the end.
        schedule: `linear` stays at the peak for 5 % of the steps and falls linearly, as the
            released models; `cosine` falls along a cosine; `constant` stays at the peak.
        restart_epochs: epochs after which the schedule starts again with its warm-up; 0 is never.
        warmup_epochs: epochs in which the learning rate rises; negative means a fiftieth of the
            epochs, or of `restart_epochs`.
        warmup_from: learning rate at the start of the warm-up, as a share of its peak.
        final: learning rate at the end, as a share of its peak.
        clip: largest gradient norm; 0 is off.
        precision: of the networks' arithmetic; weights stay in float32. `auto` is bf16 where the
            device has instructions for it, and else no.
        ema: decay of the exponential moving average of the weights; 0 is off.
        compile: run the networks through torch.compile, where there is a C++ compiler.
        log_every: optimizer steps between lines of the log.
        validate_every: epochs between validations, with pictures.
        validation_images: images that a validation looks at, at most; 0 is all.
        save_every: optimizer steps between checkpoints; 0 saves at validations only.
        patience: validations in a row without a new best after which the run ends; 0 is off.
        keep: checkpoints kept beside the best one.
        export: precision of the weights in the final checkpoint.
        resume: continue the run found in `out`, with its options; those given must be the same.
    """

    out: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    seed: int = 0
    epochs: float = 10
    max_steps: int = 0
    batch_size: int = 128
    accumulation: int = 1
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    weight_decay_end: float = 0.05
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    restart_epochs: float = 0
    warmup_epochs: float = -1
    warmup_from: float = 0.005
    final: float = 0.01
    clip: float = 2.0
    precision: Literal["auto", "no", "bf16", "fp16"] = "no"
    ema: float = 0.0
    compile: bool = False
    log_every: int = 20
    validate_every: float = 1
    validation_images: int = 0
    save_every: int = 0
    patience: int = 0
    keep: int = 2
    export: Literal["float32", "float16", "bfloat16"] = "float32"
    resume: bool = False

    def __post_init__(self) -> None:
        check_range(self, "batch_size", -MOST_STEPS, MOST_STEPS)
        if self.batch_size < 1 or self.accumulation < 1 or self.batch_size % self.accumulation:
            raise UsageError(
                f"batch_size {self.batch_size} cannot be divided into {self.accumulation} "
                "micro-steps"
            )
        check_range(self, "epochs validate_every", 1e-6, 1e6)
        check_range(self, "learning_rate", 1e-12, 1e30)
        check_range(self, "seed", 0, 2**63 - 1)
        check_range(self, "warmup_from final", 0, 1)
        check_range(self, "ema", 0, 0.999999)
        check_range(self, "log_every keep", 1, MOST_STEPS)
        check_range(self, "max_steps validation_images save_every patience", 0, MOST_STEPS)
        check_range(self, "clip weight_decay weight_decay_end", 0, LARGEST_STRENGTH)
        check_range(self, "warmup_epochs", -1e6, 1e6)
        check_range(self, "restart_epochs", 0, 1e6)
        if self.restart_epochs and self.schedule == "constant":
            raise UsageError(
                f"restart_epochs is {self.restart_epochs:g}, but a constant schedule has nothing "
                "to start again; give 0, or schedule linear or cosine"
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"betas are {self.betas}; give two, each from 0 to below 1")

    @property
    def endless(self) -> bool:
        """Whether the schedule goes on as before behind the last epoch."""
        return self.schedule == "constant" or self.restart_epochs > 0


@dataclass(frozen=True)
class StageTraining(TrainingConfig):
    """What both stages of a generative model share.

    Attributes:
        init: checkpoint (name, directory or hub repository) to start from.
        scales: another pyramid for an existing tokenizer (of `--init` or `--tokenizer`); empty
            keeps its own.
    """

    init: str = ""
    scales: tuple[str, ...] = ()


@dataclass(frozen=True)
class TokenizerLossConfig:
    """Weights of the tokenizer's loss; the quantizer's two terms have weight 1 and β.

    Attributes:
        l1: of the image's absolute error, a mean over pixels.
        l2: of the image's squared error, a mean over pixels.
        perceptual: λp, of the distance in a network's features; 0 is off.
        perceptual_network: `lpips`, a bundled classifier (`fashion-mnist`), a directory of
            `nextscale train classifier`, or a registered network's name.
        perceptual_optional: train without the perceptual term where its network's weights cannot be
            had; otherwise that is an error.
        adversarial: λg, of PatchGAN's judgement, times the adaptive weight; 0 is off.
        adversarial_start: share of the steps after which the generator feels the discriminator.
        adversarial_warmup: share of the steps before that in which the discriminator trains alone.
        adaptive_limit: largest adaptive weight.
        discriminator_width: channels of PatchGAN's first layer.
        discriminator_layers: its strided layers behind the first.
        revive_every: optimizer steps after which unused codes are moved onto data; 0 is off.
        revive_until: share of the steps after which no more codes are moved.
    """

    l1: float = 0.0
    l2: float = 1.0
    perceptual: float = 0.0
    perceptual_network: str = "lpips"
    perceptual_optional: bool = False
    adversarial: float = 0.0
    adversarial_start: float = 0.5
    adversarial_warmup: float = 0.1
    adaptive_limit: float = 1e4
    discriminator_width: int = 64
    discriminator_layers: int = 3
    revive_every: int = 0
    revive_until: float = 0.7

    def __post_init__(self) -> None:
        check_range(self, "l1 l2 perceptual adversarial adaptive_limit", 0, LARGEST_STRENGTH)
        check_range(self, "revive_every", 0, MOST_STEPS)
        check_range(self, "adversarial_start adversarial_warmup revive_until", 0, 1)
        check_range(self, "discriminator_width", 1, LARGEST_WIDTH)
        check_range(self, "discriminator_layers", 1, MOST_LEVELS)
        if self.l1 + self.l2 == 0:
            raise UsageError("l1 and l2 are both 0; give one of them a weight")


@dataclass(frozen=True)
class TokenizerTraining(StageTraining):
    """`nextscale train tokenizer`."""

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss.revive_every and self.tokenizer.levels:
            raise UsageError(
                f"loss.revive_every is {self.loss.revive_every}, but the code "
                f"{self.tokenizer.code} has no learned vectors to move; give 0"
            )
        layers, size = self.loss.discriminator_layers, self.tokenizer.image_size
        least = 3 * 2**layers  # each strided layer halves; the last two take a pixel each
        if self.loss.adversarial > 0 and min(size) < least:
            raise UsageError(
                f"loss.discriminator_layers is {layers}, which needs images of at least {least} "
                f"pixels a side; these are {size[0]}x{size[1]}; give fewer layers"
            )


@dataclass(frozen=True)
class VarTraining(StageTraining):
    """`nextscale train var`.

    Attributes:
        tokenizer: checkpoint that holds the tokenizer; empty takes the one of `init`.
        model: `classes` is replaced by the number that the data has.
        sampling: options of pictures during the run; the checkpoint's defaults for drawing.
        label_drop: rate at which a label is replaced by "none", for guidance.
        label_smoothing: probability of the cross-entropy's target spread over all choices.
        optimizer: `muon` orthogonalises the updates of the matrices in the blocks, as large as
            AdamW's, and leaves the rest to `adamw`.
        disturb_tokens: largest share of the tokens read by the model that is replaced by random
            codes, sampled for every image; the finer scales then mend them. Needs
            `cache_tokens` 0.
        activation_checkpointing: share of the blocks that keep no activations and compute them
            again in the backward pass: less memory, up to a third more arithmetic, the same
            gradients.
        cache_tokens: augmented copies of the data set whose tokens are kept on disk; 0 encodes
            each batch when it is read.
        cache: directory of the token caches; empty is `tokens` beside the run.
    """

    tokenizer: str = ""
    model: TransformerConfig = field(default_factory=TransformerConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    label_drop: float = 0.1
    label_smoothing: float = 0.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    disturb_tokens: float = 0.0
    activation_checkpointing: float = 0.0
    cache_tokens: int = 1
    cache: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(
            self, "label_drop label_smoothing disturb_tokens activation_checkpointing", 0, 1
        )
        check_range(self, "cache_tokens", 0, MOST_WORKERS)
        if self.disturb_tokens and (self.cache_tokens or self.model.order in NEXT_TOKEN):
            raise UsageError(
                "disturb_tokens encodes the finer scales again; give --cache-tokens 0 and a "
                "next-scale model"
            )


@dataclass(frozen=True)
class ClassifierTraining(TrainingConfig):
    """`nextscale train classifier`.

    Attributes:
        classifier: `classes`, `labels` and `data` are replaced by what the data has.
        label_smoothing: probability of the cross-entropy's target spread over all choices.
    """

    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "label_smoothing", 0, 1)
