"""`callmeter local serve`: the small local model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli.options import Quiet, Verbose
from callmeter.cli.world import World


def local_serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Listen here.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Listen on this port; 0 takes a free one.")
    ] = 0,
    model: Annotated[
        str | None, typer.Option("--model", metavar="PATH", help="A model in GGUF format, instead of SmolLM2-135M.")
    ] = None,
    idle: Annotated[
        int, typer.Option("--idle", metavar="SECONDS", min=0, help="End after so long without a call; 0: never.")
    ] = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run the small local model behind an OpenAI-compatible endpoint.

    Prints the base URL and serves until Ctrl-C. Calls with `--provider local` find it by themselves; what else wants
    to call it takes the key from local.json in the state directory.

    \b
    Examples:
      callmeter local serve &
      llm-call --provider local "Say hello"
      callmeter local serve --port 8080 --model ~/models/qwen.gguf
    """
    from callmeter.providers.local_server import serve
    from callmeter.words.origin import is_loopback

    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    if not is_loopback(f"http://{f'[{host}]' if ':' in host else host}"):
        world.out.warn(f"prompts and the key travel to {host} unencrypted, and others can reach it")
    serve(
        world.paths.state_dir,
        lambda server: world.out.text(server.base_url),
        host=host,
        port=port,
        model=model,
        idle=idle,
    )
