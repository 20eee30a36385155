"""`callmeter budget alerts`: what waits to be told, and telling it.

callmeter budget alerts
*/5 * * * * callmeter budget alerts --flush
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.world import World
from callmeter.exchange.alerts import read_pending, read_spool
from callmeter.flows.alerts import flush as deliver
from callmeter.providers.wire import Transport
from callmeter.reports.alert_list import alert_list
from callmeter.words.errors import Unavailable


def alerts(
    ctx: typer.Context,
    flush: Annotated[
        bool, typer.Option("--flush", help="Deliver what waits to the policy's webhooks, commands and files; for cron.")
    ] = False,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Alerts that wait to be delivered; --flush delivers them.

    Calls only write down what is to be told, so that no alert delays or fails a call. What a flush cannot deliver
    waits for the next one, for 7 days. Each alert is told once for its threshold and period, request or trip; a flush
    that is killed may repeat its last one, under the same id.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    path, receivers = world.paths.alerts, world.policy.alerts
    if not flush:
        pending, told = read_pending(path)
        fresh = [event for event in read_spool(path) if event.key not in told]
        world.out.report(alert_list([(e.at, e.occasion, e.text, e.tries) for e in [*pending, *fresh]], len(receivers)))
        return
    done = deliver(path, receivers, lambda: _transport(world), world.env, world.now(), world.monotonic)
    world.out.note(f"callmeter: {done.delivered} delivered, {done.waiting} waiting")
    for problem in done.problems:
        world.out.warn(problem)
    if done.waiting:
        raise Unavailable(
            f"{done.waiting} alert{'s' * (done.waiting != 1)} could not be delivered", "the next flush tries again"
        )


def _transport(world: World) -> Transport:
    from callmeter.providers.http import HttpTransport

    authorities = (world.env.get("SSL_CERT_FILE"), world.env.get("SSL_CERT_DIR"))
    proxy = world.settings.text("proxy")
    if proxy == "environment":
        return HttpTransport(*authorities, environment=world.env)
    return HttpTransport(*authorities, proxy=proxy)
