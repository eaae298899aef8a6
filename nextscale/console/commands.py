"""A program of commands: finds the one that is typed, imports its file alone and runs it.

A file that holds one command has `add_arguments(parser)` and `run(options)`. A file that holds
several has `COMMANDS`: such a pair of functions by the last word of each command.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from jsonargparse import Namespace

from nextscale.console.options import Parser, add_dataclass, from_options, parser_for
from nextscale.errors import UsageError, did_you_mean, unknown

Command = tuple[Callable[[Parser], object], Callable[[Namespace], int | None]]


def configured(kind: type, work: Callable[[Any], int | None]) -> Command:
    """A command whose options are the fields of a dataclass.

    Args:
        kind: the dataclass.
        work: what the command does with it; returns the exit code, None for 0.
    """
    return (
        lambda parser: add_dataclass(parser, kind),
        lambda options: work(from_options(kind, options)),
    )


@dataclass(frozen=True)
class Program:
    """Commands that share a first word of the shell's line.

    Attributes:
        name: as it is typed.
        what: it is, in a sentence.
        package: that holds the commands' files.
        commands: module of the package, and what the command does, by the command's words: one, or
            two where several commands share the first.
        note: last line of the help.
        switches: that stand in place of a command.
    """

    name: str
    what: str
    package: str
    commands: Mapping[str, tuple[str, str]]
    note: str
    switches: tuple[str, ...] = ("--help",)

    def command(self, name: str) -> tuple[Parser, Callable[[Namespace], int | None]]:
        """The parser of a command with its options, and what runs it."""
        file, what = self.commands[name]
        module = import_module(f"{self.package}.{file}")
        if hasattr(module, "COMMANDS"):
            add_arguments, run = module.COMMANDS[name.split()[-1]]
        else:
            add_arguments, run = module.add_arguments, module.run
        parser = parser_for(f"{self.name} {name}", what)
        add_arguments(parser)
        return parser, run

    def run(self, words: Sequence[str]) -> int:
        """Runs the command that the words begin with; returns its exit code.

        Raises:
            UsageError: if there is no such command, or as the command does.
            Stop: behind `--help` of a command.
        """
        if words[:1] == ["help"]:
            words = [*words[1:], "--help"]
        if not words or words[0] in ("-h", "--help"):
            print(self.overview(self.commands))
            return 0
        parts = [name for name in self.commands if name.startswith(f"{words[0]} ")]
        if parts and words[1:2] in (["-h"], ["--help"], ["help"]):
            print(self.overview(parts))
            return 0
        for count in (2, 1):
            name = " ".join(words[:count])
            if name in self.commands:
                parser, run = self.command(name)
                return run(parser.parse(words[count:])) or 0
        raise self.unknown(words, parts)

    def unknown(self, words: Sequence[str], parts: Sequence[str]) -> UsageError:
        """The error about words that begin with no command; `parts` share the first word."""
        if parts and len(words) == 1:
            return UsageError(f"{words[0]!r} needs a second word; known: {', '.join(parts)}")
        single = [name for name in self.commands if " " not in name]
        mistyped = did_you_mean(words[0], single) and not parts
        given = words[0] if mistyped else " ".join(words[:2])
        return unknown("command", given, parts or [*self.commands, *self.switches])

    def overview(self, commands: Collection[str]) -> str:
        """The help of the whole program, or of the commands that share a first word."""
        width = max(map(len, commands)) + 2
        lines = [f"  {name:<{width}}{self.commands[name][1]}" for name in commands]
        usage = f"usage: {self.name} COMMAND [options]"
        return "\n".join([usage, "", self.what, "", *lines, "", self.note])
