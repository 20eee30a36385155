"""What a caller is told whose key has reached its limit at the provider: the figures, and whether a rotation has yet to
make the limit whole. Imported when that happens."""

from __future__ import annotations

from callmeter.cli.account import standing_of
from callmeter.cli.rotating import rotation_of
from callmeter.cli.world import World
from callmeter.policy.rotation import next_reset
from callmeter.secrets.lookup import readings
from callmeter.secrets.registry import read_registry
from callmeter.store.toml import read_toml
from callmeter.words.errors import CallmeterError
from callmeter.words.instant import text_of
from callmeter.words.money import shown, usd


def explain(world: World, error: CallmeterError, label: str) -> None:
    """Put limit, current usage and reset into an error, and a hint if a rotation holds the limit down. What cannot be
    found out is left out."""
    try:
        _explain(world, error, label)
    except (CallmeterError, ValueError):
        pass


def _explain(world: World, error: CallmeterError, label: str) -> None:
    entry = read_registry(read_toml(world.paths.keys, world.paths.cache), world.paths.keys).get(label)
    if entry is None:
        return
    now = world.now()
    standing = standing_of(world, entry, next(readings(entry, world.stores)).secret)
    window = standing.limit_reset if standing is not None else entry.budget_reset
    if standing is not None and standing.limit is not None:
        left = standing.limit if standing.limit_remaining is None else standing.limit_remaining
        used = standing.limit - left
        error.details.setdefault("limit", usd(standing.limit))
        error.details.setdefault("current_usage", usd(used))
        error.message += f"; {shown(used)} of {shown(standing.limit)} used"
    resets = next_reset(now, window)
    if resets is not None:
        error.details.setdefault("resets_at", text_of(resets))
        error.message += f", reset {resets:%Y-%m-%d %H:%M} UTC"
    error.details.setdefault("key", label)
    rotation = rotation_of(world, label)
    if rotation is None or not (rotation.open or rotation.owed) or rotation.full is None or not rotation.window:
        return
    if standing is not None and (standing.limit is None or standing.limit >= rotation.full):
        return
    owed = next_reset(rotation.disabled or rotation.began, rotation.window)
    until = f"until {owed:%Y-%m-%d %H:%M} UTC" if owed is not None and owed > now else "and the reset has come"
    error.hint = (
        f"the key was rotated: its limit is what the old one left, {until}; then "
        f"`callmeter budget rotate-key {label} --resume` makes it {shown(rotation.full)} again"
    )
