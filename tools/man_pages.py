"""Write `man/` from the command tree, the settings and the templates beside this file. `--check` only compares.

A template is hand-written man(7) source. A line `@HOLE@` is replaced by generated source; a section whose hole
turns out empty goes with its heading. Nothing depends on the day or the machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from callmeter import __version__
from callmeter.store.settings import KNOWN, variable_of
from callmeter.words.errors import Exit
from callmeter.words.tags import BUILT_IN
from command_tree import Argument, Command, Group, Option, command, commands, tree
from generated import ROOT, TEMPLATES, write_or_check
from roff import bold, example, filled, italic, literal, prose

# The release's date; it changes with the version.
DATE = "2026-11-21"
MAN = ROOT / "man"
FILE_PAGES = ("budget.json.5", "callmeter-config.5", "callmeter-usage-log.5")

Holes = dict[str, Callable[[], list[str]]]


def pages() -> dict[str, str]:
    """Every page's source by its file's name, such as `callmeter-budget-keys.1`."""
    root = tree()
    found: dict[str, Group | Command | None] = {"callmeter.1": root}
    for node in root.children:
        found.update(_pages_of(node))
    found.update(dict.fromkeys(FILE_PAGES))
    names = list(found)
    return {name: _page(name, node, names) for name, node in found.items()}


def _pages_of(node: Group | Command) -> dict[str, Group | Command]:
    """A page for each command, or one for a group whose commands fit together on it."""
    if node.path == "callmeter llm-call":
        return {"llm-call.1": command("llm-call")}
    found = {f"{node.path.replace(' ', '-')}.1": node}
    if isinstance(node, Group) and not _together(node):
        for child in node.children:
            found.update(_pages_of(child))
    return found


def _together(group: Group) -> bool:
    return all(isinstance(child, Command) for child in group.children)


def _page(name: str, node: Group | Command | None, names: list[str]) -> str:
    template = TEMPLATES / name
    if not template.exists():
        template = TEMPLATES / ("group.1" if isinstance(node, Group) else "command.1")
    title = name.rsplit(".", 1)[0]
    holes: Holes = {
        "VERSION": lambda: [f"callmeter {__version__}"],
        "DATE": lambda: [DATE],
        "TITLE": lambda: [literal(title.upper())],
        "NAME": lambda: [literal(title)],
        "ENVIRONMENT": lambda: _expand((TEMPLATES / "environment.man").read_text(), holes),
        "FILES": lambda: _expand((TEMPLATES / "files.man").read_text(), holes),
        "SETTINGS_VARIABLES": _setting_variables,
        "TAG_VARIABLES": _tag_variables,
        "SETTINGS": _settings,
        "EXIT_STATUS": _exit_statuses,
        "SEE_ALSO": lambda: _see_also(name, names),
        "BUDGET_EXAMPLE": lambda: _literal_file(ROOT / "budget.example.json"),
        "CONFIG_EXAMPLE": lambda: _literal_file(TEMPLATES / "config.example.toml"),
        "TEMPLATE_EXAMPLE": lambda: _literal_file(TEMPLATES / "template.example.toml"),
        "USAGE_EXAMPLE": lambda: _literal_file(TEMPLATES / "usage.example.json"),
    }
    if node is not None:
        holes |= {
            "SUMMARY": lambda: [prose(_lower(node.summary))],
            "SYNOPSIS": lambda: _synopsis(node, title),
            "OPTIONS": lambda: _entries(node),
            "DESCRIPTION": lambda: _description(node),
            "COMMANDS": lambda: _commands(node),
            "EXAMPLES": lambda: _examples(node),
        }
    return "\n".join(_without_empty_sections(_expand(template.read_text(), holes))) + "\n"


def _expand(source: str, holes: Holes) -> list[str]:
    lines: list[str] = []
    for line in source.splitlines():
        whole = re.fullmatch(r"@([A-Z_]+)@", line)
        if whole:
            lines += holes[whole[1]]()
        elif line.startswith(".TH "):
            # Names of commands and variables must come out in one piece.
            lines += [_filled_in(line, holes), ".nh", ".ad l"]
        else:
            lines.append(_filled_in(line, holes))
    return lines


def _filled_in(line: str, holes: Holes) -> str:
    return re.sub(r"@([A-Z_]+)@", lambda hole: holes[hole[1]]()[0], line)


def _without_empty_sections(lines: list[str]) -> list[str]:
    kept = []
    for line, following in zip(lines, [*lines[1:], ".SH"], strict=True):
        if not (line.startswith(".SH") and following.startswith(".SH")):
            kept.append(line)
    return kept


def _synopsis(node: Group | Command, title: str) -> list[str]:
    if isinstance(node, Command):
        return [_usage(node, title if title == "llm-call" else node.path)]
    return [
        line
        for number, child in enumerate(node.children)
        for line in [*([".br"] if number else []), _usage(child, child.path)]
    ]


def _usage(node: Group | Command, name: str) -> str:
    """`callmeter budget keys add [options] LABEL`."""
    parts = [bold(name)]
    if isinstance(node, Group):
        return " ".join([*parts, italic("command"), r"[\fIarguments\fR]"])
    if len(node.options) > 1:
        parts.append(r"[\fIoptions\fR]")
    for argument in node.arguments:
        shown = italic(argument.metavar) + (r" \&..." if argument.repeatable else "")
        parts.append(shown if argument.required else f"[{shown}]")
    return " ".join(parts)


def _description(node: Group | Command) -> list[str]:
    lines = filled(prose(node.summary))
    for paragraph in node.paragraphs if isinstance(node, Command) else ():
        lines += [".PP", *filled(prose(paragraph))]
    return lines


def _entries(node: Group | Command) -> list[str]:
    arguments: tuple[Argument | Option, ...] = node.arguments if isinstance(node, Command) else ()
    return [line for entry in arguments + node.options for line in _entry(entry)]


def _entry(entry: Argument | Option) -> list[str]:
    if isinstance(entry, Argument):
        return [".TP", italic(entry.metavar), *filled(prose(entry.help))]
    tag = ", ".join(bold(name) for name in (*entry.names, *entry.negatives))
    if entry.choices:
        tag += " " + "|".join(bold(choice) for choice in entry.choices)
    else:
        tag += "".join(f" {italic(metavar)}" for metavar in entry.metavars)
    return [".TP", tag, *filled(prose(entry.help))]


def _commands(node: Group | Command) -> list[str]:
    """The commands of a group: in full where they share its page, else their names, to look up."""
    assert isinstance(node, Group)
    lines: list[str] = []
    if node.path != "callmeter" and _together(node):
        for child in node.children:
            assert isinstance(child, Command)
            lines += [f".SS {_usage(child, child.path)}", *_description(child), *_entries(child)]
        return lines
    for child in [
        child for below in node.children for child in (commands(below) if node.path == "callmeter" else [below])
    ]:
        lines += [".TP", bold(child.path), *filled(prose(child.summary))]
    return lines


def _examples(node: Group | Command) -> list[str]:
    lines = [line for each in commands(node) for shown in each.examples for line in example(shown)]
    return [".EX", *lines, ".EE"] if lines and not (isinstance(node, Group) and not _together(node)) else []


def _setting_variables() -> list[str]:
    lines: list[str] = []
    for name, known in KNOWN.items():
        lines += [".TP", bold(variable_of(name)), *filled(prose(_sentence(known.help)) + _default(known.default))]
    return lines


def _tag_variables() -> list[str]:
    names = [bold(variable_of(name)) for name in BUILT_IN]
    return filled(", ".join(names[:-1]) + f" and {names[-1]} set these tags on every call.")


def _settings() -> list[str]:
    lines: list[str] = []
    for name, known in KNOWN.items():
        kind = {"whole_number": "whole number", "seconds": "seconds", "_flag": "true or false"}.get(
            known.read.__name__, "text"
        )
        lines += [".TP", rf"{bold(name)} \- {kind}", *filled(prose(_sentence(known.help)) + _default(known.default))]
    return lines


def _default(value: object) -> str:
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
    return f" {bold(text)} unless set."


def _exit_statuses() -> list[str]:
    return [
        line for status in Exit for line in [".TP", bold(str(int(status))), *filled(prose(_sentence(status.meaning)))]
    ]


def _see_also(name: str, names: list[str]) -> list[str]:
    """The pages that a reader of this one may want next."""
    if name == "callmeter.1":
        wanted = [other for other in names if other != name]
    elif name in FILE_PAGES or name == "llm-call.1":
        wanted = ["callmeter.1", "llm-call.1", "callmeter-budget.1", "callmeter-config.1", *FILE_PAGES]
    else:
        family = "callmeter-budget" if name.startswith("callmeter-budget") else ""
        wanted = ["callmeter.1", "llm-call.1", *(other for other in names if family and other.startswith(family))]
        wanted.append({"callmeter-config.1": "callmeter-config.5", "callmeter-budget.1": "budget.json.5"}.get(name, ""))
        wanted.append("callmeter-usage-log.5")
    shown = [other.rsplit(".", 1) for other in dict.fromkeys(wanted) if other in names and other != name]
    return [
        f".BR {literal(title)} ({section})" + ("," if number < len(shown) else "")
        for number, (title, section) in enumerate(shown, 1)
    ]


def _literal_file(path: Path) -> list[str]:
    return [literal(line) for line in path.read_text().splitlines()]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _lower(text: str) -> str:
    return (text[:1].lower() + text[1:]).rstrip(".")


if __name__ == "__main__":
    directories = [MAN / "man1", MAN / "man5"]
    files = {MAN / f"man{name[-1]}" / name: text for name, text in pages().items()}
    write_or_check(files, directories, "tools/man_pages.py")
