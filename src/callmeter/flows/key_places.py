"""How well each key's place keeps it, for people who decide where keys should lie."""

from __future__ import annotations

from callmeter.secrets.registry import STORES, Entry

# What each store is worth, in the order in which stores are to be preferred.
WORTH = {
    "file": "a file of this user alone; works without a session or a network, in plain text for root and backups",
    "keychain": "encrypted while locked; not for cron and services, which have no session",
    "vault": "encrypted, versioned, with policies and an audit of readers; needs the network at each call",
    "aws-sm": "encrypted, versioned, with policies and an audit of readers; needs the network at each call",
    "command": "as well as its program keeps it; one more process at each call",
    "env": "the weakest: all that runs here inherits it, and no rotation reaches it",
}


class Standing:
    """How one key's place stands: `rank` from 1, the best, to 6; `worth` in words; `weak` where a person should move
    the key."""

    def __init__(self, reference: str) -> None:
        self.store = reference.partition(":")[0]
        self.rank = STORES.index(self.store) + 1
        self.worth = WORTH[self.store]
        self.weak = self.store == "env"


def standing(entry: Entry) -> Standing:
    """The standing of the place where a registered key lies."""
    return Standing(entry.secret)


def advice(entry: Entry) -> str:
    """The command that would make a weak place better, or nothing."""
    return f"callmeter budget keys move {entry.label} file" if standing(entry).weak else ""
