"""Which key a call uses, read from its store at the last moment."""

from __future__ import annotations

from callmeter.secrets.environment import variable_for
from callmeter.secrets.registry import Entry, check_entry, entry_for
from callmeter.secrets.secret import Secret
from callmeter.secrets.store import CURRENT, PREVIOUS, missing
from callmeter.words.errors import CallmeterError, NoKey
from callmeter.words.origin import origin_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from callmeter.secrets.open_store import Stores


class Key:
    """A key as a call uses it. `fingerprint` is made from the key itself, not taken from the registry."""

    def __init__(self, label: str, secret: Secret, fingerprint: str) -> None:
        self.label = label
        self.secret = secret
        self.fingerprint = fingerprint

    def reveal(self) -> str:
        """The key itself, for the header of a request."""
        return self.secret.reveal()


def key_for(
    entries: Mapping[str, Entry],
    env: Mapping[str, str],
    *,
    provider: str,
    base_url: str,
    agent: str,
    environment: str = "",
    label: str | None = None,
    user: str = "",
    models: Sequence[str] = (),
    now: datetime,
    needed: bool = True,
) -> Entry | None:
    """The entry for a call to `base_url`: `label`, else the end user's own, else the agent's own, else the provider's
    default, else an entry made of an environment variable (its label is `env:VARIABLE`).

    None only when `needed` is False and there is none. Raises NoKey and Refused with what to do about it.
    A key only ever comes out of here for the scheme, host and port that it was registered for.
    """
    try:
        origin = origin_of(base_url)
    except ValueError as error:
        raise NoKey(f"no key is sent there: {error}", "mend `base_url`", code="key_bound") from None
    entry = entry_for(
        entries, provider=provider, origin=origin, agent=agent, environment=environment, label=label, user=user
    )
    if entry is None:
        variable = variable_for(env, origin)
        if variable is not None:
            reference = f"env:{variable}"
            return Entry(reference, provider=provider, base_url=base_url, secret=reference)
        if needed:
            raise _no_key(entries, provider, agent, environment)
        return None
    check_entry(entry, models, now)
    return entry


def readings(entry: Entry, stores: Stores) -> Iterator[Key]:
    """The key as it is now; and, each time another is asked for because that one was refused, the next that may do:
    the key as it is then, the previous one, and once more the key as it is then, for a rotation may have come in
    between. None comes twice. Raises NoKey when there is none, Unavailable."""
    refused: list[Secret] = []
    store, name = stores.open(entry.secret)
    for slot in (CURRENT, CURRENT, PREVIOUS, CURRENT):
        secret = store.read(name, slot)
        if secret is None and not refused:
            raise missing(entry.label, store.describe(name))
        if secret is not None and secret not in refused:
            refused.append(secret)
            yield Key(entry.label, secret, _fingerprint(entry, secret, stores))


def _fingerprint(entry: Entry, secret: Secret, stores: Stores) -> str:
    try:
        return secret.fingerprint(stores.salt())
    except CallmeterError:
        # Without a salt (a home that cannot be written to, and a key from the environment) there is none to
        # compare with either.
        return entry.fingerprint


def _no_key(entries: Mapping[str, Entry], provider: str, agent: str, environment: str) -> NoKey:
    import shlex

    whose = f"agent {agent!r}" if agent else "a call without an agent"
    where = f" in {environment}" if environment else ""
    near = [
        f"{entry.label} is only for {entry.environment or 'any environment'} at {entry.base_url}"
        for entry in entries.values()
        if entry.provider == provider and (entry.agent == agent or entry.default)
    ]
    who = shlex.quote(agent) if agent else "--default"
    return NoKey(
        f"there is no key of {provider} for {whose}{where}" + "".join(f"; {other}" for other in near),
        f"run `callmeter budget keys add {who} --provider {shlex.quote(provider)}`",
        agent=agent or None,
        provider=provider,
    )
