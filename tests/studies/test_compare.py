"""The comparison's plan, arithmetic and table; its trainings take hours and are not run here."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

from nextscale.config.run import TokenizerTraining, VarTraining
from nextscale.console.options import from_options, parser_for
from nextscale.errors import UsageError
from nextscale.models.layers import MLP
from nextscale.training.command import add_training_arguments
from studies.__main__ import main
from studies.comparison import contenders, jury, tables, trainings
from studies.diffusion.train import DiffusionTraining

KINDS = {
    "var": VarTraining,
    "ar": VarTraining,
    "diffusion": DiffusionTraining,
}


@pytest.mark.parametrize("name", contenders.TRAININGS)
def test_recipes_are_ones_that_their_commands_take(name: str) -> None:
    kind = KINDS[contenders.TRAININGS[name].command]
    parser = parser_for("train", "")
    add_training_arguments(parser, kind)
    words = ["--config", str(contenders.RECIPES / f"{name}.yaml"), "--tokenizer", "x"]
    config = from_options(kind, parser.parse(words))
    ordered = getattr(getattr(config, "model", None), "order", "scales")
    assert (ordered == "scales") == (contenders.TRAININGS[name].command != "ar")
    steps = 937 * int(config.epochs)
    assert config.keep >= steps // config.save_every + config.epochs  # every checkpoint stays
    assert config.epochs == 5


def test_both_tokenizers_are_trained_alike() -> None:
    configs = []
    for name in (contenders.PYRAMID, contenders.SINGLE):
        parser = parser_for("train", "")
        add_training_arguments(parser, TokenizerTraining)
        words = ["--config", str(contenders.RECIPES / f"tokenizer_{name}.yaml")]
        configs.append(from_options(TokenizerTraining, parser.parse(words)))
    pyramid, single = configs
    scales_and_codes = {"scales": pyramid.tokenizer.scales, "codes": pyramid.tokenizer.codes}
    assert replace(single.tokenizer, **scales_and_codes) == pyramid.tokenizer
    assert replace(single, tokenizer=pyramid.tokenizer) == pyramid


def test_every_row_has_a_training_and_every_rate_an_owner() -> None:
    assert {row.training for row in contenders.ROWS.values()} == set(contenders.TRAININGS)
    for training in contenders.TRAININGS.values():
        assert training.rate_of in {"", *contenders.TRAININGS}


def test_a_row_takes_options_from_one_that_ran_before() -> None:
    before: dict[str, contenders.Row] = {}
    for name, row in contenders.ROWS.items():
        if row.options_of:
            assert not row.tuned
            assert before[row.options_of].training == row.training
        before[name] = row


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 100 steps, whose log says that it waited for something in its second half."""
    lines = [
        {"event": "start", "steps": 100, "training_flops_per_image": 10.0},
        {"step": 50, "images": 500, "images_per_second": 11.0},  # killed after this line
        {"step": 50, "images": 500, "images_per_second": 10.0},
        {"event": "validation", "step": 50, "loss": 2.0},
        {"step": 100, "images": 1000, "images_per_second": 0.5},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in range(10, 101, 10):
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    return tmp_path


def test_what_a_training_cost(run: Path) -> None:
    assert trainings.cost_of(run) == {"images": 1000, "hours": 100 / 3600, "flops": 10000.0}
    assert trainings.checkpoint_at(run, 0.3).name == "step-00000030"
    assert trainings.checkpoint_at(run, 1) == run / "final"
    with pytest.raises(UsageError, match="no checkpoint of 35% of its 100 steps"):
        trainings.checkpoint_at(run, 0.35)


def test_records_are_made_of_what_is_asked_for() -> None:
    assert trainings.Judging().wants("var")
    only = trainings.Judging(only=("var", contenders.PYRAMID))
    assert only.wants(contenders.PYRAMID)
    assert not only.wants(contenders.SINGLE)


def test_the_rate_of_lowest_loss_is_taken_by_all_of_a_kind(tmp_path: Path) -> None:
    comparison = trainings.Judging(records=str(tmp_path))
    losses = {"0.0003": 3.0, "0.001": 2.5, "0.003": 2.7, "0.01": 4.0}
    comparison.keep("rate_var_normalized", {"losses": losses})
    assert trainings.tuned_rate(comparison, "var_large") == 1e-3


def test_diffusion_gets_the_arithmetic_of_its_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flops, asked = {contenders.EQUAL_COST: 30.0, "dit": 10.0}, []

    def pretend(comparison: trainings.Comparison, name: str, seed: int, **options: Any) -> Path:
        asked.append((name, options))
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        start = {"event": "start", "training_flops_per_image": flops[name]}
        (out / "log.jsonl").write_text(json.dumps(start) + "\n")
        return out

    monkeypatch.setattr(trainings, "trained", pretend)
    comparison = trainings.Comparison(records=str(tmp_path / "records"))
    assert trainings.full_training(comparison, "dit", 0, 1e-3) == tmp_path / "dit"
    assert [name for name, _ in asked] == [contenders.EQUAL_COST, "dit", "dit"]
    longest = asked[-1][1]
    assert longest["epochs"] == 3 * 5  # of the recipe
    assert longest["keep"] >= 937 * 15 // longest["save_every"] + 15  # every checkpoint stays


def test_table_and_figures(tmp_path: Path) -> None:
    records = tmp_path / "comparison"
    command = ["compare", "table", "--records", str(records)]
    assert main(command) == 2
    figures = {"inception_score": 5.0, "precision": 0.8, "recall": 0.7, "class_accuracy": 0.9}
    for i, name in enumerate(("ar", "normalized", "dit_ddim")):
        row = contenders.ROWS[name]
        record = {
            "title": row.title,
            "training": row.training,
            "runs": [{"training_seed": 0, "seed": s, "fid": i + s / 10, **figures} for s in (0, 1)],
            "learning_rate": 1e-3,
            "tuning": {"options": {"cfg": 1.5} if row.tuned else {}, "tried": []},
            "parameters": 2_000_000,
            "steps": 49,
            "precision": "bf16",
            "cost": {"images": 10, "hours": 0.5, "flops": 3e12},
            "images_judged": 10000,
            "date": "2026-11-25",
            "on_the_way": [{"share": 0.1, "fid": 4.0}, {"share": 0.3, "fid": 3.0}],
        }
        trainings.Comparison(records=str(records)).keep(f"row_{name}", record)
    rates = {"ar": 10 / 7200}  # of 10 images: two hours, where the training's own log tells half
    seconds = {
        "median": {"ar": 0.02, "dit_ddim": 0.4},
        "training_images_per_second": rates,
        "images_at_once": 50,
        "processor": "an abacus",
        "threads": 2,
        "date": "2026-11-27",
    }
    trainings.Comparison(records=str(records)).keep("seconds", seconds)
    assert main(command) == 0
    page = (tmp_path / "comparison.md").read_text()
    assert "| next-token | 0.050 (±0.050) | 5.00 | 0.80 | 0.70 | 90.0% | 2,000,000 | 49 |" in page
    assert "| 49 | 0.0200 | 3 | 2.00 |" in page
    assert "| 49 | 0.4000 | 3 | 0.50 |" in page
    assert "| next-token | 4.000 | 3.000 | 0.050 |" in page
    assert "Not made yet: next-scale; + AdaLN; + top-k; + guidance; larger model;" in page
    assert "| DiT, DDIM | 0.001 | off | 1.5 | 1 | bf16 | no | 2026-11-25 |" in page
    assert "50 images at once, the rows in turn on one machine (an abacus, 2 threads, " in page
    for figure in ("comparison_efficiency.png", "comparison_seconds.png"):
        assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")


def test_names_of_neighbours_do_not_overlap() -> None:
    figure, axes = plt.subplots()
    points = {"a long name": (1.0, 1.0), "another one": (1.001, 1.0), "a third": (2.0, 2.0)}
    axes.loglog(*zip(*points.values(), strict=True), "o")
    tables.name_points(axes, points)
    first, second, third = (text.get_window_extent() for text in axes.texts)
    assert not first.overlaps(second)
    assert third.x0 > axes.transData.transform((2.0, 2.0))[0]  # where nothing is in the way
    plt.close(figure)


def test_images_that_are_judged_are_those_of_users_but_for_rounding(
    saved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jury, "drawing_precision", lambda: "bf16")
    row, options = contenders.ROWS["var"], {"cfg": 1.5, "top_k": 1}  # the likeliest token
    labels = torch.arange(8) % 3
    plain, judged = (
        jury.open_contender(row, Path(saved), options, hurried).draw(labels, range(8))[-1]
        for hurried in (False, True)
    )
    assert judged.dtype == plain.dtype
    assert (judged == plain).flatten(1).all(1).float().mean() >= 0.5
    dtypes = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, _, out: dtypes.append(out.dtype) if isinstance(module, MLP) else None
    )
    with hook:
        jury.open_contender(row, Path(saved), options, True).draw(labels, range(8))[-1]
    assert set(dtypes) == {torch.bfloat16}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "'compare' needs a second word; known: compare run"),
        (["run", "--max-steps", "20"], "trials of --max-steps need records of their own"),
        (["table", "--only", "var"], "--only"),
        (["run", "--only", "gan"], "unknown training 'gan'; known: pyramid, single, ar"),
        (["judge", "--row", "gan"], "row is 'gan'; it can be ar, var, adaln"),
        (["judge", "--row", "var"], "nothing is given to judge; give --checkpoint DIRECTORY"),
        (["judge", "--row", "dit_ddim", "--checkpoint", "x", "--top-k", "5"], "draws no codes"),
    ],
)
def test_bad_input_is_one_line(words, told, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *words]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("studies: error: ")
    assert told in said
