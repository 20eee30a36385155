"""The ledger at an address."""

from __future__ import annotations

from callmeter.ledger.protocol import LedgerProblem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from callmeter.ledger.protocol import Ledger


def open_ledger(address: str) -> Ledger:
    """The ledger in a file, or at `postgresql://…`. Nothing is read yet. Raises LedgerProblem for other addresses, and
    when the driver of the address is not installed."""
    scheme, colon, _ = address.partition("://")
    match scheme.lower() if colon else "":
        case "" | "sqlite":
            import os.path

            from callmeter.ledger.sqlite import SqliteLedger

            path = address.removeprefix("sqlite://")
            return SqliteLedger(os.path.abspath(os.path.expanduser(path)))
        case "postgresql" | "postgres":
            from callmeter.ledger.postgres import PostgresLedger

            return PostgresLedger(address)
    raise LedgerProblem(
        f"there is no ledger for {scheme}://…", "set `ledger` to a path, or to `postgresql://USER@HOST/DATABASE`"
    )


def without_password(address: str) -> str:
    """The address as it may be shown."""
    scheme, colon, rest = address.partition("://")
    user, at, host = rest.rpartition("@")
    if not (colon and at and ":" in user):
        return address
    return f"{scheme}://{user.partition(':')[0]}:***@{host}"
