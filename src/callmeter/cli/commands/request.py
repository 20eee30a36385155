"""`callmeter budget request`: ask for more than a quota allows.

callmeter budget request agent:code 5 --reason 'the migration needs another run'
callmeter budget request agent:code 200000tok --period day --reason 'long documents today'
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.amounts import amount_in
from callmeter.cli.auditing import audit
from callmeter.cli.world import World
from callmeter.flows.approvals import ask_for_more
from callmeter.words.money import amount_text


def request(
    ctx: typer.Context,
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="What needs more: `agent:code`, `total`.")],
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT", help="How much more: `5` or `$5`, `100000tok`, `20calls`.")
    ],
    reason: opt.ReasonTold,
    period: opt.QuotaPeriod = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Ask for headroom over a quota's limit; prints the request's id.

    It is about all the subject's quotas in that unit, unless `--period` names one. Who asks for the same again gets
    the same id. Calls that reach a stage that needs approval ask by themselves.
    """
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    size, unit = amount_in(amount, "AMOUNT")
    asked = ask_for_more(
        world.paths,
        world.policy,
        world.now(),
        subject,
        unit=unit,
        amount=size,
        period=period or "",
        by=world.who,
        reason=reason,
        audit=audit(world),
    )
    world.out.text(asked.id)
    world.out.note(
        f"callmeter: asked for {amount_text(size, unit)} more for {asked.bucket}; "
        f"`callmeter budget approve {asked.id}` grants it"
    )
