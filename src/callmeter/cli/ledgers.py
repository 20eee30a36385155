"""How commands reach the ledger."""

from __future__ import annotations

from callmeter.cli.waiting import told
from callmeter.cli.world import World
from callmeter.ledger.open_ledger import open_ledger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from callmeter.ledger.protocol import Ledger


def ledger_of(world: World) -> Ledger:
    """The ledger of this world's settings. Raises LedgerProblem."""
    return open_ledger(world.settings.text("ledger") or world.paths.ledger)


def recover_holds(world: World) -> None:
    """Finish the calls of dead processes, with and without a breadcrumb, and warn of what cannot be."""
    from callmeter.flows.orphans import recover_all

    paths = world.paths
    done = recover_all(
        ledger_of(world),
        paths.inflight,
        paths.log,
        world.now(),
        paths.recent,
        policy=world.policy,
        index=paths.index,
        tell=told(world),
    )
    for problem in done.problems:
        world.out.warn(problem)
