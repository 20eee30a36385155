"""Settings: `config.toml`, the CALLMETER_ variables and the built-in values, in one list with one order.

Option, variable, `config.toml`, built in: the first that is set wins, and `config show` says which one it was.
"""

from __future__ import annotations

from callmeter.store.places import Places
from callmeter.store.toml import read_toml
from callmeter.words.errors import Malformed, UsageError
from callmeter.words.tags import BUILT_IN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off", "")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("text is wanted")
    return value


def whole_number(value: object) -> int:
    """Plain ASCII digits or an integer, from 0 to a billion. Raises ValueError."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1_000_000_000:
        raise ValueError("a whole number is wanted")
    return value


def seconds(value: object) -> float:
    """Seconds as a number, or text such as `90`, `1.5`, `90s`, `2m`, `1h`. Raises ValueError."""
    if isinstance(value, str):
        unit = {"s": 1, "m": 60, "h": 3600}.get(value[-1:], 0)
        digits = value[:-1] if unit else value
        if not digits.isascii() or not digits.replace(".", "", 1).isdigit():
            raise ValueError("seconds are wanted, such as `90`, `90s` or `2m`")
        value = float(digits) * (unit or 1)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 86_400:
        raise ValueError("seconds from 0 to a day are wanted")
    return float(value)


def _flag(value: object) -> bool:
    if isinstance(value, str):
        if value.lower() in _TRUE:
            return True
        if value.lower() in _FALSE:
            return False
    if not isinstance(value, bool):
        raise ValueError("`true` or `false` is wanted")
    return value


def _span(value: object) -> str:
    text = _text(value)
    if not (text[:-1].isascii() and text[:-1].isdigit() and len(text) < 6 and text[-1:] in "smhdw"):
        raise ValueError("a span is wanted, such as `30m`, `24h` or `3d`")
    return text


class Known:
    """One setting: how its value is read, what it is when nobody sets it, and what it does."""

    def __init__(self, read: Callable[[object], object], default: object, help: str) -> None:
        self.read = read
        self.default = default
        self.help = help


KNOWN = {
    "provider": Known(
        _text, "openrouter", "where calls go: openrouter, openai, anthropic, local, or one of [providers]"
    ),
    "base_url": Known(_text, None, "any OpenAI-compatible endpoint, instead of the provider's own"),
    "model": Known(_text, None, "the model, when a call names none"),
    "key": Known(_text, None, "label of the key to use, instead of the agent's own"),
    "fallback_model": Known(_text, None, "models to try in turn when the first cannot serve, separated by commas"),
    "system": Known(_text, None, "system prompt, when a call gives none"),
    "max_tokens": Known(whole_number, 4096, "output ceiling of a call in tokens; one is always sent"),
    "timeout": Known(seconds, 600.0, "seconds for a whole call, all attempts included"),
    "connect_timeout": Known(seconds, 10.0, "seconds to connect"),
    "retries": Known(whole_number, 2, "how often a failed attempt that cost nothing is repeated"),
    "max_retry_wait": Known(seconds, 60.0, "longest `Retry-After` that is waited for, in seconds"),
    "max_cost": Known(_text, None, "refuse a call whose worst case is dearer, in USD"),
    "usage": Known(_flag, False, "show the estimate and the cost of each call on stderr"),
    "strict": Known(_flag, False, "an answer cut at the output ceiling is an error (status 9)"),
    "no_stream": Known(_flag, False, "print each answer when it is whole"),
    "concurrency": Known(whole_number, 8, "calls of a batch at once"),
    "send_tags": Known(_flag, True, "tags travel to the provider where it has a place for them"),
    "keep_conversations": Known(_flag, False, "keep each call's text, so that `-c` can continue any of them"),
    "private_days": Known(whole_number, 7, "days that conversations, recorded answers and batch progress are kept"),
    "retention_days": Known(whole_number, 400, "days that closed usage log segments are kept by `budget log prune`"),
    "rotate_every": Known(whole_number, 90, "days after which a key is due for `budget rotate-key --due`"),
    "rotation_grace": Known(_span, "24h", "how long a replaced key stays good: `30m`, `24h`, `3d`"),
    "allow_plain_http": Known(_flag, False, "allow a key to travel over plain HTTP to another machine"),
    "proxy": Known(_text, None, "HTTP proxy for calls, as a URL; `environment` takes HTTPS_PROXY and its like"),
    "log": Known(_text, None, "path of the usage log"),
    "policy": Known(_text, None, "path of the policy, budget.json"),
    "keys": Known(_text, None, "path of the key registry, keys.toml"),
    "ledger": Known(_text, None, "path of the ledger, or `postgresql://…` where several hosts share quotas"),
    "approvals": Known(_text, None, "path of the approvals, approvals.jsonl"),
    "host": Known(_text, None, "name of this host in the usage log"),
}

# Members of a [providers.NAME] table; `providers/presets.py` gives them their meaning.
PROVIDER_KEYS = (
    "base_url",
    "price_as",
    "output_ceiling",
    "send",
    "headers",
    "free",
    "key_variable",
    "probe",
    "probe_header",
)


# Members of [vault], and of a [helpers.NAME] table; `secrets/` gives them their meaning.
VAULT_KEYS = ("address", "namespace", "ca_file", "role_id", "secret_id_file")
HELPER_KEYS = ("read", "write", "delete")
_TABLES = ("tags", "providers", "vault", "helpers")


class Settings:
    """What is set, and by whom. Raises Malformed for a damaged file, UsageError for a bad variable."""

    def __init__(self, document: dict[str, object], path: str, env: Mapping[str, str]) -> None:
        self.path = path
        self._env = env
        self._document = document
        for name in document:
            if name not in KNOWN and name not in _TABLES:
                raise Malformed(
                    f"{path}: unknown setting {name!r}{_did_you_mean(name)}", "see `man 5 callmeter-config`"
                )
        self.tag_defaults = self._table("tags", document.get("tags", {}))
        self.providers: dict[str, dict[str, object]] = {}
        providers = document.get("providers", {})
        if not isinstance(providers, dict):
            raise Malformed(f"{path}: `providers` is not a table", "write `[providers.NAME]`")
        for name, table in providers.items():
            if not isinstance(table, dict):
                raise Malformed(f"{path}: `providers.{name}` is not a table", f"write `[providers.{name}]`")
            for key in table:
                if key not in PROVIDER_KEYS:
                    raise Malformed(
                        f"{path}: unknown setting {key!r} in [providers.{name}]", "see `man 5 callmeter-config`"
                    )
            self.providers[name] = table
        self.vault = self._table("vault", document.get("vault", {}))
        _require_known(self.vault, VAULT_KEYS, f"{path}: [vault]")
        self.helpers = self._helpers(document.get("helpers", {}))

    def find(self, name: str) -> tuple[object, str]:
        """A setting's value and where it comes from: `variable`, `config.toml` or `built in`."""
        known = KNOWN[name]
        variable = variable_of(name)
        text = self._env.get(variable)
        if text is not None and text != "":
            try:
                return known.read(text), "variable"
            except ValueError as error:
                raise UsageError(f"{variable}={text!r}: {error}", f"mend or unset `{variable}`") from None
        if name in self._document:
            try:
                return known.read(self._document[name]), "config.toml"
            except ValueError as error:
                raise Malformed(f"{self.path}: `{name}`: {error}", "see `man 5 callmeter-config`") from None
        return known.default, "built in"

    def text(self, name: str, option: str | None = None) -> str | None:
        """A text setting; the option, if given, wins."""
        if option is not None:
            return option
        value = self.find(name)[0]
        return None if value is None else str(value)

    def number(self, name: str, option: int | None = None) -> int:
        """A whole-number setting; the option, if given, wins."""
        if option is not None:
            return option
        value = self.find(name)[0]
        assert isinstance(value, int)
        return value

    def seconds(self, name: str, option: float | None = None) -> float:
        """A duration in seconds; the option, if given, wins."""
        if option is not None:
            return option
        value = self.find(name)[0]
        assert isinstance(value, float)
        return value

    def flag(self, name: str, option: bool | None = None) -> bool:
        """A yes-or-no setting; the option, if given, wins."""
        if option is not None:
            return option
        return bool(self.find(name)[0])

    def tags(self) -> list[tuple[str, str, str]]:
        """Tags by variable and by [tags], as (name, value, origin); variables come last, so that they win."""
        found = [(name, value, "config.toml") for name, value in self.tag_defaults.items()]
        for name in BUILT_IN:
            value = self._env.get(variable_of(name), "")
            if value:
                found.append((name, value, variable_of(name)))
        return found

    def _helpers(self, tables: object) -> dict[str, dict[str, list[str]]]:
        if not isinstance(tables, dict):
            raise Malformed(f"{self.path}: `helpers` is not a table", "write `[helpers.NAME]`")
        for name, table in tables.items():
            where = f"{self.path}: [helpers.{name}]"
            if not isinstance(table, dict):
                raise Malformed(f"{self.path}: `helpers.{name}` is not a table", f"write `[helpers.{name}]`")
            _require_known(table, HELPER_KEYS, where)
            for member, command in table.items():
                if not isinstance(command, list) or not command or not all(isinstance(part, str) for part in command):
                    raise Malformed(
                        f"{where}: `{member}` is not a list of text", f'write `{member} = ["PROGRAM", "{{name}}"]`'
                    )
            if "read" not in table:
                raise Malformed(f"{where}: `read` is missing", 'write `read = ["PROGRAM", "{name}"]`')
        return tables

    def _table(self, name: str, value: object) -> dict[str, str]:
        if not isinstance(value, dict):
            raise Malformed(f"{self.path}: `{name}` is not a table", f"write `[{name}]`")
        for key, item in value.items():
            if not isinstance(item, str):
                raise Malformed(f"{self.path}: `{name}.{key}` is not text", f'write `{key} = "…"`')
        return value


def read_settings(places: Places, env: Mapping[str, str]) -> Settings:
    """The settings; paths that they move are moved in `places`."""
    settings = Settings(read_toml(places.settings, places.cache), places.settings, env)
    import os.path

    for name in ("log", "policy", "keys", "approvals"):
        path = settings.text(name)
        if path:
            setattr(places, name, os.path.abspath(os.path.expanduser(path)))
    return settings


def _require_known(table: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    for name in table:
        if name not in known:
            raise Malformed(f"{where}: unknown setting {name!r}", f"use one of {', '.join(known)}")


def variable_of(name: str) -> str:
    """The environment variable of a setting or tag: `base_url` is CALLMETER_BASE_URL."""
    return "CALLMETER_" + name.upper()


def _did_you_mean(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, [*KNOWN, *_TABLES], 1)
    return f", did you mean {close[0]!r}?" if close else ""
