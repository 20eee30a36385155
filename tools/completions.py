"""Write `completions/` from the command tree: bash, zsh and fish, for `callmeter` and `llm-call`. `--check` compares.

Commands and options stand in the scripts, so that Tab starts no program for them. Only values that live in files
(agents, models, labels of keys, …) are asked for, from `callmeter __complete KIND` (`cli/completing.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from callmeter.cli.completing import KINDS
from command_tree import Argument, Command, Group, Option, command, tree
from generated import ROOT, TEMPLATES, write_or_check

COMPLETIONS = ROOT / "completions"
# What an option or operand with this metavar takes.
_BY_METAVAR = {"FILE": "file", "PATH": "file", "IMAGE": "file", "SCHEMA": "file", "MODEL": "@model"}
_BY_METAVAR |= {"LABEL": "@key", "AGENT": "@agent"}


def scripts() -> dict[str, str]:
    """Every script by its file's name."""
    roots: dict[str, Group | Command] = {"callmeter": tree(), "llm-call": replace(command("llm-call"), path="llm-call")}
    found = {}
    for name, root in roots.items():
        found[f"{name}.bash"] = bash(root)
        found[f"_{name}"] = zsh(root)
        found[f"{name}.fish"] = fish(root)
    return found


def kind_of(entry: Option | Argument) -> str:
    """What may stand as the value: `file`, `@KIND` for the values of `callmeter __complete KIND`, or nothing."""
    metavar = entry.metavar if isinstance(entry, Argument) else " ".join(entry.metavars)
    if metavar in _BY_METAVAR:
        return _BY_METAVAR[metavar]
    if isinstance(entry, Argument) or not metavar or metavar == "NAME=VALUE":
        return ""
    name = {"by": "tag"}.get(entry.long[2:], entry.long[2:].replace("-", "_"))
    return f"@{name}" if name in KINDS and name != "key" else ""


def bash(root: Group | Command) -> str:
    """The script for bash."""
    specs = []
    for node in _nodes(root):
        parts = []
        if isinstance(node, Group):
            parts.append(f"commands='{' '.join(_name(child) for child in node.children)}'")
        parts.append(f"options='{' '.join(_bash_option(option) for option in node.options)}'")
        operands = [",".join(a.choices) or kind_of(a) for a in node.arguments] if isinstance(node, Command) else []
        if any(operands):
            parts.append(f"operands='{next(filter(None, operands))}'")
        specs += [f"    '{node.path}')", *(f"        {part}" for part in parts), "        ;;"]
    return _filled("completion.bash", root, SPECS="\n".join(specs))


def _bash_option(option: Option) -> str:
    kind = ""
    if option.metavars:
        kind = ":" + (":" if len(option.metavars) > 1 else ",".join(option.choices) or kind_of(option))
    return " ".join([*(name + kind for name in option.names), *option.negatives])


def zsh(root: Group | Command) -> str:
    """The script for zsh: a function for each command, named after its words."""
    return _filled("completion.zsh", root, FUNCTIONS="\n".join(_zsh_function(root, node) for node in _nodes(root)))


def _zsh_function(root: Group | Command, node: Group | Command) -> str:
    specs = [_zsh_option(root, option) for option in node.options]
    lines = [f"_{node.path.replace(' ', '-')}() {{"]
    if isinstance(node, Group):
        lines += ["  local curcontext=$curcontext state line", "  local -a commands"]
        specs += ["'1: :->command'", "'*:: :->rest'"]
    else:
        specs += [
            _quoted(
                f"{'*' if argument.repeatable else number}:{_plain(argument.metavar)}:{_zsh_action(root, argument)}"
            )
            for number, argument in enumerate(node.arguments, 1)
        ]
    flags = "-C " if isinstance(node, Group) else "-s -S "
    lines += [f"  _arguments {flags}\\", *(f"    {spec} \\" for spec in specs)]
    lines[-1] = lines[-1].removesuffix(" \\")
    if isinstance(node, Group):
        lines += ["  case $state in", "  command)", "    commands=("]
        lines += [f"      {_quoted(f'{_name(child)}:{_short(child.summary)}')}" for child in node.children]
        lines += ["    )", "    _describe -t commands command commands", "    ;;", "  rest)", "    case $line[1] in"]
        lines += [f"    {_name(child)}) _{child.path.replace(' ', '-')} ;;" for child in node.children]
        lines += ["    esac", "    ;;", "  esac"]
    return "\n".join([*lines, "}", ""])


def _zsh_option(root: Group | Command, option: Option) -> str:
    names = [*option.names, *option.negatives]
    exclusive = "*" if option.repeatable else f"({' '.join(names)})"
    help = "[" + re.sub(r"([\[\]\\])", r"\\\1", _short(option.help)) + "]"
    value = "".join(f":{_plain(metavar)}:{_zsh_action(root, option)}" for metavar in option.metavars)
    marks = {True: "=", False: "+"} if len(option.metavars) == 1 else {True: "", False: ""}
    spelled = [name + marks[name.startswith("--")] for name in option.names] + list(option.negatives)
    if len(spelled) == 1:
        return _quoted(f"{exclusive if option.repeatable else ''}{spelled[0]}{help}{value}")
    return f"{_quoted(exclusive)}{{{','.join(spelled)}}}{_quoted(help + value)}"


def _zsh_action(root: Group | Command, entry: Option | Argument) -> str:
    kind = kind_of(entry)
    if entry.choices:
        return f"({' '.join(entry.choices)})"
    if kind == "file":
        return "_files"
    if kind == "@template":
        return f" _{root.path}_template"
    if kind:
        return f" _{root.path}_values {kind[1:]}"
    # For an operand zsh's own "nothing to offer" would keep it from completing options in its place.
    return " " if isinstance(entry, Option) else " true"


def fish(root: Group | Command) -> str:
    """The script for fish."""
    walk = (TEMPLATES / "walk.fish").read_text() + "\n" if isinstance(root, Group) else ""
    return _filled("completion.fish", root, WALK=walk, LINES="\n".join(_fish_lines(root)))


def _fish_lines(root: Group | Command) -> Iterator[str]:
    for node in _nodes(root):
        start = f"complete -c {root.path}"
        if isinstance(root, Group):
            where = "at" if isinstance(node, Group) else "in"
            start += f" -n '__{_identifier(root)}_{where}{node.path.removeprefix(root.path)}'"
        if isinstance(node, Group):
            for child in node.children:
                yield f"{start} -a {_name(child)} -d {_fish_quoted(_short(child.summary))}"
        else:
            for argument in node.arguments:
                values = _fish_values(root, argument)
                if values:
                    yield f"{start} {values}"
        for option in node.options:
            names = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in option.names)
            help = f"-d {_fish_quoted(_short(option.help))}"
            values = f" {_fish_values(root, option) or '-x'}" if option.metavars else ""
            yield f"{start} {names}{values} {help}"
            for negative in option.negatives:
                yield f"{start} -l {negative[2:]} {help}"


def _fish_values(root: Group | Command, entry: Option | Argument) -> str:
    kind = kind_of(entry)
    if entry.choices:
        return f"-x -a '{' '.join(entry.choices)}'"
    if kind == "file":
        return "-r -F"
    if kind:
        files = "-r -F" if kind == "@template" else "-x"
        return f"{files} -a '(__{_identifier(root)}_values {kind[1:]})'"
    return ""


def _nodes(root: Group | Command) -> Iterator[Group | Command]:
    yield root
    if isinstance(root, Group):
        for child in root.children:
            yield from _nodes(child)


def _name(node: Group | Command) -> str:
    return node.path.split()[-1]


def _identifier(root: Group | Command) -> str:
    return root.path.replace("-", "_")


def _short(text: str) -> str:
    """The first sentence, without its full stop."""
    return re.split(r"(?<=[^.])\. (?=[A-Z`])", text, maxsplit=1)[0].rstrip(".")


def _plain(text: str) -> str:
    return text.replace(":", "\\:")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _filled(template: str, root: Group | Command, **holes: str) -> str:
    text = (TEMPLATES / template).read_text()
    for hole, value in {**holes, "NAME": root.path, "FUNCTION": _identifier(root)}.items():
        text = text.replace(f"@{hole}@", value)
    return text


if __name__ == "__main__":
    files = {COMPLETIONS / name: text for name, text in scripts().items()}
    write_or_check(files, [COMPLETIONS], "tools/completions.py")
