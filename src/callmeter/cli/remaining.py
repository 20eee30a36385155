"""What `budget quota left` does once its command line is read, by either way: agents ask before they dispatch work."""

from __future__ import annotations

from callmeter.cli.asking import allowances_of, facts_given, teller_of
from callmeter.flows.remaining import Remaining, Room
from callmeter.flows.standing import instant_text
from callmeter.policy.quotas import UNITS
from callmeter.words.errors import Exit, UsageError
from callmeter.words.money import amount_text, amount_value, nano, parse_usd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from callmeter.cli.world import World

_WORDS = {Exit.DONE: "room", Exit.REFUSED: "none", Exit.APPROVAL: "approval", Exit.BUSY: "busy"}


def run(world: World, given: Mapping[str, object]) -> int:
    """Say what is left, and give the exit status. Raises CallmeterError."""
    out = world.out
    out.shape("json" if given["json"] else "text", quiet=bool(given["quiet"]), verbose=bool(given["verbose"]))
    facts = facts_given(world, given)
    usd = _usd(given["at_least"])
    allowances = allowances_of(world)
    priority = facts.get("priority", "")
    remaining = teller_of(world).remaining(facts, allowances, usd=usd, tokens=1, priority=priority)
    if given["json"]:
        out.object(_object(remaining, facts, priority))
    else:
        out.text("\n".join(_lines(remaining, priority)))
    return int(remaining.status)


def _lines(remaining: Remaining, priority: str) -> list[str]:
    lines = []
    if remaining.frozen is not None:
        end = instant_text(remaining.frozen.until)
        lines.append(f"{remaining.frozen.subject} is frozen" + (f" until {end}" if end else ""))
    for unit, room in remaining.rooms.items():
        stand = room.stand
        of = amount_text(stand.limit(priority), unit)
        lines.append(f"{amount_text(room.left, unit)} left of {of}: {_name(room)}{_until(room)}")
    if remaining.status is Exit.APPROVAL:
        lines.append("approval is needed: `callmeter budget requests`")
    return lines or ["no limit"]


def _name(room: Room) -> str:
    quota = room.stand.quota
    soft = "" if quota.enforcement == "hard" else f", {quota.enforcement}"
    return f"{room.stand.bucket.key.removeprefix('own/')} per {quota.period}{soft}"


def _until(room: Room) -> str:
    end = instant_text(room.stand.bucket.end)
    return f", resets {end}" if end else ""


def _object(remaining: Remaining, facts: Mapping[str, str], priority: str) -> dict[str, object]:
    frozen, stand = remaining.frozen, remaining.decision.stand
    return {
        "status": _WORDS[remaining.status],
        "exit_status": int(remaining.status),
        "why": remaining.decision.why or None,
        "agent": facts.get("agent"),
        **{unit: _room(remaining.rooms[unit], priority) if unit in remaining.rooms else None for unit in UNITS},
        "frozen": None if frozen is None else str(frozen.subject),
        "resets_at": instant_text(remaining.decision.resets_at) if stand or frozen else None,
    }


def _room(room: Room, priority: str) -> dict[str, object]:
    stand, quota = room.stand, room.stand.quota
    return {
        "left": amount_value(room.left, quota.unit),
        "limit": amount_value(stand.limit(priority), quota.unit),
        "used": amount_value(stand.settled, quota.unit),
        "held": amount_value(stand.held, quota.unit),
        "subject": stand.bucket.key.removeprefix("own/"),
        "period": quota.period,
        "enforcement": quota.enforcement,
        "resets_at": instant_text(stand.bucket.end),
    }


def _usd(text: object) -> int:
    """What has to be left, in nano-dollars; next to nothing if it was not said."""
    if text is None:
        return 1
    try:
        amount = nano(parse_usd(str(text)))
    except ValueError as error:
        raise UsageError(f"--at-least: {error}", "write `--at-least 0.05`") from None
    if amount <= 0:
        raise UsageError(f"--at-least {text} is not above 0", "write `--at-least 0.05`")
    return amount
