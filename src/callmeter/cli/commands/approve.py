"""`callmeter budget approve`: grant a request.

callmeter budget approve r-7k3m9x2q
callmeter budget approve r-7k3m9x2q --amount 2 --for 2h
callmeter budget approve r-7k3m9x2q --calls 10
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.amounts import amount_in, end_in
from callmeter.cli.auditing import audit
from callmeter.cli.ledgers import ledger_of
from callmeter.cli.world import World
from callmeter.flows import approvals
from callmeter.words.money import amount_text


def approve(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The request's id, as `budget requests` lists it.")],
    amount: Annotated[
        str | None, typer.Option("--amount", metavar="AMOUNT", help="Another amount than the one asked for.")
    ] = None,
    span: opt.For = None,
    until: opt.UntilThen = None,
    calls: Annotated[
        int | None, typer.Option("--calls", metavar="N", min=1, help="Only for the subject's next N calls.")
    ] = None,
    reason: opt.Reason = "",
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Grant a request: headroom over the limit, and the stages that need approval are passed.

    An approval ends by itself, at the latest with the quota's period; what is left of it then is gone. Your name is
    that of the system's user, and is kept with it.
    """
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    size, unit = (None, None) if amount is None else amount_in(amount, "--amount")
    grant = approvals.approve(
        world.paths,
        world.policy,
        world.now(),
        id,
        amount=size,
        unit=unit,
        until=end_in(world, span, until),
        calls=calls,
        standings=lambda windows: ledger_of(world).standings(windows),
        by=world.who,
        reason=reason,
        audit=audit(world),
    )
    more = f"may take {amount_text(grant.amount, grant.unit)} more" if grant.amount else "may go on"
    ends = ", ".join(f"per {period} {approvals.end_text(end)}" for period, end in grant.ends.items())
    world.out.note(f"callmeter: approved: {grant.bucket} {more}, {ends}")
