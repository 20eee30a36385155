"""How commands reach the audit log."""

from __future__ import annotations

from collections.abc import Mapping

from callmeter.cli.world import World
from callmeter.store.audit import Audit, append_event


def audit(world: World) -> Audit:
    """Appends events to this world's audit log, with its clock and whoever runs the command."""

    def append(event: str, facts: Mapping[str, object]) -> None:
        append_event(world.paths.audit, event, world.now(), world.who, facts)

    return append
