"""What the forecast does besides showing itself: where quotas stand, what is kept to be graded, who is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from callmeter.cli.alerting import alert
from callmeter.cli.asking import allowances_of, teller_of
from callmeter.cli.ledgers import recover_holds
from callmeter.cli.reading import Clock, open_usage
from callmeter.cli.world import World
from callmeter.flows.forecast_past import past_of
from callmeter.flows.quota_listing import every_stand
from callmeter.reports.forecast import Forecast
from callmeter.reports.forecast_grades import Grade, grades, said_by
from callmeter.reports.forecast_history import Present
from callmeter.reports.forecast_page import quota_sentence
from callmeter.reports.forecast_quotas import (
    Exhaustion,
    Limit,
    Pasts,
    exhaustions,
    hidden_note,
    limits_by_log,
    limits_of,
)
from callmeter.reports.forecast_words import chance_text
from callmeter.store.forecasts import keep_forecasts, read_forecasts
from callmeter.words.errors import CallmeterError, Refused
from callmeter.words.instant import text_of
from callmeter.words.money import amount_value, shown

_TOP = 10
_WHO_SPENDS = "see `callmeter budget breakdown --by-agent --this-month` for who spends it"


@dataclass(frozen=True)
class Ahead:
    """What is to be expected of each quota, in sentences what there is to say of that, and why they cannot be read."""

    quotas: Sequence[Exhaustion] = ()
    notes: Sequence[str] = ()
    problem: CallmeterError | None = None


def quotas_ahead(world: World, present: Present, *, live: bool) -> Ahead:
    """The policy's quotas: as they stand now, held and approved included, if `live`; otherwise as the log says."""
    policy, pasts = world.policy, Pasts(present)
    if not policy.quotas:
        return Ahead()
    if not live:
        note = "Quotas as the log has them: without what calls in flight hold and without approvals."
        limits, hidden = limits_by_log(policy.quotas, pasts, _TOP)
        return Ahead(exhaustions(limits, pasts, policy.quotas), [note, *filter(None, [hidden_note(hidden, _TOP)])])
    try:
        limits, hidden = _standing(world, present)
    except CallmeterError as problem:
        return Ahead(notes=[f"Quotas are not shown: {problem.message}."], problem=problem)
    return Ahead(exhaustions(limits, pasts, policy.quotas), [*filter(None, [hidden_note(hidden, _TOP)])])


def keep_and_grade(world: World, forecasts: Sequence[Forecast], by: Sequence[str], present: Present) -> list[Grade]:
    """Keep what was forecast, and grade what was kept before. A directory that cannot be written stops nobody."""
    try:
        before = read_forecasts(world.paths.forecasts)
        said = [each for forecast in forecasts for each in said_by(forecast, by, text_of(present.now))]
        keep_forecasts(world.paths.forecasts, said, present.today)
    except CallmeterError as problem:
        world.out.note(f"callmeter: the forecast is not kept, so it cannot be graded: {problem.message}")
        return []
    return grades(before, present)


def alert_exhaustion(world: World, found: Sequence[Exhaustion]) -> None:
    """Tell people of each quota that is more likely than not to be exceeded before its reset: once in its period."""
    for each in found:
        limit = each.limit
        if (
            not each.likely
            or each.used_up
            or each.chance is None
            or not limit.alerts
            or limit.enforcement == "showback"
        ):
            continue
        facts: dict[str, object] = {
            "subject": str(limit.subject),
            "period": limit.period,
            "unit": limit.unit,
            "limit": amount_value(limit.limit, limit.unit),
            "used": amount_value(limit.taken, limit.unit),
            "chance": Decimal(each.chance).quantize(Decimal("0.01")),
            "runs_out": each.runs_out.isoformat() if each.runs_out else None,
            "resets": limit.resets.isoformat() if limit.resets else None,
        }
        alert(world, "exhaustion", f"exhaustion/{limit.id}", quota_sentence(each).removesuffix("."), facts)


def look_ahead(world: World, clock: Clock) -> None:
    """Tell people of quotas that are likely to be exceeded, if the policy has somebody who wants to know."""
    if world.policy.quotas and any("exhaustion" in each.on for each in world.policy.alerts):
        present = past_of(open_usage(world, None, clock), clock.now, world.paths, own=True)
        alert_exhaustion(world, quotas_ahead(world, present, live=True).quotas)


def require_room(ahead: Ahead, forecasts: Sequence[Forecast], most: int | None) -> None:
    """Raises Refused when a quota is more likely than not to be exceeded before its reset, or with an amount (`most`),
    when the sum of the first horizon is more likely than not above it; and for money, when no call's cost is known.
    Quotas that cannot be read raise their problem: nobody knows that there is room."""
    first = forecasts[0]
    if first.total.unknown and (most is not None or any(each.limit.unit == "usd" for each in ahead.quotas)):
        raise Refused(
            f"nobody knows whether there is room: it is unknown what calls cost, and so what {first.horizon.title} "
            "comes to",
            "see `callmeter budget breakdown --by-model` for which calls, and give their models a price with "
            "`callmeter prices set`",
            code="unknown_costs",
        )
    if most is not None:
        chance = first.total.sum.over(most)
        if chance > 0.5:
            raise Refused(
                f"{first.horizon.title} is expected to come to {shown(first.total.sum.expected)}, with a chance of "
                f"{chance_text(chance)} to exceed {shown(most)}",
                _WHO_SPENDS,
                code="over",
                limit=amount_value(most, "usd"),
                expected=amount_value(first.total.sum.expected, "usd"),
            )
        return
    if ahead.problem is not None:
        raise ahead.problem
    over = [each for each in ahead.quotas if each.likely]
    if over:
        more = f" (and {len(over) - 1} more)" if len(over) > 1 else ""
        raise Refused(
            f"a quota is likely to be exceeded{more}: {quota_sentence(over[0]).removesuffix('.')}",
            _WHO_SPENDS,
            code="over",
            quotas=[each.limit.name for each in over],
        )


def _standing(world: World, present: Present) -> tuple[list[Limit], int]:
    recover_holds(world)
    stands, hidden = every_stand(teller_of(world), allowances_of(world), _TOP)
    return limits_of(stands, present), hidden
