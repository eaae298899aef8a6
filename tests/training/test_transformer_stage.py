"""The transformer's loss by hand, dropped labels, and validation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nextscale
from nextscale.config.model import ModelConfig
from nextscale.config.run import VarTraining
from nextscale.data.images import Batch
from nextscale.data.order import Part, uniforms
from nextscale.errors import UsageError
from nextscale.models.model import Model
from nextscale.pipeline import Pipeline
from nextscale.scales import spans
from nextscale.tokenizer.tokenizer import Tokenizer
from nextscale.training.code_use import entropy
from nextscale.training.processes import Processes
from nextscale.training.transformer_stage import TransformerObjective, TransformerStage
from tests.training import runs

ALONE = Processes(torch.device("cpu"))


@pytest.fixture
def stage(make_tokenizer, make_model) -> TransformerStage:
    tokenizer: Tokenizer = make_tokenizer()
    pipe = Pipeline(tokenizer, None, ModelConfig(tokenizer.config))
    config = VarTraining(label_drop=0.5)
    stage = TransformerStage(config, ("a", "b", "c"), pipe, make_model(tokenizer, drop_path=0.0))
    stage.build(10, ALONE)
    return stage


def batch_of(images: Tensor, epoch: int = 0) -> Batch:
    count = len(images)
    part = Part(epoch, np.arange(count))
    return Batch(part=part, images=images, labels=torch.arange(count) % 3)


def as_tokens(batch: Batch, tokens: Tensor) -> Batch:
    return replace(batch, images=None, tokens=tokens)


def flat_tokens(stage: TransformerStage, images: Tensor) -> Tensor:
    return torch.cat([t.flatten(1) for t in stage.tokenizer.encode(images)], 1)


class Ear(nn.Module):
    """Passes on to an objective and remembers what it was asked."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, labels: Tensor, teacher_inputs: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        self.labels, self.teacher_inputs, self.tokens = labels, teacher_inputs, tokens
        return self.objective(labels, teacher_inputs, tokens)


def test_loss_by_hand(stage: TransformerStage, images: Tensor) -> None:
    model, tokens = stage.model, flat_tokens(stage, images)
    inputs = stage.tokenizer.quantizer.teacher_inputs(stage.tokenizer.encode(images))
    labels = torch.zeros(len(images), dtype=torch.long)
    logits = model(labels, inputs)  # (B, L, V)
    right = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]  # (B, L)

    objective = TransformerObjective(model, label_smoothing=0.1).train()
    smoothed = -(0.9 * right.mean() + 0.1 * logits.log_softmax(-1).mean())
    loss, losses, accuracies = objective(labels, inputs, tokens)
    torch.testing.assert_close(loss, smoothed)
    for k, (begin, end) in enumerate(spans(model.scales)):
        torch.testing.assert_close(losses[k], -right[:, begin:end].mean())
        hits = (logits.argmax(-1) == tokens)[:, begin:end].float().mean()
        assert accuracies[k] == hits
    torch.testing.assert_close(objective.eval()(labels, inputs, tokens)[0], -right.mean())


def test_images_and_their_tokens_train_alike(stage: TransformerStage, images: Tensor) -> None:
    from_images = stage.inputs(batch_of(images))
    from_tokens = stage.inputs(as_tokens(batch_of(images), flat_tokens(stage, images)))
    for ours, theirs in zip(from_images, from_tokens, strict=True):
        assert torch.equal(ours, theirs)
    assert not any(value.requires_grad for value in from_images)


def test_disturbed_tokens_are_read_and_mended(make_tokenizer, make_model, images: Tensor) -> None:
    tokenizer: Tokenizer = make_tokenizer()
    pipe = Pipeline(tokenizer, None, ModelConfig(tokenizer.config))
    config = VarTraining(disturb_tokens=0.9, cache_tokens=0, label_drop=0.0)
    stage = TransformerStage(config, ("a", "b", "c"), pipe, make_model(tokenizer))
    ear = Ear(stage.build(10, ALONE))
    torch.manual_seed(1)
    stage.step(ear, batch_of(images), 0)
    clean_inputs, clean = stage.inputs(batch_of(images))
    assert torch.equal(ear.tokens[:, 0], clean[:, 0])  # nothing comes before the first scale
    assert not torch.equal(ear.tokens, clean)
    assert not torch.allclose(ear.teacher_inputs, clean_inputs)
    torch.manual_seed(1)
    shares = (stage.disturb(torch.zeros(2000, 4, 4, dtype=torch.long)) != 0).float().mean()
    assert float(shares) == pytest.approx(0.45 * 15 / 16, abs=0.02)  # a code may replace itself
    with pytest.raises(UsageError, match="give --cache-tokens 0 and a next-scale model"):
        VarTraining(disturb_tokens=0.1)


def test_labels_are_dropped_by_seed_epoch_and_sample(
    stage: TransformerStage, images: Tensor
) -> None:
    ear = Ear(stage.objective)
    many = images[torch.arange(40) % len(images)]
    seen = []
    for epoch in (0, 1, 0):
        batch = batch_of(many, epoch)
        stage.step(ear, batch, step=0)
        dropped = ear.labels == 3
        wanted = uniforms(0, epoch, np.arange(40), 1, purpose=1)[:, 0] < 0.5
        assert dropped.tolist() == wanted.tolist()
        assert torch.equal(ear.labels[~dropped], batch.labels[~dropped])
        seen.append(dropped)
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


def test_figures_are_means_a_scale_since_the_last_time(
    stage: TransformerStage, images: Tensor
) -> None:
    stage.config = replace(stage.config, label_drop=0.0)
    batch = batch_of(images)
    _, losses, right = stage.objective(batch.labels, *stage.inputs(batch_of(images)))
    for _ in range(2):
        stage.step(stage.objective, batch, step=0)
    figures = stage.figures(ALONE)
    assert figures["scale_loss"] == pytest.approx(losses.tolist())
    assert figures["scale_accuracy"] == pytest.approx(right.tolist())
    assert stage.figures(ALONE)["scale_loss"] == [0, 0, 0]


def test_validation_weighs_images_and_tokens_alike(stage: TransformerStage, images: Tensor) -> None:
    objective = stage.objective.eval()
    whole = batch_of(images)
    parts = [
        Batch(part=Part(0, np.arange(a, b)), images=whole.images[a:b], labels=whole.labels[a:b])
        for a, b in ((0, 3), (3, 5))
    ]
    figures = stage.validate(objective, parts, ALONE)
    with torch.no_grad():
        loss, losses, right = objective(whole.labels, *stage.inputs(batch_of(images)))
    tokens = flat_tokens(stage, images)
    assert figures["images"] == len(images)
    assert figures["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert figures["scale_loss"] == pytest.approx(losses.tolist(), rel=1e-5)
    assert figures["scale_accuracy"] == pytest.approx(right.tolist(), rel=1e-5)
    unigram = entropy(tokens.flatten().bincount(minlength=16)).item()
    assert figures["unigram_entropy"] == pytest.approx(unigram)
    assert figures["loss_over_unigram"] == pytest.approx(loss.item() / unigram, rel=1e-5)


def test_tokens_of_a_single_code_have_no_relative_loss(
    stage: TransformerStage, images: Tensor
) -> None:
    one_code = torch.zeros_like(flat_tokens(stage, images))
    batches = [as_tokens(batch_of(images), one_code)]
    figures = stage.validate(stage.objective.eval(), batches, ALONE)
    assert figures["unigram_entropy"] == 0
    assert "loss_over_unigram" not in figures


def test_the_tokenizer_is_not_trained(stage: TransformerStage, images: Tensor) -> None:
    stage.step(stage.objective, batch_of(images), step=0)[0].backward()
    assert not any(p.requires_grad or p.grad is not None for p in stage.tokenizer.parameters())
    assert all(p.grad is not None for p in stage.model.parameters())
    trained = {id(p) for group in stage.parameter_groups(stage.objective) for p in group["params"]}
    assert trained == {id(p) for p in stage.model.parameters()}


def test_without_classes_every_label_means_none(make_tokenizer, make_model, images) -> None:
    tokenizer = make_tokenizer()
    model: Model = make_model(tokenizer, classes=0, drop_path=0.0)
    pipe = Pipeline(tokenizer, None, ModelConfig(tokenizer.config))
    stage = TransformerStage(VarTraining(label_drop=0.5), (), pipe, model)
    stage.build(10, ALONE)
    batch = replace(batch_of(images), labels=torch.zeros(5, dtype=torch.long))
    loss, _ = stage.step(stage.objective, batch, step=0)
    inputs, tokens = stage.inputs(batch_of(images))
    logits = model(torch.zeros(5, dtype=torch.long), inputs)
    torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), tokens.flatten()))


def test_next_token_trains_on_a_tokenizer_of_one_scale(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flat, out = tmp_path / "flat", tmp_path / "ar"
    words = ["--tokenizer.scales", 4, "--epochs", 1]
    assert runs.train("tokenizer", flat, pictures, *words) == 0
    words = ["--tokenizer", flat / "final", "--epochs", 2, "--model.order", "spiral"]
    assert runs.train("ar", out, pictures, *words) == 0
    assert runs.log(out, "validation")[-1]["loss"] < 3
    pipe = nextscale.load(out / "final")
    assert pipe.config.model.order == "spiral"
    assert pipe.sample([0, "boot"])[0].size == (8, 8)
    capfd.readouterr()
    for stage, order, told in (("var", "raster", "use `nextscale train ar`"), ("ar", "scales", "")):
        words = ["--tokenizer", flat / "final", "--model.order", order]
        assert runs.train(stage, tmp_path / "no", pictures, *words) == 2
        assert told in capfd.readouterr().err
    assert not (tmp_path / "no").exists()


def test_next_token_refuses_a_pyramid(
    trained: Path, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for preset in ((), ("--preset", "d4")):  # a preset is of any order
        words = ["--tokenizer", trained, *preset]
        assert runs.train("ar", tmp_path / "run", pictures, *words) == 2
        assert "train one with a single scale" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_other_answers_train_by_the_same_commands(pictures, tmp_path) -> None:
    """Levels instead of a codebook, a softmax a channel, scales in sub-steps."""
    flat, out = tmp_path / "levels", tmp_path / "var"
    levels = ("--tokenizer.code", "fsq", "--tokenizer.levels", 3, 3, 3, "--loss.revive-every", 0)
    assert runs.train("tokenizer", flat, pictures, *levels, "--epochs", 1) == 0
    scales = nextscale.load(flat).tokenizer.config.scales
    steps = [min(2, h * w) if k else 1 for k, (h, w) in enumerate(scales)]
    words = ("--model.order", "sub-steps", "--model.sub-steps", *steps, "--epochs", 1)
    assert runs.train("var", out, pictures, "--tokenizer", flat, *words) == 0
    pipe = nextscale.load(out)
    assert pipe.model.head.choices == (3, 3, 3)
    assert pipe.model.steps == sum(steps)
    assert len(pipe.sample([0, None])) == 2
    assert len(pipe.edit(pipe.sample([0]), (0, 0, 4, 4))) == 1
