"""`callmeter budget quota sync`: the same limits at the provider, for callers that go around callmeter.

callmeter budget quota sync                # shows what differs
callmeter budget quota sync --apply
callmeter budget quota sync --check        # for cron: exit status 3 when something differs
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli.options import Format, Quiet, Shape, Verbose
from callmeter.cli.rotating import bench_of
from callmeter.cli.world import World
from callmeter.flows.key_ceilings import UNMANAGED, Difference, apply, differences
from callmeter.flows.keys import unknown_key
from callmeter.reports.report import Cell, Column, Kind, Report, Row
from callmeter.secrets.registry import read_registry
from callmeter.store.toml import read_toml
from callmeter.words.errors import CallmeterError, Exit, NoKey, UsageError


def quota_sync(
    ctx: typer.Context,
    label: Annotated[list[str] | None, typer.Argument(metavar="LABEL", help="These keys; without one, all.")] = None,
    put: Annotated[bool, typer.Option("--apply", help="Write what differs to the provider.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with status 3 when something differs.")] = False,
    format: Format = Shape.TEXT,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write quotas as ceilings, and model lists, to the provider: a second wall behind this one.

    A provider holds one limit in USD for a key, reset daily, weekly, monthly or never: of the quotas on a key, its
    agent or its user, that is the tightest; and a model list as a guardrail. Without --apply the difference is shown.
    It needs a management key.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    if put and check:
        raise UsageError("--apply and --check contradict each other", code="contradiction")
    paths = world.paths
    entries = read_registry(read_toml(paths.keys, paths.cache), paths.keys)
    for name in label or ():
        if name not in entries:
            raise unknown_key(name)
    meant = [
        entry
        for entry in entries.values()
        if not entry.management and entry.retired is None and (not label or entry.label in label)
    ]
    bench = bench_of(world)
    found = differences(meant, world.policy.quotas, bench)
    if found and all(each.action == UNMANAGED for each in found):  # not even a difference could be seen
        raise NoKey(
            "there is no management key, so the provider's ceilings are not known",
            "add one with `callmeter budget keys add --management`, or set CALLMETER_MANAGEMENT_KEY",
            code="no_management_key",
        )
    failures = 0
    if put:
        for each in filter(lambda each: each.differs, found):
            try:
                for warning in apply(each, bench):
                    world.out.warn(warning)
            except CallmeterError as error:
                failures += 1
                world.out.warn(f"{each.entry.label}: {error.message}")
        found = differences(meant, world.policy.quotas, bench)
    differ = sum(each.differs for each in found)
    columns = [
        Column("label", "key", Kind.TEXT),
        Column("limit", "at the provider", Kind.RATE),
        Column("reset", "reset", Kind.TEXT, optional=2),
        Column("wanted", "wanted", Kind.RATE),
        Column("wanted_reset", "reset", Kind.TEXT, optional=2),
        Column("quota", "by the quota on", Kind.TEXT, optional=1),
        Column("action", "what", Kind.TEXT),
    ]
    if any(each.models for each in found):
        columns.append(Column("models", "model list", Kind.TEXT))
    notes = [f"{differ} to be written: add `--apply`."] if differ and not put else []
    world.out.report(Report("Ceilings at the provider", columns, [Row(_cells(each)) for each in found], notes=notes))
    if failures:
        raise typer.Exit(int(Exit.UNAVAILABLE))
    if check and differ:
        raise typer.Exit(int(Exit.REFUSED))


def _cells(each: Difference) -> dict[str, Cell]:
    record, wanted = each.record, each.wanted
    return {
        "label": each.entry.label,
        "limit": record.limit if record else None,
        "reset": record.limit_reset if record else None,
        "wanted": wanted.limit if wanted else None,
        "wanted_reset": wanted.reset if wanted else None,
        "quota": f"{wanted.quota.subject} per {wanted.quota.period}" if wanted else None,
        "action": each.action,
        "models": each.models or None,
    }
