"""Who asks: the facts of a caller from options, variables and settings, for commands that make no call."""

from __future__ import annotations

from callmeter.words.subject import facts_of
from callmeter.words.tags import BUILT_IN, parse_tag, tag_name, tag_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from callmeter.cli.world import World
    from callmeter.flows.desk import Desk
    from callmeter.flows.remaining import Teller
    from callmeter.policy.grants import Allowances


def facts_given(world: World, given: Mapping[str, object]) -> dict[str, str]:
    """What a call with these options would be booked under. Unlike a call's, tags may be missing. Raises UsageError."""
    found: dict[str, str] = {}
    aliases = world.policy.aliases
    pairs = [(name, value) for name, value, _ in world.settings.tags()]
    pairs += [(name, str(given[name])) for name in BUILT_IN if given.get(name) is not None]
    further = given.get("tag")
    pairs += [parse_tag(str(text)) for text in (further if isinstance(further, list | tuple) else ())]
    for raw, value in pairs:
        name = tag_name(raw)
        name = aliases.get(name, name)
        found[name] = tag_value(name, value)
    return facts_of(found, key=_text(given, "key"), model=_text(given, "model"), provider=_text(given, "provider"))


def allowances_of(world: World) -> Allowances:
    """What is granted and frozen at this moment. Raises FileProblem or Malformed."""
    from callmeter.flows.desk import allowances_at

    return allowances_at(world.paths, world.now())


def teller_of(world: World) -> Teller:
    """Reads standings in this world."""
    from callmeter.cli.ledgers import ledger_of, recover_holds
    from callmeter.cli.waiting import told
    from callmeter.flows.remaining import Teller

    ledger = ledger_of(world)
    return Teller(
        world.policy,
        lambda: ledger,
        world.paths.log,
        world.now(),
        lambda: recover_holds(world),
        index=world.paths.index,
        wait=told(world),
    )


def closed_desk(world: World) -> Desk:
    """What is granted and frozen; nothing is asked there."""
    from callmeter.cli.auditing import audit
    from callmeter.flows.desk import Desk

    return Desk(world.paths, world.now(), lambda: world.who, lambda: audit(world), closed=True)


def _text(given: Mapping[str, object], name: str) -> str:
    value = given.get(name)
    return "" if value is None else str(value)
