"""The policy, `budget.json`, as a value: read strictly, every fault reported at once.

An invalid policy denies: whoever reads it gets Malformed, never a policy without rules.
"""

from __future__ import annotations

from callmeter.words.errors import CallmeterError, Malformed
from callmeter.words.jsontext import loads
from callmeter.words.tags import ALIASES, tag_name

KEYS = ("$schema", "version", "time_zone", "max_output_tokens", "tags")
TAG_KEYS = ("required", "allowed", "aliases")


class Policy:
    """What a team has decided. The empty policy, without a file, has no rules."""

    def __init__(self) -> None:
        self.time_zone = "UTC"
        self.max_output_tokens: int | None = None
        self.required: tuple[str, ...] = ()
        self.allowed: dict[str, tuple[str, ...]] = {}
        self.aliases: dict[str, str] = dict(ALIASES)


def parse_policy(data: bytes, path: str) -> Policy:
    """A policy from the bytes of a file. Raises Malformed that lists every fault."""
    policy = Policy()
    try:
        document = loads(data.removeprefix(b"\xef\xbb\xbf"), unique_keys=True)
    except ValueError as error:
        raise Malformed(
            f"{path}: not JSON: {error}", f"mend it, or move {path} away to call without a policy"
        ) from None
    if not isinstance(document, dict):
        raise Malformed(f"{path}: not a JSON object", 'the smallest policy is `{"version": 1}`')
    faults: list[str] = []
    _unknown(document, KEYS, "", faults)
    if document.get("version", 1) != 1:
        faults.append("`version` is not 1")
    zone = document.get("time_zone", "UTC")
    if isinstance(zone, str) and _is_zone(zone):
        policy.time_zone = zone
    else:
        faults.append(f"`time_zone` {zone!r} is not a name such as `Europe/Berlin`")
    ceiling = document.get("max_output_tokens")
    if ceiling is not None:
        if isinstance(ceiling, int) and not isinstance(ceiling, bool) and ceiling > 0:
            policy.max_output_tokens = ceiling
        else:
            faults.append("`max_output_tokens` is not a whole number above 0")
    tags = document.get("tags", {})
    if isinstance(tags, dict):
        _tag_rules(tags, policy, faults)
    else:
        faults.append("`tags` is not an object")
    if faults:
        raise Malformed(f"{path}: " + "; ".join(faults), "see `man 5 budget.json`")
    return policy


def _tag_rules(tags: dict[str, object], policy: Policy, faults: list[str]) -> None:
    _unknown(tags, TAG_KEYS, "tags.", faults)
    required = tags.get("required", [])
    if isinstance(required, list) and all(isinstance(name, str) for name in required):
        policy.required = tuple(_name(name, "tags.required", faults) for name in required)
    else:
        faults.append("`tags.required` is not a list of names")
    allowed = tags.get("allowed", {})
    if isinstance(allowed, dict):
        for name, values in allowed.items():
            if isinstance(values, list) and values and all(isinstance(value, str) for value in values):
                policy.allowed[_name(name, "tags.allowed", faults)] = tuple(values)
            else:
                faults.append(f"`tags.allowed.{name}` is not a list of values")
    else:
        faults.append("`tags.allowed` is not an object")
    aliases = tags.get("aliases", {})
    if isinstance(aliases, dict):
        for alias, name in aliases.items():
            if isinstance(name, str):
                policy.aliases[_name(alias, "tags.aliases", faults)] = _name(name, "tags.aliases", faults)
            else:
                faults.append(f"`tags.aliases.{alias}` is not a name")
        for alias, name in policy.aliases.items():
            if name in policy.aliases:
                faults.append(f"`tags.aliases.{alias}` points to {name!r}, which is an alias itself")
    else:
        faults.append("`tags.aliases` is not an object")


def _name(text: str, where: str, faults: list[str]) -> str:
    try:
        return tag_name(text)
    except CallmeterError as error:
        faults.append(f"`{where}`: {error.message}")
        return text


def _unknown(found: dict[str, object], known: tuple[str, ...], where: str, faults: list[str]) -> None:
    for name in found:
        if name not in known:
            import difflib

            close = difflib.get_close_matches(name, known, 1)
            faults.append(f"unknown key `{where}{name}`" + (f", did you mean `{close[0]}`?" if close else ""))


def _is_zone(name: str) -> bool:
    if name == "UTC":
        return True
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True
