"""`callmeter budget keys rename`: another label for a key.

callmeter budget keys rename code@openrouter coder@openrouter
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli.options import Quiet, Verbose
from callmeter.cli.rotating import bench_of
from callmeter.cli.world import World
from callmeter.flows.key_account import rename


def keys_rename(
    ctx: typer.Context,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="The key's label.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new one.")],
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Give a key another label.

    The key stays where it lies, and calls go on. Lines in the usage log keep the label that they were written with;
    quotas on `key:LABEL` have to be changed in the policy.
    """
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    rename(label, new, bench_of(world))
    if any(quota.subject.kind == "key" and quota.subject.value == label for quota in world.policy.quotas):
        world.out.warn(f"the policy has quotas on key:{label}; set them for key:{new}")
    world.out.note(f"callmeter: the key {label} is called {new} now")
