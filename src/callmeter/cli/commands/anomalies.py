"""`callmeter budget anomalies`: what is out of the ordinary.

callmeter budget anomalies
callmeter budget anomalies --yesterday --fail-if-any
callmeter budget anomalies --last 3m --by customer --floor 5
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.alerting import alert
from callmeter.cli.auditing import audit
from callmeter.cli.reading import Clock, open_usage, show_usage
from callmeter.cli.world import World
from callmeter.flows.anomalies import facts_of, sentence, tell
from callmeter.flows.offers import rates_of
from callmeter.reports.anomalies import anomaly_report, examine
from callmeter.reports.anomaly_finding import BY, Finding, Floors, Scope
from callmeter.reports.grouping import key_name
from callmeter.words.errors import Refused, UsageError
from callmeter.words.instant import text_of
from callmeter.words.money import nano, parse_usd
from callmeter.words.period import UNITS

SPAN = "28d"
# Older news alert nobody.
_NEWS = timedelta(days=7)


def anomalies(
    ctx: typer.Context,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="TAG", help="Look at this tag, not at agent, purpose, model and key. Repeatable."),
    ] = None,
    floor: Annotated[
        str | None,
        typer.Option(
            "--floor", metavar="USD", help="Tell no smaller excess; 1% of a month's quota, or 1 USD, if not given."
        ),
    ] = None,
    fail_if_any: Annotated[
        bool, typer.Option("--fail-if-any", help="Exit with status 3 when anything was found.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Tell the audit log, and alert, once of each finding.")
    ] = True,
    where: opt.Where = None,
    since: opt.Since = None,
    until: opt.Until = None,
    last: opt.Last = None,
    month: opt.Month = None,
    today: opt.Today = False,
    yesterday: opt.Yesterday = False,
    this_week: opt.ThisWeek = False,
    last_week: opt.LastWeek = False,
    this_month: opt.ThisMonth = False,
    last_month: opt.LastMonth = False,
    as_of: opt.AsOf = None,
    log: opt.Log = None,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Spikes, shifts, new models, changed prices, error storms, runaway loops, zombie sessions.

    Of the last 28 days, unless another period is given; the most expensive first, each with its evidence and the
    command that acts. Costs are compared with what the days before let expect, which takes 14 days of history.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    clock = Clock(world, as_of)
    period = clock.period(ctx, SPAN)
    policy = world.policy
    scope = Scope(
        clock.now,
        clock.zone,
        period,
        tuple(dict.fromkeys(_grouping(name, policy.aliases) for name in by or BY)),
        tuple(_condition(text, policy.aliases) for text in where or ()),
        Floors(None if floor is None else _amount(floor), policy.quotas),
        policy.loop_breaker,
        rates_of(world.paths, world.settings.providers),
    )
    usage = open_usage(world, log, clock)
    examined = examine(usage, scope)
    show_usage(world, anomaly_report(examined.findings, scope, examined), usage, log)
    if record:
        tell(world.paths.audit, examined.findings, audit(world), lambda each: _alert(world, each))
    found = len(examined.findings)
    if fail_if_any and found:
        raise Refused(
            f"{found} anomal{'ies were' if found > 1 else 'y was'} found",
            "look at each with its command",
            code="anomalies",
            findings=found,
        )


def _alert(world: World, found: Finding) -> None:
    if found.last >= text_of(world.now() - _NEWS)[:10]:
        alert(world, "anomaly", f"anomaly/{found.id}", sentence(found), facts_of(found))


def _grouping(text: str, aliases: dict[str, str]) -> str:
    name = key_name(text, aliases)
    if name in UNITS:
        raise UsageError(f"--by {text}: a unit of time cannot be out of the ordinary", "write `--by agent`")
    return name


def _condition(text: str, aliases: dict[str, str]) -> str:
    """`NAME=VALUE` with the name as it stands in the log."""
    name, equals, value = text.partition("=")
    return f"{key_name(name, aliases)}={value.strip()}" if equals else text


def _amount(text: str) -> int:
    try:
        amount = parse_usd(text)
    except ValueError:
        raise UsageError(f"--floor {text!r} is not an amount in USD", "write `--floor 5` or `--floor 0.50`") from None
    if amount < 0:
        raise UsageError(f"--floor {text!r} is below 0", "write `--floor 0` to be told of everything")
    return nano(amount)
