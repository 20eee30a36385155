"""Write `cli/lane_table.py`: the options of `llm-call`, taken from its Typer command. `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from callmeter.cli.app import load
from callmeter.cli.pairs import may_lack_value, takes_pair

TABLE = Path(__file__).parent.parent / "src" / "callmeter" / "cli" / "lane_table.py"


def table() -> str:
    """The module's text."""
    argument = ""
    defaults: dict[str, object] = {}
    options: dict[str, tuple[str, str]] = {}
    for parameter in load("llm-call").params:
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
    lines = [
        '"""The options of `llm-call` for the lane, written by tools/lane_table.py from the Typer command."""',
        "",
        f'ARGUMENT = "{argument}"',
        "DEFAULTS: dict[str, object] = {",
        *(f'    "{name}": {value!r},' for name, value in defaults.items()),
        "}",
        "# Option -> its parameter, and how many values it takes.",
        "OPTIONS = {",
        *(f'    "{name}": ("{parameter}", "{kind}"),' for name, (parameter, kind) in options.items()),
        "}",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = table()
    if "--check" in sys.argv:
        if TABLE.read_text() != text:
            sys.exit(f"{TABLE.name} differs from the command: run `make lane`")
    else:
        TABLE.write_text(text)
