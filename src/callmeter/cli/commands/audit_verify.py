"""`callmeter budget audit verify`: has anybody changed what was audited?

callmeter budget audit verify
callmeter budget audit verify --anchor 41:9f86d081884c7d65
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.reading import require_log
from callmeter.cli.world import World
from callmeter.flows.audit_anchors import anchors_in
from callmeter.reports.audit_list import chain_report
from callmeter.store.audit import parse_anchor, verify
from callmeter.words.errors import Refused


def audit_verify(
    ctx: typer.Context,
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", metavar="NUMBER:HASH", help="A line's number and hash, kept elsewhere. Repeatable."),
    ] = None,
    log: opt.Log = None,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Check the audit log's hash chain.

    Whoever can write the file can also write a new chain: only anchors kept where he cannot write show that. Each line
    of the usage log carries one, which helps where that log is shipped elsewhere (`--log`); `budget audit head` prints
    one to keep on another machine, in a mailbox or a repository. Exit status 3 when somebody tampered with the log, 5
    when it cannot be read. Half lines that crashes leave are no tampering.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    path = world.paths.audit
    require_log(log)
    given = [parse_anchor(text, "--anchor") for text in anchor or ()]
    logged = list(anchors_in([log or world.paths.log]))
    found = verify(path, [*given, *logged])
    rows = [(each.verdict.name, each.line, each.verdict.value, each.detail) for each in found.findings]
    head = None if found.head is None else f"{found.head.seq}:{found.head.hash}"
    world.out.report(chain_report(rows, found.events, found.anchors, len(given) + len(logged if log else ()), head))
    if found.tampered:
        raise Refused(f"{path} was tampered with", "compare it with a copy kept elsewhere", code="tampered")
