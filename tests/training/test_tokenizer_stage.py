"""The tokenizer's losses by hand, the discriminator's warm-up, code use, and revived codes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.config.architecture import TokenizerConfig
from nextscale.config.run import TokenizerLossConfig, TokenizerTraining
from nextscale.data.images import Batch
from nextscale.data.order import Part
from nextscale.tokenizer.tokenizer import Tokenizer
from nextscale.training.discriminator import (
    EPSILON,
    discriminator_loss,
    generator_loss,
)
from nextscale.training.processes import Processes
from nextscale.training.tokenizer_stage import TokenizerObjective, TokenizerStage
from tests.conftest import TINY_TOKENIZER

STEPS, JUDGED, FELT = 20, 6, 10
ALONE = Processes(torch.device("cpu"))
ADVERSARIAL = TokenizerLossConfig(
    l1=0.5,
    l2=2.0,
    adversarial=0.7,
    adversarial_start=0.5,
    adversarial_warmup=0.2,
    discriminator_width=8,
    discriminator_layers=1,
)


def training(loss: TokenizerLossConfig, **changes: Any) -> TokenizerTraining:
    tokenizer = TokenizerConfig(**{**TINY_TOKENIZER, **changes})
    return TokenizerTraining(tokenizer=tokenizer, loss=loss)


@pytest.fixture
def make_objective(make_tokenizer) -> Callable[[TokenizerLossConfig], TokenizerObjective]:
    """Objectives that start from the same weights."""

    def make(loss: TokenizerLossConfig) -> TokenizerObjective:
        torch.manual_seed(0)
        tokenizer = make_tokenizer()
        return TokenizerObjective(training(loss), STEPS, tokenizer, lambda value: value).train()

    return make


@pytest.fixture
def shown(images: Tensor) -> Tensor:
    return images[:4]


def gradients(module: torch.nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert torch.equal(ours[name], theirs[name]), name


def test_loss_by_hand(make_objective, shown) -> None:
    objective = make_objective(TokenizerLossConfig(l1=0.5, l2=2.0))
    tokenizer: Tokenizer = objective.tokenizer
    loss, terms, quantized = objective(shown, 0)

    features = tokenizer.features(shown)
    maps = tokenizer.quantizer.accumulated_maps(tokenizer.encode(shown))
    error = torch.stack([F.mse_loss(accumulated, features) for accumulated in maps]).mean()
    made = tokenizer.decoder(tokenizer.from_latent(maps[-1]))
    l1, l2 = (made - shown).abs().mean(), (made - shown).square().mean()
    beta = tokenizer.config.commitment
    torch.testing.assert_close(loss, 0.5 * l1 + 2 * l2 + (1 + beta) * error)
    torch.testing.assert_close([terms[k] for k in ("l1", "l2", "codebook")], [l1, l2, error])
    assert not any(term.requires_grad for term in terms.values())
    assert len(quantized.tokens) == len(tokenizer.config.scales)


def test_each_side_of_the_quantizer_feels_its_own_term(make_objective, shown) -> None:
    """Codes feel the codebook term alone; the encoder feels the image as if nothing was rounded."""
    objective = make_objective(TokenizerLossConfig())
    tokenizer: Tokenizer = objective.tokenizer
    objective(shown, 0)[0].backward()
    found = gradients(tokenizer)

    features = tokenizer.features(shown)
    tokens = tokenizer.encode(shown)
    maps = tokenizer.quantizer.accumulated_maps(tokens)
    codebook = torch.stack([F.mse_loss(m, features.detach()) for m in maps]).mean()
    commitment = torch.stack([F.mse_loss(m.detach(), features) for m in maps]).mean()
    latent = maps[-1].detach().requires_grad_(True)
    image = F.mse_loss(tokenizer.decoder(tokenizer.from_latent(latent)), shown)
    (through,) = torch.autograd.grad(image, latent)
    beta = tokenizer.config.commitment

    (codes,) = torch.autograd.grad(codebook, tokenizer.quantizer.codebook)
    torch.testing.assert_close(found["quantizer.codebook"], codes)
    encoder = tokenizer.encoder.conv_in.weight
    surrogate = (features * through).sum() + beta * commitment
    (expected,) = torch.autograd.grad(surrogate, encoder)
    torch.testing.assert_close(found["encoder.conv_in.weight"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("step", [0, JUDGED - 1, JUDGED, FELT - 1])
def test_the_generator_feels_nothing_before_its_time(step: int, make_objective, shown) -> None:
    with_judge = make_objective(ADVERSARIAL)
    without = make_objective(replace(ADVERSARIAL, adversarial=0.0))
    assert (with_judge.judged_from, with_judge.felt_from) == (JUDGED, FELT)
    for objective in (with_judge, without):
        objective(shown, step)[0].backward()
    assert_equal(gradients(with_judge.tokenizer), gradients(without.tokenizer))
    judge = gradients(with_judge.discriminator)
    assert len(judge) == len(list(with_judge.discriminator.parameters()))
    assert any(g.abs().max() > 0 for g in judge.values()) == (step >= JUDGED)


def test_the_judge_does_not_move_before_its_time(make_objective, shown) -> None:
    objective = make_objective(ADVERSARIAL)
    optimizer = torch.optim.AdamW(objective.discriminator.parameters(), lr=0.1, weight_decay=0.0)
    before = {n: p.detach().clone() for n, p in objective.discriminator.named_parameters()}
    for step in range(JUDGED):
        objective(shown, step)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert_equal(dict(objective.discriminator.named_parameters()), before)


def test_one_backward_serves_both(make_objective, shown) -> None:
    objective = make_objective(ADVERSARIAL)
    loss, terms, _ = objective(shown, FELT)
    loss.backward()
    found, judge_found = gradients(objective.tokenizer), gradients(objective.discriminator)
    objective.zero_grad()

    made, quantized = objective.tokenizer(shown)
    image = 0.5 * F.l1_loss(made, shown) + 2 * F.mse_loss(made, shown)
    felt = generator_loss(objective.discriminator(made))
    last = objective.tokenizer.decoder.last_weight
    (wanted,) = torch.autograd.grad(image, last, retain_graph=True)
    (pushed,) = torch.autograd.grad(felt, last, retain_graph=True)
    weight = wanted.norm() / (pushed.norm() + EPSILON)
    torch.testing.assert_close(terms["adaptive_weight"], weight)
    torch.testing.assert_close(terms["adversarial"], felt.detach())
    beta = objective.tokenizer.config.commitment
    codes = quantized.codebook_loss + beta * quantized.commitment_loss
    (image + codes + 0.7 * weight * felt).backward()
    expected = gradients(objective.tokenizer)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)

    without = make_objective(replace(ADVERSARIAL, adversarial=0.0))
    without(shown, FELT)[0].backward()
    assert not torch.equal(
        found["decoder.conv_out.weight"], gradients(without.tokenizer)["decoder.conv_out.weight"]
    )

    objective.zero_grad()
    real, fake = objective.discriminator(shown), objective.discriminator(made.detach())
    alone = discriminator_loss(real, fake)
    torch.testing.assert_close(terms["discriminator"], alone.detach())
    alone.backward()
    assert_equal(judge_found, gradients(objective.discriminator))


def batch_of(images: Tensor) -> Batch:
    count = len(images)
    return Batch(part=Part(0, np.arange(count)), images=images, labels=torch.zeros(count))


def stage_with(
    revive_every: int, until: float = 1.0, codes: int = 16
) -> tuple[TokenizerStage, torch.optim.AdamW]:
    loss = TokenizerLossConfig(revive_every=revive_every, revive_until=until)
    stage = TokenizerStage(training(loss, codes=codes), None)
    objective = stage.build(STEPS, ALONE)
    return stage, torch.optim.AdamW(stage.parameter_groups(objective), lr=1e-3)


def stepped(stage: TokenizerStage, optimizer: torch.optim.AdamW, images: Tensor, step: int) -> None:
    stage.step(stage.objective, batch_of(images), step)[0].backward()
    optimizer.step()
    optimizer.zero_grad()


def test_revival_moves_the_dead_codes_alone(images: Tensor) -> None:
    results = []
    for _ in range(2):
        stage, optimizer = stage_with(revive_every=2)
        codebook = stage.objective.tokenizer.quantizer.codebook
        used = torch.zeros(16, dtype=torch.bool)
        for step in (0, 1):
            tokens = stage.objective.tokenizer.encode(images)
            used[torch.cat([t.flatten() for t in tokens])] = True
            stepped(stage, optimizer, images, step)
            if step == 0:
                stage.after_step(0, optimizer, ALONE)
                assert stage.revived == 0
        before = codebook.detach().clone()
        moments = {k: v.clone() for k, v in optimizer.state[codebook].items()}
        residuals = stage.vectors.transpose(1, 2).flatten(0, 1)  # (B L, C)
        stage.after_step(1, optimizer, ALONE)

        dead = ~used
        assert 0 < dead.sum() < 16
        assert torch.equal(codebook[used], before[used])
        for code in codebook[dead]:
            assert (residuals == code).all(1).any()
        for name in ("exp_avg", "exp_avg_sq"):
            assert not optimizer.state[codebook][name][dead].any()
            assert torch.equal(optimizer.state[codebook][name][used], moments[name][used])
        assert torch.equal(optimizer.state[codebook]["step"], moments["step"])
        assert stage.figures(ALONE)["revived"] == dead.sum()
        assert not stage.since_revival.any()
        results.append(codebook.detach().clone())
    assert torch.equal(*results)


def test_no_code_is_moved_after_the_last_time(images: Tensor) -> None:
    stage, optimizer = stage_with(revive_every=1, until=0.1, codes=256)
    revived = []
    for step in range(4):
        stepped(stage, optimizer, images, step)
        stage.after_step(step, optimizer, ALONE)
        revived.append(stage.figures(ALONE)["revived"])
    assert min(revived[:2]) > 0
    assert revived[2:] == [0, 0]


def test_figures_start_anew_each_time(images: Tensor) -> None:
    stage, optimizer = stage_with(revive_every=0)
    stepped(stage, optimizer, images, 0)
    first = stage.figures(ALONE)
    assert len(first["code_use"]) == len(first["perplexity"]) == 3
    assert min(first["code_use"]) > 0
    assert "revived" not in first
    assert stage.figures(ALONE)["code_use"] == [0, 0, 0]


def test_validation_figures_by_hand(images: Tensor) -> None:
    stage, _ = stage_with(revive_every=0)
    tokenizer = stage.tokenizer.eval()
    parts = [images[:3], images[3:]]
    batches = [batch_of(part) for part in parts]
    figures = stage.validate(stage.objective, batches, ALONE)
    with torch.no_grad():
        error = (tokenizer.decode(tokenizer.encode(images)) - images).double().numpy()
    mse = (error**2).mean((1, 2, 3))
    assert figures["images"] == len(images)
    assert figures["mse"] == pytest.approx(mse.mean(), rel=1e-5)
    assert figures["l1"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert figures["psnr"] == pytest.approx(10 * np.log10(4 / mse.mean()), rel=1e-5)
    assert figures["psnr_of_images"] == pytest.approx((10 * np.log10(4 / mse)).mean(), rel=1e-5)
