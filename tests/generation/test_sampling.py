import math
from dataclasses import fields

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from nextscale.config.model import SamplingConfig
from nextscale.errors import UsageError
from nextscale.generation.generate import generate, strengths_of
from nextscale.generation.sampling import draw, guide, keep_top_k, keep_top_p, soften

LABELS = torch.tensor([0, 1, 2, 3])  # 3 is "none"
rows_of_logits = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12, unique=True)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def run(model, tokenizer, labels=LABELS, **options):
    """All states, by default of the seeds 0, 1, 2 …; options are of sampling or of `generate`."""
    if "generator" not in options:
        options.setdefault("seeds", range(len(labels)))
    names = {item.name for item in fields(SamplingConfig)}.intersection(options)
    sampling = SamplingConfig(**{name: options.pop(name) for name in names})
    return list(generate(model, tokenizer, labels, sampling, **options))


def tokens_of(states):
    return torch.cat([state.tokens.flatten(1) for state in states], 1)


# Filters


@given(rows_of_logits, st.integers(0, 14))
def test_top_k_keeps_the_largest(row, top_k):
    kept = keep_top_k(torch.tensor([[row]]), top_k)[0, 0].numpy()
    least = np.sort(row)[::-1][min(top_k or len(row), len(row)) - 1]
    expected = np.where(np.array(row) >= least, row, -np.inf)
    assert kept.tolist() == expected.tolist()


@given(rows_of_logits, st.floats(0, 1))
def test_top_p_drops_the_tail_that_holds_less_than_the_rest(row, top_p):
    logits = np.array(row, np.float64)
    share = np.exp(logits) / np.exp(logits).sum()
    at_most = np.array([share[logits <= value].sum() for value in logits])  # itself and all below
    assume(np.abs(at_most - (1 - top_p)).min() > 1e-9)  # neither sum can be trusted in a tie
    keep = (at_most > 1 - top_p) | (logits == logits.max()) | (top_p == 0)
    kept = keep_top_p(torch.from_numpy(logits)[None, None], top_p)[0, 0].numpy()
    assert kept.tolist() == np.where(keep, logits, -np.inf).tolist()


def test_filters_treat_each_row_by_itself():
    logits = torch.tensor([[[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]], [[0.0, 5.0, 0.0], [0.0, 0.0, 0.1]]])
    likeliest = logits == logits.amax(-1, keepdim=True)
    assert torch.equal(keep_top_k(logits, 1).isfinite(), likeliest)
    assert torch.equal(keep_top_p(logits, 1e-12).isfinite(), likeliest)


# Guidance


def test_guide_moves_away_from_the_unconditional():
    conditional, unconditional = torch.randn(2, 3, 4, 5)
    guided = guide(conditional, unconditional, 1.5)
    torch.testing.assert_close(guided, conditional + 1.5 * (conditional - unconditional))
    assert torch.equal(guide(conditional, unconditional, 0.0), conditional)


def test_guidance_ramps(make_tokenizer, make_model):
    def strengths(scales, guidance):
        model = make_model(make_tokenizer(scales=scales))
        return strengths_of(model, SamplingConfig(cfg=2.0, guidance=guidance))

    assert strengths("1 2 3 4 5", "linear") == [0, 0.5, 1, 1.5, 2]
    assert strengths("1 2 3 4 5", "off") == [0] * 5
    assert strengths("1 2 4", "constant") == [2, 2, 2]
    assert strengths("4", "linear") == [0]


# Drawing


def test_draws_follow_the_probabilities():
    shares = torch.tensor([0.5, 0.3, 0.2, 0.0])
    drawn = draw(shares.log().expand(4, 5000, 4), [seeded(i) for i in range(4)])
    assert drawn.shape == (4, 5000)
    for codes in drawn:
        assert codes.bincount(minlength=4) / 5000 == pytest.approx(shares, abs=0.03)
        assert (codes != 3).all()


@pytest.mark.parametrize("count", [1, 3])
def test_draws_come_from_the_generators_in_order_of_images(count):
    logits = torch.randn(3, 4, 6)
    drawn = draw(logits, [seeded(i) for i in range(count)])
    parts = logits.softmax(-1).flatten(0, 1).chunk(count)
    expected = [torch.multinomial(p, 1, generator=seeded(i)) for i, p in enumerate(parts)]
    assert torch.equal(drawn.flatten(), torch.cat(expected).flatten())


def test_without_a_generator_torchs_own_is_drawn_from():
    logits = torch.randn(2, 3, 50)
    torch.manual_seed(7)
    assert torch.equal(draw(logits, None), draw(logits, [seeded(7)]))


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_smooth_codes_are_a_gumbel_softmax_average(ratio):
    logits = torch.randn(2, 3, 6).masked_fill(torch.arange(6) == 4, -torch.inf)
    shares = soften(logits, ratio, [seeded(1)])
    gumbel = -torch.empty(6, 6).exponential_(generator=seeded(1)).log().view(2, 3, 6)
    temperature = 0.27 * (1 - 0.95 * ratio)
    expected = F.softmax((logits * (1 + ratio) + gumbel) / temperature, -1)
    torch.testing.assert_close(shares, expected)
    assert (shares[..., 4] == 0).all()


# The loop


@pytest.mark.parametrize("guidance", ["linear", "constant", "off"])
def test_greedy_tokens_are_the_likeliest_of_the_full_pass(tokenizer, model, guidance):
    states = run(model, tokenizer, cfg=2.0, guidance=guidance, top_k=1)
    with torch.inference_mode():
        inputs = tokenizer.quantizer.teacher_inputs([state.tokens for state in states])
        labelled = model(LABELS, inputs)
        none = model(model.condition.drop(LABELS), inputs)
    strength = {"linear": [0, 1, 2], "constant": [2, 2, 2], "off": [0, 0, 0]}[guidance]
    t = torch.tensor(strength).repeat_interleave(torch.tensor([1, 4, 16])).view(1, 21, 1)
    assert torch.equal(tokens_of(states), (labelled + t * (labelled - none)).argmax(-1))


def test_low_temperature_is_greedy(tokenizer, model):
    cold = run(model, tokenizer, temperature=1e-5)
    assert torch.equal(tokens_of(cold), tokens_of(run(model, tokenizer, top_k=1)))
    assert not torch.equal(tokens_of(cold), tokens_of(run(model, tokenizer)))


@pytest.mark.parametrize("options", [{}, {"cfg": 2.0, "top_k": 8, "top_p": 0.9, "temperature": 2}])
def test_a_state_tells_the_image_so_far(tokenizer, model, options):
    states = run(model, tokenizer, **options)
    assert [state.scale for state in states] == [(1, 1), (2, 2), (4, 4)]
    tokens = [state.tokens for state in states]
    with torch.inference_mode():
        maps = tokenizer.quantizer.accumulated_maps(tokens)
        for k, state in enumerate(states):
            assert state.tokens.shape == (4, *state.scale)
            assert torch.equal(state.accumulated, maps[k])
            assert torch.equal(state.image(), tokenizer.decode(tokens[: k + 1]))


@pytest.mark.parametrize("smooth", [False, True])
def test_states_are_never_changed_afterwards(tokenizer, model, smooth):
    kept = [
        (state, state.tokens.clone(), state.accumulated.clone(), state.image())
        for state in generate(
            model, tokenizer, LABELS, sampling=SamplingConfig(cfg=2.0, smooth=smooth)
        )
    ]
    for state, tokens, accumulated, image in kept:
        assert torch.equal(state.tokens, tokens)
        assert torch.equal(state.accumulated, accumulated)
        assert torch.equal(state.image(), image)


@pytest.mark.parametrize(
    "options",
    [{}, {"cfg": 3.0, "top_k": 10, "top_p": 0.9}, {"cfg": 1.0, "smooth": True}, {"mean_scales": 2}],
)
def test_an_image_with_its_seed_is_the_same_alone_and_among_16(tokenizer, model, options):
    labels, seeds = torch.arange(16) % 4, list(range(100, 116))
    together = run(model, tokenizer, labels, seeds=seeds, **options)
    for i in (0, 7, 15):
        alone = run(model, tokenizer, labels[i : i + 1], seeds=seeds[i : i + 1], **options)
        assert torch.equal(tokens_of(alone)[0], tokens_of(together)[i])
        torch.testing.assert_close(alone[-1].image()[0], together[-1].image()[i], rtol=0, atol=1e-5)


def test_each_seed_gives_another_image(tokenizer, model):
    same_label = torch.zeros(8, dtype=torch.long)
    drawn = tokens_of(run(model, tokenizer, same_label, seeds=range(8)))
    assert len({tuple(tokens.tolist()) for tokens in drawn}) == 8


def test_one_generator_serves_the_batch_and_moves_on(tokenizer, model):
    generator = seeded(4)
    first = tokens_of(run(model, tokenizer, generator=generator))
    second = tokens_of(run(model, tokenizer, generator=generator))
    again = tokens_of(run(model, tokenizer, generator=seeded(4)))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_no_guidance_is_no_guidance_by_any_name(tokenizer, model):
    plain, off, strong = (
        tokens_of(run(model, tokenizer, **options))
        for options in ({"cfg": 0.0}, {"cfg": 3.0, "guidance": "off"}, {"cfg": 3.0})
    )
    assert torch.equal(plain, off)
    assert not torch.equal(plain, strong)


def test_the_first_token_of_smooth_mode_is_drawn_as_ever(tokenizer, model):
    rough, smooth = (run(model, tokenizer, smooth=value) for value in (False, True))
    assert torch.equal(rough[0].tokens, smooth[0].tokens)
    assert not torch.isclose(rough[0].accumulated, smooth[0].accumulated).all()


def test_the_finest_scales_take_the_mean_of_their_codes(tokenizer, model):
    drawn = run(model, tokenizer, top_k=5, cfg=1.0)
    means = run(model, tokenizer, top_k=5, cfg=1.0, mean_scales=2)
    for ours, theirs in zip(means[:-2], drawn[:-2], strict=True):
        assert torch.equal(ours.accumulated, theirs.accumulated)
    assert torch.equal(means[-2].tokens, drawn[-2].tokens)  # what is read before is the same
    assert not torch.isclose(means[-2].accumulated, drawn[-2].accumulated).all()
    others = run(model, tokenizer, top_k=5, cfg=1.0, mean_scales=2, seeds=[9, 1, 2, 3])
    alike = [torch.equal(a, b) for a, b in zip(others[-1].image(), means[-1].image(), strict=True)]
    assert alike == [False, True, True, True]
    certain = run(model, tokenizer, top_k=1, mean_scales=len(model.scales))
    greedy = run(model, tokenizer, top_k=1)  # the mean of a single code is that code
    torch.testing.assert_close(certain[-1].accumulated, greedy[-1].accumulated)


@pytest.mark.parametrize("smooth", [False, True])
def test_a_pyramid_of_one_scale_is_drawn_without_guidance(make_tokenizer, make_model, smooth):
    tokenizer = make_tokenizer(scales="4")
    model = make_model(tokenizer)
    (state,) = run(model, tokenizer, cfg=3.0, smooth=smooth)
    (plain,) = run(model, tokenizer, smooth=smooth)
    assert torch.equal(state.tokens, plain.tokens)
    assert state.image().shape == (4, 1, 8, 8)


def test_non_square_scales_and_no_classes(make_tokenizer, make_model):
    tokenizer = make_tokenizer(scales="1x2 2x4 3x6", image_channels=3)
    model = make_model(tokenizer, classes=0)
    nothing = torch.zeros(2, dtype=torch.long)
    states = run(model, tokenizer, nothing, cfg=2.0)
    assert [tuple(state.tokens.shape[1:]) for state in states] == [(1, 2), (2, 4), (3, 6)]
    assert states[-1].image().shape == (2, 3, 6, 12)


@torch.inference_mode()
def test_a_constraint_decides_what_is_accumulated(tokenizer, model, images):
    own = tokenizer.encode(images[:4])
    left = torch.tensor([True, True, False, False])  # columns of the finest scale to keep
    calls = []

    def keep_left(k, vectors):
        calls.append((k, tuple(vectors.shape)))
        kept = tokenizer.quantizer.lookup(own[k])
        return kept if k < 2 else torch.where(left, kept, vectors)

    free = run(model, tokenizer)
    states = run(model, tokenizer, constrain=keep_left)
    assert calls == [(0, (4, 4, 1, 1)), (1, (4, 4, 2, 2)), (2, (4, 4, 4, 4))]
    assert torch.equal(states[0].tokens, free[0].tokens)  # as drawn, before the constraint
    finest = torch.where(left, own[2], states[2].tokens)
    maps = tokenizer.quantizer.accumulated_maps([own[0], own[1], finest])
    assert all(torch.equal(s.accumulated, m) for s, m in zip(states, maps, strict=True))
    assert not torch.equal(finest, own[2])


@torch.inference_mode()
def test_finer_scales_see_what_the_constraint_put_in(tokenizer, model, images):
    own = tokenizer.encode(images[:4])
    states = run(
        model, tokenizer, constrain=lambda k, _: tokenizer.quantizer.lookup(own[k]), top_k=1
    )
    expected = model(LABELS, tokenizer.quantizer.teacher_inputs(own)).argmax(-1)
    assert torch.equal(tokens_of(states), expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; it must be from 1e-06"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_p": -0.1}, "top_p is -0.1"),
        ({"top_p": math.nan}, "top_p is nan"),
        ({"mean_scales": -1}, "mean_scales is -1"),
        ({"mean_scales": 4}, "mean_scales is 4"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": 17}, "top_k is 17; .* 16 codes"),
        ({"cfg": -1.0}, "cfg is -1.0"),
        ({"cfg": math.nan}, "cfg is nan"),
        ({"guidance": "cosine"}, "linear, constant or off"),
        ({"seeds": [1, 2]}, "2 seeds are given for 4 labels"),
        ({"seeds": range(4), "generator": torch.Generator()}, "both generator and seeds"),
        ({"labels": torch.tensor([0, 4])}, "label 4 is out of range"),
        ({"labels": torch.tensor([-1])}, "label -1 is out of range"),
        ({"labels": torch.tensor([], dtype=torch.long)}, "no labels"),
    ],
)
def test_options_out_of_range_are_refused(tokenizer, model, options, said):
    with pytest.raises(UsageError, match=said):
        run(model, tokenizer, **options)


# Token by token


@pytest.fixture(params=["raster", "spiral"])
def next_token(request, make_tokenizer, make_model):
    """A tokenizer of one scale and a next-token model on it."""
    flat = make_tokenizer(scales="4")
    return make_model(flat, order=request.param), flat


@pytest.mark.parametrize("guidance", ["linear", "constant"])
def test_greedy_next_tokens_are_the_likeliest_of_the_full_pass(next_token, guidance):
    model, flat = next_token
    (state,) = run(model, flat, cfg=2.0, guidance=guidance, top_k=1)
    with torch.inference_mode():
        inputs = model.order.teacher_inputs(flat.quantizer, [state.tokens])
        labelled = model(LABELS, inputs)
        none = model(model.condition.drop(LABELS), inputs)
        strength = torch.empty(16).index_copy(
            0, torch.tensor(model.order.path), torch.linspace(0, 2, 16)
        )
        strength = strength if guidance == "linear" else torch.full_like(strength, 2)
        guided = labelled + strength[:, None] * (labelled - none)
        again = flat.decode([state.tokens])
    assert torch.equal(state.tokens.flatten(1), guided.argmax(-1))
    torch.testing.assert_close(state.image(), again, rtol=0, atol=1e-5)


def test_next_tokens_depend_on_their_seed_alone(next_token):
    model, flat = next_token
    (together,) = run(model, flat, seeds=[5, 6, 7, 8], cfg=1.0)
    (alone,) = generate(model, flat, LABELS[2:3], seeds=[7], sampling=SamplingConfig(cfg=1.0))
    assert torch.equal(together.tokens[2:3], alone.tokens)
    assert not torch.equal(together.tokens[0], together.tokens[1])


@torch.inference_mode()
def test_a_constraint_reaches_the_tokens_behind_it(next_token):
    model, flat = next_token
    kept = torch.randn(1, 4, 4, 4)
    known = torch.zeros(4, 4, dtype=torch.bool)
    known.view(-1)[model.order.path[:3]] = True

    def keep(k, vectors):
        assert k == 0
        return torch.where(known, kept, vectors)

    free, held = (generate(model, flat, LABELS, seeds=range(4), constrain=c) for c in (None, keep))
    (free,), (held,) = free, held
    expected = flat.quantizer.lookup(held.tokens)
    expected = torch.where(known, kept, expected)
    accumulated = flat.quantizer.accumulate(flat.quantizer.empty(4), expected, 0)
    torch.testing.assert_close(held.accumulated, accumulated, rtol=0, atol=1e-6)
    later = model.order.path[3:]
    assert not torch.equal(free.tokens.flatten(1)[:, later], held.tokens.flatten(1)[:, later])


@pytest.mark.parametrize("options", [{"smooth": True}, {"mean_scales": 1}])
def test_a_next_token_model_has_no_scales_to_average(next_token, options):
    model, flat = next_token
    with pytest.raises(UsageError, match=f"{next(iter(options))} .* a next-token model has none"):
        generate(model, flat, LABELS, SamplingConfig(**options))
