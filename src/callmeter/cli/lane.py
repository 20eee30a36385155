"""The lane: the agents' hot path from argv to the call, without Typer.

Importing Typer, and pydantic behind it, costs more than ten times what the call itself does, and agents start
`llm-call` hundreds of times. So a command line in which every argument is plainly known is read here, against a
table that is generated from the Typer command (`cli/lane_table.py`). Whatever is not plain, such as help, an
unknown option, a missing value or joined short options, is handed over: Typer then reads the same arguments, and
says what is wrong in its own words. A property test shows that the lane either agrees with Typer or hands over.

This is the project's one deliberate complexity. Keep it in this room.
"""

from __future__ import annotations

from callmeter.cli.lane_table import ARGUMENT, DEFAULTS, OPTIONS


def take(arguments: list[str]) -> int | None:
    """Run `llm-call` with these arguments and give its exit status; None when Typer must read them."""
    given = parse(arguments)
    if given is None:
        return None
    from callmeter.cli.calling import run as call
    from callmeter.cli.failure import run
    from callmeter.cli.world import World

    world = World()
    return run(world, arguments, lambda: call(world, given))


def parse(arguments: list[str]) -> dict[str, object] | None:
    """The command's parameters as Typer would give them, or None when in doubt."""
    given: dict[str, object] = dict(DEFAULTS)
    words: list[str] = []
    position = 0
    count = len(arguments)
    while position < count:
        argument = arguments[position]
        position += 1
        if argument == "--":
            words += arguments[position:]
            break
        if argument[:1] != "-" or argument == "-":
            words.append(argument)
            continue
        name, equals, value = argument, "", ""
        if argument[:2] == "--":
            name, equals, value = argument.partition("=")
        known = OPTIONS.get(name)
        if known is None:
            return None
        parameter, kind = known
        if kind in ("yes", "no"):
            if equals:
                return None
            given[parameter] = kind == "yes"
            continue
        if kind == "pair":
            if equals or position + 2 > count:
                return None
            value = f"{arguments[position]}={arguments[position + 1]}"
            position += 2
        elif kind != "maybe" and not equals:
            if position >= count:
                return None
            value = arguments[position]
            position += 1
        if kind in ("one", "maybe"):
            given[parameter] = value
        else:
            before = given[parameter]
            given[parameter] = [*before, value] if isinstance(before, list) else [value]
    if len(words) > 1:
        return None
    if words:
        given[ARGUMENT] = words[0]
    return given
