"""`callmeter budget keys show`: one key's registry entry and its month; or an end user's month.

callmeter budget keys show code@openrouter
callmeter budget keys show code@openrouter --format json | jq -r .facts.expires
callmeter budget keys show --user u42 --format json | jq '.facts.cost, .rows'
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from callmeter.cli.options import Format, Quiet, Shape, Verbose
from callmeter.cli.reading import Clock, open_usage
from callmeter.cli.rotating import due_of, rotation_of
from callmeter.cli.world import World
from callmeter.flows.key_places import standing
from callmeter.flows.keys import state_of, unknown_key, where_it_lies
from callmeter.reports.key_use import COLUMNS, key_use
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.secrets.registry import Entry, read_registry
from callmeter.store.toml import read_toml
from callmeter.words.errors import UsageError
from callmeter.words.instant import text_of
from callmeter.words.money import amount_value, nano, shown, usd
from callmeter.words.period import Period, bucket, bucket_label


def keys_show(
    ctx: typer.Context,
    label: Annotated[str | None, typer.Argument(metavar="LABEL", help="The key's label.")] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="An end user's keys and month instead, by model.")
    ] = None,
    format: Format = Shape.TEXT,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """One key's registry entry and its month, or an end user's; never the key."""
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    paths = world.paths
    entries = read_registry(read_toml(paths.keys, paths.cache), paths.keys)
    if (label is None) == (user is None):
        raise UsageError("which key?", "name its LABEL, or `--user ID`")
    if user is not None:
        world.out.report(_of_user(world, entries, user))
        return
    assert label is not None
    entry = entries.get(label)
    if entry is None:
        raise unknown_key(label)
    facts = {**_facts(world, entry), "month": _month(world, f"key={label}")[0]}
    columns = [Column("entry", "entry", Kind.TEXT), Column("value", "value", Kind.TEXT)]
    rows = [Row({"entry": name, "value": _shown(value)}) for name, value in facts.items()]
    world.out.report(Report(f"Key {label}", columns, rows, facts=facts))


def _facts(world: World, entry: Entry) -> dict[str, Any]:
    rotation = rotation_of(world, entry.label)
    going = rotation is not None and (rotation.open or rotation.unsettled)
    quotas = [quota for quota in world.policy.quotas if str(quota.subject) == f"key:{entry.label}"]
    money = [quota for quota in quotas if quota.unit == "usd"]
    rates = [quota for quota in quotas if quota.unit != "usd"]
    due = due_of(world, entry).at if not (entry.management or entry.retired) else None
    return {
        "label": entry.label,
        "state": "retired" if entry.retired else state_of(entry, world.stores, world.now()),
        "provider": entry.provider,
        "base_url": entry.base_url,
        "agent": entry.agent or None,
        "user": entry.user or None,
        "default": entry.default,
        "management": entry.management,
        "environment": entry.environment or None,
        "owner": entry.owner or None,
        "purpose": entry.purpose or None,
        "allowed_models": list(entry.allowed_models),
        "created": _text(entry.created),
        "expires": _text(entry.expires),
        "rotate_every": entry.rotate_every or None,
        "last_rotated": _text(entry.last_rotated),
        "rotation_due": _text(due),
        "rotation": rotation.state if rotation is not None and going else None,
        "retired": _text(entry.retired),
        "ceiling": entry.budget or None,
        "ceiling_reset": entry.budget_reset or None,
        "budget": [{"limit": usd(quota.limit), "period": quota.period} for quota in money],
        "rate_limit": [f"{amount_value(quota.limit, quota.unit)} {quota.unit}/{quota.period}" for quota in rates],
        "alerts": all(quota.alerts for quota in quotas) if quotas else None,
        "fingerprint": entry.fingerprint,
        "provider_key": entry.provider_key or None,
        "shared": entry.shared,
        "secret": entry.secret,
        "where": where_it_lies(entry, world.stores),
        "kept": standing(entry).worth,
    }


def _of_user(world: World, entries: dict[str, Entry], user: str) -> Report:
    keys = [entry for entry in entries.values() if entry.user == user]
    facts, rows = _month(world, f"user={user}")
    shown_keys = [
        {
            "label": entry.label,
            "ceiling": entry.budget or None,
            "ceiling_reset": entry.budget_reset or None,
            "expires": _text(entry.expires),
            "retired": _text(entry.retired),
        }
        for entry in keys
    ]
    named = ", ".join(f"{entry.label} ({_ceiling(entry)})" for entry in keys if entry.retired is None)
    notes = [f"Keys: {named}." if named else f"No key is registered for user {user}."]
    return Report(f"User {user}", COLUMNS, rows, notes=notes, facts={"user": user, "keys": shown_keys, **facts})


def _month(world: World, where: str) -> tuple[dict[str, object], list[Row]]:
    clock = Clock(world, None)
    start, end = bucket(clock.now, "month", clock.zone)
    period = Period(start, end, bucket_label(start, "month", clock.zone))
    return key_use(open_usage(world, None, clock), where, period)


def _ceiling(entry: Entry) -> str:
    return f"${entry.budget} {entry.budget_reset or 'once'}" if entry.budget else "no ceiling known"


def _text(instant: datetime | None) -> str | None:
    return text_of(instant) if instant is not None else None


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        cost = "unknown" if value["cost"] is None else shown(nano(value["cost"]))
        many = "s" * (value["requests"] != 1)
        return f"{cost}, {value['requests']} request{many} in {value['period']}"
    if isinstance(value, list):
        return ", ".join(
            f"${each['limit']} a {each['period']}" if isinstance(each, dict) else str(each) for each in value
        )
    return str(value or "")
