"""`callmeter budget keys move`: take a key from one store to another.

callmeter budget keys move code@openrouter vault
callmeter budget keys move code@openrouter vault:kv/llm/code
callmeter budget keys move code@openrouter command:pass
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli.auditing import audit
from callmeter.cli.options import Quiet, Verbose
from callmeter.cli.world import World
from callmeter.flows.key_moves import move_key
from callmeter.secrets.places import reference_for


def keys_move(
    ctx: typer.Context,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="The key's label.")],
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE",
            help="`file`, `keychain`, `vault`, `aws-sm` or `command:HELPER`; or a whole reference such as "
            "`vault:secret/llm/code`.",
        ),
    ],
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Take a key from one store to another, unseen.

    It is written there, read back, the registry is switched, and the old copy is removed. Calls go on meanwhile. A
    command that was killed is completed by the same command run again.
    """
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    moved = move_key(world.paths.keys, world.stores, label, reference_for(store, label), audit(world))
    if moved.before == moved.after:
        world.out.note(f"callmeter: the key {label} lies at {moved.after}")
    else:
        world.out.note(f"callmeter: moved the key {label} from {moved.before} to {moved.after}")
    if moved.left:
        world.out.warn(moved.left)
