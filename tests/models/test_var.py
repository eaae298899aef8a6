import pytest
import torch
import torch.nn.functional as F

from nextscale.config.architecture import RELEASED_256, TransformerConfig
from nextscale.generation.generate import prepare
from nextscale.models.model import Model
from nextscale.scales import spans

KINDS = {
    "normalised": {},
    "plain": {"normalized_attention": False},
    "shared AdaLN": {"shared_adaln": True},
    "unconditional": {"classes": 0},
}
PYRAMIDS = ["1 2 4", "1x2 2x4 3x6"]

of_each_kind = pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
on_each_pyramid = pytest.mark.parametrize("pyramid", PYRAMIDS)


def tokens_for(tokenizer, batch=3):
    """Random token maps of every scale."""
    generator = torch.Generator().manual_seed(5)
    codes = tokenizer.config.codes
    return [
        torch.randint(codes, (batch, *scale), generator=generator)
        for scale in tokenizer.config.scales
    ]


def labels_for(model, batch=3):
    return torch.arange(batch) % (model.config.classes + 1)


def test_d16_has_310_283_520_parameters():
    with torch.device("meta"):
        model = Model(TransformerConfig(depth=16), RELEASED_256, (4096,), latent=32)
    assert sum(p.numel() for p in model.parameters()) == 310_283_520


@of_each_kind
@on_each_pyramid
@torch.inference_mode()
def test_stepping_with_a_cache_equals_the_full_pass(make_tokenizer, make_model, changes, pyramid):
    tokenizer = make_tokenizer(scales=pyramid)
    model, quantizer = make_model(tokenizer, **changes), tokenizer.quantizer
    tokens, labels = tokens_for(tokenizer), labels_for(model)
    full = model(labels, quantizer.teacher_inputs(tokens))
    assert full.std() > 0.1  # logits far from zero, where agreement means something

    predict, x = prepare(model, labels, guided=False)
    maps, stepped = quantizer.accumulated_maps(tokens), []
    for k in range(len(model.scales)):
        if k:
            read = model.order.step_inputs(k, quantizer, maps[k - 1], maps[k - 1])
            x = model.embed(k, read)
        stepped.append(predict(x))
    torch.testing.assert_close(torch.cat(stepped, 1), full, rtol=0, atol=1e-5)


@of_each_kind
@on_each_pyramid
@torch.inference_mode()
def test_no_scale_influences_an_earlier_one(make_tokenizer, make_model, changes, pyramid):
    tokenizer = make_tokenizer(scales=pyramid)
    model = make_model(tokenizer, **changes)
    inputs = tokenizer.quantizer.teacher_inputs(tokens_for(tokenizer))
    before, first = model(labels_for(model), inputs), spans(model.scales)[0][1]
    for begin, end in spans(model.scales)[1:]:
        perturbed = inputs.clone()
        perturbed[:, begin - first : end - first] += 1
        after = model(labels_for(model), perturbed)
        assert torch.equal(after[:, :begin], before[:, :begin])
        assert not torch.isclose(after[:, begin:], before[:, begin:]).all(-1).any()


@torch.inference_mode()
def test_no_token_map_influences_its_own_logits(tokenizer, model):
    tokens, labels = tokens_for(tokenizer), labels_for(model)
    before = model(labels, tokenizer.quantizer.teacher_inputs(tokens))
    for k, (begin, end) in enumerate(spans(model.scales)):
        changed = [(t + 1) % 16 if i == k else t for i, t in enumerate(tokens)]
        after = model(labels, tokenizer.quantizer.teacher_inputs(changed))
        assert torch.equal(after[:, :end], before[:, :end])
        assert torch.equal(after, before) == (k == 2), f"tokens {begin} to {end}"


@torch.inference_mode()
def test_a_pyramid_of_one_scale_is_predicted_from_the_condition(make_tokenizer, make_model):
    tokenizer = make_tokenizer(scales="4")
    model = make_model(tokenizer)
    logits = model(labels_for(model), tokenizer.quantizer.teacher_inputs(tokens_for(tokenizer)))
    assert logits.shape == (3, 16, 16)
    assert not torch.isclose(logits[0], logits[1]).all()


@torch.inference_mode()
def test_images_of_a_batch_do_not_mix(tokenizer, model):
    inputs = tokenizer.quantizer.teacher_inputs(tokens_for(tokenizer))
    labels = labels_for(model)
    alone = model(labels[1:2], inputs[1:2])
    torch.testing.assert_close(alone[0], model(labels, inputs)[1], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_labels_matter_and_training_drops_none(make_tokenizer, make_model):
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, drop_path=0.0)
    inputs = tokenizer.quantizer.teacher_inputs(tokens_for(tokenizer, batch=1)).repeat(4, 1, 1)
    labels = torch.arange(4)
    logits = model(labels, inputs)
    assert not any(torch.isclose(logits[i], logits[i + 1]).all() for i in range(3))
    assert torch.equal(model.train()(labels, inputs), logits)
    assert model.condition.drop(labels).tolist() == [3] * 4


@torch.inference_mode()
def test_each_place_has_its_position_and_its_scales_level(model):
    levels = [0] + [1] * 4 + [2] * 16
    expected = model.level_embedding[levels] + model.position_embedding
    assert torch.equal(model.places(0, 21), expected)
    assert torch.equal(model.places(3, 7), expected[3:7])


@torch.inference_mode()
def test_logits_stay_float32_in_mixed_precision(tokenizer, model):
    inputs = tokenizer.quantizer.teacher_inputs(tokens_for(tokenizer))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(labels_for(model), inputs)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, model(labels_for(model), inputs), rtol=0.2, atol=0.2)


def test_a_fresh_model_predicts_every_code_alike():
    model = Model(TransformerConfig(classes=2, depth=1), ((1, 1), (2, 2)), (32,), latent=4)
    logits = model(torch.tensor([0, 1]), torch.randn(2, 4, 4))
    loss = F.cross_entropy(logits.flatten(0, 1), torch.randint(32, (10,)))
    assert loss.item() == pytest.approx(torch.tensor(32.0).log().item(), abs=0.02)
    assert model.head.weight.std().item() == pytest.approx(0.02 / (3 * 64) ** 0.5, rel=0.05)


def test_embeddings_start_at_the_papers_scale():
    model = Model(TransformerConfig(classes=40, depth=1), RELEASED_256, (32,), latent=32)
    weights = {
        "classes": model.condition.embedding.weight,
        "words": model.word_embedding.weight,
        "levels": model.level_embedding,
        "positions": model.position_embedding,
    }
    spread = {name: weight.std().item() for name, weight in weights.items()}
    assert spread == pytest.approx(dict.fromkeys(weights, (3 * 64) ** -0.5), rel=0.1)


def test_every_weight_learns(make_tokenizer, make_model):
    tokenizer = make_tokenizer()
    for changes in KINDS.values():
        model = make_model(tokenizer, **changes)
        model(labels_for(model), torch.randn(3, 20, 4)).square().sum().backward()
        idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert idle == []
