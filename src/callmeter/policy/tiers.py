"""Tiers: a limit by name, given to users or agents, with a person's own limit over it.

    "tiers": {"free": 5, "gold": 300},
    "users": {"alice": "gold", "bob": {"tier": "free", "limit": 25}, "*": "free"}

`*` is everyone who is not named. A limit of null is none: such a user falls under the total alone.
"""

from __future__ import annotations

from callmeter.policy.quota_rules import plain_quota
from callmeter.policy.reading import Part, closest, kind_of, nano_dollars, number_of, shown
from callmeter.words.money import NANO
from callmeter.words.subject import Subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from callmeter.policy.document import Policy
    from callmeter.policy.sections import Gathered

# USD for a period; None is unlimited. A document's own tiers stand beside these or in their place.
BUILT_IN: dict[str, int | None] = {
    "free": 10,
    "standard": 50,
    "micro": 100,
    "operator": 250,
    "enterprise": 500,
    "beta": 1000,
    "admin": None,
    "future4200": None,
}
UNLIMITED = "unlimited"
HOLDERS = {"users": "user", "agents": "agent"}
HOLDER_KEYS = ("tier", "limit")


def read_tiers(root: Part, policy: Policy, gathered: Gathered) -> None:
    """`tiers`, `users` and `agents`."""
    tiers = {name: None if limit is None else limit * NANO for name, limit in BUILT_IN.items()}
    own = root.part("tiers") or root.nothing()
    for name in own.found:
        tiers[name] = _limit(own, name)
    policy.tiers = tiers
    for key, kind in HOLDERS.items():
        holders = root.part(key) or root.nothing()
        for text, found in holders.found.items():
            name = holders.value(kind, text)
            if "*" in name and name != "*":
                holders.fault(text, f"is no {kind}'s name", f"name each {kind}, or `*` for all others")
                continue
            limit = _held(holders, text, found, tiers)
            if limit is None:
                gathered.unlimited.add((kind, name))
            else:
                gathered.add((*holders.path, text), plain_quota(Subject(kind, name), limit, policy), derived=True)


def _held(holders: Part, key: str, found: object, tiers: dict[str, int | None]) -> int | None:
    """The limit of one user or agent; None for unlimited, and after a fault."""
    if not isinstance(found, dict):
        if isinstance(found, str) and found != UNLIMITED and number_of(found) is None:
            return _tier(holders, key, found, tiers)
        return _limit(holders, key)
    holder = Part(found, (*holders.path, key), holders.faults).only(HOLDER_KEYS)
    if not found:
        holder.fault(None, "has neither `tier` nor `limit`", "add one of them")
    tier = _tier(holder, "tier", found["tier"], tiers) if "tier" in found else None
    return _limit(holder, "limit") if "limit" in found else tier


def _tier(part: Part, key: str, name: object, tiers: dict[str, int | None]) -> int | None:
    if isinstance(name, str) and name in tiers:
        return tiers[name]
    close = closest(name, tuple(tiers)) if isinstance(name, str) else ""
    advice = f"did you mean `{close}`?" if close else f"take one of {', '.join(tiers)}"
    part.fault(key, f"{shown(name)} is not a tier", advice)
    return None


def _limit(part: Part, key: str) -> int | None:
    """An amount above 0; None for `unlimited` or null, and after a fault."""
    found = part.found[key]
    if found is None or found == UNLIMITED:
        return None
    if isinstance(found, dict | list):
        part.fault(key, f"is neither an amount in USD nor `{UNLIMITED}` but {kind_of(found)}")
        return None
    try:
        return nano_dollars(found)
    except ValueError as error:
        message, advice = error.args
        part.fault(key, message, advice or f"`{UNLIMITED}` means no limit")
        return None
