"""`callmeter budget audit head`: one line that vouches for the audit log up to now.

callmeter budget audit head | logger -t callmeter
callmeter budget audit head >> /mnt/elsewhere/audit-anchors.txt
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.world import World
from callmeter.store.audit import read_head


def audit_head(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Print the audit log's newest anchor: a number and its hash.

    Keep it where whoever can write the audit log cannot: on another machine, in a mailbox, in a repository. Then
    `budget audit verify --anchor` shows whether the log was written anew since. Prints nothing while nothing was
    audited.
    """
    world: World = ctx.obj
    world.out.shape(opt.Shape.TEXT, quiet=quiet, verbose=verbose)
    head = read_head(world.paths.audit)
    if json:
        world.out.object({"seq": head and head.seq, "hash": head and head.hash, "host": world.host})
    elif head is not None:
        world.out.text(f"{head.seq}:{head.hash}")
    else:
        world.out.note("callmeter: nothing has been audited yet")
