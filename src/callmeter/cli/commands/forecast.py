"""`callmeter budget forecast`: what will probably be spent, and what that means for quotas.

callmeter budget forecast --next-week
callmeter budget forecast --to-period-end --by-agent
callmeter budget forecast --next-month --fail-if-over
callmeter budget forecast --backtest
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.amounts import amount_in
from callmeter.cli.forecasting import alert_exhaustion, keep_and_grade, quotas_ahead, require_room
from callmeter.cli.reading import Clock, open_usage, show_usage
from callmeter.cli.world import World
from callmeter.flows.forecast_past import past_of
from callmeter.reports.forecast import MOST_DAYS, Horizon, next_days, next_month, next_week, to_end
from callmeter.reports.forecast import forecast as forecast_of
from callmeter.reports.forecast_backtest import backtest_report, pasts_of
from callmeter.reports.forecast_history import histories, silent_hosts, stopped_days
from callmeter.reports.forecast_page import forecast_page, silence_sentence
from callmeter.reports.grouping import is_time, key_name
from callmeter.words.errors import UsageError


def forecast(
    ctx: typer.Context,
    week: Annotated[bool, typer.Option("--next-week", help="The calendar week after this one; the default.")] = False,
    month: Annotated[bool, typer.Option("--next-month", help="The calendar month after this one.")] = False,
    days: Annotated[
        int | None, typer.Option("--days", metavar="N", min=1, max=MOST_DAYS, help="The next N whole days.")
    ] = None,
    to_period_end: Annotated[
        bool, typer.Option("--to-period-end", help="The policy's period (month unless set): spent so far and the rest.")
    ] = False,
    by_agent: Annotated[bool, typer.Option("--by-agent", help="Also for each agent.")] = False,
    by_purpose: Annotated[bool, typer.Option("--by-purpose", help="Also for each purpose.")] = False,
    by_model: Annotated[bool, typer.Option("--by-model", help="Also for each model.")] = False,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="TAG", help="Also for each value of any tag, key, provider or host. Repeatable."),
    ] = None,
    top: Annotated[
        int | None, typer.Option("--top", metavar="N", min=1, help="Only the N dearest of them, the rest as one row.")
    ] = None,
    fail_if_over: Annotated[
        str | None,
        typer.Option(
            "--fail-if-over",
            metavar="[=USD]",
            help="Exit with status 3 when a quota is likelier than not to be exceeded before its reset; with an "
            "amount, when the first sum is likelier than not above it.",
        ),
    ] = None,
    backtest: Annotated[
        bool, typer.Option("--backtest", help="Grade the method on this log's own past instead.")
    ] = False,
    as_of: opt.AsOf = None,
    log: opt.Log = None,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """What will probably be spent, by day and in sum, and what that means for each quota.

    From your last weeks, the newest counting most, laid over your usual weekdays; the range is what the ups and downs
    of your own days add up to. `expected` is the mean, which adds up; `median` is as likely exceeded as not. Each
    forecast is kept and graded when its days are over.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    most = amount_in(fail_if_over, "--fail-if-over", "usd")[0] if fail_if_over else None
    if backtest:
        ahead_of = {"--next-week": week, "--next-month": month, "--days": days, "--to-period-end": to_period_end}
        _refuse_ahead({**ahead_of, "--fail-if-over": fail_if_over})
    clock, live = Clock(world, as_of), as_of is None and log is None
    flags = {"agent": by_agent, "purpose": by_purpose, "model": by_model}
    names = _names([*(name for name, wanted in flags.items() if wanted), *(by or ())], world.policy.aliases)
    if top is not None and not names:
        raise UsageError(
            "--top has no parts to choose from", "add `--by-agent`, or `--by` and another tag", code="contradiction"
        )
    usage = open_usage(world, log, clock)
    present = past_of(usage, clock.now, world.paths, own=log is None)
    found = histories(usage, names, present)
    if backtest:
        show_usage(world, backtest_report(pasts_of(found, names, present.until, top), present.until), usage, log)
        return
    horizons = _horizons(present.today, week, month, days, world.policy.period if to_period_end else "")
    forecasts = [forecast_of(each, found, present, names) for each in horizons]
    ahead = quotas_ahead(world, present, live=live)
    notes = [*ahead.notes, *filter(None, [silence_sentence(silent_hosts(present))])]
    grades = keep_and_grade(world, forecasts, names, present) if live else []
    stopped = stopped_days(present)
    page = forecast_page(
        forecasts, names, ahead.quotas, present, top=top or 0, stopped=stopped, grades=grades, notes=notes
    )
    show_usage(world, page, usage, log)
    if live:
        alert_exhaustion(world, ahead.quotas)
    if fail_if_over is not None:
        if most is None and not world.policy.quotas:
            world.out.warn("--fail-if-over has no quota to look at: set one, or give an amount, `--fail-if-over=500`")
        require_room(ahead, forecasts, most)
        if forecasts[0].total.fit is None and forecasts[0].total.history.first is not None:
            world.out.warn("--fail-if-over has no forecast to look at before the first complete day")


def _horizons(today: date, week: bool, month: bool, days: int | None, period: str) -> list[Horizon]:
    found = [next_week(today)] if week or not (month or days or period) else []
    found += [next_month(today)] if month else []
    found += [next_days(today, days)] if days else []
    return found + ([to_end(today, period)] if period else [])


def _refuse_ahead(options: Mapping[str, object]) -> None:
    for option, given in options.items():
        if given is not None and given is not False:
            raise UsageError(
                f"--backtest and {option} contradict each other",
                "a backtest is of the past, always 7 and 28 days long",
                code="contradiction",
            )


def _names(texts: Sequence[str], aliases: dict[str, str]) -> list[str]:
    """The groupings, each once. Raises UsageError for a unit of time: days are shown anyway."""
    names = list(dict.fromkeys(key_name(text, aliases) for text in texts))
    for name in names:
        if is_time(name) or name == "origin":
            raise UsageError(f"a forecast cannot be broken down by {name}", "write `--by agent` or another tag")
    return names
