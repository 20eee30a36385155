"""The policies that most teams have, read the short way: a total, and plain limits on subjects.

Every call reads the policy, and the reader that knows all of its parts, and what to say about each fault, costs more
than the rest of the decision. Whatever is not plain here, or not right, is left to that reader (`sections.py`). A
property test shows that both give the same policy.
"""

from __future__ import annotations

from decimal import Decimal

from callmeter.policy.document import Policy
from callmeter.policy.quotas import ENFORCEMENTS, PERIODS, UNITS, WARN_AT, Quota
from callmeter.words.errors import CallmeterError
from callmeter.words.jsontext import loads
from callmeter.words.money import nano
from callmeter.words.subject import Subject, parse_subject

_MOST_BYTES = 1 << 16
_MOST_USD = 10**9
_MOST_COUNT = 10**15
_KEYS = frozenset(("$schema", "version", "enforcement", "period", "total_budget", "quotas"))
_QUOTA_KEYS = frozenset(("subject", "limit", "unit", "period", "enforcement"))
_SOFT_WARNS_AT = (*WARN_AT, Decimal(1))


def plain_policy(data: bytes) -> Policy | None:
    """A policy from the bytes of a plain document; None when the full reader must have a look."""
    if len(data) > _MOST_BYTES:
        return None
    try:
        return _read(loads(data, unique_keys=True))
    except (ValueError, KeyError, TypeError, CallmeterError):  # a member is missing, or is no text where one belongs
        return None


def _read(document: object) -> Policy | None:
    if not isinstance(document, dict) or not document.keys() <= _KEYS:
        return None
    version = document.get("version", 1)
    policy = Policy()
    policy.stated_enforcement = document.get("enforcement", "")
    policy.period = document.get("period", policy.period)
    entries = document.get("quotas", [])
    if (
        version != 1
        or isinstance(version, bool)
        or policy.stated_enforcement not in ("", *ENFORCEMENTS)
        or ("enforcement" in document and not policy.stated_enforcement)
        or policy.period not in PERIODS
        or not isinstance(entries, list)
    ):
        return None
    quotas: dict[tuple[str, str, str], Quota] = {}
    if "total_budget" in document:
        policy.total_budget = _limit(document["total_budget"], "usd")
        total = _quota(Subject("total", ""), policy.total_budget, "usd", policy.period, policy.enforcement)
        total.source = "total_budget"
        quotas[total.place] = total
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not entry.keys() <= _QUOTA_KEYS or not isinstance(entry["subject"], str):
            return None
        subject = parse_subject(entry["subject"], policy.aliases)
        unit = entry.get("unit", "usd")
        period = entry.get("period", policy.period_for(subject))
        enforcement = entry.get("enforcement", policy.enforcement)
        if unit not in UNITS or period not in PERIODS or enforcement not in ENFORCEMENTS:
            return None
        quota = _quota(subject, _limit(entry["limit"], unit), unit, period, enforcement)
        quota.source = f"quotas[{index}]"
        if quotas.setdefault(quota.place, quota) is not quota:
            return None
    policy.quotas = tuple(quotas.values())
    return policy


def _quota(subject: Subject, limit: int, unit: str, period: str, enforcement: str) -> Quota:
    warn_at = _SOFT_WARNS_AT if enforcement == "soft" else WARN_AT
    return Quota(subject, limit, unit=unit, period=period, enforcement=enforcement, warn_at=warn_at)


def _limit(found: object, unit: str) -> int:
    """A limit in nano-dollars, tokens or calls. Raises ValueError for what is not plainly one."""
    if isinstance(found, bool) or not isinstance(found, int | Decimal if unit == "usd" else int):
        raise ValueError(found)
    if not 0 < found < (_MOST_USD if unit == "usd" else _MOST_COUNT):
        raise ValueError(found)
    return nano(Decimal(found)) if unit == "usd" else int(found)
