"""Quotas set and unset in the text of a policy: which entry is meant, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from callmeter.policy.document import Policy
from callmeter.policy.document_text import DocumentText, Path
from callmeter.policy.quota_rules import RATE_WORDS
from callmeter.policy.quotas import Quota
from callmeter.words.errors import CallmeterError, UsageError
from callmeter.words.jsontext import loads
from callmeter.words.money import usd
from callmeter.words.subject import Subject, parse_subject


@dataclass(frozen=True)
class Wish:
    """What a quota is to be. `limit` is in nano-dollars, tokens or calls; None and empty mean: not said, so it stays
    as it is, or as the policy has it for all."""

    subject: Subject
    limit: int
    unit: str
    period: str = ""
    enforcement: str = ""
    stages: tuple[tuple[str, str], ...] = ()
    warn_at: tuple[Decimal, ...] | None = None
    reserve: Decimal | None = None

    @property
    def plain(self) -> bool:
        """Whether it says nothing but a limit."""
        return not self.enforcement and not self.stages and self.warn_at is None and self.reserve is None


@dataclass(frozen=True)
class Change:
    """The new text, and what stood there before (None: nothing) and stands there now, for a quota on `subject`."""

    text: str
    subject: str
    period: str
    unit: str
    before: object
    after: object


def with_quota(text: str, policy: Policy, wish: Wish) -> Change:
    """The text with the quota in it: an entry of `quotas` is changed or added; a limit alone goes where the quota
    stands now, also into `total_budget` and `rate_limits`. Raises UsageError."""
    period = wish.period or _period(policy, wish.subject, wish.unit)
    place = (str(wish.subject), period, wish.unit)
    found = written_quota(policy, place)
    document = DocumentText(text)
    path = _path(document, found, policy) if found else None
    if path and path[0] != "quotas" and not wish.plain:
        raise UsageError(
            f"`{path[0]}` says the quota on {place[0]} per {period} already",
            f"set the limit alone, or remove it there first: `callmeter budget quota unset {place[0]}`",
        )
    before = _value(text, path)
    if path is None:
        if ("quotas",) not in document:
            document.set(("quotas",), [])
        entry = _entry(wish, policy, period)
        document.append(("quotas",), entry)
        return Change(document.text, *place, None, entry)
    if path[0] == "quotas":
        assert isinstance(before, dict)
        entry = _changed(before, wish)
        for key in [key for key in before if key not in entry]:
            document.remove((*path, key))
        for key, value in entry.items():
            if key not in before or before[key] != value:
                document.set((*path, key), value)
        return Change(document.text, *place, before, entry)
    after: object = _number(wish) if path[0] == "total_budget" else f"{wish.limit}/{period}"
    document.set(path, after)
    return Change(document.text, *place, before, after)


def without_quota(text: str, policy: Policy, subject: Subject, unit: str = "", period: str = "") -> Change:
    """The text without the quota. Raises UsageError when there is none, when several are meant, or when it comes from
    a strategy, a tier or a profile."""
    found = [
        quota
        for quota in _written(policy)
        if quota.subject == subject and unit in ("", quota.unit) and period in ("", quota.period)
    ]
    if not found:
        others = {quota.source for quota in policy.quotas if quota.subject == subject}
        raise UsageError(
            f"there is no such quota on {subject}",
            f"it comes from `{sorted(others)[0]}`, which only a person changes"
            if others
            else "see `callmeter budget quota show`",
            code="no_quota",
        )
    if len(found) > 1:
        which = ", ".join(f"per {quota.period} in {quota.unit}" for quota in found)
        raise UsageError(f"there are {len(found)} quotas on {subject}: {which}", "choose with `--period` and `--unit`")
    document = DocumentText(text)
    path = _path(document, found[0], policy)
    before = _value(text, path)
    document.remove(path)
    if len(path) == 3 and _value(document.text, path[:2]) == []:  # the last of several rates
        document.remove(path[:2])
    return Change(document.text, *found[0].place, before, None)


def written_quota(policy: Policy, place: tuple[str, str, str]) -> Quota | None:
    """The quota at a place (subject, period, unit) that stands in the document as such; one that a strategy gives may
    stand beside it."""
    return next((quota for quota in _written(policy) if quota.place == place), None)


def _written(policy: Policy) -> list[Quota]:
    """The quotas that stand in the document as such, without what is derived, and without soft limits beside hard."""
    return [quota for quota in policy.quotas if _top_of(quota.source) and not quota.source.endswith(".soft")]


def _top_of(source: str) -> str:
    top = source.split("[")[0].split(".")[0]
    return top if top in ("quotas", "total_budget", "rate_limits") else ""


def _period(policy: Policy, subject: Subject, unit: str) -> str:
    """The period that is meant when none is given: that of the subject's only quota, else what is usual."""
    found = {quota.period for quota in _written(policy) if quota.subject == subject and quota.unit == unit}
    if len(found) > 1:
        raise UsageError(
            f"{subject} has quotas per {', '.join(sorted(found))}", "say which one with `--period`", code="ambiguous"
        )
    if found:
        return found.pop()
    return policy.period_for(subject)


def _path(document: DocumentText, quota: Quota, policy: Policy) -> Path:
    top = _top_of(quota.source)
    if top == "total_budget":
        return ("total_budget",)
    if top == "quotas":
        return ("quotas", int(quota.source.removeprefix("quotas[").partition("]")[0]))
    rates = loads(document.text)
    assert isinstance(rates, dict)
    for key, value in rates["rate_limits"].items():
        try:
            if parse_subject(key, policy.aliases) != quota.subject:
                continue
        except CallmeterError:
            continue
        for index, rate in enumerate(value if isinstance(value, list) else [value]):
            if RATE_WORDS.get(str(rate).partition("/")[2]) == quota.period:
                return ("rate_limits", key, index) if isinstance(value, list) else ("rate_limits", key)
    raise AssertionError(f"{quota.source} is not in the document")


def _value(text: str, path: Path | None) -> object:
    found = loads(text)
    for step in path or ():
        if isinstance(found, dict):
            found = found[str(step)]
        elif isinstance(found, list):
            found = found[int(step)]
    return found if path else None


def _number(wish: Wish) -> int | Decimal:
    return usd(wish.limit) if wish.unit == "usd" else wish.limit


def _entry(wish: Wish, policy: Policy, period: str) -> dict[str, object]:
    entry: dict[str, object] = {"subject": str(wish.subject), "limit": _number(wish)}
    if wish.unit != "usd":
        entry["unit"] = wish.unit
    if period != policy.period_for(wish.subject) or wish.period:
        entry["period"] = period
    if wish.enforcement:
        entry["enforcement"] = wish.enforcement
    return _with_rest(entry, wish)


def _changed(before: dict[str, object], wish: Wish) -> dict[str, object]:
    entry = dict(before)
    if "limit" in entry:
        entry["limit"] = _number(wish)
        if wish.enforcement:
            entry["enforcement"] = wish.enforcement
    elif wish.enforcement == "showback":
        entry = {key: value for key, value in entry.items() if key not in ("soft", "hard")}
        entry |= {"limit": _number(wish), "enforcement": "showback"}
    else:
        entry[wish.enforcement or ("hard" if "hard" in entry else "soft")] = _number(wish)
    return _with_rest(entry, wish)


def _with_rest(entry: dict[str, object], wish: Wish) -> dict[str, object]:
    if wish.stages:
        entry["stages"] = dict(wish.stages)
    if wish.warn_at is not None:
        entry["warn_at"] = list(wish.warn_at)
    if wish.reserve is not None:
        entry["reserve"] = wish.reserve
    return entry
