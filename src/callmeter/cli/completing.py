"""What Tab offers as values: `callmeter __complete KIND` prints them for the completion scripts, one a line.

A Tab must be quick, must not fail, and must not be a way in: shells run what stands in a word that they insert, and
the names in the usage log come from whoever called. So only plain words are offered, and every failure is silence.
"""

from __future__ import annotations

import json
import os

from callmeter.cli.world import World
from callmeter.words.errors import CallmeterError
from callmeter.words.tags import BUILT_IN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = (*BUILT_IN, "tag", "model", "key", "provider", "template")
# Of the usage log, only the end is read: what was called lately.
TAIL = 1 << 20
_MAX_LENGTH = 200
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_OTHERS = frozenset("._@/+-")


def offer(arguments: list[str], world: World | None = None) -> int:
    """Print the values of a kind, sorted; after a failure, those found until then. Always 0."""
    world = world or World()
    found: set[str] = set()
    try:
        found.update(filter(is_plain, _values(world, arguments[0])))
    except Exception:
        pass
    try:
        if found:
            world.out.text("\n".join(sorted(found)))
    except CallmeterError:
        pass
    return 0


def is_plain(value: str) -> bool:
    """Whether a word means itself to every shell: `[A-Za-z0-9][A-Za-z0-9._@/+-]*`."""
    return value[:1] in _LETTERS and len(value) <= _MAX_LENGTH and _LETTERS.union(_OTHERS).issuperset(value)


def _values(world: World, kind: str) -> Iterator[str]:
    if kind == "provider":
        from callmeter.providers.presets import provider_names

        yield from provider_names(world.settings.providers)
    elif kind == "template":
        yield from (name.removesuffix(".toml") for name in os.listdir(world.paths.templates) if name.endswith(".toml"))
    elif kind == "key":
        yield from _keys(world)
    elif kind == "model":
        for line in _logged(world):
            yield str(line.get("model"))
        yield from _priced(world)
    elif kind == "tag":
        yield from BUILT_IN
        for line in _logged(world):
            yield from _tags(line)
    elif kind in BUILT_IN:
        yield from world.policy.allowed.get(kind, ("low", "normal", "high", "critical") if kind == "priority" else ())
        if kind == "agent":
            yield from (str(entry.get("agent", "")) for entry in _keys(world).values())
        for line in _logged(world):
            yield str(_tags(line).get(kind, ""))


def _logged(world: World) -> Iterator[dict[str, object]]:
    """The newest lines of the usage log; what is no usage line is left out."""
    from callmeter.store.files import open_to_read

    descriptor = open_to_read(world.paths.log)
    if descriptor is None:
        return
    try:
        size = os.fstat(descriptor).st_size
        data = os.pread(descriptor, TAIL, max(0, size - TAIL))
    finally:
        os.close(descriptor)
    for text in data.split(b"\n")[1 if size > TAIL else 0 :]:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            yield line


def _tags(line: dict[str, object]) -> dict[str, object]:
    tags = line.get("tags")
    return tags if isinstance(tags, dict) else {}


def _keys(world: World) -> dict[str, dict[str, object]]:
    from callmeter.store.toml import read_toml

    keys = read_toml(world.paths.keys, world.paths.cache).get("keys", {})
    return keys if isinstance(keys, dict) else {}


def _priced(world: World) -> Iterator[str]:
    from callmeter.providers.presets import find_provider
    from callmeter.store.price_table import all_prices

    settings, paths = world.settings, world.paths
    provider = find_provider(settings.text("provider") or "", settings.providers, None)
    for found in all_prices(
        provider.name, world.now(), overrides=paths.prices, cache_dir=paths.cache, price_as=provider.price_as
    ):
        yield found.model
