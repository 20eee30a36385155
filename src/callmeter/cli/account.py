"""The provider's side of keys: the account that a management key opens, and whether a key is good."""

from __future__ import annotations

from callmeter.cli.means import transport_of
from callmeter.cli.world import World
from callmeter.providers.management import Management, Standing
from callmeter.providers.presets import Provider, find_provider
from callmeter.providers.probe import accepts
from callmeter.secrets.registry import Entry, read_registry
from callmeter.secrets.secret import Secret, parse_secret
from callmeter.store.toml import read_toml
from callmeter.words.errors import Malformed, NoKey
from callmeter.words.origin import is_loopback, origin_of

VARIABLE = "CALLMETER_MANAGEMENT_KEY"
_TIMEOUT = 20.0


def account_of(world: World, provider: str, base_url: str) -> Management | None:
    """The account that makes and changes keys for an endpoint; None where there is no management API, or no key for
    it. A registered management key goes only where it was registered for, the one in `CALLMETER_MANAGEMENT_KEY` only
    to the provider's own address."""
    found = _provider(world, provider)
    if not found.managed:
        return None
    secret = _registered(world, provider, base_url) or _from_environment(world, found, base_url)
    if secret is None:
        return None
    _require_private(world, base_url)
    return Management(
        transport_of(world, _at(found, base_url)),
        base_url,
        secret.reveal(),
        pause=world.sleep,
        monotonic=world.monotonic,
        timeout=_TIMEOUT,
    )


def is_good(world: World, entry: Entry, secret: Secret) -> bool | None:
    """Whether the provider accepts a key; None where it cannot be asked. The key goes to its own endpoint only. Raises
    Unavailable."""
    provider = _at(_provider(world, entry.provider), entry.base_url)
    if provider.managed:
        return standing_of(world, entry, secret) is not None
    _require_private(world, entry.base_url)
    transport = transport_of(world, provider)
    url = f"{provider.base_url}/models" if provider.probe is None else provider.probe
    if not url:
        return None
    if origin_of(url) != entry.origin:
        raise Malformed(
            f"config.toml: the probe of [providers.{entry.provider}] is not where the key {entry.label} may be sent",
            "a key is only sent to the endpoint that it was registered for",
        )
    return accepts(
        transport,
        url,
        provider.probe_header,
        secret.reveal(),
        connect_timeout=10.0,
        deadline=world.monotonic() + _TIMEOUT,
    )


def standing_of(world: World, entry: Entry, secret: Secret) -> Standing | None:
    """What a key learns of itself at a provider with a management API; None when it is refused, or there is none.
    Raises Unavailable."""
    provider = _at(_provider(world, entry.provider), entry.base_url)
    if not provider.managed:
        return None
    _require_private(world, entry.base_url)
    transport = transport_of(world, provider)
    client = Management(transport, entry.base_url, "", pause=world.sleep, monotonic=world.monotonic, timeout=_TIMEOUT)
    return client.standing(secret.reveal())


def _provider(world: World, name: str) -> Provider:
    return find_provider(name, world.settings.providers, None if name in world.settings.providers else "")


def _at(provider: Provider, base_url: str) -> Provider:
    provider.base_url = base_url.rstrip("/")
    return provider


def _registered(world: World, provider: str, base_url: str) -> Secret | None:
    origin = origin_of(base_url)
    paths = world.paths
    for entry in read_registry(read_toml(paths.keys, paths.cache), paths.keys).values():
        if entry.management and (entry.provider, entry.origin) == (provider, origin) and entry.retired is None:
            store, name = world.stores.open(entry.secret)
            secret = store.read(name)
            if secret is None:
                raise NoKey(
                    f"the management key {entry.label} is not where it should be: {store.describe(name)}",
                    f"add it again: `callmeter budget keys add --label {entry.label} --management --replace`",
                    code="key_missing",
                )
            return secret
    return None


def _from_environment(world: World, provider: Provider, base_url: str) -> Secret | None:
    value = world.env.get(VARIABLE, "")
    if not value or origin_of(provider.base_url) != origin_of(base_url):
        return None
    return parse_secret(value.encode("utf-8", "surrogateescape"), f"in {VARIABLE}")


def _require_private(world: World, base_url: str) -> None:
    if not (base_url.startswith("https://") or is_loopback(base_url) or world.settings.flag("allow_plain_http")):
        raise NoKey(
            f"no key is sent over plain HTTP to {base_url}",
            "use https, or set `allow_plain_http = true` in config.toml",
            code="plain_http",
        )
