"""Sampling on a GPU: as on a CPU, compiled as plain, and in half precision within bounds."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from nextscale.acceleration import compile_networks
from nextscale.config.model import ModelConfig, SamplingConfig
from nextscale.generation.generate import State, generate
from nextscale.pipeline import Pipeline
from tests.gpu.conftest import DEVICE

pytestmark = pytest.mark.gpu
LABELS = torch.tensor([0, 1, 2, 3])
GUIDED = SamplingConfig(cfg=2.0, top_k=8, top_p=0.9)
BOUNDS = {torch.bfloat16: 0.06, torch.float16: 0.02}  # mean error of an image, of a range of 2


KINDS = {"scales": {}, "steps": {"order": "sub-steps", "sub_steps": (1, 4, 2)}}


@pytest.fixture(params=KINDS)
def pipe(request, make_tokenizer, make_model) -> Pipeline:
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, width=32, **KINDS[request.param])
    return Pipeline(tokenizer, model, ModelConfig(tokenizer.config, model.config))


def greedy(pipe: Pipeline, sampling: SamplingConfig = GUIDED) -> list[State]:
    """States of the likeliest codes, which need no chance."""
    options = SamplingConfig(**{**vars(sampling), "top_k": 1})
    labels = LABELS.to(pipe.device)
    return list(generate(pipe.model, pipe.tokenizer, labels, options, seeds=range(4)))


def forced(pipe: Pipeline, tokens: list[Tensor]) -> Tensor:
    """Images of given tokens after the model has been run on them."""
    vectors = [pipe.tokenizer.quantizer.lookup(maps.to(pipe.device)) for maps in tokens]
    states = generate(
        pipe.model,
        pipe.tokenizer,
        LABELS.to(pipe.device),
        seeds=range(4),
        constrain=lambda k, _: vectors[k],
    )
    return list(states)[-1].image().float().cpu()


def test_the_likeliest_codes_are_those_of_a_cpu(pipe: Pipeline) -> None:
    on_cpu, on_device = greedy(pipe), greedy(deepcopy(pipe).to(DEVICE))
    for ours, theirs in zip(on_device, on_cpu, strict=True):
        assert torch.equal(ours.tokens.cpu(), theirs.tokens)
    torch.testing.assert_close(on_device[-1].image().cpu(), on_cpu[-1].image(), rtol=0, atol=1e-3)


def test_a_seed_gives_the_same_image_alone_and_in_a_batch(pipe: Pipeline) -> None:
    pipe = deepcopy(pipe).to(DEVICE)
    labels = LABELS.to(pipe.device)
    *_, together = generate(pipe.model, pipe.tokenizer, labels, GUIDED, seeds=range(4))
    *_, alone = generate(pipe.model, pipe.tokenizer, labels[2:3], GUIDED, seeds=[2])
    assert torch.equal(together.tokens[2:3], alone.tokens)


@pytest.mark.parametrize("dtype", BOUNDS)
def test_half_precision_is_within_its_bound(pipe: Pipeline, dtype: torch.dtype) -> None:
    tokens = [state.tokens for state in greedy(pipe)]
    wanted = forced(pipe, tokens)
    low = Pipeline(deepcopy(pipe.tokenizer).to(dtype), deepcopy(pipe.model).to(dtype), pipe.config)
    found = forced(low.to(DEVICE), tokens)
    assert (found - wanted).abs().mean() <= BOUNDS[dtype]


def test_compiled_steps_are_replayed_as_the_plain_ones(pipe: Pipeline) -> None:
    plain = deepcopy(pipe).to(DEVICE)
    compiled = deepcopy(plain)
    compile_networks(compiled.model, compiled.tokenizer)
    for _ in range(3):  # CUDA graphs are recorded by the second run and replayed by the third
        ours, theirs = greedy(compiled), greedy(plain)
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a.tokens, b.tokens)
    torch.testing.assert_close(ours[-1].image(), theirs[-1].image(), rtol=0, atol=1e-3)


def test_a_step_of_sampling_does_not_wait_for_the_device(pipe: Pipeline) -> None:
    if DEVICE.type != "cuda":
        pytest.skip("only CUDA reports where a program waits")
    pipe = deepcopy(pipe).to(DEVICE)
    greedy(pipe)  # constants are copied once
    labels = LABELS.to(pipe.device)
    states = generate(pipe.model, pipe.tokenizer, labels, GUIDED, seeds=range(4))
    torch.cuda.set_sync_debug_mode("error")
    try:
        list(states)
    finally:
        torch.cuda.set_sync_debug_mode("default")
