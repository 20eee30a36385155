"""The key registry as it is read: which key belongs to whom, for what, where it may go, and where it lies.

It holds no key. Each agent's call reads it, so this module only takes the parsed document (`store/toml.py` keeps
that in a cache); `registry_file` changes it.
"""

from __future__ import annotations

from callmeter.words.errors import Malformed, NoKey, Refused, UsageError
from callmeter.words.instant import parse_instant
from callmeter.words.key_shape import looks_like_key
from callmeter.words.origin import origin_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

VERSION = 1
# In the order in which they are to be preferred; `flows/key_places.py` says what each is worth.
STORES = ("file", "keychain", "vault", "aws-sm", "command", "env")
RESERVED_ENDINGS = (".pending", ".previous")
_MAX_LABEL = 128
_TEXTS = (
    "provider",
    "base_url",
    "agent",
    "environment",
    "owner",
    "purpose",
    "created",
    "expires",
    "secret",
    "copy",
    "fingerprint",
    "user",
    "budget",
    "budget_reset",
    "rotate_every",
    "last_rotated",
    "provider_key",
    "retired",
)
_FLAGS = ("default", "shared", "management")
RESETS = ("daily", "weekly", "monthly")
_NEEDED = ("provider", "base_url", "secret")


class Entry:
    """One registered key. Empty text is "not given"; `expires` None is never.

    An `environment` binds the key to calls of that environment, `base_url` to that endpoint's scheme, host and
    port. `allowed_models` are names, or beginnings of names ending in `*`; an empty list allows all. `secret` is
    the reference to its store; `copy` another place where it may lie too, while it is being moved. `budget` is the
    ceiling at the provider in USD, reset as `budget_reset` says (empty: never); `provider_key` what the provider calls
    the key. A `management` key makes and changes others and is never used for a call, nor is a `retired` one.
    """

    def __init__(
        self,
        label: str,
        *,
        provider: str,
        base_url: str,
        secret: str,
        agent: str = "",
        default: bool = False,
        environment: str = "",
        owner: str = "",
        purpose: str = "",
        allowed_models: Sequence[str] = (),
        created: str = "",
        expires: str = "",
        fingerprint: str = "",
        shared: bool = False,
        copy: str = "",
        user: str = "",
        budget: str = "",
        budget_reset: str = "",
        rotate_every: str = "",
        last_rotated: str = "",
        provider_key: str = "",
        retired: str = "",
        management: bool = False,
    ) -> None:
        self.label = label
        self.provider = provider
        self.base_url = base_url
        self.origin = origin_of(base_url)
        self.secret = secret
        self.agent = agent
        self.default = default
        self.environment = environment
        self.owner = owner
        self.purpose = purpose
        self.allowed_models = tuple(allowed_models)
        self.created = _instant("created", created)
        self.expires = _instant("expires", expires)
        self.fingerprint = fingerprint
        self.shared = shared
        self.copy = copy
        self.user = user
        self.budget = budget
        if budget_reset and budget_reset not in RESETS:
            raise ValueError(f"`budget_reset` is not one of {', '.join(RESETS)}")
        self.budget_reset = budget_reset
        self.rotate_every = rotate_every
        self.last_rotated = _instant("last_rotated", last_rotated)
        self.provider_key = provider_key
        self.retired = _instant("retired", retired)
        self.management = management

    def expired(self, now: datetime) -> bool:
        """Whether its last moment has passed."""
        return self.expires is not None and self.expires <= now

    def allows(self, model: str) -> bool:
        """Whether it is meant for a model."""
        return not self.allowed_models or any(
            model == allowed or (allowed.endswith("*") and model.startswith(allowed[:-1]))
            for allowed in self.allowed_models
        )


def read_registry(document: Mapping[str, object], path: str) -> dict[str, Entry]:
    """The entries by label, in the file's order. `path` is for messages. Raises Malformed."""
    version = document.get("version", VERSION)
    if version != VERSION:
        raise Malformed(f"{path} has version {version!r}, this callmeter reads {VERSION}", "install a newer callmeter")
    unknown = set(document) - {"version", "keys"}
    if unknown:
        raise Malformed(f"{path}: unknown entry `{min(unknown)}`", 'keys stand under `[keys."LABEL"]`')
    tables = document.get("keys", {})
    if not isinstance(tables, dict):
        raise Malformed(f"{path}: `keys` is not a table", 'keys stand under `[keys."LABEL"]`')
    return {label: _entry(label, table, path) for label, table in tables.items()}


def _entry(label: str, table: object, path: str) -> Entry:
    fault = label_fault(label)
    if fault:
        # Somebody may have put the key there, or below as the reference: neither is shown.
        raise Malformed(f"{path}: a label {fault}", f"rename it in {path}")
    where = f'{path}: [keys."{label}"]'
    if not isinstance(table, dict):
        raise Malformed(f"{where} is not a table", 'keys stand under `[keys."LABEL"]`')
    for name, value in table.items():
        if name in _TEXTS:
            fits = isinstance(value, str)
            wanted = "text"
        elif name in _FLAGS:
            fits, wanted = isinstance(value, bool), "`true` or `false`"
        elif name == "allowed_models":
            fits, wanted = isinstance(value, list) and all(isinstance(item, str) for item in value), "a list of text"
        else:
            raise Malformed(f"{where}: unknown entry `{name}`{_did_you_mean(name)}", "mend or remove it")
        if not fits:
            raise Malformed(f"{where}: `{name}` is not {wanted}", "mend it")
    for name in _NEEDED:
        if not table.get(name):
            raise Malformed(f"{where}: `{name}` is missing", f"run `callmeter budget keys remove {label}`, and add it")
    for name in ("secret", "copy"):
        if name in table and reference_fault(table[name]):
            # Somebody may have put the key there: it is not shown.
            raise Malformed(
                f"{where}: `{name}` is not a reference such as `file:{label}`", "mend it; a key is not kept here"
            )
    try:
        return Entry(label, **table)
    except ValueError as error:
        raise Malformed(f"{where}: {error}", "mend it") from None


def _instant(name: str, text: str) -> datetime | None:
    try:
        return parse_instant(text) if text else None
    except ValueError:
        raise ValueError(f"`{name}` is not a date or time") from None


def label_fault(label: str) -> str:
    """Why text cannot be a key's label, or nothing. A label is a file's name, and is offered on Tab."""
    plain = label.translate({ord(mark): None for mark in "._@+-"})
    if not label or len(label) > _MAX_LABEL:
        return f"is not 1 to {_MAX_LABEL} characters long"
    if looks_like_key(label):
        return "looks like a key itself"
    if not label.isascii() or not (plain.isalnum() and label[0].isalnum()):
        return "is not made of letters, digits and `._@+-`, beginning with a letter or digit"
    if label.lower().endswith(RESERVED_ENDINGS):
        return f"ends in one of {', '.join(RESERVED_ENDINGS)}, which stand for a key in rotation"
    return ""


def reference_fault(reference: str) -> str:
    """Why text cannot say where a key lies, or nothing."""
    store, _, name = reference.partition(":")
    if looks_like_key(reference) or looks_like_key(name):
        return "looks like a key itself"
    if store not in STORES:
        return f"does not begin with one of {', '.join(f'{store}:' for store in STORES)}"
    if store == "file":
        return label_fault(name)
    parts = name.partition("#")[0].split("/")
    if not name.isascii() or not name.isprintable() or " " in name or name.startswith("-") or len(name) > 512:
        return "has a name that is not plain"
    if any(part in ("", ".", "..") or part.startswith("-") for part in parts):
        return "has an empty part, or one that leads elsewhere"
    if len(parts) < 2 and store in ("vault", "command"):
        return "lacks a name: " + ("`vault:MOUNT/PATH`" if store == "vault" else "`command:HELPER/NAME`")
    return ""


def entry_for(
    entries: Mapping[str, Entry],
    *,
    provider: str,
    origin: str,
    agent: str,
    environment: str,
    label: str | None,
    user: str = "",
) -> Entry | None:
    """The entry that a call uses: the one named by `label`, else the end user's own for the provider, else the
    agent's own, else the provider's default; None when there is none. A user's key serves nobody else. Raises NoKey
    when a key is there but must not be used, or when it is not clear which."""
    if label is not None:
        if looks_like_key(label):
            raise UsageError(
                "`--key` was given what looks like a key; it takes a label",
                "the key was visible in the process list: rotate it, then `callmeter budget keys add`",
                code="key_in_arguments",
            )
        if label not in entries:
            raise NoKey(f"there is no key {label!r}", "see `callmeter budget keys list`", code="unknown_key")
        entry = entries[label]
        if entry.provider != provider or entry.origin != origin:
            raise NoKey(
                f"the key {label} is for {entry.provider} at {_shown(entry.origin)} and is not sent to {provider} at "
                + _shown(origin),
                "register a key for that endpoint: `callmeter budget keys add … --base-url …`",
                code="key_bound",
                key=label,
            )
        return entry
    suiting = [
        entry
        for entry in entries.values()
        if entry.provider == provider and entry.origin == origin and not entry.management and entry.retired is None
    ]
    theirs = [entry for entry in suiting if user and entry.user == user and entry.agent in ("", agent)]
    found = _one(theirs, environment, f"user {user!r}") if theirs else None
    if found is not None:
        return found
    suiting = [entry for entry in suiting if not entry.user]
    own = _one([entry for entry in suiting if agent and entry.agent == agent], environment, f"agent {agent!r}")
    return own or _one([entry for entry in suiting if entry.default], environment, "the default")


def check_entry(entry: Entry, models: Sequence[str], now: datetime) -> None:
    """Raises NoKey when the key has expired, was retired or manages others, Refused when it is not meant for one of
    the models."""
    if entry.management or entry.retired is not None:
        why = "manages other keys and makes no calls" if entry.management else "was retired"
        raise NoKey(f"the key {entry.label} {why}", "use another key", code="key_not_for_calls", key=entry.label)
    if entry.expires is not None and entry.expired(now):
        raise NoKey(
            f"the key {entry.label} expired on {entry.expires:%Y-%m-%d %H:%M} UTC",
            f"add a new one: `callmeter budget keys add --label {entry.label} --replace`",
            code="key_expired",
            key=entry.label,
        )
    for model in models:
        if not entry.allows(model):
            raise Refused(
                f"the key {entry.label} is not meant for the model {model} (only {', '.join(entry.allowed_models)})",
                "use one of those, or another key with `--key`",
                code="model_not_allowed",
                key=entry.label,
            )


def _one(entries: list[Entry], environment: str, whose: str) -> Entry | None:
    """The one for an environment: a key of that environment before one of none; never another environment's."""
    for wanted in (environment, ""):
        found = [entry for entry in entries if entry.environment == wanted]
        if len(found) > 1:
            raise _unclear(found, whose)
        if found:
            return found[0]
    if not environment and entries:
        if len(entries) > 1:
            raise _unclear(entries, whose)
        return entries[0]
    return None


def _unclear(entries: list[Entry], whose: str) -> NoKey:
    labels = ", ".join(entry.label for entry in entries)
    return NoKey(
        f"several keys are {whose}'s: {labels}",
        "name one with `--key`, or say which by `--environment`",
        code="key_unclear",
    )


def _shown(origin: str) -> str:
    return origin.removesuffix(":443" if origin.startswith("https:") else ":80")


def _did_you_mean(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, [*_TEXTS, *_FLAGS, "allowed_models"], 1)
    return f", did you mean `{close[0]}`?" if close else ""
