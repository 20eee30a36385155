"""Keys from the environment: for a first try, and for schedulers that hand out secrets that way.

The weakest place for a key: every child process inherits it, and the same user can read it from outside.
"""

from __future__ import annotations

import os

from callmeter.secrets.secret import Secret, parse_secret
from callmeter.secrets.store import CURRENT
from callmeter.words.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# CALLMETER_API_KEY is meant for whatever endpoint the caller names. The others belong to their provider's hosts,
# and other tools read them too: they go nowhere else, whatever `--base-url` says.
OWN_VARIABLE = "CALLMETER_API_KEY"
MANAGEMENT_VARIABLE = "CALLMETER_MANAGEMENT_KEY"  # for schedulers; never sent to where models are
_VARIABLES = {
    "OPENROUTER_API_KEY": "openrouter.ai",
    "OPENAI_API_KEY": "api.openai.com",
    "ANTHROPIC_API_KEY": "api.anthropic.com",
}

# What no child process of callmeter needs, and so does not get.
KEY_VARIABLES = (OWN_VARIABLE, MANAGEMENT_VARIABLE, *_VARIABLES)

HINT = (
    "the key comes from {variable}, the weakest place: all that runs here shares it; a key of its own lets each agent "
    "be capped and rotated: `callmeter budget keys add AGENT --provider {provider}` (said once)"
)


def keys_in(env: Mapping[str, str]) -> list[Secret]:
    """The keys that stand in the variables for keys."""
    return [Secret(key) for variable in KEY_VARIABLES if (key := env.get(variable, "").strip())]


class EnvironmentStore:
    """The environment as a secret store that can only be read; a name is a variable's name."""

    writable = False

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def read(self, name: str, slot: str = CURRENT) -> Secret | None:
        """The key, or None when the variable is unset or empty. Raises NoKey when it cannot be a key."""
        value = self._env.get(name, "") if slot == CURRENT else ""
        return parse_secret(os.fsencode(value), f"in {name}") if value else None

    def write(self, name: str, secret: Secret, slot: str = CURRENT) -> None:
        """Raises UsageError."""
        raise UsageError(f"a key cannot be stored in the environment ({name})", "use the store `file:`")

    def swap(self, name: str, old: Secret | None, new: Secret) -> None:
        """Raises UsageError."""
        self.write(name, new)

    def delete(self, name: str, slot: str | None = None) -> bool:
        """Raises UsageError."""
        raise UsageError(f"a key cannot be removed from the environment ({name})", f"run `unset {name}`")

    def describe(self, name: str) -> str:
        """The variable's name."""
        return f"the variable {name}"


def variable_for(env: Mapping[str, str], origin: str) -> str | None:
    """The variable whose key may go to this origin (`https://openrouter.ai:443`), if one is set."""
    if env.get(OWN_VARIABLE):
        return OWN_VARIABLE
    for variable, host in _VARIABLES.items():
        if env.get(variable) and (origin == f"https://{host}:443" or _is_below(origin, host)):
            return variable
    return None


def _is_below(origin: str, host: str) -> bool:
    return origin.startswith("https://") and origin.endswith(f".{host}:443")


def hint_once(state_dir: str, variable: str, provider: str) -> str | None:
    """The advice to register keys: the first time only, which a marker file remembers. None after that, and when
    the marker cannot be written, since it would be said at every call."""
    try:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        os.close(os.open(os.path.join(state_dir, ".environment-key-hint"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        return None
    return HINT.format(variable=variable, provider=provider)
