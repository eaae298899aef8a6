"""Bad values for every option of every command, from the parsers themselves."""

import os
import random
from argparse import Action
from pathlib import Path
from typing import Any

import pytest

from nextscale.cli.main import COMMANDS
from tests.fuzz.harness import REACHED, complaint, entries, parser_of, run

CASES = int(os.environ.get("NEXTSCALE_FUZZ_LINES", "900"))
NUMBERS = ["-1", "0", "1000000000", "1000000000000000000", "9" * 40, "9" * 5000, "1.5", "nan"]
FLOATS = ["-1", "0", "nan", "inf", "-inf", "1e308", "1e400", "-1e-300", "9" * 400]
WORDS = ["", "abc", "x" * 5000, "\x1b[2J", "\udcff", "..", "/dev/null/x", "None", "[1, {", "-"]
TEXTS = [*WORDS, "/proc/1/nothing", "~nobody", "a/b", "http://[", "\u202eabc", " "]
TRAIN = "--out out --data.path {}/pictures --data.workers 0 --batch-size 2 "
REFUSED = ("train ar", "convert", "scaling-laws draw")  # for want of files that others have written
BASE = {  # valid words of a command; {} is the folder of valid things
    "sample": "{}/model --count 2 --device cpu --out out",
    "reconstruct": "{}/model {}/picture.png --device cpu --out out",
    "edit inpaint": "{}/model {}/picture.png --box 0 0 4 4 --device cpu --out out",
    "edit outpaint": "{}/model {}/picture.png --sides 0 4 0 4 --device cpu --out out",
    "edit class": "{}/model {}/picture.png --box 0 0 4 4 --label 1 --device cpu --out out",
    "edit vary": "{}/model {}/picture.png --keep-scales 1 --device cpu --out out",
    "edit interpolate": "{}/model {}/picture.png {}/other.png --device cpu --out out",
    "app": "{}/model --port 0 --device cpu",
    "train tokenizer": TRAIN + "--tokenizer.scales 1 2 4 --tokenizer.width 8 --tokenizer.groups 4 "
    "--tokenizer.multipliers 1 2 --tokenizer.codes 16",
    "train var": TRAIN + "--tokenizer {}/model --model.depth 1",
    "train ar": TRAIN + "--tokenizer {}/model --model.depth 1",
    "train classifier": TRAIN + "--classifier.image-size 8 8",
    "evaluate": "{}/images.npz --reference {}/images.npz --extractor {}/classifier --metrics fid "
    "--device cpu",
    "speed sample": "--model {}/model --device cpu",
    "speed train": "--model {}/model --device cpu",
    "scaling-laws run": "--out out --training.tokenizer {}/model",
    "scaling-laws fit": "{}/ladder --out out --samples 100 --held-out 0",
    "scaling-laws predict": "{}/fit.json --params 1e6",
    "scaling-laws draw": "{}/ladder --out out --device cpu",
    "estimate": "--model {}/model --device cpu",
    "convert": "{}/state.pth out",
    "models": "",
    "data check": "{}/pictures",
}


def values_for(action: Action) -> list[list[str]]:
    """Bad words for an option, by the type that it has."""
    kind = str(getattr(action, "_typehint", None) or action.type)
    if action.nargs == 0:
        return [["=x"]]
    single = TEXTS if "str" in kind and "int" not in kind else WORDS
    single = NUMBERS + WORDS if "int" in kind else FLOATS + WORDS if "float" in kind else single
    found = [[f"={value}"] for value in single]
    if action.nargs in ("+", "*") or isinstance(action.nargs, int):
        found += [[], [" 1"] * 3000, *([" 1", f" {value}"] for value in single)]
    return found


def cases() -> list[tuple[str, str, list[str]]]:
    """Command, option and its words; those of training's options once, not for every command."""
    found, seen = [], set[Any]()
    for command in COMMANDS:
        for action in parser_of(command)._actions:
            names = [name for name in action.option_strings if name.startswith("--")]
            options = names[-1:] if names else []
            for option in options:
                if option in ("--help", "--print_config") or "print" in option:
                    continue
                for words in values_for(action):
                    key = (command.split()[0], option, *words)
                    if key not in seen:
                        seen.add(key)
                        found.append((command, option, words))
    return found


def words_of(command: str, option: str, values: list[str], things: Path) -> list[str]:
    """The line of a command with one option bad."""
    words = [*command.split(), *BASE[command].replace("{}", str(things)).split()]
    if len(values) == 1 and values[0].startswith("="):
        return [*words, option + values[0]]
    return [*words, option, *(value[1:] for value in values)]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_valid_line_of_a_command_is_answered(command: str, things: Path) -> None:
    """So that what is refused is the bad value."""
    words = [*command.split(), *BASE[command].replace("{}", str(things)).split()]
    code, told, broke = run(words)
    last = (told.splitlines() or [""])[-1]
    assert code == 0 or REACHED in last or command in REFUSED, told + broke


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bad_value_is_one_line(command: str, things: Path, tmp_path: Path) -> None:
    every = cases()
    share = random.Random(0).sample(every, min(CASES, len(every)))
    before, wrong = entries(things), []
    mine = [case for case in share if case[0] == command]
    for _, option, values in mine:
        wrong.append(complaint(words_of(command, option, values, things), tmp_path))
    assert not any(wrong), "\n".join(filter(None, wrong))
    assert entries(things) == before
