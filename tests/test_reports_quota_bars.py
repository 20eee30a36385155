"""Quotas on the status page: levels, how long they last, thresholds. A test's docstring is its log."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from msgspec.structs import replace as changed

from callmeter.policy.decision import Stand
from callmeter.policy.quotas import Bucket, Quota, Stage, window_of
from callmeter.reports.burn import Burn
from callmeter.reports.quota_bars import budgets, quota_reports, thresholds
from callmeter.reports.report import Report
from callmeter.words.money import NANO
from callmeter.words.period import zone_named
from callmeter.words.subject import parse_subject
from log_text import at, log_records
from plain_usage import PlainUsage

NOW = at("2026-11-21T12:00Z")
UTC = zone_named("UTC")


def stand(subject: str, limit: int, settled: int, held: int = 0, **options: Any) -> Stand:
    quota = Quota(parse_subject(subject), limit, **options)
    return Stand(Bucket(quota, subject, *window_of(quota.period, NOW, UTC)), settled, held)


def bars(stands: list[Stand], log: str | None = None) -> dict[str, Report]:
    burn = Burn([each.quota for each in stands], PlainUsage(log_records(log)), NOW)
    return quota_reports(stands, burn, NOW, UTC)


def test_the_fullest_comes_first_with_what_is_used_held_and_left() -> None:
    report = bars([stand("total", 10 * NANO, NANO), stand("agent:a", 10 * NANO, 4 * NANO, 3 * NANO)])["quotas"]
    assert [row.cells["subject"] for row in report.rows] == ["agent:a", "total"]
    cells = report.rows[0].cells
    assert (cells["level"], cells["used"], cells["held"], cells["left"]) == (
        Decimal("0.7"),
        4 * NANO,
        3 * NANO,
        3 * NANO,
    )
    assert cells["resets"] == "2026-12-01T00:00:00Z"
    assert cells["resets_in_days"] == Decimal("9.5")


def test_each_unit_has_a_section_of_its_own() -> None:
    found = bars([stand("total", 5, 1, unit="calls"), stand("total", 5, 1, unit="tokens"), stand("total", NANO, 0)])
    assert list(found) == ["quotas", "quotas_tokens", "quotas_calls"]
    assert bars([]) == {}


def test_what_is_over_the_limit_is_less_than_nothing() -> None:
    cells = bars([stand("total", 2 * NANO, 3 * NANO)])["quotas"].rows[0].cells
    assert (cells["level"], cells["left"]) == (Decimal("1.5"), -NANO)


def test_a_limit_of_nothing_is_full() -> None:
    assert bars([stand("total", 0, 0)])["quotas"].rows[0].cells["level"] == 1


def lasts(stand: Stand, log: str | None) -> object:
    return bars([stand], log)["quotas"].rows[0].cells["lasts_days"]


def test_days_left_are_a_straight_line_from_the_last_seven_days() -> None:
    """
    2026-11-05T12:00Z agent=a cost=100
    2026-11-15T12:00Z agent=a cost=3
    2026-11-20T12:00Z agent=a cost=4
    2026-11-20T12:00Z agent=b cost=50
    """
    log = test_days_left_are_a_straight_line_from_the_last_seven_days.__doc__
    assert lasts(stand("agent:a", 112 * NANO, 107 * NANO), log) == 5


def test_the_pace_of_tokens_is_of_prompts_and_answers_and_that_of_calls_of_what_was_sent() -> None:
    log = "2026-11-14T12:00Z agent=a in=700 out=70\n2026-11-20T12:00Z agent=a in=700 out=70"
    tokens, calls = (stand("agent:a", 9000, 0, unit=unit) for unit in ("tokens", "calls"))
    other = stand("agent:b", 9000, 0, unit="calls")
    quotas = [each.quota for each in (tokens, calls, other)]
    burn = Burn(quotas, PlainUsage(log_records(f"2026-11-01T12:00Z agent=a\n{log}")), NOW)
    assert burn.a_day(tokens) == 220
    assert burn.a_day(calls) == Decimal(2) / 7
    assert burn.a_day(other) == 0


def test_what_began_later_is_not_diluted_by_the_days_before_it() -> None:
    """
    2026-11-19T12:00Z agent=a cost=4
    """
    log = test_what_began_later_is_not_diluted_by_the_days_before_it.__doc__
    assert lasts(stand("agent:a", 10 * NANO, 4 * NANO), log) == 3


def test_less_than_a_day_is_taken_for_a_day() -> None:
    """
    2026-11-21T11:00Z agent=a cost=4
    """
    assert lasts(stand("agent:a", 10 * NANO, 4 * NANO), test_less_than_a_day_is_taken_for_a_day.__doc__) == Decimal(
        "1.5"
    )


def test_a_quota_that_resets_before_it_is_used_up_lasts() -> None:
    """
    2026-11-20T12:00Z agent=a cost=1
    """
    log = test_a_quota_that_resets_before_it_is_used_up_lasts.__doc__
    assert lasts(stand("agent:a", 10 * NANO, NANO), log) == 9
    assert lasts(stand("agent:a", 11 * NANO, NANO), log) is None
    assert lasts(stand("agent:a", 11 * NANO, NANO, period="life"), log) == 10


def test_a_week_says_nothing_about_times_beyond_a_year() -> None:
    """
    2026-11-20T12:00Z agent=a cost=1
    """
    log = test_a_week_says_nothing_about_times_beyond_a_year.__doc__
    assert lasts(stand("agent:a", 366 * NANO, NANO, period="life"), log) == 365
    assert lasts(stand("agent:a", 367 * NANO, NANO, period="life"), log) is None


def test_what_a_pool_paid_is_the_pools_pace_and_not_the_allocations() -> None:
    own, paid = log_records("2026-11-20T12:00Z agent=a cost=2\n2026-11-20T13:00Z agent=a cost=50")
    quotas = [Quota(parse_subject("agent:a"), 20 * NANO, pools=("shared",)), Quota(parse_subject("pool:shared"), 100)]
    burn = Burn(quotas, PlainUsage([own, changed(paid, pool="shared")]), NOW)
    keys = [quota.bucket({"agent": "a"} if quota.pools else {"pool": "shared"}) or "" for quota in quotas]
    stands = [
        Stand(Bucket(quota, key, *window_of(quota.period, NOW, UTC)), 0, 0)
        for quota, key in zip(quotas, keys, strict=True)
    ]
    assert [burn.a_day(each) for each in stands] == [2 * NANO, 50 * NANO]


def test_the_pace_of_a_session_is_its_own_whatever_it_is_called() -> None:
    log = """
    2026-11-01T12:00Z agent=a session=s* cost=1
    2026-11-20T12:00Z agent=a session=s* cost=7
    2026-11-20T12:00Z agent=a session=s-1 cost=2
    2026-11-20T12:00Z agent=a session=s-2 cost=3
    2026-11-20T12:00Z agent=b session=night-1 cost=4
    2026-11-20T12:00Z agent=b session=night-2 cost=5
    """
    each = Quota(parse_subject("session:*"), 100 * NANO, period="life")
    nights = Quota(parse_subject("session:night-*"), 100 * NANO, period="life")
    keys = {"session:s*": each, "session:s-1": each, "session:night-*": nights, "session:unknown": each}
    burn = Burn([each, nights], PlainUsage(log_records(log)), NOW)
    stands = [Stand(Bucket(quota, key, 0, 0), NANO, 0) for key, quota in keys.items()]
    burn.learn(stands[:3])
    assert [burn.a_day(stand) for stand in stands] == [NANO, 2 * NANO, 9 * NANO, 0]
    assert [burn.over(stand) for stand in stands] == [False, False, False, True]


def test_a_session_of_a_foreign_log_whose_name_has_blank_ends_has_a_pace() -> None:
    (record,) = log_records("2026-11-20T12:00Z agent=a session=s cost=7")
    usage = PlainUsage([record, changed(record, id="other", tags={"agent": "a", "session": " s "}, cost=Decimal(14))])
    each = Quota(parse_subject("session:*"), 100 * NANO, period="life")
    burn = Burn([each], usage, NOW)
    assert burn.a_day(Stand(Bucket(each, "session: s ", 0, 0), 14 * NANO, 0)) == 14 * NANO


def test_only_what_is_over_some_day_is_left_out_when_it_made_no_call_lately() -> None:
    rules = {"agent:a": Quota(parse_subject("agent:*"), 10 * NANO)}
    rules["session:s-1"] = Quota(parse_subject("session:*"), 10 * NANO, period="life")
    quiet = [Stand(Bucket(rule, key, *window_of(rule.period, NOW, UTC)), NANO, 0) for key, rule in rules.items()]
    report = bars([*quiet, stand("total", 10 * NANO, NANO, period="life")])["quotas"]
    assert sorted(str(row.cells["subject"]) for row in report.rows) == ["agent:a", "total"]
    assert report.notes[-1] == "1 of session:* without a call in the last 7 days are left out."


def test_of_many_buckets_ten_are_shown_and_the_rest_is_counted() -> None:
    report = bars([stand(f"session:s-{number:02}", 100 * NANO, number * NANO) for number in range(13)])["quotas"]
    assert [row.cells["subject"] for row in report.rows][:2] == ["session:s-12", "session:s-11"]
    assert len(report.rows) == 10
    assert report.notes == ["3 more, each at 2% or below."]


def test_quotas_of_many_sessions_do_not_hide_the_others() -> None:
    """
    2026-11-20T12:00Z session=s-0 cost=9
    2026-11-20T12:00Z session=s-1 cost=9
    2026-11-20T12:00Z session=s-2 cost=9
    2026-11-20T12:00Z session=s-3 cost=9
    2026-11-20T12:00Z session=s-4 cost=9
    2026-11-20T12:00Z session=s-5 cost=9
    2026-11-05T12:00Z session=old cost=10
    """
    each = Quota(parse_subject("session:*"), 10 * NANO, period="life")
    window = window_of("life", NOW, UTC)
    spent = {**{f"s-{number}": 9 for number in range(6)}, "old": 10, **{f"quiet-{number}": 8 for number in range(20)}}
    sessions = [Stand(Bucket(each, f"session:{name}", *window), cost * NANO, 0) for name, cost in spent.items()]
    others = [stand(f"agent:{number}", 100 * NANO, NANO) for number in range(5)]
    report = bars([*sessions, *others], test_quotas_of_many_sessions_do_not_hide_the_others.__doc__)["quotas"]
    shown = [row.cells["subject"] for row in report.rows]
    assert shown == [*(f"session:s-{number}" for number in range(5)), *(f"agent:{number}" for number in range(5))]
    assert report.notes[-2:] == [
        "1 more, each at 90% or below.",
        "21 of session:* without a call in the last 7 days are left out.",
    ]


def passed(*stands: Stand) -> list[tuple[object, object]]:
    report = thresholds(stands)
    return [] if report is None else [(row.cells["passed"], row.cells["means"]) for row in report.rows]


def test_the_highest_threshold_and_the_highest_stage_are_named() -> None:
    stages = (Stage(Decimal("0.7"), "downgrade", "m"), Stage(Decimal("0.9"), "approve"))
    hard: dict[str, Any] = {"enforcement": "hard", "stages": stages}
    assert passed(stand("total", 100, 49)) == []
    assert passed(stand("total", 100, 40, 35)) == [(Decimal("0.75"), "warning")]
    assert passed(stand("total", 100, 80, **hard)) == [
        (Decimal("0.75"), "warning"),
        (Decimal("0.7"), "downgrade:m"),
    ]
    assert passed(stand("total", 100, 100, **hard))[-1] == (Decimal(1), "stop")


def test_almost_a_threshold_is_not_past_it() -> None:
    hard: dict[str, Any] = {"enforcement": "hard", "stages": (Stage(Decimal(1), "stop"),)}
    assert passed(stand("total", 100_000, 99_999, **hard)) == [(Decimal("0.9"), "warning")]


def test_a_showback_quota_has_no_thresholds() -> None:
    assert passed(stand("total", 100, 100, enforcement="showback")) == []
    assert passed(stand("total", 0, 0)) == []


def test_budgets_for_the_advice_are_money_for_a_week_or_longer() -> None:
    found = budgets(
        [stand("total", 10, 5), stand("total", 10, 5, period="day"), stand("total", 10, 5, unit="calls")], NOW
    )
    assert [(each.name, each.used) for each in found] == [("total per month", Decimal("0.5"))]
    assert Decimal("0.68") < found[0].elapsed < Decimal("0.69")
    assert budgets([stand("total", 10, 5, period="life")], NOW) == []


def test_a_log_with_many_sessions_is_counted_whole() -> None:
    log = "\n".join(f"2026-11-20T12:00Z agent=a session=s-{number} cost=0.001" for number in range(10_500))
    assert lasts(stand("agent:a", 21 * NANO, 0), log) == 2
