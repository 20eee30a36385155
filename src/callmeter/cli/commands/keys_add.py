"""`callmeter budget keys add`: register a key.

callmeter budget keys add code --provider openrouter --owner alice --expires 90d
pass show openrouter/code | callmeter budget keys add code --provider openrouter
callmeter budget keys add code --store vault:secret/llm/code --existing
callmeter budget keys add --label code@openrouter --replace --existing --owner bob --expires 90d
callmeter budget keys add --default --provider openai --models 'gpt-5-mini,gpt-5-nano' --fd 3 3< key.txt
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from callmeter.cli.auditing import audit
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
    span_text,
)
from callmeter.cli.options import Quiet, Verbose
from callmeter.cli.secret_input import read_secret
from callmeter.cli.world import World
from callmeter.flows.keys import add_key, existing_secret
from callmeter.secrets.places import reference_for
from callmeter.words.instant import text_of
from callmeter.words.tags import tag_value


def keys_add(
    ctx: typer.Context,
    agent: Annotated[str | None, typer.Argument(metavar="AGENT", help="The agent whose own key it is.")] = None,
    label: Label = None,
    provider: Whose = None,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="The only address it is sent to; unless given, the provider's."),
    ] = None,
    environment: ForEnvironment = None,
    owner: Owner = None,
    purpose: ForPurpose = None,
    models: Models = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="WHEN", help="Not used from then on: `90d`, `12w`, a date.")
    ] = None,
    default: Annotated[
        bool, typer.Option("--default", help="For the provider's calls by agents without a key of their own.")
    ] = False,
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="The end user whose key it is, for its calls only.")
    ] = None,
    rotate_every: Annotated[
        str | None,
        typer.Option(
            "--rotate-every",
            metavar="SPAN",
            help="How often it is due for rotation: `90d`; unless given, `rotate_every`.",
        ),
    ] = None,
    management: Annotated[
        bool, typer.Option("--management", help="It makes and changes other keys, and is never used for a call.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of the key with this label.")] = False,
    shared: Annotated[
        bool, typer.Option("--shared", help="Another label has this key too, and that is meant.")
    ] = False,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="STORE",
            help="Where it is to lie: `file` (unless set), `keychain`, `vault`, `aws-sm`, `command:HELPER`, or a whole "
            "reference such as `vault:secret/llm/code`.",
        ),
    ] = None,
    existing: Annotated[
        bool,
        typer.Option(
            "--existing",
            help="It lies there already: it is read from the store, not from you. Without --store: where LABEL has it.",
        ),
    ] = False,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the key from standard input, which is no terminal.")
    ] = False,
    fd: Annotated[int | None, typer.Option("--fd", metavar="N", min=0, help="Read the key from descriptor N.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Register a key: read without echo from a terminal, or from stdin.

    With --replace --existing a registered key stays, and what is said of it (owner, expiry, models, …) changes.
    """
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    given: dict[str, Any] = {
        "agent": agent and tag_value("agent", agent),
        "environment": environment and tag_value("environment", environment),
        "owner": owner,
        "purpose": purpose,
        "allowed_models": model_list(models),
        "expires": expires and expiry(expires, world.now(), world.policy.time_zone),
        "default": default or None,
        "shared": shared or None,
        "user": user and tag_value("user", user),
        "rotate_every": rotate_every and span_text(rotate_every),
        "management": management or None,
    }
    address = address_of(world, provider, base_url)
    if provider or base_url:
        given |= address
    whose = agent or ("management" if management else f"user-{user}" if user else None)
    label = label_for(label, whose, environment, address["provider"], default)
    reference = reference_for(store, label) if store else ""
    if existing:
        secret = existing_secret(world.paths.keys, world.stores, reference, label)
    else:
        secret = read_secret(world, label, stdin=stdin, fd=fd)
    done, entry = add_key(
        world.paths.keys,
        world.stores,
        label,
        secret,
        audit(world),
        given={name: value for name, value in given.items() if value is not None},
        otherwise={**address, "created": text_of(world.now())},
        replace=replace,
        reference=reference,
        existing=existing,
    )
    world.out.note(f"callmeter: the key {label} is {done}; it is sent to {entry.base_url} only")
