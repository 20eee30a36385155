"""`callmeter config show`: every setting, its value, and which of option, variable, file and default gave it."""

from __future__ import annotations

import typer

from callmeter.cli.options import Format, Quiet, Shape, Verbose
from callmeter.cli.world import World
from callmeter.ledger.open_ledger import without_password
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.store.settings import KNOWN, variable_of


def config_show(
    ctx: typer.Context, format: Format = Shape.TEXT, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Every setting, its value, and where it comes from."""
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    rows = []
    for name, known in KNOWN.items():
        value, origin = world.settings.find(name)
        shown = "" if value is None else str(value).lower() if isinstance(value, bool) else _plain(value)
        if name == "ledger":
            shown = without_password(shown)
        rows.append(
            Row(
                {
                    "setting": name,
                    "value": shown,
                    "origin": origin,
                    "variable": variable_of(name),
                    "meaning": known.help,
                }
            )
        )
    columns = [
        Column("setting", "setting", Kind.TEXT),
        Column("value", "value", Kind.TEXT),
        Column("origin", "from", Kind.TEXT),
        Column("variable", "variable", Kind.TEXT, optional=1),
        Column("meaning", "meaning", Kind.TEXT, optional=2),
    ]
    places = world.paths
    notes = [
        f"settings: {places.settings}",
        f"policy: {places.policy}",
        f"approvals: {places.approvals}",
        f"keys: {places.keys}",
        f"usage log: {places.log}",
        f"ledger: {without_password(world.settings.text('ledger') or places.ledger)}",
    ]
    world.out.report(Report("Settings", columns, rows, notes=notes))


def _plain(value: object) -> str:
    """Seconds without a fraction are a whole number."""
    return f"{value:g}" if isinstance(value, float) and value.is_integer() else f"{value}"
