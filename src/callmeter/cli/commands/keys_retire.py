"""`callmeter budget keys retire`: a key that is no longer needed.

callmeter budget keys retire code@openrouter
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli.options import Quiet, Verbose
from callmeter.cli.rotating import bench_of
from callmeter.cli.world import World
from callmeter.flows.key_account import retire


def keys_retire(
    ctx: typer.Context,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="The key's label.")],
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Disable a key at the provider and use it no more; its entry is kept.

    The key itself is removed from its store. Without a management key, the provider has to be told by a person.
    """
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    left = retire(label, bench_of(world))
    if left:
        world.out.warn(left)
    world.out.note(f"callmeter: the key {label} is retired")
