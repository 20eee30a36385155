"""How the loop breaker reaches the audit log and the freezes of this world. Imported by every call under a policy."""

from __future__ import annotations

from callmeter.flows.breaker import Breaker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from callmeter.cli.world import World
    from callmeter.policy.grants import Freeze
    from callmeter.words.subject import Subject


def breaker_over(world: World, *, batch: bool) -> Breaker:
    """The policy's loop breaker, for one call or for a batch."""

    def freeze(subject: Subject, until: datetime | None, reason: str) -> Freeze:
        from callmeter.cli.auditing import audit
        from callmeter.flows.approvals import trip

        return trip(
            world.paths, world.now(), subject, until=until, by="loop breaker", reason=reason, audit=audit(world)
        )

    def tell(subject: str, facts: Mapping[str, object]) -> None:
        from callmeter.cli.auditing import audit

        audit(world)("breaker.trip", {"subject": subject, **facts})

    return Breaker(world.policy.loop_breaker, world.paths.recent, batch=batch, freeze=freeze, tell=tell)
