"""`callmeter budget log prune`: an end to old segments.

callmeter budget log prune --dry-run
callmeter budget log prune --keep 400d
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.auditing import audit
from callmeter.cli.retention import cutoff, one_log, segment_list
from callmeter.cli.world import World
from callmeter.store.segments import prunable, prune_log


def log_prune(
    ctx: typer.Context,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep", metavar="SPAN", help="How long calls are kept: `400d`, `60w`; unless given, `retention_days`."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted, and delete nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Allow less than 90 days.")] = False,
    log: opt.OneLog = None,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Delete closed segments older than the retention.

    Only whole segments, and only when all their calls are older. The log itself is never touched: close it first.
    Each deletion is audited, with the segment's sum and hash, before it is made.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    path, until = one_log(world, log), cutoff(world, keep, force)
    segments, reasons = prunable(path, until) if dry_run else prune_log(path, until, audit(world))
    for reason in reasons:
        world.out.warn(f"kept: {reason}")
    if dry_run or format is not opt.Shape.TEXT:
        world.out.report(segment_list("Would be deleted" if dry_run else "Deleted", segments))
        return
    for segment in segments:
        world.out.note(f"callmeter: deleted {segment.name}: {segment.lines:,} lines, the last of {segment.last}")
    if not segments:
        world.out.note("callmeter: nothing to delete")
