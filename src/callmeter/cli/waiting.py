"""Who waits is told for what."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from callmeter.cli.world import World
    from callmeter.policy.document import Policy

# Seconds: before that nobody wonders.
_PERSON = 1.0
_SCRIPT = 10.0


def make_ready(world: World, policy: Policy) -> None:
    """Read a long log while it is a person who waits, before a policy is put in place under which each call would have
    to wait for that. Raises LedgerProblem, FileProblem, Busy."""
    from callmeter.flows import rebuild

    if policy.quotas and not world.policy.quotas:
        from callmeter.cli.ledgers import ledger_of

        rebuild.resume(lambda: ledger_of(world), world.paths.log)
    rebuild.make_ready(policy, world.paths.log, world.now(), index=world.paths.index, tell=told(world))


def told(world: World, *, since: float | None = None, scripts: bool = True) -> Callable[[str], None]:
    """A function to call with what is going on: a person sees it from the second second on, as it changes; in the
    errors of `scripts` it is said once, when it has taken long. The time counts from the first call, or from `since`,
    as `world.monotonic` tells it."""
    begun = [] if since is None else [since]
    said: list[str] = []

    def tell(text: str) -> None:
        if not begun:
            begun.append(world.monotonic())
        waited = world.monotonic() - begun[0]
        if world.out.errors_to_terminal:
            if waited >= _PERSON:
                world.out.passing(text)
        elif scripts and waited >= _SCRIPT and not said:
            said.append(text)
            world.out.warn(text)

    return tell
