"""Figures for scrapers: what the log and the quotas say now, as families of samples with bounded labels.

Sums of money are gauges: a correction can lower one, and a scraper would take a falling counter for a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from callmeter.policy.decision import Stand
from callmeter.policy.quotas import UNITS
from callmeter.reports.burn import Burn
from callmeter.reports.quota_choice import chosen
from callmeter.reports.usage import Figures, Usage, summed
from callmeter.words.instant import parse_instant
from callmeter.words.money import usd
from callmeter.words.period import Period, bucket

OTHER = "other"
TOP = 20
MOST_QUOTAS = 100
_WINDOWS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7)}
_DAY = timedelta(days=1)
_TICK = timedelta(microseconds=1)
_TOKENS = ("in", "out", "cached", "cache_write", "reasoning")
Labels = tuple[tuple[str, str], ...]
Value = int | Decimal


@dataclass(frozen=True)
class Family:
    """One metric. `name` is without the `_total` of a counter; USD are Decimal and exact, times seconds since 1970."""

    name: str
    kind: str  # `counter` or `gauge`
    help: str
    samples: Sequence[tuple[Labels, Value]]


@dataclass(frozen=True)
class Held:
    """What calls in flight hold: `nano` dollars, and how many they are."""

    nano: int
    calls: int


def metrics(
    usage: Usage,
    now: datetime,
    version: str,
    *,
    stands: Sequence[Stand] = (),
    left_out: int = 0,
    burn: Burn | None = None,
    held: Held | None = None,
    ledger_up: bool | None = None,
    top: int = TOP,
) -> list[Family]:
    """Every family that has samples. The `top` agents by all their cost have labels of their own, the rest is `other`;
    of quotas, the hundred fullest, but of each session, or the like, more than five only where there is room. Quotas
    `left_out` are not among `stands`; `burn` is how fast those go; `held` is None when nobody knows; `ledger_up` None
    without quotas."""
    by_status = usage.groups(("agent", "status"))
    total = summed(figures for _, figures in by_status)
    agents = _by_name((agent, figures) for (agent, _), figures in by_status)
    dearest = sorted(agents, key=lambda name: (-agents[name].nano, -agents[name].calls, name))[:top]
    families = [
        _one("build_info", "The version of callmeter, as a label.", 1, (("version", version),)),
        _one("generated_timestamp_seconds", "When these figures were made.", _seconds(now)),
        *_log(usage, total),
        *_totals(total, by_status),
        *_agents(_bounded(agents, dearest)),
        *_windows(usage, now, dearest),
        *_periods(usage, now),
        *(_quotas(stands, left_out, burn or Burn((stand.quota for stand in stands), usage, now)) if stands else ()),
    ]
    if ledger_up is not None:
        families.append(_one("ledger_up", "Whether the ledger of quotas could be read.", int(ledger_up)))
    if held is not None:
        families.append(_one("held_usd", "Held by calls in flight, at their worst case.", usd(held.nano)))
        families.append(_one("held_calls", "Calls in flight that hold something.", held.calls))
    return [family for family in families if family.samples]


def _log(usage: Usage, total: Figures) -> list[Family]:
    reading = usage.reading
    found = [
        _one("log_lines", "Lines of the usage log.", reading.lines),
        _one("log_bad_lines", "Lines that are no usage records and in no sum.", reading.bad_lines),
        _one("log_duplicate_lines", "Lines whose id was read before, in no sum.", reading.duplicates),
    ]
    if total.last is not None:
        last = parse_instant(total.last)
        found.append(_one("last_call_timestamp_seconds", "When the latest call began.", _seconds(last)))
    return found


def _totals(total: Figures, by_status: Sequence[tuple[tuple[str, ...], Figures]]) -> list[Family]:
    statuses: dict[str, int] = {}
    for (_, status), figures in by_status:
        if figures.calls:
            statuses[status] = statuses.get(status, 0) + figures.calls
    tokens = (total.tokens_in, total.tokens_out, total.tokens_cached, total.tokens_cache_write, total.tokens_reasoning)
    return [
        _one("cost_usd", "What all calls in the log cost, corrections applied.", usd(total.nano)),
        _one("unknown_cost_calls", "Calls whose cost nobody knows, in no sum of money.", total.unknown),
        Family(
            "calls",
            "counter",
            "Calls that were sent, by what became of them.",
            [((("status", status),), count) for status, count in sorted(statuses.items())],
        ),
        _one("refused_calls", "Calls that were refused before anything was sent.", total.refused, kind="counter"),
        _one("retried_calls", "Calls that took more than one attempt.", total.retried, kind="counter"),
        Family(
            "tokens",
            "counter",
            "Tokens; `cached` and `cache_write` are parts of `in`, `reasoning` of `out`.",
            [((("type", name),), max(count, 0)) for name, count in zip(_TOKENS, tokens, strict=True)],
        ),
        _rate("cost_per_1k_tokens_usd", "Cost of 1,000 tokens, in and out, where both are known.", {(): total}),
    ]


def _agents(agents: Mapping[str, Figures]) -> list[Family]:
    labelled: dict[Labels, Figures] = {(("agent", name),): figures for name, figures in agents.items()}

    def family(name: str, help: str, values: Iterable[tuple[Labels, Value]], kind: str = "gauge") -> Family:
        return Family(f"agent_{name}", kind, help, list(values))

    each = labelled.items()
    return [
        family("cost_usd", "What an agent's calls cost.", ((label, usd(one.nano)) for label, one in each)),
        family("calls", "An agent's calls.", ((label, one.calls) for label, one in each), "counter"),
        family("errors", "Calls without a whole answer.", ((label, one.errors) for label, one in each), "counter"),
        family(
            "tokens",
            "An agent's tokens.",
            (
                ((*label, ("type", name)), max(count, 0))
                for label, one in each
                for name, count in (("in", one.tokens_in), ("out", one.tokens_out))
            ),
            "counter",
        ),
        _rate("agent_cost_per_1k_tokens_usd", "An agent's cost of 1,000 tokens, in and out.", labelled),
    ]


def _windows(usage: Usage, now: datetime, dearest: Sequence[str]) -> list[Family]:
    burn: list[tuple[Labels, Value]] = []
    errors: list[tuple[Labels, Value]] = []
    own_burn: list[tuple[Labels, Value]] = []
    own_errors: list[tuple[Labels, Value]] = []
    for name, length in _WINDOWS.items():
        groups = usage.groups(("agent",), period=Period(now - length, now + _TICK, name))
        every = {agent: figures for (agent,), figures in groups}
        total, label = summed(every.values()), ("window", name)
        burn.append(((label,), _a_day(total, length)))
        errors += [((label,), ratio) for ratio in _error_ratio(total)]
        for agent, figures in _bounded(every, dearest).items():
            own_burn.append(((("agent", agent), label), _a_day(figures, length)))
            own_errors += [((("agent", agent), label), ratio) for ratio in _error_ratio(figures)]
    return [
        Family("burn_usd_per_day", "gauge", "Spend of the window, as a day's.", burn),
        Family("error_ratio", "gauge", "Calls of the window that brought no whole answer, of all.", errors),
        Family("agent_burn_usd_per_day", "gauge", "An agent's spend of the window, as a day's.", own_burn),
        Family("agent_error_ratio", "gauge", "An agent's calls without a whole answer, of all.", own_errors),
    ]


def _periods(usage: Usage, now: datetime) -> list[Family]:
    samples: list[tuple[Labels, Value]] = []
    for unit in ("day", "week", "month"):
        start, end = bucket(now, unit, usage.zone)
        spent = summed(figures for _, figures in usage.groups(period=Period(start, end, unit))).nano
        samples.append(((("period", unit),), usd(spent)))
    return [Family("period_cost_usd", "gauge", "Spend of the current day, week and month so far.", samples)]


def _quotas(stands: Sequence[Stand], left_out: int, burn: Burn) -> list[Family]:
    ranked = sorted(stands, key=lambda stand: (burn.over(stand), -_filled(stand), stand.bucket.key, stand.quota.period))
    told, rest = chosen(ranked, MOST_QUOTAS, lambda stand: stand.quota)
    burn.learn(told)
    found: dict[str, list[tuple[Labels, Value]]] = {name: [] for name in _QUOTA}
    for stand in told:
        quota, subject = stand.quota, stand.bucket.key.removeprefix("own/")
        labels: Labels = (
            ("subject", subject),
            ("period", quota.period),
            ("unit", quota.unit),
            ("enforcement", quota.enforcement),
        )
        left = stand.limit() - stand.taken
        figures = {"limit": stand.limit(), "used": stand.settled, "held": stand.held, "left": left}
        for name, amount in figures.items():
            found[name].append((labels, usd(amount) if quota.unit == UNITS[0] else amount))
        found["used_ratio"].append((labels, _filled(stand)))
        rate = burn.a_day(stand)
        if rate:
            found["days_left"].append((labels, (max(left, 0) / rate).quantize(Decimal("0.01"))))
        if stand.bucket.end:
            found["resets_timestamp_seconds"].append((labels, stand.bucket.end))
    families = [Family(f"quota_{name}", "gauge", help, found[name]) for name, help in _QUOTA.items()]
    return [
        *families,
        _one("quotas_left_out", "Quotas with less used that have no samples.", len(rest) + left_out),
    ]


_QUOTA = {
    "limit": "What may be used, approvals included, in the quota's unit.",
    "used": "What is used.",
    "held": "What calls in flight hold.",
    "left": "What is left; below 0 when more was used than allowed.",
    "used_ratio": "Used and held, of the limit; 1 is full.",
    "days_left": "How long what is left lasts at the pace of the last 7 days.",
    "resets_timestamp_seconds": "When the quota begins anew.",
}


def _one(name: str, help: str, value: Value, labels: Labels = (), kind: str = "gauge") -> Family:
    return Family(name, kind, help, [(labels, value)])


def _rate(name: str, help: str, groups: Mapping[Labels, Figures]) -> Family:
    rates = [(label, figures.per_1k) for label, figures in groups.items()]
    return Family(name, "gauge", help, [(label, usd(rate)) for label, rate in rates if rate is not None])


def _by_name(groups: Iterable[tuple[str, Figures]], names: Sequence[str] = ()) -> dict[str, Figures]:
    """The sum of the groups of each name, in the order in which they come; `names` first, with groups or without."""
    found = {name: Figures() for name in names}
    for name, figures in groups:
        found.setdefault(name, Figures()).merge(figures)
    return found


def _bounded(groups: Mapping[str, Figures], names: Sequence[str]) -> dict[str, Figures]:
    """The groups of these names, and all others as one, which a group of that name joins."""
    return _by_name(((name if name in names else OTHER, figures) for name, figures in groups.items()), names)


def _a_day(figures: Figures, length: timedelta) -> Decimal:
    return usd(figures.nano * (_DAY // _TICK) // (length // _TICK))


def _error_ratio(figures: Figures) -> list[Decimal]:
    return [(Decimal(figures.errors) / figures.calls).quantize(Decimal("0.0001"))] if figures.calls else []


def _filled(stand: Stand) -> Decimal:
    limit = stand.limit()
    return (Decimal(stand.taken) / limit).quantize(Decimal("0.0001")) if limit > 0 else Decimal(1)


def _seconds(instant: datetime) -> Decimal:
    return Decimal((instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)).scaleb(-3)
