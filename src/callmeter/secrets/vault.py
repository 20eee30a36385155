"""Keys in HashiCorp Vault or OpenBao, in a KV version 2 engine: `vault:MOUNT/PATH`, or `vault:MOUNT/PATH#FIELD`.

One document holds all three slots, as `key`, `previous` and `pending` (with a field: FIELD, FIELD_previous,
FIELD_pending); its other fields are left alone. Each change writes the document with the version that it was read in
(check-and-set), so a swap is one atomic step, and two writers cannot undo each other. An engine keeps old versions
(`max_versions`): whoever may read those sees keys of the past.

The address and who we are: BAO_ADDR or VAULT_ADDR, BAO_TOKEN or VAULT_TOKEN, else the AppRole of VAULT_ROLE_ID and
VAULT_SECRET_ID or of the settings `[vault]`, else the token that `vault login` left in `~/.vault-token`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from callmeter.secrets.deadline import SECONDS, in_time
from callmeter.secrets.secret import MAX_KEY, Secret, parse_secret
from callmeter.secrets.store import CURRENT, PENDING, PREVIOUS, SLOTS, conflict, library_missing, require_slot
from callmeter.store.files import FileProblem, read_file
from callmeter.words.errors import NoKey, Unavailable
from callmeter.words.origin import leads_here, origin_of

try:
    import hvac  # type: ignore[import-untyped, unused-ignore]
    from hvac import exceptions as refusals  # type: ignore[import-untyped, unused-ignore]
    from requests.exceptions import RequestException
except ImportError:
    raise library_missing("Vault", "vault") from None

_TRIES = 5
_Result = TypeVar("_Result")


class VaultStore:
    """Keys in one Vault. `settings` are `address`, `namespace`, `ca_file`, `role_id` and `secret_id_file`; variables
    win over them."""

    writable = True

    def __init__(self, env: Mapping[str, str], settings: Mapping[str, str]) -> None:
        self._env = env
        self._settings = settings
        self._address = self._given("address", "BAO_ADDR", "VAULT_ADDR").rstrip("/")
        self._client: Any = None
        self._by_role = False

    def read(self, name: str, slot: str = CURRENT) -> Secret | None:
        """The key, or None when there is no such document or field, or its last version is deleted."""
        return self._secret(name, self._document(name)[0], slot)

    def write(self, name: str, secret: Secret, slot: str = CURRENT) -> None:
        """Write a new version of the document."""
        require_slot(slot)
        field = _field(name, slot)
        self._change(name, lambda document: {**document, field: secret})

    def swap(self, name: str, old: Secret | None, new: Secret) -> None:
        """One new version, written only over the version in which `old` was current."""
        fields = {slot: _field(name, slot) for slot in SLOTS}

        def swapped(document: Mapping[str, Any]) -> dict[str, Any]:
            current = self._secret(name, document, CURRENT)
            wanted = dict(document)
            if current != new:
                if current != old:
                    raise conflict(self.describe(name))
                if old is not None:
                    wanted[fields[PREVIOUS]] = old
                wanted[fields[CURRENT]] = new
            if self._secret(name, document, PENDING) == new:
                del wanted[fields[PENDING]]
            return wanted

        self._change(name, swapped)

    def delete(self, name: str, slot: str | None = None) -> bool:
        """Without a slot the document goes with all its versions; where it has fields of others, they stay, and the
        versions before it are destroyed."""
        gone = [_field(name, each) for each in (SLOTS if slot is None else (slot,))]
        document, version = self._document(name)
        if slot is None and version and not set(document) - set(gone):
            mount, path = _place(name)
            engine = "delete_metadata_and_all_versions"
            self._ask(lambda kv: getattr(kv, engine)(path, mount_point=mount), f"the path {mount}/metadata/{path}")
            return bool(document)
        if not set(document) & set(gone):
            return False
        self._change(name, lambda found: {field: value for field, value in found.items() if field not in gone})
        if slot is None:
            mount, path = _place(name)
            earlier = list(range(max(1, version - 100), version + 1))
            self._ask(
                lambda kv: kv.destroy_secret_versions(path, versions=earlier, mount_point=mount),
                f"the path {mount}/destroy/{path}",
            )
        return True

    def describe(self, name: str) -> str:
        """The document's path, and the address."""
        return f"{name} in Vault at {self._address or 'no address'}"

    def _secret(self, name: str, document: Mapping[str, Any], slot: str) -> Secret | None:
        value = document.get(_field(name, slot))
        if value is None or isinstance(value, Secret):
            return value
        if not isinstance(value, str):
            raise NoKey(f"the key at {self.describe(name)} is not text", "write the bare key there", code="bad_key")
        return parse_secret(value[: MAX_KEY + 3].encode("utf-8", "replace"), f"at {self.describe(name)}")

    def _document(self, name: str) -> tuple[dict[str, Any], int]:
        """The document and the version to name when it is written; 0 where there never was one."""
        mount, path = _place(name)

        def read(kv: Any) -> tuple[dict[str, Any], int]:
            try:
                data = kv.read_secret_version(path, mount_point=mount, raise_on_deleted_version=True)["data"]
            except refusals.InvalidPath as error:
                # The check-and-set goes on counting after a version was deleted, and the answer says from where.
                told = ((error.json or {}).get("data") or {}).get("metadata") or {}
                return {}, int(told.get("version", 0))
            return dict(data["data"] or {}), int(data["metadata"]["version"])

        return self._ask(read, f"the path {mount}/data/{path}")

    def _change(self, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        mount, path = _place(name)
        for _ in range(_TRIES):
            document, version = self._document(name)
            wanted = change(document)
            if wanted == document:
                return

            def put(kv: Any, wanted: dict[str, Any] = wanted, version: int = version) -> bool:
                # No variable holds a bare key, or a traceback with locals would show it.
                try:
                    kv.create_or_update_secret(
                        path,
                        secret={k: v.reveal() if isinstance(v, Secret) else v for k, v in wanted.items()},
                        cas=version,
                        mount_point=mount,
                    )
                except refusals.InvalidRequest as error:
                    if "check-and-set" in str(error):
                        return False
                    raise
                except refusals.InvalidPath:
                    raise Unavailable(
                        f"there is no KV version 2 engine at {mount}/ in Vault at {self._address}",
                        f"run `vault secrets enable -path={mount} kv-v2`, or name another mount",
                        code="store_failed",
                    ) from None
                return True

            if self._ask(put, f"the path {mount}/data/{path}"):
                return
        raise conflict(self.describe(name))

    def _ask(self, action: Callable[[Any], _Result], what: str) -> _Result:
        """What `action` gives with the KV engine; with an AppRole, a refused token is replaced by a new one once."""
        where = f"Vault at {self._address}"
        for attempt in (1, 2):
            try:
                if self._client is None:
                    self._client = in_time(where, self._log_in)
                engine = self._client.secrets.kv.v2
                return in_time(where, lambda engine=engine: action(engine))  # type: ignore[misc]
            except refusals.Forbidden:
                if self._by_role and attempt == 1:
                    self._client = None
                    continue
                raise self._denied(where, what) from None
            except refusals.VaultDown:
                raise Unavailable(
                    f"{where} is sealed, or has no leader",
                    "have it unsealed: `vault operator unseal`",
                    code="store_sealed",
                ) from None
            except RequestException as error:
                raise Unavailable(
                    f"{where} cannot be reached ({type(error).__name__})", "see `vault status`", code="store_down"
                ) from None
            except (refusals.VaultError, ValueError, KeyError, TypeError) as error:
                # Its text is not shown: a proxy in between may repeat what it was sent.
                raise Unavailable(
                    f"{where} failed ({type(error).__name__}) at {what}", "see its own log", code="store_failed"
                ) from None
        raise AssertionError

    def _denied(self, where: str, what: str) -> Unavailable:
        try:
            valid = in_time(where, self._client.is_authenticated)
        except (refusals.VaultError, RequestException, Unavailable):
            valid = False
        if valid:
            return Unavailable(
                f"{where} does not allow {what} to this token",
                "its policy needs read, create and update there (and delete on MOUNT/metadata/PATH to remove keys)",
                code="store_denied",
            )
        return Unavailable(
            f"{where} does not accept the token, which has expired or was revoked",
            "log in again: `vault login`, or set an AppRole in `[vault]`",
            code="store_denied",
        )

    def _log_in(self) -> Any:
        if not self._address:
            raise Unavailable("no Vault is named", "set `VAULT_ADDR`, or `address` in `[vault]`", code="store_failed")
        _require_private_way(self._address)
        authority = self._given("ca_file", "BAO_CACERT", "VAULT_CACERT")
        token = self._env.get("BAO_TOKEN") or self._env.get("VAULT_TOKEN") or ""
        role = "" if token else self._given("role_id", "VAULT_ROLE_ID")
        client = hvac.Client(
            url=self._address,
            token=token or ("" if role else self._token_of_login()),
            namespace=self._given("namespace", "BAO_NAMESPACE", "VAULT_NAMESPACE") or None,
            verify=authority or True,
            timeout=SECONDS,
            allow_redirects=False,  # the token would go along
        )
        self._by_role = bool(role)
        if role:
            try:
                client.auth.approle.login(role_id=role, secret_id=self._secret_id())
            except refusals.InvalidRequest:
                raise Unavailable(
                    f"Vault at {self._address} does not accept the AppRole: its secret id is wrong, used up or expired",
                    "have a new secret id issued, and put it into the file that `secret_id_file` names",
                    code="store_denied",
                ) from None
            except refusals.Forbidden:
                raise Unavailable(
                    f"Vault at {self._address} does not accept the AppRole",
                    "see `role_id` in `[vault]`",
                    code="store_denied",
                ) from None
        elif not client.token:
            raise Unavailable(
                f"there is no token for Vault at {self._address}",
                "set `VAULT_TOKEN`, run `vault login`, or set `role_id` and `secret_id_file` in `[vault]`",
                code="store_denied",
            )
        return client

    def _secret_id(self) -> str:
        if self._env.get("VAULT_SECRET_ID"):
            return self._env["VAULT_SECRET_ID"]
        path = self._settings.get("secret_id_file", "")
        data = _private(os.path.expanduser(path)) if path else b""
        if data is None:
            raise Unavailable(f"there is no file {path}, which `secret_id_file` names", "write it", code="store_denied")
        return data.decode("ascii", "replace").strip()

    def _token_of_login(self) -> str:
        home = self._env.get("HOME", "")
        data = _private(os.path.join(home, ".vault-token")) if home else None
        return (data or b"").decode("ascii", "replace").strip()

    def _given(self, setting: str, *variables: str) -> str:
        return next((self._env[name] for name in variables if self._env.get(name)), self._settings.get(setting, ""))


def _place(name: str) -> tuple[str, str]:
    mount, _, path = name.partition("#")[0].partition("/")
    return mount, path


def _field(name: str, slot: str) -> str:
    field = name.partition("#")[2]
    if not field:
        return "key" if slot == CURRENT else slot
    return field if slot == CURRENT else f"{field}_{slot}"


def _require_private_way(address: str) -> None:
    try:
        origin = origin_of(address)
    except ValueError:
        raise Unavailable(
            "the address of Vault is not a plain http or https URL", "mend it", code="store_failed"
        ) from None
    if not origin.startswith("https:") and not leads_here(origin):
        raise Unavailable(
            f"no key is sent to {address} in the clear", "use an https address for Vault", code="plain_http"
        )


def _private(path: str) -> bytes | None:
    """What opens the Vault, from a file; None when there is none. Raises NoKey when others may have read it."""
    try:
        return read_file(path, private=True)
    except FileProblem as problem:
        raise NoKey(problem.message, problem.hint, code="key_unsafe") from None
