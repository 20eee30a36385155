"""`callmeter budget policy check`: is budget.json what it should be, and what it was meant to be?

callmeter budget policy check
callmeter budget policy check new-budget.json --format json | jq -r '.rows[] | .place + ": " + .message'
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.world import World
from callmeter.reports.policy_rules import checked_policy, faults_text
from callmeter.store.files import anyone_may_write, read_file
from callmeter.words.errors import Malformed, UsageError


def policy_check(
    ctx: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="The file to check; without it, the policy in force.")
    ] = None,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Check the policy: every fault at once, with its line and a suggestion.

    Warnings are about what is allowed but may not be meant: a limit that calls can walk around by leaving out a tag,
    one that the total never lets anybody reach. With a fault the exit status is 5, with warnings alone 0.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    path = file or world.paths.policy
    data = read_file(path)
    if data is None and file is not None:
        raise UsageError(f"there is no {path}", "name a file that is there")
    report = checked_policy(data, path, writable=data is not None and anyone_may_write(path))
    world.out.report(report)
    if report.facts["faults"]:
        raise Malformed(f"{path} has {faults_text(report)}", "mend them; until then, no call is made")
