"""The document of a policy, read part by part into one value; what is wrong is gathered on the way."""

from __future__ import annotations

from callmeter.policy.document import KEYS, TAG_KEYS, MalformedPolicy, Policy
from callmeter.policy.quota_rules import read_quotas, read_rates, read_total
from callmeter.policy.quotas import ENFORCEMENTS, PERIODS
from callmeter.policy.reading import Fault, Part, kind_of, path_text, shown
from callmeter.words.errors import UsageError
from callmeter.words.jsontext import loads
from callmeter.words.period import zone_named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from callmeter.policy.quotas import Quota
    from callmeter.policy.reading import Path

# A policy is read by every call.
MOST_BYTES = 4 << 20
UNREACHABLE = ("fail_closed", "fail_open")


class Gathered:
    """The quotas of a document as they are found, each with its path.

    Derived ones come from a strategy, a tier or a profile. `unlimited` are users and agents, as (kind, name), whose
    tier sets no limit.
    """

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = faults
        self._found: list[tuple[Quota, bool]] = []
        self._own: dict[tuple[str, str, str], Quota] = {}
        self._derived: dict[tuple[str, str, str], Quota] = {}
        self.unlimited: set[tuple[str, str]] = set()

    def add(self, path: Path, quota: Quota, *, derived: bool = False) -> None:
        """A quota. Two on one thing would leave open which of them counts."""
        quota.source = path_text(path)
        before = (self._derived if derived else self._own).setdefault(quota.place, quota)
        if before is not quota:
            self._faults.append(
                Fault(path, f"is a second quota on {quota.name}, after `{before.source}`", "keep one of them")
            )
        self._found.append((quota, derived))

    def add_beside(self, path: Path, quota: Quota) -> None:
        """A further quota of an entry that was added."""
        quota.source = path_text(path)
        self._found.append((quota, False))

    def quotas(self) -> tuple[Quota, ...]:
        """All that count. What an entry of its own replaces is left out; an allocation with pools behind it stays,
        for it is about its own part only."""
        counting = [
            quota for quota, derived in self._found if not derived or quota.pools or quota.place not in self._own
        ]
        for quota, derived in self._found:
            if derived and quota.subject.each:
                quota.excluded = self._named(quota)
        return tuple(counting)

    def _named(self, quota: Quota) -> frozenset[str]:
        """Who has a quota of the same kind by name, and so none as one of all the others."""
        kind, places = quota.subject.kind, list(self._derived.values())
        if not quota.pools:
            places += self._own.values()
        named = {
            other.subject.value
            for other in places
            if other.subject.kind == kind and (other.period, other.unit) == (quota.period, quota.unit)
        }
        return frozenset(named | {name for holder, name in self.unlimited if holder == kind}) - {"*"}


def read_policy(data: bytes, path: str) -> Policy:
    """A policy from the bytes of a file. Raises MalformedPolicy, which lists every fault."""
    faults: list[Fault] = []
    if len(data) > MOST_BYTES:
        raise MalformedPolicy(path, [(0, Fault((), f"has {len(data):,} bytes, a policy has at most {MOST_BYTES:,}"))])
    strict = ""
    try:
        document = loads(data.removeprefix(b"\xef\xbb\xbf"), unique_keys=True)
    except ValueError as error:
        from callmeter.policy.faults import read_anyway

        strict = str(error)
        document = read_anyway(data, path, faults)
    policy = Policy()
    if isinstance(document, dict):
        _read(Part(document, (), faults), policy)
    else:
        faults.append(Fault((), f"is not a JSON object but {kind_of(document)}", 'the smallest is `{"version": 1}`'))
    if strict:
        from callmeter.policy.faults import unread

        faults += unread(document, faults)
        faults += [] if faults else [Fault((), f"is not JSON: {strict}")]
    if faults:
        from callmeter.policy.faults import with_lines

        raise MalformedPolicy(path, with_lines(faults, data))
    return policy


def _read(root: Part, policy: Policy) -> None:
    root.only(KEYS, ending="_key")
    if root.found.get("version", 1) != 1 or isinstance(root.found.get("version"), bool):
        root.fault("version", f"{shown(root.found['version'])} is not 1")
    zone = root.found.get("time_zone", "UTC")
    if isinstance(zone, str) and _is_zone(zone):
        policy.time_zone = zone
    else:
        root.fault("time_zone", f"{shown(zone)} is not a name such as `Europe/Berlin`", _zone_advice(zone))
    if "enforcement" in root.found:
        policy.stated_enforcement = root.choice("enforcement", ENFORCEMENTS, "")
    policy.period = root.choice("period", PERIODS, policy.period)
    policy.warn_at = root.shares("warn_at", policy.warn_at)
    policy.unreachable = root.choice("unreachable", UNREACHABLE, policy.unreachable)
    policy.max_output_tokens = root.count("max_output_tokens")
    policy.lowest_output_tokens = root.count("lowest_output_tokens") or policy.lowest_output_tokens
    tags = root.part("tags")
    if tags is not None:
        _tag_rules(tags.only(TAG_KEYS), policy)
    gathered = Gathered(root.faults)
    read_total(root, policy, gathered)
    # Most documents have few of these parts, and every call reads the document.
    if _any(root, "allocation_strategy", "allocations", "roles"):
        from callmeter.policy.allocation import read_strategy

        read_strategy(root, policy, gathered)
    if _any(root, "tiers", "users", "agents"):
        from callmeter.policy.tiers import read_tiers

        read_tiers(root, policy, gathered)
    if _any(root, "keys") or any(key.endswith("_key") for key in root.found):
        from callmeter.policy.profiles import read_profiles

        read_profiles(root, policy, gathered)
    read_quotas(root, policy, gathered)
    read_rates(root, policy, gathered)
    policy.quotas = gathered.quotas()
    if _any(root, "models"):
        from callmeter.policy.model_rules import read_models

        read_models(root, policy)
    if _any(root, "loop_breaker", "approvals", "alerts"):
        from callmeter.policy.control_rules import read_controls

        read_controls(root, policy)


def _any(root: Part, *keys: str) -> bool:
    return any(key in root.found for key in keys)


def _tag_rules(tags: Part, policy: Policy) -> None:
    aliases = tags.part("aliases") or tags.nothing()
    for alias, meant in aliases.found.items():
        if isinstance(meant, str):
            policy.aliases[aliases.name(alias, alias)] = aliases.name(meant, alias)
        else:
            aliases.fault(alias, f"is not a tag's name but {kind_of(meant)}")
    for alias, target in policy.aliases.items():
        if target in policy.aliases:
            aliases.fault(alias, f"points to {target!r}, which is an alias itself")
    policy.required = tuple(
        dict.fromkeys(_tag(tags, name, "required", policy) for name in tags.texts("required", "names"))
    )
    allowed = tags.part("allowed") or tags.nothing()
    for name, found in allowed.found.items():
        values = allowed.values(name, name, "values")
        policy.allowed[_tag(allowed, name, name, policy)] = values
        if found == []:
            allowed.fault(name, "allows no value", "list those that are allowed")


def _tag(part: Part, text: str, key: str, policy: Policy) -> str:
    """A tag's own name: calls have their tags under it, whatever they called them."""
    name = part.name(text, key)
    return policy.aliases.get(name, name)


def _is_zone(name: str) -> bool:
    try:
        zone_named(name)
    except UsageError:
        return False
    return True


def _zone_advice(zone: object) -> str:
    if not isinstance(zone, str):
        return ""
    import difflib
    import zoneinfo

    close = difflib.get_close_matches(zone, sorted(zoneinfo.available_timezones()), 1)
    return f"did you mean `{close[0]}`?" if close else ""
