"""The sums of a live view."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from callmeter.reports.live import Live, Spend, Traffic
from callmeter.words.instant import text_of
from callmeter.words.record import UsageRecord, parse_record
from usage_lines import call

NOW = datetime(2026, 11, 20, 9, 30, 30, tzinfo=UTC)
CENT = 10_000_000


def record(at: datetime, cost: str | None = "0.01", agent: str = "code", **fields: object) -> UsageRecord:
    tags = {"agent": agent} if agent else {}
    amount = None if cost is None else Decimal(cost)
    return parse_record(call(at, tags=tags, cost=amount, **{"duration_ms": 1000, **fields})[:-1])


def traffic(*records: UsageRecord, now: datetime = NOW) -> Traffic:
    live = Live(UTC, {}, None)
    live.add(records, now)
    return live.traffic(now)


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def test_a_call_counts_in_the_hour_and_day_in_which_it_began() -> None:
    found = traffic(record(ago(minutes=1)), record(ago(minutes=31)), record(ago(hours=9)), record(ago(hours=10)))
    assert (found.hour, found.today) == (Spend(CENT, 1), Spend(3 * CENT, 3))


def test_the_last_minute_has_what_ended_in_it() -> None:
    long = record(ago(minutes=9), "0.05", duration_ms=510_000)
    found = traffic(long, record(ago(seconds=58)), record(ago(seconds=62)), record(ago(seconds=10)))
    assert found.minute == Spend(7 * CENT, 3)


def test_the_last_minute_is_sixty_seconds() -> None:
    assert traffic(record(ago(seconds=60))).minute.calls == 1, "it took a second"
    assert traffic(record(ago(seconds=61))).minute.calls == 0


def test_a_call_at_the_full_hour_belongs_to_the_hour_that_begins() -> None:
    full = NOW.replace(hour=10, minute=0, second=0)
    found = traffic(record(NOW), record(full), now=NOW + timedelta(hours=1))
    assert (found.hour.calls, found.today.calls) == (1, 2)


def test_an_hour_of_the_afternoon_is_not_one_of_the_night() -> None:
    now = NOW + timedelta(hours=5)
    found = traffic(record(now - timedelta(minutes=9)), record(now - timedelta(hours=10)), now=now)
    assert (found.hour.calls, found.today.calls) == (1, 2)


def test_the_last_minute_empties_by_itself() -> None:
    live = Live(UTC, {}, None)
    live.add([record(ago(seconds=1))], NOW)
    assert live.traffic(NOW).minute.calls == 1
    assert live.traffic(NOW + timedelta(seconds=59)).minute.calls == 1
    assert live.traffic(NOW + timedelta(seconds=61)).minute == Spend()


def test_the_hour_is_shown_by_minute() -> None:
    found = traffic(record(ago(seconds=5)), record(ago(minutes=1)), record(ago(minutes=59)), record(ago(minutes=61)))
    assert (found.minutes[-1], found.minutes[-2], found.minutes[0], sum(found.minutes)) == (CENT, CENT, CENT, 3 * CENT)


def test_a_clock_that_runs_ahead_puts_no_money_into_the_future() -> None:
    assert traffic(record(ago(seconds=-100))).minute == Spend(CENT, 1)
    assert traffic(record(ago(hours=-1))).minute == Spend()


def test_a_line_that_comes_twice_counts_once() -> None:
    one = record(ago(seconds=5))
    found = traffic(one, one)
    assert (found.today.calls, len(found.calls)) == (1, 1)


def test_failed_refused_and_unknown_calls_are_told_apart() -> None:
    found = traffic(
        record(ago(seconds=5), status="error"),
        record(ago(seconds=5), "0", status="refused"),
        record(ago(seconds=5), None, cost_source="unknown"),
        record(ago(seconds=5), status="cancelled"),
    )
    assert (found.today, found.refused, sum(found.unknown.values())) == (Spend(2 * CENT, 3, 1), 1, 1)


def test_a_correction_changes_what_its_call_cost_and_is_no_call() -> None:
    at = ago(hours=3)
    unknown = record(at, None, id="u", cost_source="unknown")
    correction = record(at, "0.07", corrects="u", cost_source="reconciled", recorded_at=text_of(ago(seconds=3)))
    for found in (traffic(unknown, correction), traffic(correction, unknown)):
        assert (found.today, dict(found.unknown), found.minute) == (Spend(7 * CENT, 1), {}, Spend(7 * CENT, 0))


def test_agents_come_by_what_they_spent_today() -> None:
    found = traffic(
        record(ago(hours=2), "0.03", agent="early"), record(ago(minutes=2), "0.02"), record(ago(minutes=1), agent="")
    )
    assert found.agents == (
        ("early", Spend(3 * CENT, 1), 0),
        ("code", Spend(2 * CENT, 1), 2 * CENT),
        ("(none)", Spend(CENT, 1), CENT),
    )


def test_the_newest_call_comes_first() -> None:
    found = traffic(record(ago(minutes=2), id="a"), record(ago(minutes=9), id="b"))
    assert [each.id for each in found.calls] == ["b", "a"]


def test_at_midnight_today_begins_anew_and_yesterday_is_history() -> None:
    live = Live(UTC, {}, None)
    live.add([record(ago(minutes=1), agent="old"), record(ago(minutes=1), "0", status="refused")], NOW)
    tomorrow = NOW + timedelta(days=1)
    live.add([record(tomorrow, agent="new")], tomorrow)
    found = live.traffic(tomorrow)
    assert (found.today, found.refused, [agent for agent, _, _ in found.agents]) == (Spend(CENT, 1), 0, ["new"])


def test_a_line_that_comes_again_after_midnight_counts_once() -> None:
    late, tomorrow = record(NOW), NOW + timedelta(days=1)
    live = Live(UTC, {}, None)
    live.add([late], NOW)
    live.add([late, record(tomorrow)], tomorrow)
    assert len(live.traffic(tomorrow).calls) == 2


def test_an_odd_hour_names_who_spent_most_in_it() -> None:
    hours = {(date(2026, 11, 20) - timedelta(back), hour): CENT for back in range(1, 29) for hour in range(24)}
    live = Live(UTC, hours, date(2026, 10, 1))
    live.add([record(ago(minutes=9), "0.50", agent="loop"), record(ago(minutes=8), "0.20")], NOW)
    found = live.traffic(NOW)
    assert found.odd is not None and found.usual is not None
    assert (found.odd.hour, found.odd.spent, found.usual.hour) == (9, 70 * CENT, CENT)
    assert found.culprit == ("loop", 50 * CENT)


def test_hours_are_those_of_the_zone() -> None:
    live = Live(ZoneInfo("Asia/Kolkata"), {}, None)
    now = datetime(2026, 11, 20, 18, 40, tzinfo=UTC)  # 00:10 there
    live.add([record(now - timedelta(minutes=5)), record(now - timedelta(minutes=15))], now)
    assert live.traffic(now).today == Spend(CENT, 1)
