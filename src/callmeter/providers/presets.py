"""Endpoints that callmeter knows by name, and what each understands beyond the common chat-completions request.

Sources: OpenRouter's OpenAPI document; OpenAI's API reference (`max_completion_tokens`, `user`); Anthropic's
page on its OpenAI-compatible endpoint (unknown fields are ignored); llama.cpp's server README.
"""

from __future__ import annotations

from callmeter.words.errors import Malformed, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Where tags may travel. `headers`: X-Agent-ID, X-Session-ID, X-Cost-Center; the others are members of the body.
PLACES_FOR_TAGS = ("headers", "user", "session_id", "metadata", "trace")
CEILINGS = ("max_tokens", "max_completion_tokens")


class Provider:
    """An endpoint. `ceiling` is its name for the output ceiling; `send` where it takes tags; `headers` are
    templates over the tags (`{agent}`), `price_as` the provider whose listed prices hold (the one of the same name
    unless said; "" for none), `free` prices all at 0. `probe` is a URL that tells a good key in `probe_header` from a
    bad one at no cost (None for its list of models, "" for none); `managed` says that OpenRouter's management API is
    there. `key_variable` is where other tools look for its key."""

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        ceiling: str = "max_tokens",
        send: tuple[str, ...] = ("headers", "user"),
        price_as: str | None = None,
        headers: Mapping[str, str] | None = None,
        free: bool = False,
        managed: bool = False,
    ) -> None:
        self.name = name
        self.base_url = base_url
        self.ceiling = ceiling
        self.send = send
        self.price_as = name if price_as is None else price_as
        self.headers = headers or {}
        self.free = free
        self.managed = managed
        self.key_variable = _variable_of(name)
        self.probe: str | None = None
        self.probe_header = "Authorization"


def _variable_of(name: str) -> str:
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name.upper())
    return f"{plain}_API_KEY"


def _presets() -> dict[str, Provider]:
    return {
        "openrouter": Provider(
            "openrouter",
            "https://openrouter.ai/api/v1",
            ceiling="max_completion_tokens",
            send=PLACES_FOR_TAGS,
            managed=True,
        ),
        "openai": Provider(
            "openai",
            "https://api.openai.com/v1",
            ceiling="max_completion_tokens",
            send=("headers", "user"),
        ),
        "anthropic": Provider("anthropic", "https://api.anthropic.com/v1", send=("headers",)),
        "local": Provider("local", "", send=("headers",), free=True),
    }


def find_provider(name: str, tables: Mapping[str, Mapping[str, object]], base_url: str | None) -> Provider:
    """A preset, or one from `[providers.NAME]`, whose members change a preset of the same name.

    With `base_url`, that endpoint under the preset's or table's rules. Raises UsageError, Malformed.
    """
    presets = _presets()
    provider = presets.get(name)
    table = tables.get(name)
    if table is not None:
        provider = _from_table(name, table, provider)
    if provider is None:
        known = ", ".join(provider_names(tables))
        raise UsageError(
            f"unknown provider {name!r}", f"use one of {known}, or add `[providers.{name}]` to config.toml"
        )
    if base_url:
        provider.base_url = base_url
    provider.base_url = provider.base_url.rstrip("/")
    return provider


def provider_names(tables: Mapping[str, object]) -> list[str]:
    """What a provider can be called: the presets, then the tables of config.toml, each once."""
    return list(dict.fromkeys([*_presets(), *tables]))


def _from_table(name: str, table: Mapping[str, object], preset: Provider | None) -> Provider:
    provider = preset or Provider(name, "")
    where = f"config.toml: [providers.{name}]"
    base_url = table.get("base_url", provider.base_url)
    if not isinstance(base_url, str) or not base_url.startswith(("http://", "https://")):
        raise Malformed(f"{where}: `base_url` is not an http or https URL", 'write `base_url = "https://…/v1"`')
    provider.base_url = base_url
    ceiling = table.get("output_ceiling", provider.ceiling)
    if ceiling not in CEILINGS:
        raise Malformed(f"{where}: `output_ceiling` is not one of {', '.join(CEILINGS)}")
    provider.ceiling = str(ceiling)
    send = table.get("send", list(provider.send))
    if not isinstance(send, list) or not all(place in PLACES_FOR_TAGS for place in send):
        raise Malformed(f"{where}: `send` is not a list of {', '.join(PLACES_FOR_TAGS)}")
    provider.send = tuple(send)
    price_as = table.get("price_as", provider.price_as)
    if not isinstance(price_as, str):
        raise Malformed(f"{where}: `price_as` is not a provider's name")
    provider.price_as = price_as
    headers = table.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise Malformed(f"{where}: `headers` is not a table of text")
    provider.headers = headers
    free = table.get("free", provider.free)
    if not isinstance(free, bool):
        raise Malformed(f"{where}: `free` is not `true` or `false`")
    provider.free = free
    probe = table.get("probe", provider.probe)
    if probe is not None and (not isinstance(probe, str) or (probe and not probe.startswith(("http://", "https://")))):
        raise Malformed(f"{where}: `probe` is not an http or https URL", 'write `probe = "https://…/v1/models"`, or ""')
    provider.probe = probe
    header = table.get("probe_header", provider.probe_header)
    if not isinstance(header, str) or not header.isascii() or not header.replace("-", "").isalnum():
        raise Malformed(f"{where}: `probe_header` is not a header's name", 'write `probe_header = "x-api-key"`')
    provider.probe_header = header
    variable = table.get("key_variable", provider.key_variable)
    if not isinstance(variable, str) or not variable.isidentifier() or not variable.isascii():
        raise Malformed(f"{where}: `key_variable` is not a variable's name", 'write `key_variable = "SOME_API_KEY"`')
    provider.key_variable = variable
    return provider
