"""From a reference in the key registry to the store that it names."""

from __future__ import annotations

from callmeter.words.errors import Malformed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from callmeter.secrets.store import SecretStore


class Stores:
    """What opening a store takes: the file store's directory, the environment, and the settings `[vault]` and
    `[helpers.NAME]`."""

    def __init__(
        self,
        directory: str,
        env: Mapping[str, str],
        vault: Mapping[str, str] | None = None,
        helpers: Mapping[str, Mapping[str, list[str]]] | None = None,
    ) -> None:
        self.directory = directory
        self._env = env
        self._vault = vault or {}
        self._helpers = helpers or {}

    def open(self, reference: str) -> tuple[SecretStore, str]:
        """The store and the name in it for a registry entry's `file:code@openrouter` or `vault:secret/llm/code`.

        Nothing is contacted yet. Raises Malformed for what names no store, Unavailable when its library is missing.
        """
        scheme, _, name = reference.partition(":")
        match scheme:
            case "file":
                from callmeter.secrets.file import FileStore

                return FileStore(self.directory), name
            case "env":
                from callmeter.secrets.environment import EnvironmentStore

                return EnvironmentStore(self._env), name
            case "keychain":
                from callmeter.secrets.keychain import keychain_store

                return keychain_store(self.directory), name
            case "vault":
                from callmeter.secrets.vault import VaultStore

                return VaultStore(self._env, self._vault), name
            case "aws-sm":
                from callmeter.secrets.aws import AwsStore

                return AwsStore(), name
            case "command":
                from callmeter.secrets.command import command_store

                return command_store(name.partition("/")[0], self.directory, self._env, self._helpers), name
        raise Malformed("a key's `secret` names no store that this callmeter knows", "write `file:LABEL`")

    def salt(self) -> bytes:
        """This installation's salt for fingerprints, which lies with the file store's keys, wherever keys lie.
        Raises NoKey, Unavailable, FileProblem."""
        from callmeter.secrets.file import FileStore

        return FileStore(self.directory).salt()
