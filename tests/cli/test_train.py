"""`nextscale train`: one command for a folder of pictures, and one line for what cannot be done."""

import shutil
from pathlib import Path

import pytest

from nextscale.cli.main import main
from tests.training.runs import train, train_words, words_of, write_pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "data", training=4, validation=1)


def refusal(capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused command leaves."""
    told = capfd.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.startswith("nextscale: error: ")
    return line


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--batch-size 13", "batch_size 13 is larger than the data (12 images); give at most 12"),
        ("--tokenizer.scales 1 4 2", "shrink"),
        ("--data.size 16", "data.size is 16, but the network takes images of 8x8 pixels"),
        ("--data.path nowhere", "no data at 'nowhere'"),
        ("--data.validation 2", "validation is 2.0; it must be from 0.0001 to 0.9999"),
        ("--accumulation 3", "cannot be divided into 3 micro-steps"),
        ("--loss.l2 0", "l1 and l2 are both 0"),
        ("--loss.perceptual 1 --loss.perceptual-network vgg", "unknown perceptual network 'vgg'"),
        ("--tokenizer.width 9", "width 9 is not divisible by its 4 groups"),
        ("--init nowhere", "nothing is known as 'nowhere'"),
        ("--precision fp64", "precision"),
        ("--epochs 1e300", "epochs is 1e+300; it must be from"),
        ("--validate-every 0", "validate_every is 0.0"),
        ("--betas 0.9", "betas.1 is not there; a value is missing"),
        ("--betas 0.9 1", "give two, each from 0 to below 1"),
        ("--weight-decay -1", "weight_decay is -1.0; it must be from 0"),
        ("--seed -1", "seed is -1"),
        ("--data.workers -1", "workers is -1; it must be from 0"),
        ("--tokenizer.phi-ratio 5", "phi_ratio is 5.0; it must be from 0 to 1"),
        ("--loss.adversarial-start 7", "adversarial_start is 7.0; it must be from 0 to 1"),
        (
            "--loss.adversarial 1 --loss.discriminator-layers 2",
            "needs images of at least 12 pixels a side; these are 8x8; give fewer layers",
        ),
        ("--loss.revive-every -2", "revive_every is -2"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    line: str, told: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train("tokenizer", tmp_path / "run", folder, *words_of(line)) == 2
    assert told in refusal(capfd)
    assert not list(tmp_path.iterdir())


def test_a_run_needs_a_directory(capfd: pytest.CaptureFixture[str]) -> None:
    for stage in ("tokenizer", "var"):
        assert main(["train", stage]) == 2
        assert "give --out DIRECTORY" in refusal(capfd)


@pytest.mark.parametrize("content", ["nothing", "no images", "broken images"])
def test_a_folder_without_a_readable_image(
    content: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    if content == "no images":
        (data / "notes.txt").write_text("x")
    elif content == "broken images":
        for i in range(3):
            (data / f"{i}.png").write_bytes(b"broken")
    assert train("tokenizer", tmp_path / "run", data) == 2
    wanted = "can be read" if content == "broken images" else "holds no images"
    assert wanted in refusal(capfd)
    assert not (tmp_path / "run").exists()


def test_a_transformer_needs_a_fitting_tokenizer(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train("var", tmp_path / "run", folder) == 2
    assert "give --tokenizer CHECKPOINT" in refusal(capfd)
    assert not list(tmp_path.iterdir())


def test_stages_and_their_options(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train"]) == 2
    assert "known: " in refusal(capfd)
    for stage, option in (("tokenizer", "--loss.adversarial"), ("var", "--label-drop")):
        assert main(["train", stage, "--help"]) == 0
        assert option in capfd.readouterr().out
    words = train_words("tokenizer", tmp_path / "run", tmp_path, "--label-drop", 0.1)
    assert main(words) == 2
    assert "label-drop" in refusal(capfd)


def test_both_stages_from_a_folder_of_plain_colour_pictures(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """Unlabelled, no `val/`, some files broken: the model is unconditional, they are counted."""
    monkeypatch.setattr("nextscale.training.monitor.measure_peak", lambda device, **_: 1e15)
    data = tmp_path / "data"
    data.mkdir()
    for i, path in enumerate(sorted(folder.rglob("*.png"))):
        shutil.copy(path, data / f"{i}.png")
    for name in "abc":
        (data / f"{name}.png").write_bytes(b"broken")
    file = tmp_path / "run.yaml"
    file.write_text("epochs: 1\nlog_every: 1\ndata:\n  flip: true\n")
    shared = ["--config", file, "--data.validation", 0.2, "--batch-size", 14]  # of 18 files
    colour = ["--tokenizer.image-channels", 3]
    assert train("tokenizer", tmp_path / "tokenizer", data, *shared, *colour) == 0
    words = ["--tokenizer", tmp_path / "tokenizer" / "final", *shared]
    assert train("var", tmp_path / "var", data, *words, "--cache-tokens", 0) == 0
    logs = [(tmp_path / run / "log.jsonl").read_text() for run in ("tokenizer", "var")]
    assert all('"skipped_files"' in log for log in logs)

    out = tmp_path / "images"
    words = ["sample", tmp_path / "var" / "final", "--count", 2, "--out", out]
    capfd.readouterr()
    assert main(list(map(str, words))) == 0
    assert len(list(out.glob("*.png"))) >= 2


def test_what_the_system_refuses_is_one_line(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train("tokenizer", Path("/proc/nowhere"), folder) == 2
    assert refusal(capfd) == "nextscale: error: /proc/nowhere: No such file or directory"


def test_sampling_is_checked_first(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr("nextscale.training.monitor.measure_peak", lambda device, **_: 1e15)
    run, words = tmp_path / "run", ["--epochs", 1]
    assert train("tokenizer", run, folder, *words) == 0
    capfd.readouterr()
    for given, told in (
        ([run / "final", "--sampling.top-k", 99], "top_k is 99; it must be from 0 (off) to 16"),
        ([run / "final", "--sampling.mean-scales", 4], "mean_scales is 4; it must be from 0"),
        ([run / "final", "--sampling.cfg", -1], "cfg is -1.0; it must be from 0"),
    ):
        assert train("var", tmp_path / "var", folder, "--tokenizer", *given) == 2
        assert told in refusal(capfd)
        assert not (tmp_path / "var").exists()
    flat = tmp_path / "flat"
    assert train("tokenizer", flat, folder, *words, "--tokenizer.scales", 4) == 0
    capfd.readouterr()
    for option in ("--sampling.smooth", "--sampling.mean-scales=1"):
        assert train("ar", tmp_path / "ar", folder, "--tokenizer", flat / "final", option) == 2
        assert "a next-token model has none" in refusal(capfd)
        assert not (tmp_path / "ar").exists()
