"""An agent's key for programs: the Python call `callmeter.get_secret`, and what `budget keys exec` hands over."""

from __future__ import annotations

from callmeter.cli.world import World
from callmeter.providers.presets import Provider, find_provider, provider_names
from callmeter.secrets.lookup import Key, key_for, readings
from callmeter.secrets.registry import read_registry
from callmeter.store.toml import read_toml
from callmeter.words.errors import NoKey, UsageError
from callmeter.words.tags import tag_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_SUFFIX = "_api_key"


def get_secret(
    agent: str, name: str, *, environment: str = "", refused: Collection[str] = (), world: World | None = None
) -> str:
    """The bare key called `llm_api_key` or PROVIDER_api_key that was not refused. Raises NoKey, Unavailable,
    UsageError, Malformed."""
    world = world or World()
    kind = name.removesuffix(_SUFFIX)
    if kind == name or not kind:
        raise UsageError(f"there is no secret {name!r}", "ask for `llm_api_key`, or PROVIDER_api_key: `openai_api_key`")
    known = provider_names(world.settings.providers)
    named = None if kind == "llm" else next((each for each in known if each.replace("-", "_") == kind), kind)
    return key_of_agent(world, agent, named, environment, refused)[0].reveal()


def key_of_agent(
    world: World, agent: str, provider: str | None, environment: str, refused: Collection[str] = ()
) -> tuple[Key, Provider]:
    """The key that a call of this agent would use, and for which provider; the next one that may do when some were
    refused. Raises NoKey, Unavailable, UsageError."""
    settings, places = world.settings, world.paths
    name = settings.text("provider", provider) or ""
    found = find_provider(name, settings.providers, None if provider else settings.text("base_url"))
    if not found.base_url:
        raise NoKey(f"{name} needs no key", "name another provider")
    label = None if provider else settings.text("key")
    agent = tag_value("agent", agent)
    for _ in range(2):
        entry = key_for(
            read_registry(read_toml(places.keys, places.cache), places.keys),
            world.env,
            provider=found.name,
            base_url=found.base_url,
            agent=agent,
            environment=environment,
            label=label,
            now=world.now(),
        )
        assert entry is not None
        try:
            for key in readings(entry, world.stores):
                if key.reveal() not in refused:
                    return key, found
            raise NoKey(f"the keys of agent {agent!r} are all refused", "see `callmeter doctor`", code="key_refused")
        except NoKey as error:
            if error.code != "key_missing":
                raise
            missing = error  # moved, perhaps, between our look at the registry and our look at its store
    raise missing
