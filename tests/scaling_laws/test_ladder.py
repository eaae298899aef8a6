"""A ladder's runs follow its rule, are shared among processes, and go on where they stopped."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from nextscale.config.architecture import TransformerConfig
from nextscale.config.run import VarTraining
from nextscale.config.scaling import LadderConfig
from nextscale.errors import UsageError
from nextscale.scaling_laws.ladder import Missing, climb


@pytest.fixture
def config(tmp_path) -> LadderConfig:
    return LadderConfig(
        out=str(tmp_path / "ladder"),
        depths=(1, 2, 4),
        sweep_depths=(2,),
        shares=(0.1,),
        share_depth=2,
        training=VarTraining(tokenizer="fashion-mnist", epochs=5),
    )


def pretend(command: list[str]) -> int:
    """Ends as a training does that succeeds."""
    options = yaml.safe_load(Path(command[-1]).read_text())
    final = Path(options["out"]) / "final"
    final.mkdir(parents=True, exist_ok=True)
    (final / "config.json").write_text(json.dumps({}))
    return 0


def test_the_rule(config) -> None:
    runs = config.runs()
    assert list(runs) == [
        *("sweep-d2-x0.5", "sweep-d2-x1", "sweep-d2-x2"),
        *("d1", "d2", "d4", "share-0.1"),
    ]
    model = runs["d4"].model
    assert (model.depth, model.width, model.heads) == (4, 128, 4)
    assert runs["d4"].learning_rate == pytest.approx(1e-3 * 192 / 128)
    assert runs["sweep-d2-x2"].learning_rate == 2 * runs["d2"].learning_rate
    assert runs["sweep-d2-x2"].epochs == 1
    few = runs["share-0.1"]
    assert few.data.share == 0.1
    assert few.epochs * few.data.share == pytest.approx(5)
    with pytest.raises(UsageError, match="depth 1 has width 48, which heads of 32 do not divide"):
        replace(config, width_step=48)
    with pytest.raises(UsageError, match="head is 0; it must be from 1"):
        replace(config, head=0)
    with pytest.raises(
        UsageError, match=r"sweep_epochs is 5; it must be below training\.epochs, 5"
    ):
        replace(config, sweep_epochs=5)
    with pytest.raises(UsageError, match="shares are"):
        replace(config, shares=(1.0,))
    with pytest.raises(UsageError, match=r"training\.learning_rate is given by the ladder"):
        replace(config, training=replace(config.training, learning_rate=1e-2))
    with pytest.raises(UsageError, match=r"training\.model\.depth is given by the ladder"):
        replace(config, training=replace(config.training, model=TransformerConfig(depth=3)))


def test_finished_runs_are_skipped_and_failures_named(config) -> None:
    asked, told = [], []

    def train(command: list[str]) -> int:
        asked.append(Path(command[-1]).stem)
        if asked[-1] != "d2":
            return pretend(command)
        (Path(config.out) / "d2").mkdir()
        (Path(config.out) / "d2/log.jsonl").touch()
        return code

    for code in (2, -9):  # the latter: killed, as where memory runs out
        asked.clear()
        assert climb(config, told.append, train) == Missing(failed={"d2": code})
        shutil.rmtree(Path(config.out) / "d2")
        assert set(asked) <= set(config.runs())
    assert asked == ["d2"]
    asked.clear()
    assert climb(config, told.append, pretend) == Missing()
    assert asked == []
    options = yaml.safe_load((Path(config.out) / "d4.yaml").read_text())
    assert options["model"]["width"] == 128
    assert options["cache"] == str(Path(config.out) / "tokens")


def test_a_run_that_another_process_has_is_left_to_it(config) -> None:
    Path(config.out).mkdir()
    with FileLock(Path(config.out) / "d1.lock"):
        assert climb(config, print, pretend) == Missing(taken=["d1"])
    assert climb(config, print, pretend) == Missing()


def test_a_finished_run_of_another_configuration_is_refused(config) -> None:
    assert climb(config, print, pretend) == Missing()
    other = replace(config, learning_rate=2e-3)
    with pytest.raises(UsageError, match=r"sweep-d2-x0\.5 holds a run of another configuration"):
        climb(other, print, pretend)


def test_a_training_that_cannot_start_ends_the_ladder(config) -> None:
    with pytest.raises(UsageError, match=r"sweep-d2-x0.5 could not start"):
        climb(config, print, lambda _: 2)


@pytest.mark.parametrize("code", [128 + 15, 128 + 2, -15, -2])
def test_an_interrupted_run_ends_the_ladder(config, code: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        climb(config, print, lambda _: code)
