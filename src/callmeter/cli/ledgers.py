"""How commands reach the ledger."""

from __future__ import annotations

from callmeter.cli.world import World
from callmeter.ledger.sqlite import SqliteLedger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from callmeter.ledger.protocol import Ledger


def ledger_of(world: World) -> Ledger:
    """The ledger of this world's settings."""
    return SqliteLedger(world.paths.ledger)
