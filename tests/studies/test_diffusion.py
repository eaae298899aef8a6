"""The diffusion peer: it resumes, stores, guides and denoises as it promises."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from diffusers.models.attention_processor import AttnProcessor2_0
from safetensors.torch import save_file
from torch import Tensor

from nextscale.checkpoints import checkpoint
from nextscale.config.model import ModelConfig
from nextscale.config.run import DataConfig
from nextscale.data.order import Part
from nextscale.data.source import open_data
from nextscale.errors import UsageError
from nextscale.pipeline import Pipeline
from studies.__main__ import main
from studies.diffusion.denoising import build_scheduler, sample, sampling_flops
from studies.diffusion.dit import (
    Diffusion,
    DiffusionConfig,
    build_transformer,
    load_diffusion,
    write_diffusion,
)
from studies.diffusion.latents import Latents, prepare_latents
from studies.diffusion.train import DiffusionTraining, train
from tests.conftest import randomize
from tests.training import runs

NETWORK = {"depth": 2, "heads": 2, "head_width": 8}
WORDS = runs.words_of(
    "--depth 2 --heads 2 --head-width 8 --batch-size 8 --learning-rate 1e-3 --data.workers 0"
)
LABELS = torch.tensor([0, 2, 1])


@pytest.fixture(autouse=True)
def _own_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test starts accelerate anew, and no run measures the machine's peak."""
    monkeypatch.setattr("nextscale.training.monitor.measure_peak", lambda device, **_: 1e15)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_pictures(tmp_path_factory.mktemp("pictures") / "data")


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer's checkpoint: 8x8 pixels, features of 4x4."""
    place = tmp_path_factory.mktemp("tokenizer") / "tiny"
    checkpoint.save(Pipeline(tokenizer, None, ModelConfig(tokenizer.config)), place)
    return place


@pytest.fixture(scope="module")
def make_network(tokenizer) -> Callable[..., Diffusion]:
    """Builds a tiny network that predicts something, in latents unless told otherwise."""

    def make(space: str = "latent", **changes) -> Diffusion:
        config = DiffusionConfig(
            **{"space": space, "classes": 3, "tokenizer": tokenizer.config, **NETWORK, **changes}
        )
        transformer = randomize(build_transformer(config))
        shape = (1, config.tokenizer.latent, 1, 1)
        latents = Latents(tokenizer, torch.full(shape, 0.3), torch.full(shape, 2.0))
        return Diffusion(config, transformer, latents if space == "latent" else None).eval()

    return make


@pytest.mark.parametrize("space", ["latent", "pixels"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    space: str, pictures: Path, saved: Path, tmp_path: Path
) -> None:
    words = [*WORDS, "--tokenizer", saved, "--space", space, "--data.path", pictures]
    words += ["--patch", 2 if space == "pixels" else 1]
    words += ["--epochs", 1, "--log-every", 1, "--label-drop", 0.3, "--ema", 0.9]  # 3 steps
    for name, more in (("whole", []), ("parts", ["--max-steps", 2]), ("parts", ["--resume"])):
        assert (
            main(["diffusion", "train", "--out", str(tmp_path / name), *map(str, [*words, *more])])
            == 0
        )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    runs.assert_identical(runs.last_state(parts), runs.last_state(whole))
    validated = runs.log(whole, "validation")
    assert runs.log(parts, "validation")[-1:] == validated
    assert validated[0]["loss"] == runs.last_state(whole)["best"]["value"]
    (start,) = runs.log(whole, "start")
    network = load_diffusion(whole / "final")
    forward_and_backward = 3 * sampling_flops(network)
    assert start["training_flops_per_image"] == pytest.approx(forward_and_backward, rel=0.05)
    assert network.config.labels == ("bag", "boot", "coat")
    assert sample(network, LABELS, range(3), cfg=1.0, steps=3).shape == (3, 1, 8, 8)


def test_training_by_its_function(pictures: Path, saved: Path, tmp_path: Path) -> None:
    data = DataConfig(path=str(pictures), workers=0)
    config = DiffusionTraining(
        out=str(tmp_path / "run"),
        data=data,
        tokenizer=str(saved),
        batch_size=24,
        epochs=1,
        **NETWORK,
    )
    final = train(config)
    assert {place.name for place in tmp_path.iterdir()} == {"run", "features"}
    assert {file.name for file in final.iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("space", ["latent", "pixels"])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_an_image_does_not_depend_on_its_batch(
    space: str, sampler: str, make_network, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, seeds = make_network(space), [5, 6, 7]
    together = sample(network, LABELS, seeds, 1.5, 4, sampler)
    assert together.abs().max() <= 1
    for i, seed in enumerate(seeds):
        alone = sample(network, LABELS[i : i + 1], [seed], 1.5, 4, sampler)
        torch.testing.assert_close(alone[0], together[i], atol=1e-4, rtol=0)
    monkeypatch.setattr("studies.diffusion.denoising.CPU_BATCH", 2)
    torch.testing.assert_close(
        sample(network, LABELS, seeds, 1.5, 4, sampler), together, atol=1e-4, rtol=0
    )
    assert not torch.allclose(sample(network, LABELS, [1, 2, 3], 1.5, 4, sampler), together)


def test_without_guidance_one_half_is_run(make_network) -> None:
    network, seen = make_network(), []
    network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[2].tolist()))
    sample(network, LABELS, range(3), cfg=0, steps=2)
    sample(network, LABELS, range(3), cfg=0.5, steps=1)
    assert seen == [[0, 2, 1], [0, 2, 1], [0, 2, 1, 3, 3, 3]]


def test_operations_are_those_of_the_products(make_network) -> None:
    """Words and fused attention for every token; what depends on the condition once an image."""
    network = make_network(depth=3)
    tokens, width, patch, depth = 16, 16, 4, 3
    embedding = 256 * width + width * width  # of the timestep, whose sines are 256
    block = tokens * 12 * width**2 + 2 * tokens**2 * width + embedding + 6 * width**2
    ends = 2 * tokens * patch * width + embedding + 2 * width**2
    assert sampling_flops(network) == 2 * (depth * block + ends)


@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 100), ("ddim", 5)])
def test_who_knows_the_noise_finds_the_image(
    sampler: str, steps: int, make_network, images: Tensor
) -> None:
    """Schedulers and training agree on what noise is: x = sqrt(a) image + sqrt(1 - a) noise."""
    network = make_network("pixels", timesteps=100)
    scheduler = build_scheduler(network.config, "ddpm")

    def oracle(noisy: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        image = images[:1].expand_as(noisy)
        clean = scheduler.add_noise(image, torch.zeros_like(noisy), timesteps)
        unit = scheduler.add_noise(torch.zeros_like(noisy), torch.ones_like(noisy), timesteps)
        return (noisy - clean) / unit

    network.forward = oracle
    drawn = sample(network, LABELS, range(3), steps=steps, sampler=sampler)
    torch.testing.assert_close(drawn, images[:1].expand(3, -1, -1, -1), atol=1e-4, rtol=0)


def test_features_are_normalised_and_come_back(
    tokenizer, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, validation = open_data(DataConfig(path=str(pictures), workers=0), (8, 8), 1, 0)
    pipe = Pipeline(tokenizer, None, ModelConfig(tokenizer.config))
    latents, features, unseen = prepare_latents(pipe, training, validation, tmp_path)
    assert (len(features), len(unseen)) == (24, 12)
    part = Part(0, np.arange(24))
    batch, source = features.load(part), training.load(part)
    values, images = batch.features, source.images
    std, mean = torch.std_mean(values, dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(std, torch.ones(4))
    assert torch.equal(batch.labels, source.labels)
    assert batch.skipped == 0
    torch.testing.assert_close(latents.normalize(tokenizer.features(images)), values)
    torch.testing.assert_close(latents.decode(values), tokenizer.decode(tokenizer.encode(images)))

    def refuse(*_: object) -> None:
        raise AssertionError("features are on the disk")

    monkeypatch.setattr("studies.diffusion.latents.encode", refuse)
    _, again, _ = prepare_latents(pipe, training, validation, tmp_path)
    assert torch.equal(again.features, features.features)


@pytest.mark.parametrize("space", ["latent", "pixels"])
def test_a_model_comes_back_from_its_directory(space: str, make_network, tmp_path: Path) -> None:
    network = make_network(space, labels=("bag", "boot", "coat"), data="pictures")
    write_diffusion(network, tmp_path)
    again = load_diffusion(tmp_path)
    assert again.config == network.config
    assert not again.training
    runs.assert_identical(dict(again.state_dict()), dict(network.state_dict()))
    drawn = [sample(each, LABELS, range(3), steps=2) for each in (network, again)]
    assert torch.equal(*drawn)


def test_plain_products_are_the_attention_of_diffusers(make_network) -> None:
    network = make_network()
    x, numbers = torch.randn(3, *network.config.shape), torch.tensor([0, 400, 999])
    plain = network(x, numbers, LABELS)
    for block in network.transformer.transformer_blocks:
        block.attn1.set_processor(AttnProcessor2_0())
    fused = network(x, numbers, LABELS)
    assert plain.std() > 0.01
    torch.testing.assert_close(plain, fused)


def test_a_fresh_network_predicts_no_noise(make_network) -> None:
    """adaLN-Zero; and in training mode no label is dropped by the network itself."""
    network = make_network()
    fresh = build_transformer(network.config).train()
    x, numbers = torch.randn(2, *network.config.shape), torch.tensor([3, 1])
    assert fresh(x, numbers, numbers, return_dict=False)[0].abs().max() == 0
    network.train()
    assert torch.equal(network(x, numbers, numbers), network(x, numbers, numbers))
    drops = [m.dropout_prob for m in network.modules() if hasattr(m, "dropout_prob")]
    assert drops == [0.0, 0.0]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "a run needs a directory; give --out DIRECTORY"),
        ("--out RUN", "diffusion needs a tokenizer; give --tokenizer CHECKPOINT"),
        ("--out RUN --tokenizer TINY --patch 3", "patch is 3, but latent of 4x4 are denoised"),
        ("--out RUN --tokenizer TINY --space pixels --patch 3", "pixels of 8x8 are denoised"),
        ("--space words", "--space is words; it can be latent or pixels"),
        ("--depth 0", "depth is 0; it must be at least 1"),
        ("--heads 1 --head-width 6", "the width 6 (heads x head_width) is no multiple of 4"),
        ("--timesteps 1", "timesteps is 1; it must be at least 2"),
        ("--label-drop 2", "label_drop is 2.0; it must be from 0 to 1"),
        ("--data.flip", "features are encoded once, so images cannot vary"),
        ("--model.depth 3", "--model.depth"),
    ],
)
def test_bad_options_are_one_line(
    line: str,
    told: str,
    pictures: Path,
    saved: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    places = {"RUN": str(tmp_path / "run"), "TINY": str(saved)}
    words = [places.get(word, word) for word in runs.words_of(line)]
    assert main(["diffusion", "train", "--data.path", str(pictures), *words]) == 2
    (answer,) = capfd.readouterr().err.splitlines()
    assert answer.startswith("studies: error: ")
    assert told in answer
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels": torch.tensor([0, 4])}, "label 4 is out of range; the model knows 0 to 3"),
        ({"labels": torch.tensor([], dtype=torch.int64)}, "no labels are given"),
        ({"seeds": [0]}, "1 seeds are given for 2 labels"),
        ({"cfg": -1}, "cfg is -1; it must be 0"),
        ({"steps": 1001}, "steps is 1001; it must be from 1 to 1000"),
        ({"sampler": "euler"}, "sampler is 'euler'; it can be ddpm or ddim"),
    ],
)
def test_bad_requests_are_refused(changes: dict, told: str, make_network) -> None:
    request = {"labels": torch.tensor([0, 1]), "seeds": [0, 1], **changes}
    with pytest.raises(UsageError) as error:
        sample(make_network(), **request)
    assert told in str(error.value)


@pytest.mark.parametrize("damage", ["missing", "other weights", "unknown key"])
def test_a_damaged_directory_is_told(damage: str, make_network, tmp_path: Path) -> None:
    network = make_network()
    write_diffusion(network, tmp_path)
    if damage == "missing":
        (tmp_path / "config.json").unlink()
        told = "cannot be read"
    elif damage == "other weights":
        weights = network.state_dict() | {"latents.mean": torch.zeros(2)}
        save_file(weights, tmp_path / "model.safetensors")
        told = "latents.mean"
    else:
        text = (tmp_path / "config.json").read_text()
        (tmp_path / "config.json").write_text(text.replace('"depth"', '"deep"'))
        told = "unknown configuration key deep"
    with pytest.raises(UsageError, match=told):
        load_diffusion(tmp_path)
