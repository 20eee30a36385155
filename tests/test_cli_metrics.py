"""`budget metrics`: figures that scrapers read, with the parsers that scrapers use. A test's docstring is its log."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.exposition import as_json, exposition
from callmeter.cli.world import World
from callmeter.reports.metrics import MOST_QUOTAS, Family, metrics
from conftest import lacking
from log_text import at, log_lines, log_records
from plain_usage import PlainUsage

NOW = "2026-11-21T15:00Z"
Values = dict[tuple[str, ...], Decimal]


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., dict[str, Values]]:
    """`figures()["cost_usd"][()]`: the samples of the docstring's log, by family and label values."""
    records = log_records(request.function.__doc__)

    def read(**options: Any) -> dict[str, Values]:
        return values(metrics(PlainUsage(records), at(NOW), "1.0", **options))

    return read


def values(families: list[Family]) -> dict[str, Values]:
    return {
        family.name: {tuple(value for _, value in labels): Decimal(value) for labels, value in family.samples}
        for family in families
    }


def parsers() -> tuple[Callable[[str], Any], Callable[[str], Any]]:
    try:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
        from prometheus_client.parser import text_string_to_metric_families as prometheus
    except ImportError:
        lacking("prometheus-client is not installed; run `make test`")
    return prometheus, openmetrics


def test_totals_are_those_of_the_log(figures: Callable[..., dict[str, Values]]) -> None:
    """
    2026-11-20T09:00Z agent=code cost=0.000001979 in=1200 out=400 cached=100
    2026-11-20T09:01Z agent=code cost=0.5         in=800  out=100 status=error
    2026-11-20T09:02Z agent=docs                  in=10   out=10
    2026-11-20T09:03Z agent=docs cost=0           status=refused
    """
    found = figures()
    assert found["cost_usd"] == {(): Decimal("0.500001979")}
    assert found["calls"] == {("error",): 1, ("ok",): 2}
    assert found["refused_calls"] == {(): 1}
    assert found["unknown_cost_calls"] == {(): 1}
    assert found["tokens"][("in",)] == 2010
    assert found["tokens"][("cached",)] == 100
    assert found["cost_per_1k_tokens_usd"] == {(): Decimal("0.200000792")}
    assert found["agent_errors"] == {("code",): 1, ("docs",): 0}
    assert found["last_call_timestamp_seconds"] == {(): 1795165320}, "refused calls were not made"


def test_a_window_is_a_pace_and_an_error_rate(figures: Callable[..., dict[str, Values]]) -> None:
    """
    2026-11-21T14:30Z agent=code cost=1 in=1 out=1
    2026-11-21T14:40Z agent=docs cost=1 in=1 out=1 status=timeout
    2026-11-20T16:00Z agent=code cost=2 in=1 out=1
    2026-11-15T16:00Z agent=code cost=3 in=1 out=1
    2026-11-01T16:00Z agent=code cost=9 in=1 out=1
    """
    found = figures()
    assert found["burn_usd_per_day"] == {("1h",): 48, ("24h",): 4, ("7d",): 1}
    assert found["error_ratio"] == {("1h",): Decimal("0.5"), ("24h",): Decimal("0.3333"), ("7d",): Decimal("0.25")}
    assert found["agent_burn_usd_per_day"][("docs", "24h")] == 1
    assert found["period_cost_usd"] == {("day",): 2, ("week",): 4, ("month",): 16}


def test_agents_beyond_the_dearest_are_one(figures: Callable[..., dict[str, Values]]) -> None:
    """
    2026-11-21T14:30Z agent=a     cost=4 in=1 out=1
    2026-11-21T14:30Z agent=b     cost=2 in=1 out=1
    2026-11-21T14:30Z agent=c     cost=1 in=1 out=1
    2026-11-21T14:30Z agent=other cost=8 in=1 out=1
    2026-11-21T14:30Z             cost=16 in=1 out=1
    """
    found = figures(top=3)["agent_cost_usd"]
    assert found == {("(none)",): 16, ("other",): 11, ("a",): 4}, "an agent of that name is among them"
    assert figures(top=0)["agent_cost_usd"] == {("other",): 31}
    assert sum(found.values()) == figures()["cost_usd"][()]


def test_without_calls_there_are_figures_all_the_same(figures: Callable[..., dict[str, Values]]) -> None:
    found = figures()
    assert found["cost_usd"] == {(): 0}
    assert "last_call_timestamp_seconds" not in found
    assert "cost_per_1k_tokens_usd" not in found


text = st.text(st.characters(codec="utf-8"), max_size=12)


printable = st.text(st.characters(categories=["L", "N", "P", "S"], include_characters='\n\\" '), max_size=12)


@given(st.lists(printable, min_size=1, max_size=6, unique=True), st.integers(-(10**18), 10**18))
def test_both_parsers_read_every_label_and_every_figure(names: list[str], nano: int) -> None:
    prometheus, openmetrics = parsers()
    amount = Decimal(nano).scaleb(-9)
    samples = [((("agent", name),), amount) for name in names]
    families = [Family("cost_usd", "gauge", "A \\ back\nslash.", samples), Family("calls", "counter", "C.", [((), 7)])]
    for parse, page in ((prometheus, exposition(families)), (openmetrics, exposition(families, openmetrics=True))):
        cost, calls = parse(page)
        assert [(sample.labels["agent"], sample.value) for sample in cost.samples] == [
            (name, float(amount)) for name in names
        ]
        assert [(sample.name, sample.value) for sample in calls.samples] == [("callmeter_calls_total", 7)]


@given(text)
def test_what_cannot_be_printed_is_shown_and_drives_nothing(name: str) -> None:
    prometheus, _ = parsers()
    page = exposition([Family("cost_usd", "gauge", "C.", [((("agent", name),), 1)])])
    assert len(page.split("\n")) == 4
    assert all(line.isprintable() for line in page.split("\n"))
    assert len(next(iter(prometheus(page))).samples) == 1


def test_money_is_written_to_its_last_digit() -> None:
    families = [Family("cost_usd", "gauge", "C.", [((), Decimal("12345678901.000000001"))])]
    assert "callmeter_cost_usd 12345678901.000000001\n" in exposition(families)
    assert (
        json.loads(as_json(families), parse_float=str)["metrics"][0]["samples"][0]["value"] == "12345678901.000000001"
    )
    for amount, written in ((Decimal("1E+3"), "1000"), (Decimal("1E-9"), "0.000000001")):
        assert exposition([Family("x", "gauge", "X.", [((), amount)])]).splitlines()[-1] == f"callmeter_x {written}"


LOG = """
2026-11-20T09:00Z agent=code session=s-1 cost=8 in=1000 out=100
2026-11-20T09:01Z agent=docs session=s-2 cost=1 in=1000 out=100
"""
POLICY = {
    "version": 1,
    "total_budget": 100,
    "quotas": [
        {"subject": "agent:*", "limit": 10, "enforcement": "hard"},
        {"subject": "session:*", "limit": 2000, "unit": "tokens", "period": "life"},
    ],
}


@pytest.fixture
def call(home: Path) -> Callable[..., Result]:
    """Run the command on LOG, at NOW, under POLICY."""
    (home / "usage.jsonl").write_bytes(log_lines(LOG))
    (home / "budget.json").write_text(json.dumps(POLICY))

    def invoke(*arguments: str) -> Result:
        world = World(clock=lambda: at(NOW).timestamp())
        return CliRunner().invoke(app, ["budget", "metrics", *arguments], obj=world)

    return invoke


def test_quotas_are_there_with_what_is_left_and_how_long_it_lasts(call: Callable[..., Result]) -> None:
    found = json.loads(call("--format", "json").stdout, parse_float=Decimal)["metrics"]
    samples = {
        (each["name"].removeprefix("callmeter_quota_"), one["labels"].get("subject")): one["value"]
        for each in found
        for one in each["samples"]
    }
    assert samples["limit", "agent:code"] == 10
    assert samples["used", "agent:code"] == 8
    assert samples["left", "agent:code"] == 2
    assert samples["used_ratio", "agent:code"] == Decimal("0.8")
    # $8 in 1.25 days is 6.40 a day.
    assert samples["days_left", "agent:code"] == Decimal("0.31")
    assert samples["days_left", "total"] == Decimal("12.64")
    assert samples["left", "session:s-1"] == 900
    assert samples["callmeter_held_usd", None] == 0
    assert samples["callmeter_ledger_up", None] == 1


def test_a_ledger_out_of_reach_is_a_figure_and_hides_no_other(call: Callable[..., Result], home: Path) -> None:
    (home / "ledger.db").write_bytes(b"this is no database " * 400)
    result = call()
    assert result.exit_code == 0
    assert "callmeter_ledger_up 0\n" in result.stdout
    assert "callmeter_cost_usd 9\n" in result.stdout
    assert "callmeter_held_usd" not in result.stdout
    assert "warning" in result.stderr


def test_a_file_is_replaced_at_once_and_scrapers_may_read_it(call: Callable[..., Result], home: Path) -> None:
    target = home / "callmeter.prom"
    target.write_text("old")
    result = call("--out", str(target))
    assert (result.exit_code, result.output) == (0, "")
    assert target.stat().st_mode & 0o777 == 0o644
    assert target.read_text().endswith("\n")
    assert [name.name for name in home.glob("*.prom*")] == ["callmeter.prom"]
    prometheus, _ = parsers()
    assert len(list(prometheus(target.read_text()))) > 30


def test_a_pipe_is_no_file_to_replace(call: Callable[..., Result], home: Path) -> None:
    target = home / "callmeter.prom"
    os.mkfifo(target)
    result = call("--out", str(target))
    assert result.exit_code == 2
    assert f"--out {target} is no file" in result.stderr
    assert target.is_fifo()


def test_no_directory_is_made_for_a_file_that_others_read(call: Callable[..., Result], home: Path) -> None:
    result = call("--out", str(home / "collector" / "callmeter.prom"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is in no directory that exists" in result.stderr
    result = call("--out", "")
    assert (result.exit_code, "--out names no file" in result.stderr) == (2, True)
    assert not (home / "collector").exists()


def test_the_whole_page_is_read_by_both_parsers(call: Callable[..., Result]) -> None:
    prometheus, openmetrics = parsers()
    plain = [each.name for each in prometheus(call().stdout)]
    assert len(plain) == len(set(plain))
    assert [each.name for each in openmetrics(call("--format", "openmetrics").stdout)] == plain


def test_another_log_has_no_quotas_and_must_be_there(call: Callable[..., Result], home: Path) -> None:
    other = home / "other.jsonl"
    other.write_bytes(log_lines(LOG))
    assert "callmeter_quota_limit" in call().stdout
    assert "callmeter_quota_limit" not in call("--log", str(other)).stdout
    missing = call("--log", str(home / "missing.jsonl"))
    assert (missing.exit_code, missing.stdout) == (2, "")


def test_lines_that_are_no_records_are_counted(call: Callable[..., Result], home: Path) -> None:
    (home / "usage.jsonl").write_bytes(log_lines(LOG) * 2 + b'{"torn\nnonsense\n')
    page = call().stdout
    assert "callmeter_log_lines 6\n" in page
    assert "callmeter_log_bad_lines 2\n" in page
    assert "callmeter_log_duplicate_lines 2\n" in page
    assert "callmeter_cost_usd 9\n" in page


def test_quotas_of_many_sessions_stay_within_bounds(call: Callable[..., Result], home: Path) -> None:
    lines = "\n".join(f"2026-11-20T09:00Z agent=a session=s-{number} cost=0 in=900 out=1" for number in range(150))
    (home / "usage.jsonl").write_bytes(log_lines(lines))
    page = call().stdout
    assert page.count("callmeter_quota_limit{") == MOST_QUOTAS
    assert "callmeter_quotas_left_out 52\n" in page  # 150 sessions, one agent, the total
    assert 'callmeter_quota_limit{subject="total"' in page
    assert 'callmeter_quota_limit{subject="agent:a"' in page
