"""`callmeter doctor`: is everything in order?

callmeter doctor
callmeter doctor --format json | jq '.rows[] | select(.state != "ok")'
callmeter doctor >doctor.txt || mail -s 'callmeter is not well' ops <doctor.txt
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os.path import exists

import typer

from callmeter.cli.options import Format, Quiet, Shape, Verbose
from callmeter.cli.world import World
from callmeter.flows import checkup
from callmeter.flows.checkup import BAD, OK, WARN, Check
from callmeter.providers.presets import find_provider
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.secrets.registry import read_registry
from callmeter.store.places import find_places
from callmeter.store.toml import read_toml
from callmeter.words.errors import CallmeterError, Refused
from callmeter.words.origin import is_loopback


def doctor(ctx: typer.Context, format: Format = Shape.TEXT, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Is everything in order? Each check with what to do; status 3 when something is bad.

    Looks at the installation, permissions, settings, policy, keys and the stores that they lie in, the ledger, the end
    of the usage log, the disk, the clock, prices, and what crashes left. Nothing is changed, and nothing is sent to a
    provider; secret stores and the ledger are asked.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    checks = [
        *checkup.installation(world.env),
        *checkup.permissions(find_places(world.env)),
        *_tried("settings", lambda: [_settings(world)]),
    ]
    if checks[-1].state == OK:  # without settings nobody knows where the rest is
        policy = _tried("policy", lambda: [_policy(world)])
        checks += [
            *policy,
            *_tried("keys", lambda: _keys(world)),
            # Without a policy nobody knows whether the ledger is needed; what is wrong is told once.
            *(_tried("ledger", lambda: [_ledger(world)]) if policy[-1].state == OK else ()),
            *_tried("usage log", lambda: checkup.log(world.paths.log, world.paths.state_dir, world.now())),
            *_tried("prices", lambda: [checkup.prices(world.paths.cache, _provider(world), world.now())]),
            *_tried("unfinished", lambda: checkup.left_over(world.paths)),
        ]
    counts = {state: sum(check.state == state for check in checks) for state in (OK, WARN, BAD)}
    columns = [
        Column("check", "check", Kind.TEXT),
        Column("state", "state", Kind.TEXT),
        Column("found", "found", Kind.TEXT),
        Column("hint", "what to do", Kind.TEXT, below=True),
    ]
    rows = [Row({"check": each.area, "state": each.state, "found": each.found, "hint": each.hint}) for each in checks]
    world.out.report(Report("Doctor", columns, rows, facts=counts))
    if counts[BAD]:
        things = "1 thing is" if counts[BAD] == 1 else f"{counts[BAD]} things are"
        raise Refused(f"{things} bad", "do what the line below each of them says", code="not_well")


def _tried(area: str, look: Callable[[], Iterable[Check]]) -> list[Check]:
    try:
        return list(look())
    except CallmeterError as error:
        return [Check(area, BAD, error.message, error.hint)]
    except OSError as error:
        return [Check(area, BAD, (error.strerror or str(error)).lower())]


def _settings(world: World) -> Check:
    settings = world.settings
    provider = find_provider(_provider(world), settings.providers, settings.text("base_url"))
    where = settings.path if exists(settings.path) else f"no {settings.path}, which may be"
    return Check("settings", OK, f"{where}; calls go to {provider.base_url or provider.name}")


def _provider(world: World) -> str:
    return world.settings.text("provider") or ""


def _policy(world: World) -> Check:
    if not exists(world.paths.policy):
        return Check("policy", OK, f"no {world.paths.policy}, which may be: nothing is limited")
    count = len(world.policy.quotas)
    quotas = "no quotas" if not count else "1 quota" if count == 1 else f"{count} quotas"
    return Check("policy", OK, f"{world.paths.policy}: {quotas}")


def _keys(world: World) -> Iterable[Check]:
    paths = world.paths
    entries = read_registry(read_toml(paths.keys, paths.cache), paths.keys).values()
    active = [entry for entry in entries if entry.retired is None]
    if active:
        return checkup.keys(active, world.stores, paths, world.now())
    provider = find_provider(_provider(world), world.settings.providers, world.settings.text("base_url"))
    needed = not (provider.free or is_loopback(provider.base_url))
    found = checkup.unregistered_key(world.env, provider.base_url, needed)
    return [found or Check("keys", OK, f"none is registered, and {provider.name} needs none")]


def _ledger(world: World) -> Check:
    return checkup.ledger(world.settings.text("ledger") or world.paths.ledger, bool(world.policy.quotas))
