"""`callmeter budget outcome record`: say what came of a work item.

callmeter budget outcome record --work-item SUP-1 --value 12.5 --accepted
callmeter budget outcome record --work-item SUP-2 --rejected --agent code --note 'did not compile'
callmeter budget outcome record --corrects merge-1881 --value 20
callmeter budget outcome record --from outcomes.csv
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.outcomes import record_file, record_one
from callmeter.cli.world import World
from callmeter.words.errors import UsageError


def outcome_record(
    ctx: typer.Context,
    work_item: opt.WorkItem = None,
    value: Annotated[
        str | None,
        typer.Option("--value", metavar="USD", help="What it is worth: dollars, or any unit used throughout."),
    ] = None,
    accepted: Annotated[bool, typer.Option("--accepted", help="It was taken: a valuable output.")] = False,
    rejected: Annotated[bool, typer.Option("--rejected", help="It was thrown away: worth nothing.")] = False,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="Whose it is, if not all of those who worked on it.")
    ] = None,
    purpose: Annotated[str | None, typer.Option("--purpose", metavar="TEXT", help="Of which of its purposes.")] = None,
    customer: Annotated[str | None, typer.Option("--customer", metavar="NAME", help="For this customer.")] = None,
    note: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="A word for people.")] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="When it happened, if not now.")] = None,
    id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Its own name: recorded twice, it counts once.")
    ] = None,
    corrects: Annotated[
        str | None, typer.Option("--corrects", metavar="ID", help="Change what was said about this outcome.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help="Record all rows of a CSV or JSON lines file; `-` is stdin."),
    ] = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Record what came of a work item: its value, accepted or rejected.

    Lines are only ever added to `outcomes.jsonl`, and audited. Rows of a file that are no outcomes are named by their
    lines; the others are recorded, and the file can be given again: what is there already does not count twice.
    """
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    if accepted and rejected:
        raise UsageError("--accepted and --rejected contradict each other", "keep one of them", code="contradiction")
    said = {
        "work_item": work_item,
        "value": value,
        "accepted": accepted or (False if rejected else None),
        "agent": agent,
        "purpose": purpose,
        "customer": customer,
        "note": note,
        "at": at,
        "id": id,
        "corrects": corrects,
    }
    if source is None:
        record_one(world, said)
        return
    other = next((name for name, each in said.items() if each is not None), None)
    if other is not None:
        raise UsageError(f"--from and --{other.replace('_', '-')} contradict each other", "say it in the file")
    record_file(world, source)
