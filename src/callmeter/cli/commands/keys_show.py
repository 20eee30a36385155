"""`callmeter budget keys show`: one key's registry entry.

callmeter budget keys show code@openrouter
callmeter budget keys show code@openrouter --format json | jq -r .facts.expires
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from callmeter.cli.options import Format, Quiet, Shape, Verbose
from callmeter.cli.world import World
from callmeter.flows.key_places import standing
from callmeter.flows.keys import state_of, unknown_key, where_it_lies
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.secrets.registry import read_registry
from callmeter.store.toml import read_toml
from callmeter.words.instant import text_of


def keys_show(
    ctx: typer.Context,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="The key's label.")],
    format: Format = Shape.TEXT,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """One key's registry entry; never the key."""
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    paths = world.paths
    entry = read_registry(read_toml(paths.keys, paths.cache), paths.keys).get(label)
    if entry is None:
        raise unknown_key(label)
    facts: dict[str, Any] = {
        "label": entry.label,
        "state": state_of(entry, world.stores, world.now()),
        "provider": entry.provider,
        "base_url": entry.base_url,
        "agent": entry.agent or None,
        "default": entry.default,
        "environment": entry.environment or None,
        "owner": entry.owner or None,
        "purpose": entry.purpose or None,
        "allowed_models": list(entry.allowed_models),
        "created": text_of(entry.created) if entry.created else None,
        "expires": text_of(entry.expires) if entry.expires else None,
        "fingerprint": entry.fingerprint,
        "shared": entry.shared,
        "where": where_it_lies(entry, world.stores),
        "kept": standing(entry).worth,
    }
    columns = [Column("entry", "entry", Kind.TEXT), Column("value", "value", Kind.TEXT)]
    rows = [Row({"entry": name, "value": _shown(value)}) for name, value in facts.items()]
    world.out.report(Report(f"Key {label}", columns, rows, facts=facts))


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value or "")
