"""What is compared: networks that are trained, and rows of the table that they give.

The paper's ablation (VAR Sec. 5.4, Table 3) and its diffusion peers in miniature, on one trunk.
"""

from dataclasses import dataclass
from pathlib import Path

RECIPES = Path(__file__).parents[2] / "recipes/fashion_mnist/compare"

RATES = (1e-3, 3e-3, 1e-2)  # learning rates tried for every kind
FINER_RATES = (1e-5, 3e-5, 1e-4, 3e-4, *RATES, 3e-2, 1e-1)  # and beside the best, if it is an end
TOP_K = (0, 200, 100, 50, 25, 10, 5)
CFG = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
PYRAMID, SINGLE = "pyramid", "single"  # tokenizers; `tokenizer_NAME.yaml` trains each


@dataclass(frozen=True)
class Training:
    """A network that is trained.

    Attributes:
        command: that trains it: `var`, `ar` or `diffusion`.
        tokenizer: whose tokens or features it learns, `PYRAMID` or `SINGLE`.
        rate_of: the training whose tuned learning rate it takes; its own unless given.
        seeds: of training.
    """

    command: str
    tokenizer: str
    rate_of: str = ""
    seeds: tuple[int, ...] = (0,)


# By the name of its recipe; in the order in which they run.
TRAININGS = {
    "ar": Training("ar", SINGLE, seeds=(0, 1)),
    "var": Training("var", PYRAMID, seeds=(0, 1)),
    "var_adaln": Training("var", PYRAMID),
    "var_normalized": Training("var", PYRAMID),
    "ar_full": Training("ar", SINGLE),
    "dit": Training("diffusion", PYRAMID),
    "dit_small": Training("diffusion", PYRAMID, rate_of="dit"),
    "var_large": Training("var", PYRAMID, rate_of="var_normalized"),
}
EQUAL_COST = "var_adaln"  # whose training arithmetic the diffusion peers are given


@dataclass(frozen=True)
class Row:
    """A row of the table: a network and how images are drawn with it.

    Attributes:
        title: as the table tells it.
        training: its name.
        tuned: the options that are tuned, of `top_k` and `cfg`, in this order; others are off.
        options_of: the row of the same network whose tuned options it takes; its own unless given.
        keep: share of the drawn images that the classifier keeps.
        sampler, steps: of diffusion.
        seeds: of drawing.
        efficiency: whether it is judged on the way through its training too.
    """

    title: str
    training: str
    tuned: tuple[str, ...] = ()
    options_of: str = ""
    keep: float = 1.0
    sampler: str = ""
    steps: int = 0
    seeds: tuple[int, ...] = (0, 1, 2)
    efficiency: bool = False


ROWS = {
    "ar": Row("next-token", "ar", efficiency=True),
    "var": Row("next-scale", "var", efficiency=True),
    "adaln": Row("+ AdaLN", "var_adaln"),
    "top_k": Row("+ top-k", "var_adaln", ("top_k",)),
    "guidance": Row("+ guidance", "var_adaln", ("top_k", "cfg")),
    "normalized": Row(
        "+ normalised attention", "var_normalized", ("top_k", "cfg"), efficiency=True
    ),
    "large": Row("larger model", "var_large", ("top_k", "cfg")),
    "rejection": Row("+ rejection sampling", "var_large", options_of="large", keep=0.5),
    "ar_full": Row(
        "next-token with AdaLN, normalised attention, top-k and guidance",
        "ar_full",
        ("top_k", "cfg"),
        efficiency=True,
    ),
    "dit_ddim": Row("DiT, DDIM", "dit", ("cfg",), sampler="ddim", steps=50, efficiency=True),
    "dit_ddpm": Row(
        "DiT, DDPM", "dit", options_of="dit_ddim", sampler="ddpm", steps=250, seeds=(0,)
    ),
    "dit_small_ddim": Row("smaller DiT, DDIM", "dit_small", ("cfg",), sampler="ddim", steps=50),
    "dit_small_ddpm": Row(
        "smaller DiT, DDPM",
        "dit_small",
        options_of="dit_small_ddim",
        sampler="ddpm",
        steps=250,
        seeds=(0,),
    ),
}
SHARES = (0.1, 0.3)  # of a training, at which rows of `efficiency` are judged beside the end
