import numpy as np
import pytest
import torch
from PIL import Image

from nextscale.config.model import ModelConfig, SamplingConfig
from nextscale.errors import UsageError
from nextscale.pictures.pixels import to_pictures
from nextscale.pipeline import Pipeline


@pytest.fixture
def alone(tokenizer):
    """A tokenizer without a transformer."""
    return Pipeline(tokenizer, None, ModelConfig(tokenizer.config))


def pixels(pictures):
    return np.stack([np.asarray(picture) for picture in pictures])


def test_labels_are_numbers_names_or_none(pipe):
    labels = [2, "1", "ankle BOOT", "coat", None]
    assert pipe.read(labels).tolist() == [2, 1, 0, 2, 3]


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("hat", "unknown label 'hat'; the model knows Ankle boot, bag, coat"),
        ("boot", "unknown label 'boot'; did you mean 'Ankle boot'. the model knows"),
        (4, "label 4 is out of range; the model knows 0 to 2"),
        ("-1", "label -1 is out of range"),
    ],
)
def test_unknown_labels_are_refused(pipe, label, said):
    with pytest.raises(UsageError, match=said):
        pipe.sample(label)


def test_without_names_or_classes_the_message_says_so(tokenizer, make_model, pipe):
    nameless = Pipeline(tokenizer, pipe.model, ModelConfig(tokenizer.config, pipe.model.config))
    with pytest.raises(UsageError, match="unknown label 'coat'; the model knows 0 to 2"):
        nameless.sample("coat")
    free = make_model(tokenizer, classes=0)
    unconditional = Pipeline(tokenizer, free, ModelConfig(tokenizer.config, free.config))
    assert len(unconditional.sample([None, None])) == 2
    with pytest.raises(UsageError, match=r"label 5 .* only none"):
        unconditional.sample(5)


def test_one_picture_a_label_and_one_seed_a_picture(pipe):
    labels = [0, 1, "coat", None, 0]
    at_once = pixels(pipe.sample(labels, seed=7))
    assert at_once.shape == (5, 8, 8)
    assert at_once.dtype == np.uint8
    in_parts = pixels(pipe.sample(labels, seed=7, batch=2))
    assert np.abs(at_once.astype(int) - in_parts).max() <= 1  # rounding of 1e-5
    (third,) = pipe.sample("coat", seed=9)
    assert np.abs(at_once[2].astype(int) - np.asarray(third)).max() <= 1
    assert np.array_equal(at_once, pixels(pipe.sample(labels, seeds=[7, 8, 9, 10, 11])))
    assert not np.array_equal(at_once, pixels(pipe.sample(labels, seed=8)))


def test_no_labels_give_no_pictures(pipe):
    assert pipe.sample([]) == []


def test_seeds_must_match_labels(pipe):
    with pytest.raises(UsageError, match="3 seeds are given for 2 labels"):
        pipe.sample([0, 1], seeds=[1, 2, 3])


def test_sampling_defaults_come_from_the_configuration(tokenizer, model):
    greedy = ModelConfig(tokenizer.config, model.config, SamplingConfig(top_k=1))
    pipe = Pipeline(tokenizer, model, greedy)
    one, other = pipe.sample([0, 0])
    assert one.tobytes() == other.tobytes()
    one, other = pipe.sample([0, 0], top_k=0)
    assert one.tobytes() != other.tobytes()


def test_states_show_the_picture_growing(pipe):
    states = list(pipe.states(["bag", None], seed=3))
    assert [state.scale for state in states] == [(1, 1), (2, 2), (4, 4)]
    drawn = pipe.sample(["bag", None], seed=3)
    assert np.array_equal(pixels(to_pictures(states[-1].image())), pixels(drawn))


def test_states_take_one_generator_for_the_batch(pipe):
    runs = [list(pipe.states([0, 1], generator=torch.Generator().manual_seed(2))) for _ in "ab"]
    assert torch.equal(runs[0][-1].tokens, runs[1][-1].tokens)
    assert runs[0][-1].seeds == ()
    (picture,) = pipe.sample(0, generator=torch.Generator())
    assert "seed" not in picture.info


def test_seeds_are_recorded(pipe):
    pictures = pipe.sample([0, 1, 2], seed=4, batch=2)
    assert [picture.info["seed"] for picture in pictures] == [4, 5, 6]
    assert {state.seeds for state in pipe.states([0, 1], seeds=[9, 3])} == {(9, 3)}


def test_without_a_seed_a_fresh_one_is_drawn_and_recorded(pipe):
    first, second = pipe.sample([0, 0], seed=None)
    assert second.info["seed"] == first.info["seed"] + 1
    (again,) = pipe.sample(0, seed=second.info["seed"])
    assert np.abs(pixels([again]).astype(int) - pixels([second])).max() <= 1
    (other,) = pipe.sample(0, seed=None)
    assert other.info["seed"] != first.info["seed"]
    (state, *_) = pipe.states(0, seed=None)
    assert state.seeds not in ((0,), (first.info["seed"],))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda pipe: pipe.sample(0, cgf=2), "unknown option 'cgf'; did you mean 'cfg'.* seed, "),
        (lambda pipe: pipe.sample(0, bacth=2), "'bacth'; did you mean 'batch'"),
        (lambda pipe: pipe.states(0, batch=2), "unknown option 'batch'; known: .*temperature"),
    ],
)
def test_unknown_options_name_the_known_ones(pipe, call, said):
    with pytest.raises(UsageError, match=said):
        call(pipe)


def test_a_tokenizer_alone_reconstructs_but_does_not_draw(alone):
    assert len(alone.reconstruct(Image.new("RGB", (20, 30)))) == 1
    assert "tokenizer alone" in repr(alone)
    with pytest.raises(UsageError, match="tokenizer alone; drawing needs a transformer"):
        alone.sample(0)


def test_reconstruction_is_encoding_and_decoding(pipe, tokenizer, images):
    pictures = to_pictures(images)
    again = pipe.reconstruct(pictures)
    with torch.inference_mode():
        tokens = tokenizer.encode(torch.from_numpy(pixels(pictures))[:, None] / 127.5 - 1)
        assert again == to_pictures(tokenizer.decode(tokens))


def test_the_pyramid_ends_at_the_reconstruction(pipe, images):
    (picture,) = to_pictures(images[:1])
    stages = pipe.pyramid(picture)
    assert len(stages) == 3
    assert np.abs(pixels(stages[-1:]).astype(int) - pixels(pipe.reconstruct(picture))).max() <= 1
    assert stages[0] != stages[2]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("given", ["L", "RGB", "RGBA", "P"])
def test_any_picture_fits_the_network(make_tokenizer, channels, mode, given):
    tokenizer = make_tokenizer(image_channels=channels, scales="1x2 2x3")
    pipe = Pipeline(tokenizer, None, ModelConfig(tokenizer.config))
    picture = Image.new(given, (31, 57), 0 if given in "LP" else (0, 0, 0, 255)[: len(given)])
    images = pipe.to_images([picture, picture])
    assert images.shape == (2, channels, 4, 6)
    assert torch.equal(images, torch.full_like(images, -1))
    (again,) = pipe.reconstruct(picture)
    assert (again.mode, again.size) == (mode, (6, 4))


def test_every_grey_value_survives_the_way_in_and_out(make_tokenizer):
    tokenizer = make_tokenizer(scales="1 8")  # 16x16 pixels
    pipe = Pipeline(tokenizer, None, ModelConfig(tokenizer.config))
    greys = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert to_pictures(pipe.to_images([greys])) == [greys]


def test_a_pipeline_moves_as_a_whole(pipe):
    assert pipe.to("cpu") is pipe
    assert pipe.to("auto") is pipe
    assert pipe.device.type == "cpu"
    assert repr(pipe) == "Pipeline(depth 2, width 16, scales 1 2 4)"


def test_of_the_drawn_pictures_the_surest_are_kept(pipe):
    def brightness(images):
        bright = images.mean((1, 2, 3))
        return torch.stack([bright, -bright, bright], 1)  # class 1 likes the dark

    drawn = pixels(pipe.sample([0, 0, 0, 0, 1, 1], seed=4)).astype(int)
    kept = pixels(pipe.sample([1, 0, 0], seed=4, keep=0.5, judge=brightness)).astype(int)
    mean = drawn.mean((1, 2))
    brightest = np.argsort(-mean[:4])[:2]
    darkest = 4 + np.argmin(mean[4:])
    assert np.abs(kept - drawn[[darkest, *brightest]]).max() <= 1
    with pytest.raises(UsageError, match=r"keep is 0.5; below 1 it needs a judge"):
        pipe.sample([0], keep=0.5)
    with pytest.raises(UsageError, match=r"keep is 1.0; below 1 it needs a judge, else none"):
        pipe.sample([0], judge=brightness)
