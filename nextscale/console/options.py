"""Turns configuration dataclasses into options and parsed options back into dataclasses.

Options are dashed, lists take spaces, switches take no value, `--config` reads YAML.
"""

import json
import re
from argparse import SUPPRESS
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from types import MappingProxyType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from jsonargparse import (
    ActionYesNo,
    ArgumentError,
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
)

from nextscale.config.building import build
from nextscale.console.complaints import explain
from nextscale.errors import UsageError, shown, unknown
from nextscale.scales import Scales
from nextscale.storage.documents import parse_document, read_document

T = TypeVar("T")
OpenTable = Callable[[dict[str, Any], str], dict[str, Any]]  # a table and its file to options
Themes = Mapping[str, str]  # names of options with spaces between, by the title of their group


class Stop(Exception):
    """The parser has answered by itself, as with `--help`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class HelpFormatter(DefaultHelpFormatter):
    """Shows an option's text and, in brackets, its default, unless the text ends in its own."""

    def _get_help_string(self, action: Any) -> str:
        text = action.help or ""
        said = text.endswith("]") or action.default is None or action.default == SUPPRESS
        return text if said or not action.option_strings else f"{text} [{show(action.default)}]"


class Parser(ArgumentParser):
    """A jsonargparse parser whose errors are one line.

    Attributes:
        presets: defaults by the name that `--preset` takes.
        open_table: gives the options that a file's table stands for; see `with_contents`.
        complete: gives the words to parse instead, of words and the names of their presets, as
            where a run is continued; None keeps them.
    """

    presets: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    open_table: OpenTable | None = None
    complete: Callable[[Sequence[str], Sequence[str]], list[str]] | None = None

    def parse(self, words: Sequence[str]) -> Namespace:
        """Parses words. Raises UsageError at a bad one and Stop behind `--help`."""
        words, tables = with_contents(words, self.open_table)
        for table in tables:
            check_sections(table, [action.dest for action in self._actions])
        names = preset_names(words, tables)
        self.take_presets(names)
        self.usage = f"{self.prog} {self.synopsis()}"
        try:
            options = self.parse_args(self.complete(words, names) if self.complete else words)
        except ArgumentError as error:
            message = explain(str(error), self.option_names())
            end = "" if message.endswith("?") else ";"
            raise UsageError(f"{message}{end} `{self.prog} --help` shows the options") from None
        except OverflowError as error:
            raise UsageError(f"a number is too large ({error}); give a smaller one") from None
        except SystemExit as stop:
            raise Stop(int(stop.code or 0)) from None
        check_texts(options)
        return options

    def synopsis(self) -> str:
        """What follows the command's name; the options are listed below it."""
        words = ["[options]"]
        for action in self._get_positional_actions():
            plain = {"?": f"[{action.dest}]", "+": f"{action.dest} [{action.dest} ...]"}
            words.append(plain.get(str(action.nargs), action.dest))
        return " ".join(words)

    def option_names(self) -> list[str]:
        """All options, as they are typed."""
        names = [name for action in self._actions for name in action.option_strings]
        return [name for name in names if name.startswith("--")]

    def take_presets(self, names: Sequence[str]) -> None:
        """Makes the fields of presets the defaults, which files and options override."""
        for name in names:
            if name not in self.presets:
                raise unknown("preset", name, self.presets)
            self.set_defaults(dict(self.presets[name]))


def preset_names(words: Sequence[str], tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """Presets that the files and words of a line ask for, the one that wins last.

    Args:
        words: of the line.
        tables: that its files hold.
    """
    given = [table.get("preset") for table in tables]
    return [*map(str, filter(None, given)), *values_of("--preset", words)]


def values_of(option: str, words: Sequence[str]) -> list[str]:
    """What the words give an option, written with a space or with `=`."""
    found = []
    for word, following in zip(words, [*words, ""][1:], strict=True):
        name, equals, value = word.partition("=")
        if name == option:
            found.append(value if equals else following)
    return found


def with_contents(
    words: Sequence[str], open_table: OpenTable | None = None
) -> tuple[list[str], list[dict[str, Any]]]:
    """The words with what `--config` files hold in place of their names, and that as tables.

    So each file is read once, and may be a pipe.

    Args:
        words: of the line.
        open_table: gives the options that a table of a file stands for; None takes it as it is.

    Raises:
        UsageError: if one cannot be read or holds something else.
    """
    replaced, tables = [], []
    given = iter(words)
    for word in given:
        name, equals, file = word.partition("=")
        if name == "--config" and (file := file if equals else next(given, "")):
            text = read_document(file)
            table = parse_document(text, file)
            if open_table is not None and (options := open_table(table, file)) is not table:
                table, text = options, json.dumps(options, ensure_ascii=False)
            tables.append(table)
            replaced.append(f"{name}={text}")
        else:
            replaced.append(word)
    return replaced, tables


def check_sections(table: Mapping[str, Any], names: Sequence[str], above: str = "") -> None:
    """Raises UsageError at a value of a file where a table of options belongs.

    Args:
        names: of all options, with dots.
        above: name of the table, which ends in a dot.
    """
    if "config" in table and not above:
        raise UsageError("config stands in a file of options; give --config twice on the line")
    for key, value in table.items():
        section = f"{above}{key}."
        if any(name.startswith(section) for name in names):
            if not isinstance(value, Mapping):
                held = "null" if value is None else shown(value)
                raise UsageError(f"{section[:-1]} is {held}; a table of options is needed")
            check_sections(value, names, section)


def check_texts(values: Any, name: str = "") -> None:
    """Raises UsageError at an option that holds a NUL, which no path and no name does."""
    if isinstance(values, Namespace):
        for key, value in vars(values).items():
            check_texts(value, f"{name}.{key}" if name else key)
    elif isinstance(values, list):
        for value in values:
            check_texts(value, name)
    elif isinstance(values, str) and "\0" in values:
        raise UsageError(f"--{name.replace('_', '-')} is {shown(values)}; it holds a NUL")


def parser_for(name: str, what: str) -> Parser:
    """An empty parser of a command."""
    return Parser(
        prog=name,
        description=what,
        formatter_class=HelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )


def add_config(parser: Parser) -> None:
    """Lets a command read options from YAML files; what follows on the line overrides them."""
    parser.add_argument("--config", action="config", help="YAML file of options")


def add_optional(place: Any, kind: type) -> None:
    """Adds an option for every field of a flat dataclass; None where it is not given.

    Args:
        place: a parser or a group of it.
    """
    told, hints = attribute_texts(kind), get_type_hints(kind)
    for item in fields(kind):
        option = "--" + item.name.replace("_", "-")
        if hints[item.name] is bool:
            switch = ActionYesNo(no_prefix="no-")
            place.add_argument(option, action=switch, default=None, help=told[item.name])
        else:
            place.add_argument(
                option, type=hints[item.name] | None, default=None, help=told[item.name]
            )


def add_device_argument(parser: Parser) -> None:
    """Adds where the work is done."""
    device = "as torch names it; auto takes an accelerator if there is one"
    parser.add_argument("--device", type=str, default="auto", help=device)


def add_dataclass(
    parser: Parser, kind: type, prefix: str = "", themes: Themes = MappingProxyType({})
) -> None:
    """Adds an option for every field of a dataclass; nested ones become dotted.

    The help shows a nested dataclass as a group, described by its docstring's first sentence.

    Args:
        themes: further groups of the help: names of options, dotted, by the group's title.
    """
    told = attribute_texts(kind)
    hints = get_type_hints(kind)
    titles = {name: title for title, names in themes.items() for name in names.split()}
    for item in fields(kind):
        hint, name = hints[item.name], prefix + item.name
        if is_dataclass(hint):
            add_dataclass(parser, hint, f"{name}.", themes)  # pyright: ignore[reportArgumentType]
            continue
        if name in titles:
            place = group_of(parser, titles[name])
        else:
            place = group_of(parser, prefix.rstrip("."), first_sentence(kind))
        default = default_of(item)
        option = "--" + name.replace("_", "-")
        text = told.get(item.name, "")
        if hint is bool:
            switch = ActionYesNo(no_prefix="no-")  # a file may have set what the line takes back
            place.add_argument(option, action=switch, default=default, help=text)
        elif hint == Scales or get_origin(hint) is tuple:
            place.add_argument(
                option, nargs="+", type=element_of(hint), default=list(default), help=text
            )
        else:
            place.add_argument(option, type=hint, default=default, help=text)


def group_of(parser: Parser, title: str, description: str | None = None) -> Any:
    """The group of a title, made when it is first asked for; without a title the parser itself."""
    if not title:
        return parser
    for group in parser._action_groups:
        if group.title == title:
            return group
    return parser.add_argument_group(title, description)


def first_sentence(kind: type) -> str:
    """Of a dataclass's docstring."""
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def from_options(kind: type[T], options: Namespace) -> T:
    """The dataclass that parsed options describe. Raises UsageError as the dataclass does."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for item in fields(kind):  # pyright: ignore[reportArgumentType]
        hint, value = hints[item.name], options[item.name]
        if value is None:
            raise UsageError(f"{item.name} is null; give a value or leave it out")
        if is_dataclass(hint):
            if not isinstance(value, Namespace):
                raise UsageError(f"{item.name} is {value!r}; a table of options is needed")
            value = from_options(hint, value)  # pyright: ignore[reportArgumentType]
        elif isinstance(value, list):
            value = tuple(value)
        values[item.name] = value
    return build(kind, values, kind.__name__)


def default_of(item: Field[Any]) -> Any:
    """A field's default value."""
    return item.default_factory() if item.default_factory is not MISSING else item.default


def element_of(hint: Any) -> Any:
    """What converts one entry of a list option."""
    if hint == Scales:
        return scale_entry
    element = get_args(hint)[0]
    return {int: int, float: float}.get(element, str)


def scale_entry(value: Any) -> Any:
    """One scale: a side, `HxW`, or a pair from YAML; `parse_scales` checks it later."""
    return value


def attribute_texts(kind: type) -> dict[str, str]:
    """The description of each attribute in the docstrings of a dataclass and its parents."""
    told: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        for names, text in attribute_entries(parent.__doc__ or ""):
            told |= {name.strip(): text for name in names.split(",")}
    return told


def attribute_entries(docstring: str) -> Iterator[tuple[str, str]]:
    """Names and text of every entry under `Attributes:`."""
    _, _, section = docstring.partition("Attributes:")
    for match in re.finditer(r"^ {8}(\w[\w, ]*): (.*(?:\n {12}.*)*)", section, re.MULTILINE):
        yield match[1], " ".join(match[2].split())


def show(default: Any) -> str:
    """A default as it stands in the help."""
    if default is None or default in ("", [], ()):
        return "none"
    if isinstance(default, list | tuple):
        return " ".join("x".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in default)
    if isinstance(default, bool):
        return "on" if default else "off"
    return str(default)
