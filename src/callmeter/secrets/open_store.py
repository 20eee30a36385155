"""From a reference in the key registry to the store that it names."""

from __future__ import annotations

from callmeter.words.errors import Malformed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from callmeter.secrets.store import SecretStore


def open_store(reference: str, directory: str, env: Mapping[str, str]) -> tuple[SecretStore, str]:
    """The store and the name in it for a registry entry's `file:code@openrouter` or `env:CALLMETER_API_KEY`.

    `directory` is the file store's. Raises Malformed for other stores.
    """
    scheme, _, name = reference.partition(":")
    match scheme:
        case "file":
            from callmeter.secrets.file import FileStore

            return FileStore(directory), name
        case "env":
            from callmeter.secrets.environment import EnvironmentStore

            return EnvironmentStore(env), name
    raise Malformed("a key's `secret` names no store that this callmeter knows", "write `file:LABEL`")
