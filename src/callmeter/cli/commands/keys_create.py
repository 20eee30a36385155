"""`callmeter budget keys create`: a new key with a ceiling of its own.

callmeter budget keys create code 25 --reset monthly --expires 90d
callmeter budget keys create --user 42 --tier standard --models 'openai/gpt-5-mini'
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Annotated

import typer

from callmeter.cli.amounts import amount_in
from callmeter.cli.key_options import (
    ForEnvironment,
    ForPurpose,
    Label,
    Models,
    Owner,
    Whose,
    address_of,
    expiry,
    label_for,
    model_list,
)
from callmeter.cli.options import Quiet, Verbose
from callmeter.cli.rotating import bench_of
from callmeter.cli.world import World
from callmeter.flows.key_creation import create_key
from callmeter.policy.tiers import BUILT_IN
from callmeter.secrets.places import reference_for
from callmeter.secrets.registry import Entry
from callmeter.words.errors import UsageError
from callmeter.words.instant import parse_instant
from callmeter.words.money import NANO, nano, shown, usd
from callmeter.words.tags import tag_value


class Reset(enum.StrEnum):
    """When a ceiling at the provider begins anew, at midnight UTC."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    NEVER = "never"


def keys_create(
    ctx: typer.Context,
    agent: Annotated[str | None, typer.Argument(metavar="AGENT", help="The agent whose own key it will be.")] = None,
    limit: Annotated[
        str | None, typer.Argument(metavar="LIMIT", help="Its ceiling at the provider in USD, or `unlimited`.")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="The end user whose key it will be, for its calls only.")
    ] = None,
    tier: Annotated[
        str | None, typer.Option("--tier", metavar="NAME", help="Take the limit of this tier: `free`, `standard`, …")
    ] = None,
    reset: Annotated[Reset, typer.Option("--reset", help="When the ceiling begins anew.")] = Reset.MONTHLY,
    label: Label = None,
    provider: Whose = None,
    environment: ForEnvironment = None,
    owner: Owner = None,
    purpose: ForPurpose = None,
    models: Models = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="WHEN", help="Dead from then on, at the provider too: `90d`.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store", metavar="STORE", help="Where it is to lie, as for `budget keys add`; `file` unless given."
        ),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Mint a key with a ceiling of its own at the provider, store and register it.

    It needs a management key. Interrupted, the same command finishes the job.
    """
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    if user is not None and agent is not None and limit is None and tier is None:
        agent, limit = None, agent  # `--user 42 25`: the one argument is the limit
    if agent is None and user is None:
        raise UsageError("whose key is it?", "name an AGENT, or `--user ID`")
    address = address_of(world, provider, None)
    whose = agent or (f"user-{user}" if user else None)
    name = label_for(label, whose, environment, address["provider"], False)
    allowed = model_list(models) or []
    entry = Entry(
        name,
        provider=address["provider"],
        base_url=address["base_url"],
        secret=reference_for(store, name) if store else f"file:{name}",
        agent=tag_value("agent", agent) if agent else "",
        user=tag_value("user", user) if user else "",
        environment=tag_value("environment", environment) if environment else "",
        owner=owner or "",
        purpose=purpose or "",
        allowed_models=allowed,
        budget_reset="" if reset is Reset.NEVER else reset.value,
    )
    ceiling = _ceiling(world, limit, tier)
    until = parse_instant(expiry(expires, world.now(), world.policy.time_zone)) if expires else None
    bench = bench_of(world)
    for warning in create_key(entry, bench, limit=ceiling, expires=until)[1]:
        world.out.warn(warning)
    worth = "without a limit" if ceiling is None else f"with a ceiling of {shown(nano(ceiling))}, reset {reset.value}"
    world.out.note(f"callmeter: the key {name} is made, {worth}")


def _ceiling(world: World, limit: str | None, tier: str | None) -> Decimal | None:
    if (limit is None) == (tier is None):
        raise UsageError("how much may it spend?", "give LIMIT in USD, or `unlimited`, or `--tier NAME`")
    if tier is not None:
        tiers = world.policy.tiers or {name: each and each * NANO for name, each in BUILT_IN.items()}
        if tier not in tiers:
            raise UsageError(f"there is no tier {tier!r}", f"use one of {', '.join(tiers)}")
        found = tiers[tier]
        return None if found is None else usd(found)
    assert limit is not None
    if limit == "unlimited":
        return None
    amount, unit = amount_in(limit, "LIMIT")
    if unit != "usd":
        raise UsageError(f"LIMIT {limit!r} is in {unit}, and a provider's ceiling in USD", "write `25`, or `$2.50`")
    return usd(amount)
