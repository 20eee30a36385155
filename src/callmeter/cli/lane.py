"""The lane: the agents' hot path from argv to the call, without Typer; and to `budget quota left`.

Importing Typer, and pydantic behind it, costs more than ten times what the call itself does, and agents start
`llm-call` hundreds of times. So a command line in which every argument is plainly known is read here, against a
table that is generated from the Typer commands (`cli/lane_table.py`). Whatever is not plain, such as help, an
unknown option, a missing value or joined short options, is handed over: Typer then reads the same arguments, and
says what is wrong in its own words. A property test shows that the lane either agrees with Typer or hands over.

This is the project's one deliberate complexity. Keep it in this room.
"""

from __future__ import annotations

from callmeter.cli.lane_table import COMMANDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from callmeter.cli.world import World


def take(arguments: list[str]) -> int | None:
    """Run one of the lane's commands and give its exit status; None when Typer must read the arguments."""
    path = "llm-call" if arguments[:1] == ["llm-call"] else " ".join(arguments[:3])
    if path not in COMMANDS:
        return None
    import gc

    gc.set_threshold(50_000)  # most are over before a collection pays; a long batch still has its own
    given = parse(path, arguments[len(path.split()) :])
    if given is None:
        return None
    from callmeter.cli.failure import run
    from callmeter.cli.world import World

    world = World()
    return run(world, arguments, lambda: _run(path, world, given))


def _run(path: str, world: World, given: dict[str, object]) -> int:
    if path == "llm-call":
        from callmeter.cli.calling import run
    else:
        from callmeter.cli.remaining import run
    return run(world, given)


def parse(path: str, arguments: list[str]) -> dict[str, object] | None:
    """The command's parameters as Typer would give them, or None when in doubt."""
    argument_name, defaults, options = COMMANDS[path]
    given: dict[str, object] = dict(defaults)
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
        known = options.get(name)
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
        elif kind == "maybe":
            if equals and not value:
                return None
        elif not equals:
            if position >= count:
                return None
            value = arguments[position]
            position += 1
        if kind in ("one", "maybe"):
            given[parameter] = value
        else:
            before = given[parameter]
            given[parameter] = [*before, value] if isinstance(before, list) else [value]
    if len(words) > (1 if argument_name else 0):
        return None
    if words:
        given[argument_name] = words[0]
    return given
