"""`callmeter llm-call`, also installed as `llm-call`: one tagged call, or a batch of them.

This signature is the one definition of the command line. `cli/lane_table.py` is generated from it, so that a
plain command line need not import Typer; help, man page and completions come from it too.
"""

from __future__ import annotations

from typing import Annotated

import typer


def llm_call(
    ctx: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="The prompt; text on stdin is put before it.")
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option("--file", "-f", metavar="FILE", help="Put this file before the prompt; `-` is stdin. Repeatable."),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", metavar="TEXT", help="System prompt.")] = None,
    attachment: Annotated[
        list[str] | None,
        typer.Option(
            "--attachment", "-a", metavar="IMAGE", help="An image: a file, a URL, or `-` for stdin. Repeatable."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", metavar="MODEL", help="The model.")] = None,
    fallback_model: Annotated[
        list[str] | None,
        typer.Option(
            "--fallback-model", metavar="MODEL", help="Try this model when the one before cannot serve. Repeatable."
        ),
    ] = None,
    max_tokens: Annotated[
        str | None,
        typer.Option(
            "--max-tokens", metavar="N", help="Output ceiling in tokens; one is always sent (4096 unless set)."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-o",
            metavar="KEY VALUE",
            help="Any other parameter of the request, such as `-o temperature 0.2`. Repeatable.",
        ),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            "--schema",
            metavar="SCHEMA",
            help="The answer must be JSON of this shape: a JSON Schema (file or text), or short: `name, age int`.",
        ),
    ] = None,
    extract: Annotated[
        bool, typer.Option("--extract", "-x", help="Print only the first fenced code block of the answer.")
    ] = False,
    template: Annotated[
        str | None,
        typer.Option(
            "--template", "-t", metavar="NAME", help="A template: a name in the templates directory, or a path."
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME VALUE", help="A value for the template. Repeatable."),
    ] = None,
    continue_: Annotated[
        bool, typer.Option("--continue", "-c", help="Continue this agent's latest kept conversation, or begin one.")
    ] = False,
    conversation: Annotated[
        str | None,
        typer.Option(
            "--conversation", "--cid", metavar="ID", help="Continue (or begin) the conversation of this name."
        ),
    ] = None,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Print the answer when it is whole.")] = False,
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider", metavar="NAME", help="openrouter, openai, anthropic, local, or one from config.toml."
        ),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", metavar="URL", help="Any OpenAI-compatible endpoint.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="LABEL", help="Use the key of this label. Never the key itself.")
    ] = None,
    agent: Annotated[str | None, typer.Option("--agent", "--caller", metavar="NAME", help="Tag: who calls.")] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Tag: the run that the call belongs to.")
    ] = None,
    purpose: Annotated[str | None, typer.Option("--purpose", metavar="TEXT", help="Tag: what it is for.")] = None,
    priority: Annotated[
        str | None, typer.Option("--priority", metavar="LEVEL", help="Tag: low, normal, high, critical.")
    ] = None,
    environment: Annotated[str | None, typer.Option("--environment", metavar="NAME", help="Tag: prod, dev, …")] = None,
    cost_center: Annotated[str | None, typer.Option("--cost-center", metavar="NAME", help="Tag: who pays.")] = None,
    work_item: Annotated[str | None, typer.Option("--work-item", metavar="ID", help="Tag: ticket or task.")] = None,
    customer: Annotated[str | None, typer.Option("--customer", metavar="NAME", help="Tag: for whom.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Tag: end user.")] = None,
    workflow: Annotated[
        str | None, typer.Option("--workflow", metavar="NAME", help="Tag: the larger procedure.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="Any other tag. Repeatable.")
    ] = None,
    send_tags: Annotated[
        bool | None,
        typer.Option(
            "--send-tags/--no-send-tags",
            help="Tags travel to the provider where it has a place for them (they do unless set otherwise).",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the request and what it may cost; send nothing.")
    ] = False,
    max_cost: Annotated[
        str | None, typer.Option("--max-cost", metavar="USD", help="Refuse the call if its worst case is dearer.")
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout", metavar="SECONDS", help="For the whole call, all attempts included (600 unless set)."
        ),
    ] = None,
    connect_timeout: Annotated[
        str | None, typer.Option("--connect-timeout", metavar="SECONDS", help="To connect (10 unless set).")
    ] = None,
    retries: Annotated[
        str | None,
        typer.Option("--retries", metavar="N", help="Repeat failed attempts that cost nothing (2 unless set)."),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait",
            metavar="[=SECONDS]",
            help="Wait for a quota that is held by other calls or resets soon (300 s unless said).",
        ),
    ] = None,
    wait_approval: Annotated[
        str | None,
        typer.Option(
            "--wait-approval", metavar="[=SECONDS]", help="Wait for an approval that is needed (3600 s unless said)."
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key",
            metavar="KEY",
            help="The same key and request again: the recorded answer, at no cost. With --batch: its record's name.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="An answer cut at the output ceiling is an error (status 9).")
    ] = False,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            metavar="FILE",
            help="JSON lines of prompts with their own tags; answers as JSON lines. `-` is stdin.",
        ),
    ] = None,
    concurrency: Annotated[
        str | None, typer.Option("--concurrency", metavar="N", help="Calls of a batch at once (8 unless given).")
    ] = None,
    as_completed: Annotated[
        bool, typer.Option("--as-completed", help="Answers of a batch as they come, not in the order of its lines.")
    ] = False,
    log: Annotated[
        str | None, typer.Option("--log", metavar="PATH", help="Usage log to append to; CALLMETER_LOG.")
    ] = None,
    usage: Annotated[
        bool | None,
        typer.Option(
            "--usage/--no-usage", "-u", help="On stderr: the estimate before the call, tokens and cost after it."
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="One JSON object: text, tokens, cost, models, finish reason, id, tags, warnings."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no warnings on stderr.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say more on stderr, also the raw body of a surprise.")
    ] = False,
) -> None:
    """Make one tagged call to a model and print the answer.

    stdout carries the answer and nothing else. Every outcome is a line in the usage log. What is not
    about one call alone has a variable too (CALLMETER_MODEL, CALLMETER_AGENT, …) and a setting in config.toml; the
    option wins.

    \b
    llm-call -m openai/gpt-4o-mini --agent code "Sort these" < issues.txt
    llm-call --provider local --agent demo --json "Say hello"
    """
    from callmeter.cli.calling import run

    raise typer.Exit(run(ctx.obj, ctx.params))
