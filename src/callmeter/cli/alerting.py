"""How what happens reaches the spool of alerts, from calls and from commands. Imported when something happens."""

from __future__ import annotations

from callmeter.words.errors import CallmeterError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from callmeter.cli.world import World

# Events of the audit log that are told, and as what.
OCCASIONS = {"approval.request": "approval", "breaker.trip": "breaker", "key.rotate_failed": "rotation"}


def alert(world: World, occasion: str, key: str, text: str, facts: Mapping[str, object]) -> None:
    """Spool an alert, if the policy has somebody who wants it. What fails here fails nobody."""
    try:
        if not any(occasion in each.on for each in world.policy.alerts):
            return
        from callmeter.exchange.alerts import spool

        spool(world.paths.alerts, world.now(), occasion, key, text, facts)
    except CallmeterError:
        pass


def alert_of_event(world: World, event: str, facts: Mapping[str, object], anchor: str) -> None:
    """Spool what an audited event means to people; most mean nothing. `anchor` tells events of a kind apart."""
    occasion = OCCASIONS.get(event)
    if occasion == "breaker":
        stopped = "was stopped as" if facts.get("mode") == "block" else "looks like"
        text = f"{facts.get('subject')} {stopped} a runaway loop: {facts.get('reason')}"
        alert(world, occasion, f"breaker/{anchor}", text, facts)
    elif occasion == "approval":
        text = f"{facts.get('subject')} asks for approval, `callmeter budget approve {facts.get('id')}`: "
        alert(world, occasion, f"approval/{facts.get('id')}", text + str(facts.get("reason", "")), facts)
    elif occasion == "rotation":
        text = f"the rotation of the key {facts.get('key')} failed: {facts.get('message')}"
        alert(world, occasion, f"rotation/{facts.get('key')}/{world.now():%Y-%m-%d}", text, facts)
