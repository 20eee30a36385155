"""The monthly review of keys: what is wrong with each, how bad that is, and the command that mends it."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.words.money import NANO, shown
from callmeter.words.wording import counted

UNUSED = timedelta(days=30)
_EXPIRING = timedelta(days=14)
# A week that costs more than three of the usual ones is told only if it costs so much more.
_FLOOR = NANO


@dataclass(frozen=True)
class Seen:
    """What the usage log has of a key in 30 days. Money in nano-dollars; `week` and `before` are what the last seven
    days cost, and the three weeks before them. `untagged` are calls without an agent."""

    agents: Collection[str] = ()
    calls: int = 0
    untagged: int = 0
    week: int = 0
    before: int = 0
    last: datetime | None = None


@dataclass(frozen=True)
class Audited:
    """A registered key as the audit sees it. `state` is that of the key in its store, `due` when it is to be rotated;
    at the provider: its `limit` (None: no limit, or not known), what a quota `wants`, and whether it is `known` there,
    `gone`, or `disabled`. `elsewhere` is where it lies if that is a plain place, `advice` the command for that."""

    label: str
    agent: str
    owner: str
    provider: str
    environment: str
    shared: bool
    created: datetime | None
    expires: datetime | None
    due: datetime | None
    state: str
    weak_place: str = ""
    advice: str = ""
    known: bool = False
    gone: bool = False
    disabled: bool = False
    limit: int | None = None
    wanted: int | None = None
    differs: bool = False
    has_quota: bool = False
    management: bool = False


@dataclass(frozen=True)
class Fault:
    """One finding: which key, what kind, how bad (`bad` or `weak`), in words, and the command that mends it."""

    label: str
    kind: str
    level: str
    text: str
    command: str


def key_faults(
    keys: Sequence[Audited],
    seen: Mapping[str, Seen],
    strays: Iterable[tuple[str, str]],
    now: datetime,
    revived: Iterable[str] = (),
) -> list[Fault]:
    """What is wrong with the registered keys, and with those of the account that nobody registered (`strays`: their
    name and hash) or that were retired and are good there all the same (`revived`: their labels)."""
    faults: list[Fault] = []
    for key in keys:
        faults += _of_entry(key, now)
        faults += _of_place(key)
        if key.management:
            continue  # it makes no calls, and the account does not list it
        faults += _of_provider(key)
        faults += _of_use(key, seen.get(key.label, Seen()), now)
    holders: dict[tuple[str, str, str], list[str]] = {}
    for key in keys:
        if key.agent:
            holders.setdefault((key.agent, key.provider, key.environment), []).append(key.label)
    for (agent, provider, environment), labels in holders.items():
        if len(labels) > 1:
            where = f" in {environment}" if environment else ""
            text = f"agent {agent} has {len(labels)} keys of {provider}{where}: {', '.join(labels)}"
            faults.append(Fault(labels[-1], "several", "weak", text, f"callmeter budget keys retire {labels[-1]}"))
    for label, use in seen.items():
        if label.startswith("env:") and use.calls and label not in {key.label for key in keys}:
            text = f"{use.calls} calls in 30 days took the key in this variable, which all that runs here shares"
            faults.append(Fault(label, "unregistered", "weak", text, "callmeter budget keys create AGENT LIMIT"))
    for label in revived:
        text = "it was retired, and is good at the provider all the same"
        faults.append(Fault(label, "revived", "bad", text, f"callmeter budget keys retire {label}"))
    for name, hash in strays:
        text = f"{name or hash[:16]} is a key of the account that nobody registered"
        faults.append(Fault(name, "stray", "weak", text, "callmeter budget keys import"))
    return faults


def key_audit(faults: Sequence[Fault], keys: int, unasked: str = "") -> Report:
    """A row for each finding, the bad ones first. `unasked` says why the account could not be seen."""
    columns = [
        Column("label", "key", Kind.TEXT),
        Column("level", "", Kind.TEXT),
        Column("kind", "finding", Kind.TEXT, optional=2),
        Column("text", "what", Kind.TEXT),
        Column("command", "command", Kind.COMMAND, below=True),
    ]
    order = {"bad": 0, "weak": 1}
    rows = [
        Row(vars(fault)) for fault in sorted(faults, key=lambda fault: (order[fault.level], fault.label, fault.kind))
    ]
    bad = sum(fault.level == "bad" for fault in faults)
    notes = [f"{counted(keys, 'key')}, {counted(len(faults), 'finding')}, {bad} of them bad."]
    notes += [unasked] if unasked else []
    return Report("Audit of the keys", columns, rows, notes=notes, facts={"keys": keys, "bad": bad})


def _of_entry(key: Audited, now: datetime) -> Iterable[Fault]:
    again = f"--label {key.label} --replace"
    if not key.owner:
        command = f"callmeter budget keys add {again} --existing --owner …"
        yield Fault(key.label, "no_owner", "weak", "nobody answers for it", command)
    if key.expires is None:
        command = f"callmeter budget keys add {again} --existing --expires 90d"
        yield Fault(key.label, "no_expiry", "weak", "it never expires", command)
    elif key.expires <= now:
        text = f"it expired on {key.expires:%Y-%m-%d}"
        yield Fault(key.label, "expired", "bad", text, f"callmeter budget keys add {again}")
    elif key.expires <= now + _EXPIRING:
        text = f"it expires on {key.expires:%Y-%m-%d}"
        yield Fault(key.label, "expiring", "bad", text, f"callmeter budget rotate-key {key.label}")
    ending = key.expires is not None and key.expires <= now + _EXPIRING
    if key.due is not None and key.due <= now and not ending:
        text = f"it is due for rotation since {key.due:%Y-%m-%d}"
        yield Fault(key.label, "old", "weak", text, f"callmeter budget rotate-key {key.label}")


def _of_place(key: Audited) -> Iterable[Fault]:
    words = {
        "missing": ("missing", "the key is not where its entry says"),
        "changed": ("changed", "the key in its place is not the registered one"),
        "unsafe": ("unsafe", "others may have read it, so it is not used"),
        "unreachable": ("unreachable", "its store does not answer"),
    }
    if key.state in words:
        kind, text = words[key.state]
        command = f"callmeter budget keys add --label {key.label} --replace"
        commands = {"missing": command, "changed": f"{command} --existing"}
        yield Fault(key.label, kind, "bad", text, commands.get(kind, "callmeter doctor"))
    if key.weak_place:
        yield Fault(key.label, "plain_text", "weak", key.weak_place, key.advice)


def _of_provider(key: Audited) -> Iterable[Fault]:
    if key.gone:
        command = f"callmeter budget keys retire {key.label}"
        yield Fault(key.label, "gone", "bad", "the account has no such key (any more)", command)
    elif key.disabled:
        command = f"callmeter budget keys retire {key.label}"
        yield Fault(key.label, "disabled", "bad", "it is disabled at the provider", command)
    elif key.differs:
        limit = "no limit" if key.limit is None else shown(key.limit)
        wanted = "" if key.wanted is None else f", its quota {shown(key.wanted)}"
        text = f"the provider holds {limit}{wanted}"
        yield Fault(key.label, "ceiling_differs", "weak", text, f"callmeter budget quota sync {key.label} --apply")
    elif key.known and key.limit is None and not key.has_quota:
        holder = shlex.quote(f"agent:{key.agent}" if key.agent else f"key:{key.label}")
        command = f"callmeter budget quota set {holder} 10 --hard"
        yield Fault(key.label, "no_limit", "bad", "nothing limits it, neither here nor at the provider", command)
    if not (key.known or key.gone or key.has_quota):
        holder = shlex.quote(f"agent:{key.agent}" if key.agent else f"key:{key.label}")
        command = f"callmeter budget quota set {holder} 10 --hard"
        yield Fault(key.label, "no_limit", "weak", "no quota limits it here; its ceiling is not known", command)


def _of_use(key: Audited, seen: Seen, now: datetime) -> Iterable[Fault]:
    young = key.created is not None and key.created > now - UNUSED
    if not seen.calls and not young:
        command = f"callmeter budget keys retire {key.label}"
        yield Fault(key.label, "unused", "weak", "nobody used it for 30 days", command)
    if seen.untagged:
        text = f"{seen.untagged} of its {seen.calls} calls in 30 days name no agent"
        yield Fault(key.label, "untagged", "weak", text, "callmeter budget tags")
    if len(seen.agents) > 1 and not key.shared:
        text = f"{len(seen.agents)} agents use it: {', '.join(sorted(seen.agents)[:5])}"
        yield Fault(key.label, "shared_by_agents", "weak", text, "callmeter budget keys create AGENT LIMIT")
    usual = seen.before // 3
    if seen.week > 3 * usual and seen.week - usual > _FLOOR and seen.before:
        text = f"{shown(seen.week)} in seven days, after {shown(usual)} a week before"
        command = f"callmeter budget breakdown --by-agent --by-session --last 7d --where key={key.label}"
        yield Fault(key.label, "spiking", "bad", text, command)
