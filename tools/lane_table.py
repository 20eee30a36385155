"""Write `cli/lane_table.py`: the options of the lane's commands, from the Typer commands. `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from callmeter.cli.app import load
from callmeter.cli.pairs import may_lack_value, takes_pair

TABLE = Path(__file__).parent.parent / "src" / "callmeter" / "cli" / "lane_table.py"
COMMANDS = ("llm-call", "budget quota left")


def table() -> str:
    """The module's text."""
    lines = [
        '"""The options of the lane\'s commands, written by tools/lane_table.py from the Typer commands."""',
        "",
        "# Command -> its argument, its defaults, and each option's parameter with the number of its values.",
        "COMMANDS: dict[str, tuple[str, dict[str, object], dict[str, tuple[str, str]]]] = {",
        *(line for path in COMMANDS for line in entry(path)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def entry(path: str) -> list[str]:
    """The lines of one command."""
    argument = ""
    defaults: dict[str, object] = {}
    options: dict[str, tuple[str, str]] = {}
    for parameter in load(path).params:
        if parameter.name in (None, "help"):
            continue
        defaults[parameter.name] = () if getattr(parameter, "multiple", False) else parameter.default
        if parameter.param_type_name == "argument":
            argument = parameter.name
            continue
        kind = "pair" if takes_pair(parameter) else "many" if parameter.multiple else "one"
        if may_lack_value(parameter):
            kind = "maybe"
        for name in parameter.opts:
            options[name] = (parameter.name, "yes" if parameter.is_flag else kind)
        for name in parameter.secondary_opts:
            options[name] = (parameter.name, "no")
    return [
        f'    "{path}": (',
        f'        "{argument}",',
        "        {",
        *(f'            "{name}": {value!r},' for name, value in defaults.items()),
        "        },",
        "        {",
        *(f'            "{name}": ("{parameter}", "{kind}"),' for name, (parameter, kind) in options.items()),
        "        },",
        "    ),",
    ]


if __name__ == "__main__":
    text = table()
    if "--check" in sys.argv:
        if TABLE.read_text() != text:
            sys.exit(f"{TABLE.name} differs from the commands: run `python tools/lane_table.py`")
    else:
        TABLE.write_text(text)
