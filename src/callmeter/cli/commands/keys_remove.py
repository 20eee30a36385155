"""`callmeter budget keys remove`: forget a key.

callmeter budget keys remove code@openrouter
callmeter budget keys remove code@openrouter --yes
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli.auditing import audit
from callmeter.cli.confirming import require_yes
from callmeter.cli.options import Quiet, Verbose
from callmeter.cli.world import World
from callmeter.flows.key_account import require_still
from callmeter.flows.keys import remove_key


def keys_remove(
    ctx: typer.Context,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="The key's label.")],
    keep_secret: Annotated[
        bool, typer.Option("--keep-secret", help="Forget the entry only; the secret stays in its store.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Forget a key: its registry entry and its secret."""
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    require_yes(world, f"Remove the key {label}, which then exists at the provider only?", yes)
    require_still(world.paths.rotations, label)
    left = remove_key(world.paths.keys, world.stores, label, audit(world), keep_secret=keep_secret)
    world.out.note(f"callmeter: removed the key {label}; it stays valid at the provider until it is revoked there")
    if left:
        world.out.note(f"callmeter: {left}")
