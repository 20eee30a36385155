"""The parts of the policy that are quotas as they stand: `total_budget`, `quotas`, `rate_limits`."""

from __future__ import annotations

from decimal import Decimal

from callmeter.policy.quotas import ACTIONS, ENFORCEMENTS, PERIODS, UNITS, Quota, Stage
from callmeter.policy.reading import Fault, Part, closest, kind_of, number_of, shown, whole_number
from callmeter.words.errors import CallmeterError
from callmeter.words.subject import FACTS, Subject, parse_subject
from callmeter.words.tags import BUILT_IN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from callmeter.policy.document import Policy
    from callmeter.policy.reading import Path
    from callmeter.policy.sections import Gathered

QUOTA_KEYS = (
    "subject",
    "limit",
    "soft",
    "hard",
    "unit",
    "period",
    "enforcement",
    "warn_at",
    "stages",
    "reserve",
)
LIMITS: tuple[str, ...] = ("limit", "soft", "hard")
RATE_WORDS = {
    "s": "second",
    "sec": "second",
    "second": "second",
    "m": "minute",
    "min": "minute",
    "minute": "minute",
    "h": "hour",
    "hour": "hour",
    "d": "day",
    "day": "day",
    "w": "week",
    "week": "week",
    "month": "month",
    "year": "year",
}
_ONE = Decimal(1)
TOTAL = Subject("total", "")


def read_total(root: Part, policy: Policy, gathered: Gathered) -> None:
    """`total_budget`: everything together may cost this much in the policy's period."""
    policy.total_budget = root.usd("total_budget")
    if policy.total_budget is not None:
        gathered.add(("total_budget",), plain_quota(TOTAL, policy.total_budget, policy))


def read_quotas(root: Part, policy: Policy, gathered: Gathered) -> None:
    """`quotas`: each entry as one quota, or as two when it has a soft limit below the one that holds."""
    for part in root.listed("quotas"):
        _entry(part.only(QUOTA_KEYS), policy, gathered)


def read_rates(root: Part, policy: Policy, gathered: Gathered) -> None:
    """`rate_limits`: for each subject a rate such as `100/day`, or several, which then all hold."""
    rates = root.part("rate_limits") or root.nothing()
    for text in rates.found:
        subject = subject_in(rates, text, text, policy)
        if subject is not None:
            for path, quota in rate_quotas(rates, text, subject, policy):
                gathered.add(path, quota)


def plain_quota(subject: Subject, limit: int, policy: Policy, *, pools: tuple[str, ...] = ()) -> Quota:
    """A quota of money with nothing but a limit: the rest is as the policy says for all."""
    return Quota(
        subject,
        limit,
        period=policy.period,
        enforcement=policy.enforcement,
        warn_at=_warnings(policy.warn_at, policy.enforcement),
        pools=pools,
    )


def rate_quotas(part: Part, key: str, subject: Subject, policy: Policy) -> list[tuple[Path, Quota]]:
    """The quotas of calls that a rate, or a list of rates, stands for, each with its path."""
    found = part.found[key]
    quotas: dict[str, tuple[Path, Quota]] = {}
    enforcement = policy.enforcement_for(acts=True)
    if found == []:
        part.fault(key, "names no rate", "write one such as `100/day`, or remove it")
    for index, text in enumerate(found if isinstance(found, list) else [found]):
        path = (*part.path, key, index) if isinstance(found, list) else (*part.path, key)
        count, period, advice = _rate(text)
        if not count:
            part.faults.append(Fault(path, f"{shown(text)} is not a rate", advice))
        elif period in quotas:
            part.faults.append(Fault(path, f"{shown(text)} is the second rate for one {period}"))
        else:
            quota = Quota(subject, count, unit="calls", period=period, enforcement=enforcement)
            quota.warn_at = _warnings((), enforcement)
            quotas[period] = path, quota
    return list(quotas.values())


def _subject_meant(text: str) -> str:
    """`agent:code` for `agent;code`, and for `code`."""
    for sign in ";=/, ":
        kind, found, value = text.strip().partition(sign)
        if found and kind in (*BUILT_IN, *FACTS):
            return f"{kind}:{value.strip()}"
    return f"agent:{text.strip()}"


def subject_in(part: Part, key: str, text: object, policy: Policy) -> Subject | None:
    """A subject, with the policy's other names for tags; a fault at `key` when it is none."""
    if not isinstance(text, str):
        part.fault(key, f"is not a subject such as `agent:code` but {kind_of(text)}")
        return None
    try:
        return parse_subject(text, policy.aliases)
    except CallmeterError as error:
        if text == "*":
            part.fault(key, "'*' is not a subject", "write `total` for all calls together")
        elif text.isprintable() and text.strip() and ":" not in text and shown(text) == repr(text):
            part.fault(key, f"{shown(text)} is not a subject", f"did you mean `{_subject_meant(text)}`?")
        else:
            part.fault(key, f"{shown(text)} is not a subject", error.hint)
        return None


def period_in(part: Part, policy: Policy, subject: Subject | None = None) -> str:
    """The member `period`; else what is usual for the subject, or the policy's."""
    return part.choice("period", PERIODS, policy.period if subject is None else policy.period_for(subject))


def _entry(part: Part, policy: Policy, gathered: Gathered) -> None:
    if "subject" not in part.found:
        part.fault(None, "has no `subject`", "add one such as `agent:code` or `total`")
        return
    subject = subject_in(part, "subject", part.found["subject"], policy)
    unit = part.choice("unit", UNITS, "usd")
    period = period_in(part, policy, subject)
    limits = {key: _limit(part, key, unit) for key in LIMITS if key in part.found}
    stages, warned = _stages(part)
    enforcement = _enforcement(part, policy, limits, stages)
    warn_at = _warnings((*part.shares("warn_at", policy.warn_at), *warned), enforcement)
    reserve = part.share("reserve", Decimal(0), below_one=True)
    main = limits.get("hard") or limits.get("limit") or limits.get("soft")
    if subject is None or main is None:
        return
    quota = Quota(subject, main, unit=unit, period=period, enforcement=enforcement)
    quota.stages, quota.warn_at, quota.reserve = stages, warn_at, reserve
    gathered.add(part.path, quota)
    soft = limits.get("soft")
    if soft and len(limits) > 1:
        if soft > main:
            part.fault("soft", "is above the limit that stops", "make it lower: a warning comes first")
        extra = Quota(subject, soft, unit=unit, period=period, enforcement="soft", warn_at=(_ONE,))
        gathered.add_beside((*part.path, "soft"), extra)


def _enforcement(part: Part, policy: Policy, limits: dict[str, int | None], stages: tuple[Stage, ...]) -> str:
    """How an entry's main limit is enforced. `soft` and `hard` beside `limit` would say it twice."""
    if not limits:
        part.fault(None, "has no `limit`", "add `limit`, or `soft` and `hard`")
    if "limit" in limits and "hard" in limits:
        part.fault("hard", "stands beside `limit`", "keep one of them")
    if "limit" not in limits:
        if limits and "enforcement" in part.found:
            part.fault("enforcement", "goes with `limit`", "`soft` and `hard` say themselves how they are enforced")
        return "hard" if "hard" in limits else "soft"
    default = policy.enforcement_for(acts=bool(stages))
    return part.choice("enforcement", ENFORCEMENTS, default)


def _limit(part: Part, key: str, unit: str) -> int | None:
    return part.usd(key) if unit == "usd" else part.count(key)


def _stages(part: Part) -> tuple[tuple[Stage, ...], tuple[Decimal, ...]]:
    """The stages that act, and the shares of those that only warn."""
    stages = part.part("stages")
    if stages is None:
        return (), ()
    found: dict[Decimal, Stage] = {}
    for key, action in stages.found.items():
        share = number_of(key)
        if share is None or not 0 <= share <= 1:
            percent = number_of(key.strip().rstrip("%"))
            right = percent is not None and 0 <= percent <= 100
            stages.fault(
                key,
                "is not a share from 0 to 1",
                f"did you mean `{(percent / 100).normalize():f}`?" if right and percent is not None else "",
            )
            continue
        stage = _stage(stages, key, share, action)
        if share in found:
            stages.fault(key, "is the second stage at one share")
        elif stage is not None:
            found[share] = stage
    acting = tuple(stage for stage in found.values() if stage.action != "warn")
    acting = tuple(sorted(acting, key=lambda stage: stage.share))
    return acting, tuple(stage.share for stage in found.values() if stage.action == "warn" and stage.share)


def _stage(stages: Part, key: str, share: Decimal, action: object) -> Stage | None:
    if not isinstance(action, str):
        stages.fault(key, f"is not a stage such as `approve` but {kind_of(action)}")
        return None
    word, colon, model = action.partition(":")
    model = model.strip()
    if word not in ACTIONS:
        close = closest(word, ACTIONS)
        stages.fault(
            key,
            f"{shown(action)} is none of warn, downgrade:MODEL, approve, stop",
            f"did you mean `{close}`?" if close else "",
        )
    elif (word == "downgrade") != bool(model) or (colon and not model) or not model.isprintable():
        if word == "downgrade":
            stages.fault(key, f"{shown(action)} names no model", "write `downgrade:MODEL`")
        else:
            stages.fault(key, f"{shown(action)} takes nothing after `{word}`", f"write `{word}`")
    else:
        return Stage(share, word, model)
    return None


def _warnings(shares: tuple[Decimal, ...], enforcement: str) -> tuple[Decimal, ...]:
    """When a quota warns. A soft one always does when it is used up: that is what it is for."""
    return tuple(sorted({*shares, _ONE} if enforcement == "soft" else set(shares)))


def _rate(value: object) -> tuple[int, str, str]:
    """Count and period; for what is no rate, a count of 0 and what to write instead."""
    advice = "write a rate such as `100/day` or `20/min`"
    if not isinstance(value, str):
        return 0, "", advice
    number, slash, word = value.partition("/")
    try:
        count = whole_number(number)
    except ValueError:
        return 0, "", advice
    period = RATE_WORDS.get(word, "")
    close = closest(word, tuple(RATE_WORDS)) if slash and not period else ""
    if close:
        return 0, "", f"did you mean `{count}/{RATE_WORDS[close]}`?"
    return count if period else 0, period, advice
