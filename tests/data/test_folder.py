"""Image folders: layouts, splits, classes, and the order of what is read."""

import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nextscale.config.run import DataConfig
from nextscale.data.augment import Augmentation
from nextscale.data.folder import split
from nextscale.data.images import batches
from nextscale.data.layout import find_layout
from nextscale.data.listing import Listing, scan
from nextscale.data.order import Part, training_parts
from nextscale.data.source import open_data
from nextscale.errors import UsageError
from tests.data.folders import PLAIN, all_of, opened, paths, picture, write, zero_bytes

VARIED = Augmentation((8, 8), 3, "released", True)


class TestLayouts:
    def test_train_and_val_with_classes(self, tmp_path):
        write(tmp_path, "train/b/1.png", "train/a/deep/2.png", "train/c/3.JPG", "val/c/4.png")
        training, validation = opened(tmp_path)
        assert training.names == validation.names == ("a", "b", "c")
        assert paths(training) == ["a/deep/2.png", "b/1.png", "c/3.JPG"]
        assert all_of(training).labels.tolist() == [0, 1, 2]
        assert paths(validation) == ["c/4.png"]
        assert all_of(validation).labels.tolist() == [2]

    def test_train_and_val_unlabelled(self, tmp_path):
        write(tmp_path, "train/1.png", "train/2.png", "val/3.png")
        training, validation = opened(tmp_path)
        assert training.names == validation.names == ()
        assert all_of(training).labels.tolist() == [0, 0]
        assert paths(validation) == ["3.png"]

    def test_train_alone_is_split(self, tmp_path):
        write(tmp_path, *(f"train/{c}/{i}.png" for c in "ab" for i in range(4)), "test/a/x.png")
        training, validation = opened(tmp_path, validation=0.25)
        assert training.names == validation.names == ("a", "b")
        assert (len(training), len(validation)) == (6, 2)

    def test_classes_at_the_root(self, tmp_path):
        write(tmp_path, *(f"{c}/{i}.png" for c in ("dog", "cat") for i in range(3)))
        training, validation = opened(tmp_path)
        assert training.names == validation.names == ("cat", "dog")
        assert (len(training), len(validation)) == (5, 1)
        assert sorted(paths(training) + paths(validation))[0] == "cat/0.png"

    def test_plain_files(self, tmp_path):
        write(tmp_path, *(f"{i}.png" for i in range(5)))
        training, validation = opened(tmp_path)
        assert training.names == ()
        assert (len(training), len(validation)) == (4, 1)

    def test_what_is_no_image_is_left_out(self, tmp_path):
        write(tmp_path, "a/1.png", "a/2.png", ".trash/3.png", "a/._1.png")
        (tmp_path / "readme.txt").write_text("text")
        (tmp_path / "empty").mkdir()
        training, validation = opened(tmp_path)
        assert training.names == ("a",)
        assert sorted(paths(training) + paths(validation)) == ["a/1.png", "a/2.png"]

    def test_links_are_followed_but_not_around(self, tmp_path):
        write(tmp_path / "elsewhere", "1.png", "2.png")
        (tmp_path / "data").mkdir()
        (tmp_path / "data/a").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere/back").symlink_to(tmp_path / "data")
        training, validation = opened(tmp_path / "data")
        assert sorted(paths(training) + paths(validation)) == ["a/1.png", "a/2.png"]

    def test_a_link_to_a_pipe_is_left_out_and_one_to_nothing_cannot_be_read(self, tmp_path):
        write(tmp_path / "data", *(f"a/{i}.png" for i in range(4)))
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "data/a/piped.png").symlink_to(tmp_path / "pipe")
        (tmp_path / "data/a/zero.png").symlink_to("/dev/zero")
        (tmp_path / "data/a/lost.png").symlink_to(tmp_path / "nothing")
        found = scan(tmp_path / "data")
        assert len(found) == 5
        assert found.left_out == {".png": 2}

    def test_names_of_any_bytes(self, tmp_path):
        write(tmp_path, "ä b/ü.png", "ä b/2.png", "c/日本.png")
        with open(os.fsencode(tmp_path) + b"/c/\xff.png", "wb") as file:
            picture(1).save(file, "PNG")
        training, validation = opened(tmp_path, strict=True)
        assert training.names == ("c", "ä b")
        assert len(all_of(training).images) + len(all_of(validation).images) == 4

    @pytest.mark.parametrize(
        ("train", "val"),
        [
            ("Train", "Val"),
            ("training", "validation"),
            ("TRAIN", "valid"),
            ("train", "dev"),
            ("dataset/train", "dataset/val"),
            ("My Data/Training", "My Data/VALIDATION"),
        ],
    )
    def test_usual_names_of_splits(self, tmp_path, train, val):
        write(tmp_path, f"{train}/a/1.png", f"{train}/b/2.png", f"{val}/a/3.png")
        (tmp_path / "notes.txt").touch()
        training, validation = opened(tmp_path)
        assert training.names == ("a", "b")
        assert paths(training) == ["a/1.png", "b/2.png"]
        assert paths(validation) == ["a/3.png"]

    @pytest.mark.parametrize("test", ["test", "Testing"])
    def test_a_test_split_is_left_alone(self, tmp_path, test):
        write(tmp_path, *(f"train/a/{i}.png" for i in range(4)), f"{test}/a/x.png", "val/a/v.png")
        training, validation = opened(tmp_path)
        assert (len(training), paths(validation)) == (4, ["a/v.png"])
        shutil.rmtree(tmp_path / "val")
        training, validation = opened(tmp_path, validation=0.25)
        assert (len(training), len(validation)) == (3, 1)
        layout = find_layout(tmp_path)
        assert (layout.training, layout.held_out) == (tmp_path / "train", None)
        assert layout.unused == (test,)

    def test_one_rule_for_empty_class_folders(self, tmp_path):
        write(tmp_path, "train/a/1.png", "train/b/2.png", "val/a/3.png")
        for name in ("train/none", "val/b", "val/none/deeper", "train/none2"):
            (tmp_path / name).mkdir(parents=True)
        (tmp_path / "train/none2/notes.TXT").touch()
        training, validation = opened(tmp_path)
        assert training.names == validation.names == ("a", "b")
        assert training.listing.empty == ("none", "none2")
        assert validation.listing.empty == ("b", "none")
        assert training.listing.left_out == {".txt": 1}

    def test_what_systems_put_beside_pictures(self, tmp_path):
        write(tmp_path, "a/1.png", "b/2.png", "__MACOSX/a/3.png", "a/._1.png", "@eaDir/x.png")
        for name in (".DS_Store", "a/Thumbs.db", "metadata.jsonl", "a/captions.csv", "b/README"):
            (tmp_path / name).touch()
        listing = scan(tmp_path)
        assert listing.names == ("a", "b")
        assert listing.empty == ()
        assert listing.left_out == {"hidden": 5, ".jsonl": 1, ".csv": 1, "without ending": 1}

    @pytest.mark.parametrize("extension", [".jfif", ".pgm", ".PBM", ".avif", ".Jpe"])
    def test_less_common_endings(self, tmp_path, extension):
        kind = "JPEG" if extension in (".jfif", ".Jpe") else None
        picture(0).convert("RGB" if extension == ".avif" else "L").save(
            tmp_path / f"1{extension}", kind
        )
        assert len(scan(tmp_path)) == 1

    def test_a_class_whose_name_is_not_text(self, tmp_path):
        place = os.fsencode(tmp_path) + b"/caf\xe9"
        os.mkdir(place)
        with open(place + b"/1.png", "wb") as file:
            picture(1).save(file, "PNG")
        with pytest.raises(UsageError, match=r"the class folder caf.* is not UTF-8; rename it"):
            scan(tmp_path)


class TestRefusals:
    @pytest.mark.parametrize("strict", [False, True])
    @pytest.mark.parametrize(
        ("names", "said"),
        [
            ([], "holds no images"),
            (["notes.txt"], "holds no images"),
            (["train/a/1.png", "train/a/2.png", "val/notes.txt"], "val holds no images"),
            (["1.png"], "holds fewer than 2 images"),
            (["a/1.png", "2.png", "b/3.png"], "holds both images \\(2.png\\) and folders"),
            (["train/a/1.png", "val/b/1.png"], "val has the class 'b' but .*train has only a"),
            (["train/a/1.png", "val/1.png"], "val has no classes"),
            (["train/1.png", "val/a/1.png"], "val has the class 'a' but .*train has none"),
            (["train/1.png", "car/1.png"], "has the folders car, train"),
            (["val/1.png"], "has the folders val"),
            (["Validation/1.png", "cats/1.png"], "has the folders Validation, cats"),
            (["testing/1.png", "cats/1.png"], "has the folders cats, testing"),
            (["Train/a/1.png", "training/a/1.png"], "has the folders Train, training"),
        ],
    )
    def test_what_cannot_be_understood(self, tmp_path, names, said, strict):
        for number, name in enumerate(names):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".png"):
                picture(number).save(tmp_path / name)
            else:
                (tmp_path / name).write_text("text")
        with pytest.raises(UsageError, match=said) as caught:
            opened(tmp_path, strict=strict)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("path", ["missing", "", "1.png", "mnist"])
    def test_what_is_no_data(self, tmp_path, monkeypatch, path):
        monkeypatch.chdir(write(tmp_path, "1.png"))
        with pytest.raises(UsageError, match="give fashion-mnist or an existing folder"):
            open_data(DataConfig(path=path), (8, 8), 3, 0)

    def test_batch_larger_than_the_data(self, tmp_path):
        training, _ = opened(write(tmp_path, *(f"{i}.png" for i in range(4))))
        parts = training_parts(0, len(training), 4, 1, 0, 1, 0, 1)
        with pytest.raises(UsageError, match="batch_size 4 is larger than the data \\(3 images\\)"):
            list(batches(training, parts, workers=0, pin=False))


class TestSplit:
    @staticmethod
    def listing(tmp_path, names, labels=None):
        count = len(names)
        labels = np.zeros(count, np.int64) if labels is None else np.array(labels)
        encoded = np.array([name.encode() for name in names])
        zeros = np.zeros(count, np.int64)
        return Listing(tmp_path, (), encoded, zeros, zeros, labels)

    @given(
        st.sets(st.text("abcxyz/.", min_size=1, max_size=8), min_size=2, max_size=60),
        st.floats(0.001, 0.999),
        st.integers(0, 2**32),
    )
    def test_both_parts_get_their_share(self, tmp_path_factory, names, share, seed):
        held = split(self.listing(tmp_path_factory.getbasetemp(), sorted(names)), share, seed)
        assert 1 <= held.sum() <= len(names) - 1
        assert abs(held.sum() - share * len(names)) <= 1

    @given(st.permutations([f"{i}.png" for i in range(30)]), st.integers(0, 2**32))
    def test_nothing_but_names_and_seed_decides(self, tmp_path_factory, names, seed):
        root = tmp_path_factory.getbasetemp()
        held = split(self.listing(root, names), 0.3, seed)
        first = split(self.listing(root / "moved", sorted(names)), 0.3, seed)
        chosen = {name for name, taken in zip(names, held, strict=True) if taken}
        assert chosen == {n for n, taken in zip(sorted(names), first, strict=True) if taken}

    def test_every_class_gives_its_share(self, tmp_path):
        labels = np.repeat(np.arange(10), 40)
        names = [f"{label}/{i}.png" for i, label in enumerate(labels)]
        held = split(self.listing(tmp_path, names, labels), 0.1, 3)
        assert np.bincount(labels[held]).tolist() == [4] * 10

    def test_seeds_hold_out_different_files(self, tmp_path):
        listing = self.listing(tmp_path, [f"{i}.png" for i in range(200)])
        parts = {tuple(np.flatnonzero(split(listing, 0.1, seed))) for seed in range(10)}
        assert len(parts) == 10
        assert len(set().union(*parts)) > 100  # the hash spreads them over the whole folder

    def test_a_folder_is_divided(self, tmp_path):
        write(tmp_path, *(f"{i}.png" for i in range(20)))
        training, validation = opened(tmp_path, validation=0.2)
        assert (len(training), len(validation)) == (16, 4)
        assert not set(paths(training)) & set(paths(validation))
        again = opened(tmp_path, VARIED, validation=0.2)
        assert [paths(part) for part in again] == [paths(training), paths(validation)]


class TestReading:
    def test_draws_belong_to_the_sample(self, tmp_path):
        training, _ = opened(write(tmp_path, *(f"{i}.png" for i in range(12))), VARIED)
        count = len(training)
        together = all_of(training, epoch=3).images
        for samples in (np.array([5]), np.arange(count)[::-1].copy(), np.array([7, 7, 0])):
            images = training.load(Part(3, samples)).images
            assert torch.equal(images, together[samples])
        assert torch.equal(all_of(training, epoch=3).images, together)
        assert not torch.equal(all_of(training, epoch=4).images, together)
        other = opened(tmp_path, Augmentation((8, 8), 3, "released", True, seed=1))[0]
        assert not torch.equal(other.load(Part(3, np.arange(3))).images, together[:3])

    def test_validation_is_never_varied(self, tmp_path):
        _, validation = opened(write(tmp_path, *(f"{i}.png" for i in range(8))), VARIED, 0.5)
        assert torch.equal(all_of(validation, 0).images, all_of(validation, 1).images)
        _, plain = opened(tmp_path, PLAIN, 0.5)
        assert torch.equal(all_of(validation).images, all_of(plain).images)

    def test_identity(self, tmp_path):
        first = opened(write(tmp_path / "a", "x/1.png", "y/2.png"), validation=0.5)
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        moved = opened(tmp_path / "b", validation=0.5)
        assert [s.identity for s in moved] == [s.identity for s in first]
        assert first[0].identity != first[1].identity
        assert opened(tmp_path / "a", VARIED, 0.5)[0].identity != first[0].identity
        status = (tmp_path / "a/x/1.png").stat()
        for path in ("x/1.png", "y/2.png"):  # the same names and sizes, written again
            os.utime(tmp_path / "a" / path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        assert opened(tmp_path / "a", validation=0.5)[0].identity != first[0].identity
        picture(0, (30, 30)).save(tmp_path / "b/x/1.png")
        picture(0, (30, 30)).save(tmp_path / "b/y/2.png")
        assert opened(tmp_path / "b", validation=0.5)[0].identity != first[0].identity

    def test_a_source_can_be_sent_to_workers(self, tmp_path):
        training, _ = opened(write(tmp_path, "a/1.png", "a/2.png", "b/3.png"), VARIED)
        copy = pickle.loads(pickle.dumps(training))
        assert copy.names == training.names
        assert torch.equal(all_of(copy).images, all_of(training).images)

    def test_workers_change_nothing(self, tmp_path):
        root = write(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(6)))
        zero_bytes(root / "a/3.png")
        zero_bytes(root / "b/5.png")
        training, _ = opened(root, VARIED)

        def read(workers):
            parts = training_parts(0, len(training), 4, 2, 0, 5, 0, 1)
            return list(batches(training, parts, workers, pin=False))

        alone, shared = read(0), read(2)
        assert len(alone) == len(shared) == 10
        assert sum(batch.skipped for batch in alone) > 0
        for one, other in zip(alone, shared, strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.labels, other.labels)
            assert one.part.samples.tolist() == other.part.samples.tolist()
            assert (one.part.epoch, one.skipped) == (other.part.epoch, other.skipped)
