"""What a call of this world works with: its key, its wire, the books of its policy, the loop breaker."""

from __future__ import annotations

from os.path import exists

from callmeter.cli.waiting import told
from callmeter.providers.presets import Provider
from callmeter.secrets.environment import hint_once
from callmeter.secrets.lookup import Key, key_for, readings
from callmeter.secrets.registry import read_registry
from callmeter.secrets.secret import Secret
from callmeter.store.toml import read_toml
from callmeter.words.errors import NoKey
from callmeter.words.origin import is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from callmeter.cli.world import World
    from callmeter.flows.approvals import Audit
    from callmeter.flows.books import Books
    from callmeter.flows.breaker import Breaker
    from callmeter.flows.terms import Call
    from callmeter.ledger.protocol import Ledger
    from callmeter.providers.wire import Transport
    from callmeter.secrets.registry import Entry


def _alert(world: World, key: str, text: str, facts: Mapping[str, object]) -> None:
    from callmeter.cli.alerting import alert  # few calls pass a threshold

    alert(world, "threshold", key, text, facts)


def books_of(world: World) -> Books | None:
    """The books, where the policy has anything to say about money or models."""
    policy = world.policy
    places = world.paths
    decided = exists(places.approvals) or exists(places.requests)
    if not (policy.quotas or policy.model_rules or decided):
        return None
    from callmeter.cli.ledgers import ledger_of, recover_holds
    from callmeter.flows.books import Books
    from callmeter.flows.desk import Desk

    def open_desk() -> Desk:
        return Desk(places, world.now(), lambda: world.who, lambda: _audit_of(world))

    return Books(
        policy,
        lambda: ledger_of(world),
        open_desk,
        log=places.log,
        index=places.index,
        reread=world.reread_policy,
        recover=lambda: recover_holds(world),
        tell=lambda key, text, facts: _alert(world, key, text, facts),
        wait=told(world),
    )


def ledger_for(world: World) -> Callable[[], Ledger] | None:
    """How to open the ledger, where the policy has quotas."""

    def opened() -> Ledger:
        from callmeter.cli.ledgers import ledger_of

        return ledger_of(world)

    return opened if world.policy.quotas else None


def _audit_of(world: World) -> Audit:
    from callmeter.cli.auditing import audit  # few calls have anything to audit

    return audit(world)


def breaker_of(world: World, *, batch: bool) -> Breaker | None:
    """The loop breaker, which is on unless the policy says otherwise; without a policy there is none."""
    rules = world.policy.loop_breaker
    if rules.mode == "off" or not exists(world.paths.policy):
        return None
    from callmeter.cli.breaking import breaker_over

    return breaker_over(world, batch=batch)


def transport_of(world: World, provider: Provider) -> Transport:
    """The plain transport, or the one that goes through a proxy where that is wanted."""
    authorities = (world.env.get("SSL_CERT_FILE"), world.env.get("SSL_CERT_DIR"))
    proxy = world.settings.text("proxy")
    if proxy and not is_loopback(provider.base_url):
        from callmeter.providers.http import HttpTransport

        if proxy == "environment":
            return HttpTransport(*authorities, environment=world.env)
        return HttpTransport(*authorities, proxy=proxy)
    from callmeter.providers.plain import PlainTransport

    return PlainTransport(*authorities)


def entry_for(world: World, call: Call, given: Mapping[str, object]) -> Entry | None:
    """The registry's entry of the key that the call uses; None where the endpoint needs none. Raises NoKey, Refused."""
    provider, places = call.provider, world.paths
    return key_for(
        read_registry(read_toml(places.keys, places.cache), places.keys),
        world.env,
        provider=provider.name,
        base_url=provider.base_url,
        agent=call.tags.get("agent", ""),
        environment=call.tags.get("environment", ""),
        label=world.settings.text("key", None if given["key"] is None else str(given["key"])),
        user=call.tags.get("user", ""),
        models=(call.request.model, *call.request.fallbacks),
        now=world.now(),
        needed=not (provider.free or is_loopback(provider.base_url)),
    )


def keys_of(world: World, call: Call, given: Mapping[str, object], local_key: str | None) -> Iterator[Key | None]:
    """The key to use, and another one each time one was refused. None where the endpoint needs none."""
    provider, settings, places = call.provider, world.settings, world.paths
    if local_key is not None:
        yield Key("local", Secret(local_key), "")
        return
    entry = entry_for(world, call, given)
    if entry is None:
        yield None
        return
    if not (
        provider.base_url.startswith("https://") or is_loopback(provider.base_url) or settings.flag("allow_plain_http")
    ):
        raise NoKey(
            f"the key {entry.label} is not sent over plain HTTP to {provider.base_url}",
            "use https, or set `allow_plain_http = true` in config.toml",
            code="plain_http",
        )
    if entry.secret.startswith("env:") and not world.out.quiet:
        hint = hint_once(places.state_dir, entry.secret[4:], provider.name)
        if hint:
            world.out.say(f"callmeter: hint: {hint}")
    try:
        yield from readings(entry, world.stores)
    except NoKey as error:
        # Moved between our look at the registry and our look at its store.
        moved = entry_for(world, call, given) if error.code == "key_missing" else None
        if moved is None or moved.secret == entry.secret:
            raise
        yield from readings(moved, world.stores)
