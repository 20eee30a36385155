"""The command tree as plain values, for the man pages and the completions: read from the commands themselves."""

from __future__ import annotations

import enum
import inspect
import sys
import typing
from dataclasses import dataclass
from typing import Any

import typer

from callmeter.cli.app import COMMANDS, GROUPS, _root, load
from callmeter.cli.examples import examples_in
from callmeter.cli.pairs import takes_pair

HELP = "Show the help and exit."
ROOT = "callmeter"


@dataclass(frozen=True)
class Option:
    """An option. `metavars` has one word for each value that it takes: none for a flag, two for `-o KEY VALUE`."""

    names: tuple[str, ...]
    negatives: tuple[str, ...]
    metavars: tuple[str, ...]
    choices: tuple[str, ...]
    help: str
    repeatable: bool

    @property
    def long(self) -> str:
        """Its name in full."""
        return next(name for name in self.names if name.startswith("--"))


@dataclass(frozen=True)
class Argument:
    """A positional argument."""

    metavar: str
    required: bool
    repeatable: bool
    choices: tuple[str, ...]
    help: str


@dataclass(frozen=True)
class Command:
    """A command. `path` is what a person types; `paragraphs` are the help after its first line."""

    path: str
    summary: str
    paragraphs: tuple[str, ...]
    examples: tuple[str, ...]
    arguments: tuple[Argument, ...]
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Group:
    """A command that only has subcommands."""

    path: str
    summary: str
    options: tuple[Option, ...]
    children: tuple[Group | Command, ...]


def tree() -> Group:
    """`callmeter` and everything below it. Raises ImportError for a command in the table without its module."""
    single = typer.Typer(rich_markup_mode=None)
    single.command()(_root)
    version = typer.main.get_command(single).params[0]
    return Group(ROOT, (inspect.getdoc(_root) or "").splitlines()[0], (_option(version), _help_option()), _children(""))


def command(path: str) -> Command:
    """The command for a path of words such as `budget status`."""
    real = load(path)
    paragraphs, examples = _help_of(real)
    shown = [parameter for parameter in real.params if not parameter.hidden]
    options = [_option(parameter) for parameter in shown if parameter.param_type_name == "option"]
    return Command(
        f"{ROOT} {path}",
        paragraphs[0],
        tuple(paragraphs[1:]),
        tuple(examples),
        tuple(_argument(parameter) for parameter in shown if parameter.param_type_name == "argument"),
        (*options, _help_option()),
    )


def commands(node: Group | Command) -> list[Command]:
    """A node's commands, in the order of the help."""
    if isinstance(node, Command):
        return [node]
    return [found for child in node.children for found in commands(child)]


def _children(path: str) -> tuple[Group | Command, ...]:
    found: list[Group | Command] = []
    for name in _names(path):
        below = f"{path} {name}".strip()
        if below in GROUPS:
            found.append(Group(f"{ROOT} {below}", GROUPS[below], (_help_option(),), _children(below)))
        else:
            found.append(command(below))
    return tuple(found)


def _names(path: str) -> list[str]:
    """The words that may follow a path, in the order of the table."""
    start = f"{path} " if path else ""
    names = [below.removeprefix(start).split()[0] for below in COMMANDS if below.startswith(start)]
    return list(dict.fromkeys(names))


def _help_of(real: Any) -> tuple[list[str], list[str]]:
    """The help's paragraphs, and the example lines: its own, and those of the command's module."""
    paragraphs: list[str] = []
    examples: list[str] = []
    for paragraph in inspect.cleandoc(real.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            examples += paragraph.splitlines()[1:]
        else:
            paragraphs.append(" ".join(paragraph.split()))
    module = sys.modules[inspect.unwrap(real.callback).__module__]
    examples += [line for line in examples_in(module.__doc__) if line not in examples]
    return paragraphs, examples


def _option(parameter: Any) -> Option:
    names = sorted(parameter.opts, key=lambda name: (name.startswith("--"), parameter.opts.index(name)))
    choices = _choices(parameter)
    metavars: tuple[str, ...] = ()
    if takes_pair(parameter):
        metavars = tuple(parameter.metavar.split())
    elif not parameter.is_flag and not parameter.count:
        metavars = (parameter.metavar or "|".join(choices) or _type_name(parameter),)
    return Option(
        tuple(names),
        tuple(parameter.secondary_opts),
        metavars,
        choices,
        " ".join((parameter.help or "").split()),
        bool(parameter.multiple),
    )


def _argument(parameter: Any) -> Argument:
    return Argument(
        parameter.metavar or parameter.name.upper(),
        parameter.required,
        parameter.nargs != 1,
        _choices(parameter),
        " ".join((parameter.help or "").split()),
    )


def _help_option() -> Option:
    return Option(("-h", "--help"), (), (), (), HELP, False)


def _choices(parameter: Any) -> tuple[str, ...]:
    annotation = parameter.type_descriptor.annotation
    for kind in (annotation, *typing.get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return tuple(str(member.value) for member in kind)
    return ()


def _type_name(parameter: Any) -> str:
    return {int: "N", float: "NUMBER"}.get(parameter.type_descriptor.annotation, "TEXT")
