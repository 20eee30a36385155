"""Options that several commands share, each defined once."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from callmeter.words.key_shape import holds_key

_LONGEST_REASON = 1000


def _reason(text: str) -> str:
    """What people say is kept in files that every call reads."""
    if len(text) > _LONGEST_REASON:
        raise typer.BadParameter(f"it has {len(text):,} characters, {_LONGEST_REASON:,} are allowed")
    if holds_key(text):
        raise typer.BadParameter("it has a key in it, or what looks like one; name a key by its label")
    return text.strip()


class Shape(enum.StrEnum):
    """The shapes of a report: the same rows in each."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    MARKDOWN = "markdown"


class Periods(enum.StrEnum):
    """The periods of quotas."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    LIFE = "life"


class Units(enum.StrEnum):
    """The units of quotas."""

    USD = "usd"
    TOKENS = "tokens"
    CALLS = "calls"


Format = Annotated[Shape, typer.Option("--format", help="Shape of the output: the same rows in each.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no warnings on stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")]
Log = Annotated[
    str | None,
    typer.Option("--log", metavar="PATH", help="Usage log to read, or a glob of several; CALLMETER_LOG."),
]
OneLog = Annotated[
    str | None,
    typer.Option("--log", metavar="PATH", help="Another usage log than the setting's; CALLMETER_LOG."),
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="TIME",
        help="Report as if it were this time, or the end of this day; what was logged later is left out.",
    ),
]
# Options of time: a command has those that mean something to it, and `Clock.period` reads the ones that it has.
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="From this time on (a date, or a date and time).")
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before this time.")]
Last = Annotated[
    str | None, typer.Option("--last", metavar="SPAN", help="The last span: `24h`, `7d`, `4w`, `3m` (months).")
]
ThisWeek = Annotated[bool, typer.Option("--this-week", help="Since Monday.")]
LastWeek = Annotated[bool, typer.Option("--last-week", help="Last week, Monday to Sunday.")]
ThisMonth = Annotated[bool, typer.Option("--this-month", help="Since the first of the month.")]
LastMonth = Annotated[bool, typer.Option("--last-month", help="The calendar month before this one.")]
Month = Annotated[str | None, typer.Option("--month", metavar="YYYY-MM", help="One month.")]
Today = Annotated[bool, typer.Option("--today", help="Since midnight.")]
Yesterday = Annotated[bool, typer.Option("--yesterday", help="Yesterday.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where", metavar="NAME=VALUE", help="Only calls with this tag, model, provider, key or status; `*` matches."
    ),
]
QuotaPeriod = Annotated[
    Periods | None, typer.Option("--period", help="The quota's period; `life` never resets.", show_choices=True)
]
QuotaUnit = Annotated[Units | None, typer.Option("--unit", help="The quota's unit.")]
For = Annotated[str | None, typer.Option("--for", metavar="SPAN", help="Only for so long: `30m`, `2h`, `7d`, `4w`.")]
UntilThen = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Only until this time.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", parser=_reason, help="Why; kept in the audit log.")]
ReasonTold = Annotated[
    str, typer.Option("--reason", metavar="TEXT", parser=_reason, help="Why; those who are concerned read it.")
]
# What a call would be booked under, for commands that make none.
Agent = Annotated[str | None, typer.Option("--agent", "--caller", metavar="NAME", help="The agent.")]
Session = Annotated[str | None, typer.Option("--session", metavar="ID", help="In this session.")]
Purpose = Annotated[str | None, typer.Option("--purpose", metavar="TEXT", help="For this purpose.")]
Priority = Annotated[
    str | None, typer.Option("--priority", metavar="LEVEL", help="Of this priority: a quota may reserve a share.")
]
Environment = Annotated[str | None, typer.Option("--environment", metavar="NAME", help="In this environment.")]
CostCenter = Annotated[str | None, typer.Option("--cost-center", metavar="NAME", help="Paid by this one.")]
WorkItem = Annotated[str | None, typer.Option("--work-item", metavar="ID", help="For this ticket or task.")]
Customer = Annotated[str | None, typer.Option("--customer", metavar="NAME", help="For this customer.")]
User = Annotated[str | None, typer.Option("--user", metavar="ID", help="For this end user.")]
Workflow = Annotated[str | None, typer.Option("--workflow", metavar="NAME", help="In this larger procedure.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="With any other tag. Repeatable.")]
Model = Annotated[str | None, typer.Option("--model", "-m", metavar="MODEL", help="To this model.")]
Provider = Annotated[str | None, typer.Option("--provider", metavar="NAME", help="At this provider.")]
Key = Annotated[str | None, typer.Option("--key", metavar="LABEL", help="With this key.")]
MaxTokens = Annotated[
    str | None, typer.Option("--max-tokens", metavar="N", help="Its output ceiling, as for `llm-call`.")
]
PromptSize = Annotated[
    int | None, typer.Option("--prompt-size", metavar="BYTES", min=0, help="The size of its prompt.")
]
BaseUrl = Annotated[str | None, typer.Option("--base-url", metavar="URL", help="At this OpenAI-compatible endpoint.")]
