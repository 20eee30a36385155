"""The options that `budget keys add` and `create` share, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from callmeter.cli.world import World
from callmeter.providers.presets import find_provider
from callmeter.secrets.registry import label_fault
from callmeter.words.errors import UsageError
from callmeter.words.instant import text_of
from callmeter.words.origin import origin_of
from callmeter.words.period import moment, zone_named

Label = Annotated[
    str | None, typer.Option("--label", metavar="LABEL", help="Its name; AGENT@PROVIDER if you give none.")
]
Whose = Annotated[
    str | None,
    typer.Option("--provider", metavar="NAME", help="Whose key it is; unless given, the setting `provider`."),
]
ForEnvironment = Annotated[
    str | None, typer.Option("--environment", metavar="NAME", help="Only for calls with this tag: prod, dev.")
]
Owner = Annotated[str | None, typer.Option("--owner", metavar="WHO", help="Who answers for it.")]
ForPurpose = Annotated[str | None, typer.Option("--purpose", metavar="TEXT", help="What it is for.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--models", metavar="LIST", help="Models it may call, with commas; `anthropic/*` for a family."),
]


def label_for(label: str | None, agent: str | None, environment: str | None, provider: str, default: bool) -> str:
    """The label asked for, else AGENT@PROVIDER or default@PROVIDER, with -ENVIRONMENT if there is one.

    Raises UsageError when it names no file and no option's value."""
    if label is None:
        whose = agent or ("default" if default else "")
        if not whose:
            raise UsageError("whose key is it?", "name an agent, or add `--default` or `--label LABEL`")
        label = f"{whose}@{provider}" + (f"-{environment}" if environment else "")
    fault = label_fault(label)
    if fault:
        raise UsageError(f"the label {label!r} {fault}", "give another one with `--label`")
    return label


def address_of(world: World, provider: str | None, base_url: str | None) -> dict[str, str]:
    """Provider and address of a key: those that a call with the same options would go to. Raises UsageError."""
    settings = world.settings
    name = settings.text("provider", provider) or ""
    found = find_provider(name, settings.providers, settings.text("base_url", base_url))
    if not found.base_url:
        raise UsageError(f"{name} has no address to send a key to", "it needs no key; or give `--base-url`")
    try:
        origin_of(found.base_url)
    except ValueError as error:
        raise UsageError(f"--base-url: {error}", "write `--base-url https://HOST/v1`") from None
    return {"provider": name, "base_url": found.base_url}


def expiry(text: str, now: datetime, zone: str) -> str:
    """`90d`, `12w` from now, or a date (its first moment) or time, as text for the registry. Raises UsageError."""
    days = {"d": 1, "w": 7}.get(text[-1:], 0)
    if days and text[:-1].isascii() and text[:-1].isdigit() and len(text) <= 5:
        instant = now + timedelta(days=days * int(text[:-1]))
    else:
        instant = moment(text, zone_named(zone), "--expires")
    if instant <= now:
        raise UsageError(f"--expires {text!r} is not in the future", "write `--expires 90d`, or a later date")
    return text_of(instant.astimezone(UTC))


def span_text(text: str) -> str:
    """A span of days or weeks, as it stands in the registry: `90d`. Raises UsageError."""
    if not (text[-1:] in ("d", "w") and text[:-1].isascii() and text[:-1].isdigit() and 0 < int(text[:-1]) < 10_000):
        raise UsageError(f"--rotate-every {text!r} is not a span", "write `90d` or `12w`", code="bad_time")
    return text


def model_list(texts: Sequence[str] | None) -> list[str] | None:
    """Names of models from options that hold several each; None when there is no option."""
    if not texts:
        return None
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]
