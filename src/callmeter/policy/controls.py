"""What a policy says beside quotas: the loop breaker, alerts, approvals."""

from __future__ import annotations

from callmeter.words.money import NANO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from decimal import Decimal

MODES = ("off", "log", "block")
ALERT_KINDS = ("webhook", "command", "file")
OCCASIONS = ("threshold", "exhaustion", "breaker", "approval", "anomaly", "rotation")


class LoopBreaker:
    """When a session looks like a runaway loop.

    It trips when `similar` of the `of_last` prompts are near-identical, or when a session costs more than
    `times_largest_session` times the agent's largest of 28 days and more than `session_floor` nano-dollars. It warns
    at `warn_similar`, and when ten minutes hold at least `busiest_calls` calls and `times_busiest` times those of the
    agent's busiest ten minutes. `freeze_minutes` is for how long a tripped agent is frozen, 0 until it is thawed.
    """

    def __init__(self) -> None:
        self.mode = "log"
        self.of_last = 20
        self.similar = 10
        self.warn_similar = 5
        self.times_largest_session: int | Decimal = 3
        self.session_floor = NANO
        self.times_busiest: int | Decimal = 3
        self.busiest_calls = 60
        self.freeze_minutes = 60


class Alert:
    """Where something is told, and on which occasions; by default, on all."""

    __slots__ = ("kind", "on", "target")

    def __init__(self, kind: str, target: str, on: tuple[str, ...] = OCCASIONS) -> None:
        self.kind = kind
        self.target = target
        self.on = on


class Approvals:
    """Who may approve. Without `approvers`, whoever can write the approvals file."""

    def __init__(self) -> None:
        self.self_approval = True
        self.approvers: tuple[str, ...] = ()
