"""Named architectures are those that are shipped, released or published."""

from pathlib import Path

import pytest
import torch

from nextscale.checkpoints import checkpoint
from nextscale.cli.train import add_tokenizer_arguments
from nextscale.config.presets import RELEASED, TOKENIZER_TRAINING, TOKENIZERS, TRANSFORMERS
from nextscale.config.run import TokenizerTraining
from nextscale.console.options import from_options, parser_for
from nextscale.tokenizer.tokenizer import Tokenizer

EMOJI = Path(__file__).parents[2] / "recipes" / "emoji"


def test_sizes_follow_the_names() -> None:
    sizes = {name: config.image_size for name, config in TOKENIZERS.items()}
    assert sizes == {
        "released-256": (256, 256),
        "released-512": (512, 512),
        "fashion-mnist": (28, 28),
        "small-32": (32, 32),
        "small-64": (64, 64),
        "small-128": (128, 128),
    }
    assert TRANSFORMERS["d36-512"].width == 2304
    assert TRANSFORMERS["d36-512"].shared_adaln


@pytest.mark.parametrize("name", sorted(TOKENIZER_TRAINING))
def test_small_presets_build_and_reconstruct(name: str) -> None:
    config = TOKENIZERS[name]
    images = torch.zeros(1, 3, *config.image_size)
    output, quantized = Tokenizer(config)(images)
    assert output.shape == images.shape
    assert [tuple(tokens.shape[1:]) for tokens in quantized.tokens] == list(config.scales)


@pytest.mark.parametrize(("name", "recipe"), [("small-32", "_32"), ("small-64", "")])
def test_a_small_preset_is_its_recipe(name: str, recipe: str) -> None:
    parser = parser_for("nextscale train tokenizer", "")
    add_tokenizer_arguments(parser)
    file = EMOJI / f"tokenizer{recipe}.yaml"
    recipes = from_options(TokenizerTraining, parser.parse(["--config", str(file)]))
    preset = from_options(TokenizerTraining, parser.parse(["--preset", name]))
    assert preset.tokenizer == recipes.tokenizer
    assert preset.loss == recipes.loss
    for option in ("batch_size", "learning_rate", "schedule"):
        assert getattr(preset, option) == getattr(recipes, option)


def test_every_released_model_has_its_preset() -> None:
    for name, model in RELEASED.items():
        assert name.removeprefix("var-") in TRANSFORMERS
        assert model.scales in {TOKENIZERS[f"released-{side}"].scales for side in (256, 512)}


def test_the_bundled_tokenizer_is_its_preset() -> None:
    config = checkpoint.read_config(checkpoint.BUNDLED / "fashion-mnist")
    assert config.tokenizer == TOKENIZERS["fashion-mnist"]
