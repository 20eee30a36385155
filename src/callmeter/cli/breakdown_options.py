"""The options of `budget breakdown`, checked against each other: what they ask for, or why they cannot be had."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

from callmeter.reports.grouping import is_time, key_name
from callmeter.words.errors import UsageError


class Sort(enum.StrEnum):
    """What rows can be sorted by."""

    COST = "cost"
    CALLS = "calls"
    TOKENS = "tokens"
    NAME = "name"
    LATENCY = "latency"
    ERRORS = "errors"
    CHANGE = "change"


def groupings(arguments: Sequence[str]) -> list[str]:
    """The groupings in the order of the command line, which Typer does not keep across different options."""
    found = []
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        option, equals, value = argument.partition("=")
        if option == "--by":
            found.append(value if equals else following)
        elif option.startswith("--by-"):
            found.append(option.removeprefix("--by-"))
    return found


def require_consistent(
    by: Sequence[str],
    aliases: Mapping[str, str],
    *,
    compare: str | None,
    cumulative: bool,
    top: int | None,
    sort: Sort | None,
) -> None:
    """Raises UsageError for options that contradict each other."""
    keys = [key_name(name, aliases) for name in by]
    times = [key for key in keys if is_time(key)]
    if compare is not None and cumulative:
        raise _contradiction("--compare and --cumulative contradict each other", "keep one of them")
    if compare is not None and len(times) > 1:
        raise _contradiction(
            f"--compare wants one unit of time, and there are --by-{times[0]} and --by-{times[1]}", "keep one of them"
        )
    if sort is Sort.CHANGE and compare is None:
        raise _contradiction("--sort change has nothing to compare with", "add `--compare last-week`")
    if not cumulative:
        return
    if not is_time(keys[0]):
        raise _contradiction(
            "--cumulative adds up over time, and the rows are no units of time", "begin with `--by-day`"
        )
    if top is not None:
        raise _contradiction("--cumulative and --top contradict each other", "keep one of them")
    if sort not in (None, Sort.NAME):
        raise _contradiction(f"--cumulative and --sort {sort} contradict each other", "leave out `--sort`")


def _contradiction(message: str, hint: str) -> UsageError:
    return UsageError(message, hint, code="contradiction")
