"""`callmeter budget quota show`: where every quota stands.

callmeter budget quota show
callmeter budget quota show agent:code --format json
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.asking import allowances_of, teller_of
from callmeter.cli.ledgers import recover_holds
from callmeter.cli.world import World
from callmeter.flows.quota_listing import every_stand
from callmeter.policy.coverage import all_on, buckets_of
from callmeter.reports.quota_standings import standings_board
from callmeter.words.subject import parse_subject


def quota_show(
    ctx: typer.Context,
    subject: Annotated[
        str | None, typer.Argument(metavar="SUBJECT", help="Only those on this subject: `agent:code`, `session:*`.")
    ] = None,
    top: Annotated[
        int, typer.Option("--top", metavar="N", min=1, help="Of a quota for each of several, the N that took most.")
    ] = 10,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Where every quota stands: its limit, what is used and held of it, what is left, and when it resets.

    Dead callers' holds are recovered first. Of `session:*` and its like, each value that has used something is a row.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    policy, allowances = world.policy, allowances_of(world)
    teller = teller_of(world)
    if policy.quotas:
        recover_holds(world)
    wanted = parse_subject(subject, policy.aliases) if subject else None
    if wanted is not None and not wanted.each:
        stands, hidden = (
            teller.stands_in(buckets_of(all_on(policy, wanted), wanted, policy, world.now()), allowances),
            0,
        )
    else:
        stands, hidden = every_stand(teller, allowances, top)
    if wanted is not None and wanted.each:
        stands = [stand for stand in stands if stand.quota.subject.kind == wanted.kind]
    world.out.report(standings_board(stands, hidden, allowances.problems))
