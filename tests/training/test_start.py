"""Where trainings start: checkpoints fitted to other classes and scales, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import nextscale
from nextscale.checkpoints import checkpoint
from nextscale.config.architecture import TokenizerConfig, TransformerConfig
from nextscale.config.run import TokenizerTraining, VarTraining
from nextscale.errors import UsageError
from nextscale.models.model import Model
from nextscale.pipeline import Pipeline
from nextscale.training.start import (
    fitted,
    load_tokenizer,
    nearest_scale,
    start_tokenizer,
    start_var,
    with_scales,
)
from tests.conftest import LABELS, TINY_TOKENIZER
from tests.parity import figures
from tests.training import runs

OLD, NEW = ((1, 1), (2, 2), (4, 4)), ((1, 1), (2, 2), (3, 3), (4, 4), (6, 6))


@pytest.fixture(scope="module")
def saved(pipe: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of the tiny pipeline."""
    place = tmp_path_factory.mktemp("start") / "model"
    checkpoint.save(pipe, place)
    return str(place)


@pytest.fixture(scope="module")
def other(make_tokenizer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tokenizer of the same shapes and other weights."""
    tokenizer = make_tokenizer()
    with torch.no_grad():
        tokenizer.quantizer.codebook.add_(1)
    place = tmp_path_factory.mktemp("other") / "tokenizer"
    checkpoint.save(Pipeline(tokenizer, None, checkpoint.ModelConfig(tokenizer.config)), place)
    return str(place)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published tiny weights as `nextscale convert` stores them."""
    place = tmp_path_factory.mktemp("released") / "model"
    checkpoint.save(figures.load(figures.COPY / "tiny.safetensors").pipeline(), place)
    return place


def test_from_nothing_the_scales_option_is_the_pyramid() -> None:
    config = TokenizerTraining(tokenizer=TokenizerConfig(**TINY_TOKENIZER), scales=("1", "4"))
    config, pipe, notes = start_tokenizer(config)
    assert (pipe, notes) == (None, [])
    assert config.tokenizer.scales == ((1, 1), (4, 4))
    assert config.scales == ()


def test_a_tokenizer_goes_on_from_a_checkpoint(saved: str, pipe: Pipeline) -> None:
    config, start, notes = start_tokenizer(TokenizerTraining(init=saved))
    assert notes == []
    assert config.tokenizer == pipe.tokenizer.config
    assert start is not None
    runs.assert_identical(start.tokenizer.state_dict(), pipe.tokenizer.state_dict())


@pytest.mark.parametrize("option", ["scales", "tokenizer"])
def test_a_tokenizer_takes_other_scales_and_says_so(option: str, saved: str, pipe) -> None:
    if option == "scales":
        given = TokenizerTraining(init=saved, scales=("1", "2", "3", "4", "6"))
    else:
        given = TokenizerTraining(init=saved, tokenizer=TokenizerConfig(scales=NEW))
    config, start, (note,) = start_tokenizer(given)
    assert config.tokenizer == replace(pipe.tokenizer.config, scales=NEW)
    assert note.startswith("scales 1 2 4 become 1 2 3 4 6: ")
    assert start is not None
    assert start.tokenizer.quantizer.scales == NEW
    runs.assert_identical(start.tokenizer.state_dict(), pipe.tokenizer.state_dict())
    images = torch.zeros(1, 1, 12, 12)
    assert start.tokenizer.decode(start.tokenizer.encode(images)).shape == images.shape
    assert all(p.requires_grad for p in start.tokenizer.parameters())


def test_architecture_beside_init_must_agree(saved: str) -> None:
    same = TokenizerConfig(**TINY_TOKENIZER)
    start_tokenizer(TokenizerTraining(init=saved, tokenizer=same))
    start_tokenizer(TokenizerTraining(init=saved, tokenizer=TokenizerConfig(codes=16)))
    with pytest.raises(UsageError, match="another codes; leave these options out"):
        start_tokenizer(TokenizerTraining(init=saved, tokenizer=TokenizerConfig(codes=32)))
    with pytest.raises(UsageError, match="leave them out"):
        start_var(
            VarTraining(init=saved, model=TransformerConfig(depth=3)), TokenizerConfig(), LABELS
        )


def test_of_one_phi_a_scale_a_new_scale_copies_the_nearest(make_tokenizer) -> None:
    tokenizer = make_tokenizer(phi="each")
    assert with_scales(tokenizer, ((1, 1), (3, 3), (4, 4)))[0].quantizer.phi_of_scale == (0, 1, 2)
    changed = with_scales(tokenizer, NEW)[0]
    old, new = tokenizer.quantizer.phis, changed.quantizer.phis
    sources = [[torch.equal(a.conv.weight, b.conv.weight) for b in old].index(True) for a in new]
    assert sources == [0, 0, 1, 1, 2]
    assert len({phi.conv.weight.data_ptr() for phi in [*old, *new]}) == 8  # none is shared
    one = with_scales(changed, ((2, 2),))[0].quantizer.phis
    assert [phi.conv.bias.shape for phi in one] == [old[0].conv.bias.shape]


def test_a_transformer_goes_on_from_a_checkpoint(saved: str, pipe: Pipeline) -> None:
    tokenizer, lines = load_tokenizer(VarTraining(init=saved))
    assert lines == []
    config, model, notes = start_var(VarTraining(init=saved), tokenizer.tokenizer.config, LABELS)
    assert notes == []
    assert config.model == pipe.model.config
    runs.assert_identical(model.state_dict(), pipe.model.state_dict())


@pytest.mark.parametrize(
    ("names", "rows", "parts"),
    [
        (LABELS, [0, 1, 2], []),
        (("coat", "bag", "Ankle boot"), [2, 1, 0], ["3 kept", "0 new", "0 dropped"]),
        (
            ("bag", "coat", "hat"),
            [1, 2, 3],
            ["2 kept (bag, coat)", "(hat)", "1 dropped (Ankle boot)"],
        ),
        (
            ("a", "bag", "c", "d", "e", "f"),
            [3, 1, 3, 3, 3, 3],
            ["5 new", "(a, c, d, e, …)", "2 dropped"],
        ),
        (("bag",), [1], ["3 classes become 1", "1 kept (bag)", "0 new", "2 dropped"]),
        ((), [], ["0 kept", "3 dropped"]),
    ],
)
def test_rows_of_classes_follow_their_names(model: Model, names, rows, parts) -> None:
    changed, notes = fitted(model, OLD, LABELS, names)
    assert changed.config == replace(model.config, classes=len(names))
    assert len(notes) == bool(parts)
    for part in parts:
        assert part in notes[0]
    old = model.condition.embedding.weight
    assert torch.equal(changed.condition.embedding.weight, old[[*rows, 3]])
    kept = changed.state_dict() | {"condition.embedding.weight": None}
    runs.assert_identical(kept, model.state_dict() | {"condition.embedding.weight": None})


def test_classes_without_names_stay_by_number_if_there_are_as_many(model: Model) -> None:
    changed, (note,) = fitted(model, OLD, (), ("a", "b", "c"))
    assert "no names" in note
    assert torch.equal(changed.condition.embedding.weight, model.condition.embedding.weight)
    changed, (note,) = fitted(model, OLD, (), ("a", "b"))
    assert "3 classes without names become 2" in note
    none = model.condition.embedding.weight[3]
    assert torch.equal(changed.condition.embedding.weight, none.expand(3, -1))


def test_positions_are_interpolated_scale_by_scale(model: Model) -> None:
    changed, (note,) = fitted(model, NEW, LABELS, LABELS)
    assert note.startswith("scales 1 2 4 become 1 2 3 4 6: ")
    assert [nearest_scale(k, 5, 3) for k in range(5)] == [0, 0, 1, 1, 2]

    old = model.position_embedding.detach().split([1, 4, 16])
    new = changed.position_embedding.detach().split([1, 4, 9, 16, 36])
    for k, source, side in ((1, 0, 2), (2, 1, 3), (3, 1, 4), (4, 2, 6)):
        before = (1, 2, 4)[source]
        grid = old[source].view(before, before, -1).permute(2, 0, 1)[None]
        grid = F.interpolate(grid, (side, side), mode="bicubic")
        torch.testing.assert_close(new[k].view(side, side, -1).permute(2, 0, 1)[None], grid)
    assert torch.equal(new[0], old[0])

    levels, others = model.level_embedding.detach(), changed.level_embedding.detach()
    wanted = [levels[0], (levels[0] + levels[1]) / 2, levels[1], (levels[1] + levels[2]) / 2]
    torch.testing.assert_close(others, torch.stack([*wanted, levels[2]]))
    assert torch.equal(changed.start_position, model.start_position)
    assert torch.equal(changed.head.weight, model.head.weight)


def test_a_larger_start_is_interpolated_too(model: Model) -> None:
    changed, _ = fitted(model, ((2, 2), (4, 4)), LABELS, LABELS)
    torch.testing.assert_close(changed.start_position, model.start_position.expand(4, -1))
    torch.testing.assert_close(changed.level_embedding, model.level_embedding[[0, 2]])


def test_the_tokenizer_must_be_the_one_trained_with(saved: str, other: str) -> None:
    with pytest.raises(UsageError, match="was trained with the tokenizer"):
        load_tokenizer(VarTraining(init=saved, tokenizer=other))
    assert load_tokenizer(VarTraining(init=saved, tokenizer=saved))[1] == []


def test_a_tokenizer_is_needed() -> None:
    with pytest.raises(UsageError, match="give --tokenizer CHECKPOINT"):
        load_tokenizer(VarTraining())


def test_a_tokenizer_alone_starts_no_transformer(other: str) -> None:
    with pytest.raises(UsageError, match="holds a tokenizer alone"):
        start_var(VarTraining(init=other), TokenizerConfig(**TINY_TOKENIZER), LABELS)


def test_released_weights_are_tuned_on_other_classes_and_scales(
    released: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = runs.write_pictures(tmp_path / "data", training=2, validation=1)
    before = nextscale.load(released)
    scales = list(before.tokenizer.config.scales)
    shorter = [f"{h}x{w}" for h, w in scales[:-1]]
    run = ["--init", released, "--data.path", data, "--data.workers", 0, "--batch-size", 2]
    run += ["--max-steps", 1, "--scales", *shorter]
    words = ["train", "tokenizer", "--out", tmp_path / "tokenizer", *run]
    assert runs.main(list(map(str, words))) == 0
    assert "the tokenizer's weights stay" in capfd.readouterr().out

    words = ["train", "var", "--out", tmp_path / "var", "--cache", tmp_path / "tokens", *run]
    assert runs.main(list(map(str, words))) == 0
    told = capfd.readouterr().out
    assert f"{before.model.config.classes} classes without names become 3: every class" in told
    assert "positions are interpolated scale by scale" in told
    tuned = nextscale.load(tmp_path / "var" / "final")
    assert tuned.model.config.classes == 3
    assert tuned.config.tokenizer_hash == before.config.tokenizer_hash
    height = scales[-2][0] * before.tokenizer.config.downsampling
    assert tuned.sample(["boot"])[0].height == height
