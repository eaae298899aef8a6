"""Named architectures are those that are shipped, released or told of."""

from nextscale import checkpoint
from nextscale.config.presets import RELEASED, TOKENIZERS, TRANSFORMERS


def test_sizes_follow_the_names() -> None:
    sizes = {name: config.image_size for name, config in TOKENIZERS.items()}
    assert sizes == {
        "released-256": (256, 256),
        "released-512": (512, 512),
        "fashion-mnist": (28, 28),
        "small-64": (64, 64),
    }
    assert TRANSFORMERS["d36-512"].width == 2304
    assert TRANSFORMERS["d36-512"].shared_adaln


def test_every_released_model_has_its_preset() -> None:
    for name, model in RELEASED.items():
        assert name.removeprefix("var-") in TRANSFORMERS
        assert model.scales in {TOKENIZERS[f"released-{side}"].scales for side in (256, 512)}


def test_the_bundled_tokenizer_is_its_preset() -> None:
    config = checkpoint.read_config(checkpoint.BUNDLED / "fashion-mnist")
    assert config.tokenizer == TOKENIZERS["fashion-mnist"]
