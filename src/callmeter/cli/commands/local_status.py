"""`callmeter local status`: whether a local model is running, and where."""

from __future__ import annotations

import typer

from callmeter.cli.options import Format, Quiet, Shape
from callmeter.cli.world import World
from callmeter.reports.report import Cell, Column, Kind, Report, Row
from callmeter.words.errors import Refused


def local_status(ctx: typer.Context, format: Format = Shape.TEXT, quiet: Quiet = False) -> None:
    """Whether a local model is running, and where.

    The exit status is 3 when there is none.
    """
    from callmeter.providers.local import running

    world: World = ctx.obj
    world.out.shape(format, quiet=quiet)
    server = running(world.paths.state_dir)
    if server is None:
        raise Refused("no local model is running", "start one with `callmeter local serve`", code="not_running")
    cells: dict[str, Cell] = {"base_url": server.base_url, "model": server.model, "pid": server.pid}
    columns = [
        Column("base_url", "base URL", Kind.TEXT),
        Column("model", "model", Kind.TEXT),
        Column("pid", "process", Kind.TEXT),
    ]
    world.out.report(Report("Local model", columns, [Row(cells)]))
