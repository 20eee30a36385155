"""How commands reach the audit log."""

from __future__ import annotations

from collections.abc import Mapping

from callmeter.cli.alerting import alert_of_event
from callmeter.cli.world import World
from callmeter.store.audit import Audit, append_event


def audit(world: World) -> Audit:
    """Appends events to this world's audit log, with its clock and whoever runs the command. People are alerted of
    some."""

    def append(event: str, facts: Mapping[str, object]) -> None:
        anchor = append_event(world.paths.audit, event, world.now(), world.who, facts)
        alert_of_event(world, event, facts, anchor.hash[:16])

    return append
