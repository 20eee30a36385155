"""`budget forecast`: what people and scripts get from it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from callmeter.reports.forecast_grades import Said
from callmeter.store.forecasts import keep_forecasts, read_forecasts
from callmeter.words.money import NANO
from usage_lines import call

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)  # a Saturday
NOON = NOW.replace(hour=12, minute=0)


class Desk:
    """A home with a log and a policy, and a clock."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = NOW
        self.env = {"CALLMETER_HOME": str(home), "COLUMNS": "140"}

    def run(self, *arguments: str, **env: str) -> Result:
        world = World(env=self.env | env, clock=lambda: self.now.timestamp())
        return CliRunner().invoke(app, ["budget", "forecast", *arguments], obj=world)

    def found(self, *arguments: str) -> Any:
        result = self.run(*arguments, "--format", "json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout, parse_float=Decimal)

    def spend(self, costs: Sequence[float], agent: str = "code") -> None:
        """A call at noon of each of so many days before NOW's."""
        first = NOON - timedelta(len(costs))
        lines = [
            call(first + timedelta(n), tags={"agent": agent, "purpose": "p"}, cost=Decimal(str(cost)))
            for n, cost in enumerate(costs)
            if cost
        ]
        with (self.home / "usage.jsonl").open("ab") as log:
            log.write(b"".join(lines))

    def policy(self, *quotas: dict[str, object], **more: object) -> None:
        (self.home / "budget.json").write_text(json.dumps({"enforcement": "hard", "quotas": list(quotas), **more}))

    def spooled(self) -> list[dict[str, Any]]:
        path = self.home / "alerts.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def desk(home: Path) -> Desk:
    return Desk(home)


def test_next_week_in_one_sentence_with_its_basis(desk: Desk) -> None:
    desk.spend([1.0] * 23)
    text = desk.run().stdout
    assert "Next week, 2026-11-23 to 2026-11-29: about $7.00, 8 in 10 chance of $5." in text
    assert "From 23 days, 23 with spend, the newest counting most; today does not count until it is over." in text
    assert "will" not in text.split()
    assert text.count("\n2026-11-2") == 7


def test_json_has_the_sum_its_ranges_basis_and_quality(desk: Desk) -> None:
    desk.spend([1.0] * 23)
    page = desk.found("--next-week", "--next-month")
    week, month = page["sections"]["forecast"]["rows"]
    assert week["expected"] == 7 and month["expected"] == 31
    assert week["low_95"] <= week["low_80"] <= week["median"] <= week["high_80"] <= week["high_95"]
    assert page["facts"]["basis"] == {
        "days": 23,
        "days_with_spend": 23,
        "from": "2026-10-29",
        "until": "2026-11-20",
        "days_lost": 0,
    }
    assert page["facts"]["quality"] == "ok"
    days = page["sections"]["next_month_days"]["rows"]
    assert [days[0]["day"], days[-1]["day"]] == ["2026-12-01", "2026-12-31"]
    assert sum(day["expected"] for day in days) == month["expected"]


def test_without_calls_there_is_no_forecast(desk: Desk) -> None:
    assert "No calls yet, so no forecast." in desk.run().stdout
    page = desk.found("--by-agent")
    assert (page["facts"]["quality"], page["sections"]) == ("none", {})
    assert not (desk.home / "forecasts.jsonl").exists()


def test_a_first_call_today_is_no_day_yet(desk: Desk) -> None:
    (desk.home / "usage.jsonl").write_bytes(call(NOW - timedelta(hours=1)))
    assert "a forecast needs one complete day" in desk.run().stdout


def test_two_days_are_a_guess_and_say_so(desk: Desk) -> None:
    desk.spend([1.0, 2.0])
    assert "Two days only; the range is a guess." in desk.run().stdout
    assert desk.found()["facts"]["quality"] == "guess"


def test_an_idle_log_says_that_nothing_was_spent(desk: Desk) -> None:
    desk.spend([1.0] * 20 + [0] * 3)
    assert "Nothing was spent in the last 3 days." in desk.run().stdout


@pytest.mark.parametrize("by", [["--by-agent"], ["--by", "agent", "--by-purpose"], ["--by-model"], ["--by", "caller"]])
def test_parts_add_up_to_the_same_total_in_every_breakdown(desk: Desk, by: list[str]) -> None:
    desk.spend([0.3, 1.7, 0, 4.1] * 9)
    desk.spend([0.1, 0.2] * 5, agent="docs")
    desk.spend([7.0] + [0] * 30, agent="once")
    whole = desk.found()["sections"]["forecast"]["rows"][0]["expected"]
    total, *parts = desk.found(*by)["sections"]["forecast"]["rows"]
    assert total["expected"] == whole == sum(part["expected"] for part in parts)


def test_the_dearest_parts_and_the_rest_add_up_too(desk: Desk) -> None:
    for n in range(5):
        desk.spend([1.0 + n] * 20, agent=f"a{n}")
    total, *parts = desk.found("--by-agent", "--top", "2")["sections"]["forecast"]["rows"]
    assert [part["agent"] for part in parts] == ["a4", "a3", "other (3)"]
    assert sum(part["expected"] for part in parts) == total["expected"]
    assert parts[-1]["median"] is None


def test_a_tag_that_is_called_like_a_column_loses_nothing(desk: Desk) -> None:
    tags = {"agent": "code", "days": "many", "quality": "poor", "section": "two", "team": "t"}
    calls = [call(NOON - timedelta(1 + n), tags=tags, cost=Decimal(1)) for n in range(20)]
    (desk.home / "usage.jsonl").write_bytes(b"".join(calls))
    arguments = ["--by", "days", "--by", "quality", "--by", "section", "--by", "team"]
    total, part = desk.found(*arguments)["sections"]["forecast"]["rows"]
    assert (total["days"], total["quality"], total["tag:days"], total["team"]) == (20, "ok", None, None)
    assert (part["days"], part["quality"], part["team"]) == (20, "ok", "t")
    assert [part[f"tag:{name}"] for name in ("days", "quality", "section")] == ["many", "poor", "two"]
    rows = list(csv.DictReader(io.StringIO(desk.run(*arguments, "--format", "csv").stdout)))
    assert (rows[1]["section"], rows[1]["tag:section"], rows[1]["tag:days"]) == ("forecast", "two", "many")
    lines = [json.loads(line) for line in desk.run(*arguments, "--format", "jsonl").stdout.splitlines()]
    assert (lines[1]["section"], lines[1]["tag:section"]) == ("forecast", "two")
    assert desk.found("--by", "days", "--top", "1")["sections"]["forecast"]["rows"][1]["tag:days"] == "many"


def test_a_unit_of_time_is_no_grouping(desk: Desk) -> None:
    result = desk.run("--by", "week")
    assert result.exit_code == 2
    assert "cannot be broken down by week" in result.stderr


def test_as_of_is_reproducible_and_keeps_nothing(desk: Desk) -> None:
    desk.spend([1.0, 2.0, 0.5] * 10)
    desk.policy({"subject": "total", "limit": 100})
    before = desk.run("--as-of", "2026-11-10", "--to-period-end", "--by-agent", "--format", "json").stdout
    desk.spend([30.0] * 5)
    desk.now += timedelta(50)
    (desk.home / "budget.json").touch()
    after = desk.run("--as-of", "2026-11-10", "--to-period-end", "--by-agent", "--format", "json").stdout
    assert json.loads(before)["sections"] == json.loads(after)["sections"]
    assert not (desk.home / "forecasts.jsonl").exists()
    assert desk.spooled() == []


@pytest.mark.parametrize("date", ["1970-01-01", "9990-12-31"])
def test_the_ends_of_the_calendar_are_times_like_others(desk: Desk, date: str) -> None:
    desk.spend([1.0] * 3)
    result = desk.run("--as-of", date, "--to-period-end")
    assert result.exit_code == 0, result.output


def test_as_of_the_end_of_a_day_takes_that_day(desk: Desk) -> None:
    desk.spend([1.0] * 30)
    page = desk.found("--as-of", "2026-11-15", "--next-week")
    assert page["facts"]["basis"]["until"] == "2026-11-15"
    assert page["sections"]["next_week_days"]["rows"][0]["day"] == "2026-11-16"
    assert page["notes"][0].endswith(", the newest counting most.")


def test_a_time_to_come_is_told_to_whoever_asks_from_it(desk: Desk) -> None:
    desk.spend([1.0] * 30)
    said = "callmeter: note: --as-of 2026-12-05 is still to come: days after 2026-11-21 are shown without calls\n"
    assert desk.run("--as-of", "2026-12-05", "-v").stderr == said
    assert desk.run("--as-of", "2026-12-05").stderr == ""  # cron's mail is for what went wrong
    assert desk.run("--as-of", "2026-11-21", "-v").stderr == ""


def test_csv_markdown_and_jsonl_have_the_same_rows(desk: Desk) -> None:
    desk.spend([1.0] * 20, agent="=cmd()")
    rows = list(csv.DictReader(io.StringIO(desk.run("--by-agent", "--format", "csv").stdout)))
    assert [row["section"] for row in rows] == ["forecast"] * 2 + ["next_week_days"] * 7
    assert rows[1]["agent"] == "'=cmd()"
    lines = [json.loads(line) for line in desk.run("--by-agent", "--format", "jsonl").stdout.splitlines()]
    assert len(lines) == len(rows)
    assert "| next week |" in desk.run("--format", "markdown").stdout


def test_a_narrow_terminal_keeps_sum_range_and_chance(desk: Desk) -> None:
    desk.spend([1.0] * 23)
    desk.policy({"subject": "total", "limit": 25})
    text = desk.run(COLUMNS="50").stdout
    assert max(map(len, text.splitlines())) <= 50
    assert "8 in 10" in text and "chance to pass" in text


@pytest.mark.parametrize("width", [30, 40])
def test_a_very_narrow_terminal_gives_up_ranges_before_days(desk: Desk, width: int) -> None:
    desk.spend([1.0] * 23)
    desk.policy({"subject": "total", "limit": 25})
    text = desk.run("--by-agent", COLUMNS=str(width)).stdout
    assert max(map(len, text.splitlines())) <= width
    assert "\n2026-11-23" in text and "over 95%" in " ".join(text.split())


# Quotas


def test_quotas_have_a_chance_and_a_day(desk: Desk) -> None:
    desk.spend([1.0] * 40)
    desk.policy(
        {"subject": "total", "limit": 24},
        {"subject": "agent:*", "limit": 500},
        {"subject": "total", "limit": 5, "period": "hour"},
    )
    page = desk.found()
    first, second = page["sections"]["quotas"]["rows"]
    # Twenty are spent, and one comes each noon: the fifth on Wednesday.
    assert (first["subject"], first["used"], first["runs_out"], first["resets"]) == (
        "total",
        20,
        "2026-11-25",
        "2026-12-01",
    )
    assert first["chance"] > Decimal("0.95")
    assert (second["subject"], second["chance"], second["runs_out"]) == ("agent:code", 0, None)
    assert any(
        line.startswith("total per month: over 95% chance of passing $24.00 before Tuesday 2026-12-01; runs out about")
        for line in page["lead"]
    )


def test_approved_headroom_counts(desk: Desk) -> None:
    desk.spend([1.0] * 40)
    desk.policy({"subject": "total", "limit": 24})

    def budget(*arguments: str) -> str:
        world = World(env=desk.env, clock=lambda: desk.now.timestamp())
        result = CliRunner().invoke(app, ["budget", *arguments], obj=world)
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    request = budget("request", "total", "100", "--reason", "month end")
    assert desk.found()["sections"]["quotas"]["rows"][0]["limit"] == 24
    budget("approve", request)
    row = desk.found()["sections"]["quotas"]["rows"][0]
    assert (row["limit"], row["chance"]) == (124, 0)


def test_a_shared_pool_has_a_chance_and_a_day_and_an_allocation_before_it_stops_nobody(desk: Desk) -> None:
    desk.spend([1.0] * 40)
    roles = {"dev": {"allocation": 24, "agents": ["code"], "shared_pool": 30}}
    policy = {"enforcement": "hard", "allocation_strategy": "role_based", "roles": roles}
    (desk.home / "budget.json").write_text(json.dumps(policy))
    result = desk.run("--fail-if-over")
    assert result.exit_code == 0, result.output
    own, pool = desk.found()["sections"]["quotas"]["rows"]
    assert (own["subject"], own["used"], own["runs_out"]) == ("agent:code", 20, "2026-11-25")
    # Twenty are spent, ten are to come: six of them beyond the allocation.
    assert (pool["subject"], pool["used"], pool["runs_out"]) == ("pool:dev", 0, None)
    assert round(pool["expected"], 3) == 6
    roles["dev"]["shared_pool"] = 3
    (desk.home / "budget.json").write_text(json.dumps(policy))
    result = desk.run("--fail-if-over")
    assert result.exit_code == 3
    assert "pool:dev per month: over 95% chance of passing $3.00 before Tuesday 2026-12-01" in result.stderr
    assert "What comes to a shared pool is what agents are expected to spend beyond" in result.stdout


@pytest.mark.parametrize("at", [(), ("--as-of", "2026-11-20")])
def test_of_a_role_that_has_a_shared_pool_alone_the_pool_is_foreseen(desk: Desk, at: tuple[str, ...]) -> None:
    desk.spend([1.0] * 40)
    roles = {"dev": {"agents": ["code"], "shared_pool": 50}}
    policy = {"enforcement": "hard", "allocation_strategy": "role_based", "roles": roles}
    (desk.home / "budget.json").write_text(json.dumps(policy))
    assert [row["subject"] for row in desk.found(*at)["sections"]["quotas"]["rows"]] == ["pool:dev"]


def test_fail_if_over_is_for_cron(desk: Desk) -> None:
    desk.spend([1.0] * 40)
    desk.policy({"subject": "total", "limit": 24})
    result = desk.run("--fail-if-over")
    assert result.exit_code == 3
    assert "total per month: over 95% chance of passing $24.00" in result.stderr
    assert "Next week" in result.stdout
    desk.policy({"subject": "total", "limit": 100})
    assert desk.run("--fail-if-over").exit_code == 0


def test_of_several_quotas_that_will_not_last_the_first_is_named_and_the_others_counted(desk: Desk) -> None:
    desk.spend([1.0] * 40)
    desk.policy({"subject": "total", "limit": 24}, {"subject": "agent:code", "limit": 25})
    stderr = " ".join(desk.run("--fail-if-over").stderr.split())
    assert "error: a quota is likely to be exceeded (and 1 more): " in stderr
    desk.policy({"subject": "total", "limit": 24}, {"subject": "agent:code", "limit": 100})
    assert "error: a quota is likely to be exceeded: total per month" in " ".join(
        desk.run("--fail-if-over").stderr.split()
    )


def test_quotas_in_dollars_tokens_and_calls_have_tables_of_their_own(desk: Desk) -> None:
    desk.spend([1.0] * 40)
    desk.policy(
        {"subject": "total", "limit": 24},
        {"subject": "total", "limit": 2000, "unit": "tokens"},
        {"subject": "agent:code", "limit": 45, "unit": "calls"},
    )
    sections = desk.found()["sections"]
    told = {
        name: [(row["subject"], row["limit"]) for row in sections[name]["rows"]]
        for name in ("quotas", "quotas_tokens", "quotas_calls")
    }
    assert told == {
        "quotas": [("total", 24)],
        "quotas_tokens": [("total", 2000)],
        "quotas_calls": [("agent:code", 45)],
    }


def test_fail_if_over_an_amount_needs_no_quota(desk: Desk) -> None:
    desk.spend([1.0] * 40)
    assert desk.run("--fail-if-over=20").exit_code == 0
    result = desk.run("--fail-if-over=5", "--format", "json")
    assert result.exit_code == 3
    error = json.loads(result.stderr)
    assert (error["error"], error["limit"]) == ("over", 5) and "budget breakdown" in error["hint"]
    assert desk.run("--fail-if-over=lots").exit_code == 2
    tokens = desk.run("--fail-if-over=5tok")
    assert (tokens.exit_code, "hint: write it in usd\n" in tokens.stderr) == (2, True)
    apart = desk.run("--fail-if-over", "5")
    assert (apart.exit_code, "hint: write `--fail-if-over=5`\n" in apart.stderr) == (2, True)


def test_costs_that_nobody_knows_are_no_room(desk: Desk) -> None:
    lines = [call(NOON - timedelta(n), cost=None, cost_source="unknown", estimate=None) for n in range(1, 31)]
    (desk.home / "usage.jsonl").write_bytes(b"".join(lines))
    result = desk.run("--fail-if-over=5")
    assert result.exit_code == 3
    assert "nobody knows whether there is room: it is unknown what calls cost" in result.stderr
    desk.policy({"subject": "total", "limit": 1000, "enforcement": "soft"})
    assert desk.run("--fail-if-over").exit_code == 3
    # Calls can be counted all the same.
    desk.policy({"subject": "total", "limit": 1000, "unit": "calls"})
    assert desk.run("--fail-if-over").exit_code == 0


def test_an_amount_that_is_left_out_by_mistake_is_not_the_option_alone(desk: Desk) -> None:
    desk.spend([1.0] * 40)
    result = desk.run("--fail-if-over=")
    assert result.exit_code == 2
    assert "callmeter: error: --fail-if-over has nothing behind its `=`\n" in result.stderr


def test_before_the_first_complete_day_fail_if_over_says_that_it_looks_at_nothing(desk: Desk) -> None:
    assert desk.run("--fail-if-over=5").stderr == "", "without a call nothing is spent"
    (desk.home / "usage.jsonl").write_bytes(call(NOW - timedelta(hours=1), cost=Decimal(500)))
    result = desk.run("--fail-if-over=5")
    assert result.exit_code == 0
    assert "--fail-if-over has no forecast to look at before the first complete day" in result.stderr
    assert desk.run("--to-period-end", "--fail-if-over=5").exit_code == 3, "what is spent already is known"


def test_top_without_parts_is_refused(desk: Desk) -> None:
    desk.spend([1.0] * 40)
    for more in ((), ("--backtest",)):
        result = desk.run("--top", "3", *more)
        assert (result.exit_code, "--top has no parts to choose from" in result.stderr) == (2, True)


def test_a_ledger_out_of_reach_hides_the_quotas_only(desk: Desk) -> None:
    desk.spend([1.0] * 40)
    desk.policy({"subject": "total", "limit": 24})
    (desk.home / "ledger.db").write_bytes(b"no database" * 1000)
    result = desk.run()
    assert result.exit_code == 0, result.output
    assert "Quotas are not shown: " in result.stdout and "about $7.00" in result.stdout


def test_quotas_that_cannot_be_read_are_no_room(desk: Desk) -> None:
    desk.spend([1.0] * 40)
    desk.policy({"subject": "total", "limit": 2400})
    (desk.home / "ledger.db").write_bytes(b"no database" * 1000)
    result = desk.run("--fail-if-over")
    assert result.exit_code not in (0, 3)
    assert "callmeter: error: " in result.stderr and "about $7.00" in result.stdout
    assert desk.run("--fail-if-over=500").exit_code == 0


def test_without_quotas_fail_if_over_says_that_it_looks_at_nothing(desk: Desk) -> None:
    desk.spend([1.0] * 40)
    result = desk.run("--fail-if-over")
    assert result.exit_code == 0
    assert "--fail-if-over has no quota to look at" in result.stderr
    assert desk.run("--fail-if-over=500").stderr == ""


# Alerts


def test_a_likely_exhaustion_is_told_once_in_its_period(desk: Desk) -> None:
    desk.spend([1.0] * 40)
    told = {"kind": "file", "target": str(desk.home / "told"), "on": ["exhaustion"]}
    desk.policy({"subject": "total", "limit": 24}, {"subject": "agent:code", "limit": 1000}, alerts=[told])
    desk.run()
    desk.now += timedelta(hours=1)
    desk.run("--next-month")
    (event,) = desk.spooled()
    assert event["occasion"] == "exhaustion"
    assert event["text"].startswith("total per month: over 95% chance of passing $24.00 before Tuesday 2026-12-01")
    assert event["facts"]["subject"] == "total" and event["facts"]["limit"] == 24


@pytest.mark.parametrize(
    "quota",
    [
        {"subject": "total", "limit": 500},
        {"subject": "total", "limit": 24, "enforcement": "showback"},
        {"subject": "total", "limit": 10},
    ],
)
def test_what_lasts_what_only_shows_and_what_is_used_up_is_not_told(desk: Desk, quota: dict[str, object]) -> None:
    desk.spend([1.0] * 40)
    told = {"kind": "file", "target": str(desk.home / "told"), "on": ["exhaustion"]}
    desk.policy(quota, alerts=[told])
    assert desk.run().exit_code == 0
    assert desk.spooled() == []


def test_the_status_tells_it_too(desk: Desk) -> None:
    desk.spend([1.0] * 40)
    told = {"kind": "file", "target": str(desk.home / "told"), "on": ["exhaustion"]}
    desk.policy({"subject": "total", "limit": 24}, alerts=[told])
    world = World(env=desk.env, clock=lambda: NOW.timestamp())
    assert CliRunner().invoke(app, ["budget", "status", "--as-of", "2026-11-20"], obj=world).exit_code == 0
    assert desk.spooled() == []
    assert CliRunner().invoke(app, ["budget", "status"], obj=world).exit_code == 0
    desk.run()
    (event,) = desk.spooled()
    assert event["key"].startswith("exhaustion/total/month/usd/")


# What is kept


def test_a_forecast_is_graded_when_its_week_is_over(desk: Desk) -> None:
    desk.spend([1.0] * 30)
    desk.run("--by-agent")
    (total, part) = read_forecasts(str(desk.home / "forecasts.jsonl"))
    assert (total.subject, total.expected, part.subject) == ("total", 7 * NANO, "agent:code")
    desk.now += timedelta(2)
    assert "we said" not in desk.run().stdout
    desk.now = NOW + timedelta(10)
    with (desk.home / "usage.jsonl").open("ab") as log:
        log.write(b"".join(call(NOON + timedelta(n), cost=Decimal("1.1")) for n in range(1, 10)))
    assert "For 2026-11-23 to 2026-11-29 we said $7.00 (" in desk.run().stdout
    assert "it came to $7.70: inside." in desk.run().stdout


def test_of_the_same_days_the_last_forecast_is_kept(desk: Desk) -> None:
    desk.spend([1.0] * 30)
    for _ in range(3):
        desk.run()
        desk.now += timedelta(hours=1)
    (kept,) = read_forecasts(str(desk.home / "forecasts.jsonl"))
    assert kept.made_at == "2026-11-21T11:30:00.000Z"


def test_what_is_kept_is_bounded_and_survives_damage(desk: Desk) -> None:
    path = str(desk.home / "forecasts.jsonl")
    today = NOW.date()

    def said(ago: int) -> Said:
        day = today - timedelta(ago)
        return Said("2025-01-01T00:00:00.000Z", "next_1_days", day, day, 1, 2, (3, 4), (5, 6), {"agent": f"a{ago}"})

    keep_forecasts(path, [said(1), said(600)], today - timedelta(590))
    keep_forecasts(path, [said(2)], today)
    assert [each.by["agent"] for each in read_forecasts(path)] == ["a1", "a2"]
    with open(path, "ab") as file:
        file.write(b'garbage\n{"v":1}\n{"v":1,"made_at":1,"horizon":2,"first":3}\n[]\n{"v":1,"made')
    keep_forecasts(path, [said(3)], today)
    assert read_forecasts(path) == [said(1), said(2), said(3)]
    keep_forecasts(
        path, [Said("x", "y", today, today, n, n, (n, n), (n, n), {"n": str(n)}) for n in range(2500)], today
    )
    kept = read_forecasts(path)
    assert len(kept) == 2000 and kept[-1].by["n"] == "2499"


def test_a_state_directory_that_takes_nothing_stops_nobody(desk: Desk) -> None:
    desk.spend([1.0] * 30)
    (desk.home / "forecasts.jsonl").mkdir()
    result = desk.run("-v")
    assert result.exit_code == 0 and "about $7.00" in result.stdout
    assert "the forecast is not kept" in result.stderr


def test_what_is_spent_says_how_much_of_it_is_unknown(desk: Desk) -> None:
    desk.spend([1.0] * 30)
    line = call(NOON - timedelta(2), tags={"agent": "code"}, cost=None, cost_source="unknown", estimate=Decimal("0.25"))
    with (desk.home / "usage.jsonl").open("ab") as log:
        log.write(line)
    (row,) = desk.found("--to-period-end")["sections"]["forecast"]["rows"]
    assert row["spent"] == Decimal("20.25")
    text = " ".join(desk.run("--to-period-end").stdout.split())
    assert "Of what is spent $0.250 is the estimate of calls whose cost is unknown; breakdowns and" in text
    assert "Of what is spent" not in desk.run("--next-week").stdout


def test_a_log_that_fell_silent_long_ago_expects_nothing_and_says_so(desk: Desk) -> None:
    desk.spend([1.0] * 30)
    text = desk.run("--as-of", "2028-01-05", "--next-week", "--to-period-end").stdout
    assert "Next week, 2028-01-10 to 2028-01-16: nothing is to be expected.\n" in text
    assert "This month, 2028-01-01 to 2028-01-31: $0.00 spent, nothing more is to be expected.\n" in text
    assert "From 180 days, 0 with spend" in text
    assert "8 in 10 chance" not in text


def test_calls_that_nobody_can_price_are_not_taken_for_free(desk: Desk) -> None:
    lines = [call(NOON - timedelta(ago), cost=None, cost_source="unknown") for ago in range(40, 0, -1)]
    (desk.home / "usage.jsonl").write_bytes(b"".join(lines))
    text = " ".join(desk.run("--next-week").stdout.split())
    assert "Next week, 2026-11-23 to 2026-11-29: nobody knows, for it is unknown what calls cost." in text
    assert "The cost of 28 calls of the last 28 days is unknown, and there is no estimate of it" in text
    assert "$0" not in text
    sections = desk.found("--by-agent")["sections"]
    assert list(sections) == ["forecast"]
    rows = sections["forecast"]["rows"]
    assert [(row["expected"], row["median"], row["doubt"]) for row in rows] == [
        (None, None, "unknown what calls cost")
    ] * 2
    desk.spend([1.0] * 10)
    text = " ".join(desk.run("--next-week").stdout.split())
    assert "Next week, 2026-11-23 to 2026-11-29: about $" in text
    assert "The cost of 28 calls of the last 28 days is unknown" in text


# The backtest


def test_a_backtest_grades_the_own_past(desk: Desk) -> None:
    desk.spend([1.0, 1.2, 0.8] * 20)
    week, month = desk.found("--backtest")["rows"]
    # From day 14 on every seventh of 60 days has a week to come (47 - 1) // 7, and a month.
    assert (week["days"], week["forecasts"], month["days"], month["forecasts"]) == (7, 6, 28, 3)
    assert week["against_last_week"] < 1.5
    assert week["inside"] == f"{week['inside_80']} of 6"
    text = desk.run("--backtest").stdout
    assert "divided by that of repeating the last seven days" in " ".join(text.split())


def test_a_backtest_of_many_parts_is_of_the_dearest(desk: Desk) -> None:
    for agent, cost in (("a", 1.0), ("b", 3.0), ("c", 2.0)):
        desk.spend([cost] * 40, agent)
    rows = desk.found("--backtest", "--by-agent", "--top", "2")["rows"]
    assert list(dict.fromkeys(row["subject"] for row in rows)) == ["total", "agent:b", "agent:c"]


@pytest.mark.parametrize("option", ["--next-week", "--next-month", "--days=3", "--to-period-end", "--fail-if-over"])
def test_a_backtest_has_no_days_ahead_of_it(desk: Desk, option: str) -> None:
    desk.spend([2.0, 1.0, 3.0, 2.0, 1.0, 1.0, 0.0] * 8)
    result = desk.run("--backtest", option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--backtest and {option.partition('=')[0]} contradict each other" in result.stderr


def test_a_backtest_of_less_than_28_days_is_refused(desk: Desk) -> None:
    desk.spend([1.0] * 27)
    result = desk.run("--backtest")
    assert result.exit_code == 2
    assert "a backtest needs 28 complete days of log, and there are 27" in result.stderr


# The command line


@pytest.mark.parametrize("arguments", [["--days", "0"], ["--days", "367"], ["--by", "="]])
def test_what_makes_no_sense_is_a_usage_error(desk: Desk, arguments: list[str]) -> None:
    desk.spend([1.0] * 30)
    assert desk.run(*arguments).exit_code == 2


def test_another_log_is_forecast_by_itself(desk: Desk, tmp_path: Path) -> None:
    desk.spend([1.0] * 30)
    desk.policy({"subject": "total", "limit": 24})
    moved = tmp_path / "other.jsonl"
    (desk.home / "usage.jsonl").rename(moved)
    page = desk.found("--log", str(moved))
    assert page["sections"]["quotas"]["rows"][0]["used"] == 20
    assert any("as the log has them" in note for note in page["notes"])
    assert not (desk.home / "forecasts.jsonl").exists()
