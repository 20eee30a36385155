"""What real stores do when they fail: one sentence with a hint, a status to branch on, no wait, and no key in it."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from callmeter.secrets import deadline
from callmeter.secrets.open_store import Stores
from callmeter.secrets.secret import Secret
from callmeter.secrets.store import CURRENT, PENDING, PREVIOUS
from callmeter.words.errors import CallmeterError, Malformed, NoKey, Unavailable, UsageError
from conftest import lacking
from servers import keyring_daemon, password_store, secrets_manager, vault
from servers.database import free_port

KEY = "sk-or-v1-" + "5e" * 32
ONE, TWO = Secret(KEY), Secret("sk-or-v1-" + "7" * 64)


def refusal(action: Callable[[], object], code: str, match: str, kind: type[CallmeterError] = Unavailable) -> str:
    """The hint of the error that an action must end with."""
    with pytest.raises(kind, match=match) as caught:
        action()
    assert caught.value.code == code
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in shown and TWO.reveal() not in shown
    return caught.value.hint


# Vault


def at(bao: vault.Bao, token: str = vault.ROOT, **env: str) -> Stores:
    return Stores("/nowhere", {"VAULT_ADDR": bao.address, "VAULT_TOKEN": token, **env})


def test_a_sealed_vault_is_named_as_sealed_and_works_again_when_it_is_not(bao: vault.Bao) -> None:
    store, name = at(bao).open("vault:secret/sealed")
    store.write(name, ONE)
    bao.seal()
    try:
        for action in (lambda: store.read(name), lambda: store.write(name, TWO), lambda: store.swap(name, ONE, TWO)):
            assert "unseal" in refusal(action, "store_sealed", "is sealed")
    finally:
        bao.unseal()
    assert store.read(name) == ONE


def test_a_policy_that_does_not_allow_it_is_told_with_the_path(bao: vault.Bao) -> None:
    bao.root.secrets.kv.v2.create_or_update_secret("mine", {"key": KEY})
    reader = bao.token('path "secret/data/mine" { capabilities = ["read"] }')
    store, name = at(bao, reader).open("vault:secret/mine")
    assert store.read(name) == ONE
    assert "policy" in refusal(lambda: store.swap(name, ONE, TWO), "store_denied", "does not allow .*secret/data/mine")
    refusal(lambda: store.delete(name), "store_denied", "does not allow .*secret/metadata/mine")
    other, its_name = at(bao, reader).open("vault:secret/other")
    refusal(lambda: other.read(its_name), "store_denied", "does not allow .*secret/data/other")
    assert store.read(name) == ONE


@pytest.mark.parametrize("ended", ["revoked", "used up", "never there"])
def test_a_token_that_is_not_valid_is_told_from_one_that_may_not(bao: vault.Bao, ended: str) -> None:
    token = bao.token('path "secret/*" { capabilities = ["read"] }', num_uses=1 if ended == "used up" else 0)
    if ended == "revoked":
        bao.root.auth.token.revoke(token)
    if ended == "never there":
        token = "s.nonsense"
    store, name = at(bao, token).open("vault:secret/any")
    if ended == "used up":
        assert store.read(name) is None
    hint = refusal(lambda: store.read(name), "store_denied", "does not accept the token")
    assert "vault login" in hint


def test_without_a_token_the_error_says_how_to_get_one(bao: vault.Bao, tmp_path: Path) -> None:
    store, name = Stores("/nowhere", {"VAULT_ADDR": bao.address, "HOME": str(tmp_path)}).open("vault:secret/any")
    assert "VAULT_TOKEN" in refusal(lambda: store.read(name), "store_denied", "no token")


def test_the_token_that_a_login_left_is_used_unless_others_can_read_it(bao: vault.Bao, tmp_path: Path) -> None:
    bao.root.secrets.kv.v2.create_or_update_secret("login", {"key": KEY})
    token = tmp_path / ".vault-token"
    token.write_text(vault.ROOT)
    token.chmod(0o600)
    env = {"VAULT_ADDR": bao.address, "HOME": str(tmp_path)}
    store, name = Stores("/nowhere", env).open("vault:secret/login")
    assert store.read(name) == ONE
    token.chmod(0o644)
    store, name = Stores("/nowhere", env).open("vault:secret/login")
    with pytest.raises(NoKey, match="can be read by others"):
        store.read(name)


ANYTHING = 'path "secret/*" { capabilities = ["create", "read", "update", "delete"] }'


def by_role(bao: vault.Bao, tmp_path: Path, role_id: str, secret_id: str) -> Stores:
    file = tmp_path / "secret-id"
    file.touch(0o600)
    file.write_text(secret_id + "\n")
    settings = {"address": bao.address, "role_id": role_id, "secret_id_file": str(file)}
    return Stores("/nowhere", {}, settings)


def test_an_approle_from_the_settings_logs_in_and_again_when_its_token_has_ended(
    bao: vault.Bao, tmp_path: Path
) -> None:
    stores = by_role(bao, tmp_path, *bao.role(ANYTHING))
    store, name = stores.open("vault:secret/by-role")
    store.write(name, ONE)
    for accessor in bao.root.list("auth/token/accessors")["data"]["keys"]:
        found = bao.root.auth.token.lookup_accessor(accessor)["data"]
        if found["path"] == "auth/approle/login":
            bao.root.auth.token.revoke_accessor(accessor)
    assert store.read(name) == ONE
    store.swap(name, ONE, TWO)
    assert store.read(name) == TWO


def test_a_secret_id_that_is_used_up_is_told(bao: vault.Bao, tmp_path: Path) -> None:
    stores = by_role(bao, tmp_path, *bao.role(ANYTHING, secret_id_num_uses=1))
    store, name = stores.open("vault:secret/by-role")
    store.read(name)
    store, name = stores.open("vault:secret/by-role")
    hint = refusal(lambda: store.read(name), "store_denied", "does not accept the AppRole")
    assert "secret_id_file" in hint


def test_a_role_that_may_not_is_told_so_and_logs_in_no_third_time(bao: vault.Bao, tmp_path: Path) -> None:
    stores = by_role(bao, tmp_path, *bao.role('path "secret/data/elsewhere" { capabilities = ["read"] }'))
    store, name = stores.open("vault:secret/by-role")
    refusal(lambda: store.read(name), "store_denied", "does not allow")


def test_a_document_changed_between_reading_and_writing_is_read_again(
    bao: vault.Bao, monkeypatch: pytest.MonkeyPatch
) -> None:
    from callmeter.secrets.vault import VaultStore

    bao.root.secrets.kv.v2.create_or_update_secret("raced", {"key": KEY, "owner": "alice"})
    store, name = at(bao).open("vault:secret/raced")
    honest, raced = VaultStore._document, []

    def interrupted(self: VaultStore, name: str) -> tuple[dict[str, object], int]:
        found = honest(self, name)
        if not raced:
            raced.append(True)
            bao.root.secrets.kv.v2.patch("raced", {"owner": "bob"})
        return found

    monkeypatch.setattr(VaultStore, "_document", interrupted)
    store.swap(name, ONE, TWO)
    assert raced
    data = bao.root.secrets.kv.v2.read_secret_version("raced", raise_on_deleted_version=True)["data"]["data"]
    assert data == {"key": TWO.reveal(), "previous": KEY, "owner": "bob"}, "neither writer's change is lost"


def test_a_deleted_version_is_no_key_and_the_next_write_goes_on_counting(bao: vault.Bao) -> None:
    store, name = at(bao).open("vault:secret/deleted")
    store.write(name, ONE)
    bao.root.secrets.kv.v2.delete_latest_version_of_secret("deleted")
    assert store.read(name) is None
    store.swap(name, None, TWO)
    assert store.read(name) == TWO
    bao.root.secrets.kv.v2.destroy_secret_versions("deleted", [1, 2])
    assert store.read(name) is None
    store.write(name, ONE)
    assert store.read(name) == ONE


def test_fields_of_others_outlive_the_key_and_its_old_versions_do_not(bao: vault.Bao) -> None:
    bao.root.secrets.kv.v2.create_or_update_secret("team", {"owner": "alice", "openrouter": KEY})
    store, name = at(bao).open("vault:secret/team#openrouter")
    store.swap(name, ONE, TWO)
    assert store.delete(name)
    read = bao.root.secrets.kv.v2.read_secret_version
    assert read("team", raise_on_deleted_version=True)["data"]["data"] == {"owner": "alice"}
    versions = bao.root.secrets.kv.v2.read_secret_metadata("team")["data"]["versions"]
    assert [versions[number]["destroyed"] for number in sorted(versions)] == [True, True, False]


def test_an_engine_that_is_not_there_is_told_when_writing(bao: vault.Bao) -> None:
    store, name = at(bao).open("vault:nowhere/mine")
    assert store.read(name) is None
    assert "kv-v2" in refusal(lambda: store.write(name, ONE), "store_failed", "no KV version 2 engine at nowhere/")


def test_a_field_that_is_no_text_is_no_key(bao: vault.Bao) -> None:
    bao.root.secrets.kv.v2.create_or_update_secret("odd", {"key": {"nested": KEY}})
    store, name = at(bao).open("vault:secret/odd")
    refusal(lambda: store.read(name), "bad_key", "is not text", NoKey)


def test_a_vault_that_is_down_or_silent_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"VAULT_TOKEN": "x"}
    store, name = Stores("/nowhere", {**env, "VAULT_ADDR": f"http://127.0.0.1:{free_port()}"}).open("vault:secret/a")
    refusal(lambda: store.read(name), "store_down", "cannot be reached")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("callmeter.secrets.vault.SECONDS", 0.2)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store, name = Stores("/nowhere", {**env, "VAULT_ADDR": address}).open("vault:secret/a")
        refusal(lambda: store.read(name), "store_down", "cannot be reached")


def test_an_answer_that_trickles_for_ever_is_cut_off() -> None:
    stop = threading.Event()
    began = time.monotonic()
    with pytest.raises(Unavailable, match="the store has not answered in 0 s"):
        deadline.in_time("the store", lambda: stop.wait(60), 0.05)
    stop.set()
    assert time.monotonic() - began < 30


def test_a_token_is_not_taken_along_to_where_a_redirect_leads() -> None:
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as first:
        to = f"http://127.0.0.1:{other.getsockname()[1]}/v1/secret/data/a".encode()

        def answer() -> None:
            sock, _ = first.accept()
            with sock:
                heads.append(sock.recv(65536))
                sock.sendall(b"HTTP/1.1 307 elsewhere\r\nLocation: " + to + b"\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        env = {"VAULT_TOKEN": "s.secret", "VAULT_ADDR": f"http://127.0.0.1:{first.getsockname()[1]}"}
        store, name = Stores("/nowhere", env).open("vault:secret/a")
        refusal(lambda: store.read(name), "store_failed", "failed")
        other.settimeout(0.1)
        with pytest.raises(TimeoutError):
            other.accept()
    assert b"s.secret" in heads[0]


@pytest.mark.parametrize("address", ["http://vault.example.org:8200", "http://127.0.0.1.example.org:8200"])
def test_no_key_goes_to_a_vault_in_the_clear(address: str) -> None:
    store, name = Stores("/nowhere", {"VAULT_ADDR": address, "VAULT_TOKEN": "x"}).open("vault:secret/a")
    refusal(lambda: store.read(name), "plain_http", "in the clear")


# AWS Secrets Manager


@pytest.fixture(scope="module")
def account() -> Iterator[secrets_manager.Aws]:
    if secrets_manager.missing():
        lacking(secrets_manager.missing())
    with secrets_manager.moto() as server:
        yield server


@pytest.fixture
def aws(account: secrets_manager.Aws, monkeypatch: pytest.MonkeyPatch) -> secrets_manager.Aws:
    account.reset()
    use(monkeypatch, account.env)
    return account


def use(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)


def test_what_iam_does_not_allow_is_told_by_the_name_of_the_permission(
    aws: secrets_manager.Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stores("/nowhere", {}).open("aws-sm:callmeter/mine")[0].write("callmeter/mine", ONE)
    use(monkeypatch, aws.user("secretsmanager:GetSecretValue"))
    store, name = Stores("/nowhere", {}).open("aws-sm:callmeter/mine")
    assert store.read(name) == ONE
    for action in (lambda: store.write(name, TWO), lambda: store.swap(name, ONE, TWO), lambda: store.delete(name)):
        hint = refusal(action, "store_denied", "does not allow `secretsmanager:DescribeSecret`")
        assert "get-caller-identity" in hint


@pytest.mark.parametrize(
    ("without", "match"),
    [
        (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "there are no AWS credentials"),
        (("AWS_REGION", "AWS_DEFAULT_REGION"), "there is no AWS region"),
    ],
)
def test_missing_credentials_and_regions_are_told(
    aws: secrets_manager.Aws, monkeypatch: pytest.MonkeyPatch, without: tuple[str, ...], match: str
) -> None:
    use(monkeypatch, {name: value for name, value in aws.env.items() if name not in without})
    store, name = Stores("/nowhere", {}).open("aws-sm:mine")
    refusal(lambda: store.read(name), "store_down", match)


def test_a_secrets_manager_that_is_down_or_far_away_in_the_clear_is_told(
    aws: secrets_manager.Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, {**aws.env, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"})
    store, name = Stores("/nowhere", {}).open("aws-sm:mine")
    refusal(lambda: store.read(name), "store_down", "cannot be reached")
    use(monkeypatch, {**aws.env, "AWS_ENDPOINT_URL": "http://secrets.example.org"})
    store, name = Stores("/nowhere", {}).open("aws-sm:mine")
    refusal(lambda: store.read(name), "plain_http", "in the clear")


def test_a_secret_that_waits_for_its_deletion_is_no_key_and_is_not_written_over(aws: secrets_manager.Aws) -> None:
    store, name = Stores("/nowhere", {}).open("aws-sm:mine")
    store.write(name, ONE)
    aws.client("secretsmanager").delete_secret(SecretId="mine", RecoveryWindowInDays=7)
    assert store.read(name) is None
    assert "restore-secret" in refusal(lambda: store.write(name, TWO), "store_failed", "scheduled for deletion")


def test_a_label_that_another_took_in_the_same_moment_stays_where_it_is(
    aws: secrets_manager.Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, name = Stores("/nowhere", {}).open("aws-sm:mine")
    store.write(name, ONE)
    store.write(name, TWO, PENDING)
    other = Secret("sk-or-v1-" + "6" * 64)
    real = type(store)._holders  # type: ignore[attr-defined]
    waiting = [other]

    def holders(self: object, name: str, *, changing: bool = True) -> dict[str, str]:
        seen: dict[str, str] = real(self, name, changing=changing)
        if waiting:
            store.write(name, waiting.pop(), PENDING)  # as another process does between two requests
        return seen

    monkeypatch.setattr(type(store), "_holders", holders)
    store.delete(name, PENDING)
    assert [store.read(name, slot) for slot in (CURRENT, PENDING)] == [ONE, other]


def test_a_version_put_by_hand_is_a_current_key_like_any_other(aws: secrets_manager.Aws) -> None:
    aws.client("secretsmanager").create_secret(Name="mine", SecretString=KEY)
    store, name = Stores("/nowhere", {}).open("aws-sm:mine")
    store.swap(name, ONE, TWO)
    assert [store.read(name, slot) for slot in (CURRENT, PENDING, PREVIOUS)] == [TWO, None, ONE]


# The keychain


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    if keyring_daemon.missing():
        lacking(keyring_daemon.missing())
    with keyring_daemon.session_bus(tmp_path / "desktop") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield variables


def test_a_locked_keychain_is_told_at_once_and_never_asked_to_unlock(session: dict[str, str], tmp_path: Path) -> None:
    store, name = Stores(str(tmp_path / "secrets"), {}).open("keychain:mine")
    with keyring_daemon.gnome_keyring(session):
        store.write(name, ONE)
        keyring_daemon.lock(session)
        for action in (lambda: store.read(name), lambda: store.write(name, TWO), lambda: store.delete(name)):
            refusal(action, "store_locked", "the keychain is locked")
    with keyring_daemon.gnome_keyring(session, "a wrong password"):
        refusal(lambda: store.read(name), "store_locked", "the keychain is locked")
    with keyring_daemon.gnome_keyring(session):
        assert store.read(name) == ONE


def test_without_a_session_there_is_no_keychain_and_the_hint_is_another_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if keyring_daemon.missing():
        lacking(keyring_daemon.missing())
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    store, name = Stores(str(tmp_path / "secrets"), {}).open("keychain:mine")
    assert "keys move LABEL file" in refusal(lambda: store.read(name), "store_down", "cannot be reached")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/gone")
    refusal(lambda: store.read(name), "store_down", "cannot be reached")


def test_a_session_without_a_keyring_makes_none(session: dict[str, str], tmp_path: Path) -> None:
    store, name = Stores(str(tmp_path / "secrets"), {}).open("keychain:mine")
    refusal(lambda: store.write(name, ONE), "store_down", "cannot be reached|is locked")


def test_a_new_connection_asks_first_what_cannot_end_the_keychain(session: dict[str, str], tmp_path: Path) -> None:
    """gnome-keyring may take a connection's first message before it knows the connection; one for a collection then
    ends it, and its successor is locked. A collection's alias it may not find while others connect."""
    store, name = Stores(str(tmp_path / "secrets"), {}).open("keychain:mine")
    with keyring_daemon.empty_keychain(session) as asked:
        assert store.read(name) is None and not store.delete(name)
    first = {question.sender: question for question in reversed(asked)}
    assert len(first) == 4, "a connection for each entry"
    assert {question.path for question in first.values()} == {"/org/freedesktop/secrets"}
    assert {question.member for question in first.values()} == {"Collections"}
    assert not any("/aliases/" in question.path for question in asked)
    assert "SearchItems" in {question.member for question in asked}


def test_a_keychain_that_says_no_in_its_own_words_is_an_error_of_the_keychain(
    session: dict[str, str], tmp_path: Path
) -> None:
    store, name = Stores(str(tmp_path / "secrets"), {}).open("keychain:mine")
    with keyring_daemon.empty_keychain(session, refused="SearchItems"):
        refusal(lambda: store.read(name), "store_down", "cannot be reached")


# Helpers


@pytest.fixture
def locked_pass() -> Iterator[dict[str, str]]:
    if password_store.missing():
        lacking(password_store.missing())
    with password_store.password_store("a passphrase") as env:
        yield env


def test_a_locked_password_store_is_an_error_and_asks_nobody(locked_pass: dict[str, str], tmp_path: Path) -> None:
    store, name = Stores(str(tmp_path), locked_pass).open("command:pass/mine")
    assert store.read(name) is None
    store.write(name, ONE)  # writing needs the public key only
    hint = refusal(lambda: store.read(name), "store_failed", "pass cannot read mine: it ended with status 2")
    assert "pass show mine >/dev/null" in hint


def test_pass_without_a_home_is_not_taken_for_an_entry_that_is_missing(tmp_path: Path) -> None:
    store, name = Stores(str(tmp_path), {"PATH": os.environ["PATH"]}).open("command:pass/mine")
    refusal(lambda: store.read(name), "store_down", "HOME is not set")


def helper(tmp_path: Path, **scripts: str) -> Stores:
    commands = {what: ["sh", "-c", script, "helper", "{name}"] for what, script in scripts.items()}
    return Stores(str(tmp_path), {"PATH": os.environ["PATH"], "OPENAI_API_KEY": KEY}, helpers={"mine": commands})


def test_a_helper_that_hangs_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    store, name = helper(tmp_path, read=f"sleep 1000 & echo $! >{pid}; wait").open("command:mine/a")
    for seconds in (0.5, 2, 8):  # a busy machine may take longer to start it than the first ones
        monkeypatch.setattr("callmeter.secrets.command.SECONDS", seconds)
        refusal(lambda: store.read(name), "store_failed", "was not done in")
        if pid.exists() and pid.read_text():
            break
    child = int(pid.read_text())
    until = time.monotonic() + 60
    while os.path.exists(f"/proc/{child}") and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < until, "the helper's child lives on"
        time.sleep(0.01)


def test_a_helper_has_no_terminal_no_input_and_none_of_our_keys(tmp_path: Path) -> None:
    script = (
        f"env >{tmp_path}/env; cat >{tmp_path}/in; (: </dev/tty) 2>/dev/null && exit 9; printf '{KEY}\\nuser: x\\n'"
    )
    store, name = helper(tmp_path, read=script).open("command:mine/a")
    assert store.read(name) == ONE, "only the first line is the key"
    assert (tmp_path / "in").read_text() == ""
    assert KEY not in (tmp_path / "env").read_text()


def test_a_key_goes_to_a_helper_on_standard_input_only(tmp_path: Path) -> None:
    script = f"tr '\\0' ' ' </proc/$$/cmdline >{tmp_path}/arguments; env >{tmp_path}/env; cat >{tmp_path}/key"
    store, name = helper(tmp_path, read="exit 1", write=script).open("command:mine/a")
    store.write(name, ONE)
    assert (tmp_path / "key").read_text() == KEY + "\n"
    assert KEY not in (tmp_path / "arguments").read_text() + (tmp_path / "env").read_text()


def test_a_helper_that_can_only_read_says_so(tmp_path: Path) -> None:
    store, name = helper(tmp_path, read=f"echo {KEY}").open("command:mine/a")
    assert not store.writable
    assert store.read(name, PREVIOUS) is None
    refusal(lambda: store.write(name, TWO), "usage", "can only be read", UsageError)
    refusal(lambda: store.delete(name), "usage", "can only be read", UsageError)


def test_a_helper_that_is_not_there_is_told(tmp_path: Path) -> None:
    stores = Stores(str(tmp_path), {"PATH": "/nowhere", "HOME": "/"})
    store, name = stores.open("command:op/vault/item/field")
    refusal(lambda: store.read(name), "store_down", "cannot run op")
    with pytest.raises(Malformed, match="there is no helper 'ops'"):
        stores.open("command:ops/vault/item")


def test_half_an_entry_is_read_again_when_its_writer_is_done(tmp_path: Path) -> None:
    """As `pass` does it: the entry is written in place, and a reader that comes meanwhile fails."""
    from callmeter.store.files import Lock

    file, seen = tmp_path / "key", tmp_path / "seen"
    script = f"echo >>{seen}; test -s {file} || exit 2; cat {file}"
    store, name = helper(tmp_path, read=script, write="cat").open("command:mine/a")
    found: list[Secret | None] = []
    with Lock(str(tmp_path / ".command.lock")):
        file.touch()
        reader = threading.Thread(target=lambda: found.append(store.read(name)))
        reader.start()
        while not seen.exists():
            time.sleep(0.01)
        file.write_text(KEY + "\n")
    reader.join(30)
    assert found == [ONE]


# Libraries


@pytest.mark.parametrize(
    ("reference", "library", "extra"),
    [("vault:secret/a", "hvac", "vault"), ("aws-sm:a", "boto3", "aws"), ("keychain:a", "keyring", "keychain")],
)
def test_a_library_that_is_not_installed_is_one_sentence_and_a_command(
    monkeypatch: pytest.MonkeyPatch, reference: str, library: str, extra: str
) -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"callmeter.secrets.{'aws' if extra == 'aws' else extra}", raising=False)
    hint = refusal(lambda: Stores("/nowhere", {}).open(reference), "extra_missing", "is not installed")
    assert f"pip install 'callmeter[{extra}]'" in hint
