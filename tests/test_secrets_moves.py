"""Keys on the move: at every moment the registry leads to the key, and one place has it in the end."""

from __future__ import annotations

import ctypes
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import callmeter
from callmeter.flows.key_moves import move_key
from callmeter.flows.keys import add_key, remove_key
from callmeter.secrets.open_store import Stores
from callmeter.secrets.places import reference_for
from callmeter.secrets.registry import Entry, read_registry, reference_fault
from callmeter.secrets.registry_file import RegistryFile
from callmeter.secrets.secret import Secret
from callmeter.secrets.store import CURRENT, PENDING, PREVIOUS
from callmeter.words.errors import Busy, CallmeterError, NoKey, Unavailable, UsageError
from conftest import Run
from kill_points import every_kill
from servers import vault
from servers.misbehaving import MisbehavingServer

KEY, OLD = Secret("sk-or-v1-" + "5e" * 32), Secret("sk-or-v1-" + "7" * 64)
URL = "https://openrouter.ai/api/v1"
LABEL = "code@openrouter"
_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>: orphans become children of this process


class House:
    """A registry with one key in a file, a helper `mine` with its own folder, and an audit log."""

    def __init__(self, base: Path, env: dict[str, str] | None = None) -> None:
        self.base = base
        self.keys = str(base / "keys.toml")
        self.own = base / "own"
        self.own.mkdir(parents=True)
        shell = ["sh", "-c"]
        helper = {
            "read": [*shell, 'test -e "$1" || exit 1; cat "$1"', "-", f"{self.own}/{{name}}"],
            "write": [*shell, 'umask 77; cat >"$1.new" && mv "$1.new" "$1"', "-", f"{self.own}/{{name}}"],
            "delete": ["rm", f"{self.own}/{{name}}"],
        }
        reader = {"read": helper["read"]}
        env = {"PATH": "/usr/bin:/bin", **(env or {})}
        self.stores = Stores(str(base / "secrets"), env, helpers={"mine": helper, "reader": reader})
        self.events: list[tuple[str, object]] = []
        add_key(
            self.keys,
            self.stores,
            LABEL,
            KEY,
            self.audit,
            given={"agent": "code"},
            otherwise={"provider": "openrouter", "base_url": URL},
            replace=False,
        )

    def audit(self, event: str, facts: object) -> None:
        self.events.append((event, facts))

    def move(self, reference: str) -> str:
        return move_key(self.keys, self.stores, LABEL, reference, self.audit).left

    @property
    def entry(self) -> Entry:
        with RegistryFile(self.keys) as registry:
            return registry.entries[LABEL]

    def slots(self, reference: str) -> list[Secret | None]:
        store, name = self.stores.open(reference)
        return [store.read(name, slot) for slot in (CURRENT, PENDING, PREVIOUS)]

    def holders(self) -> list[str]:
        """Files below this house that hold the key."""
        return sorted(
            str(path.relative_to(self.base))
            for path in self.base.rglob("*")
            if path.is_file() and KEY.reveal().encode() in path.read_bytes()
        )


def kills_of(house: House, reference: str) -> Iterator[int]:
    """Every kill of a move; a helper that outlived its caller has ended before the next step."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)
    before = children()
    for point in every_kill(lambda: house.move(reference)):
        while orphans := children() - before:
            for orphan in orphans:
                os.waitpid(orphan, 0)
        yield point


def children() -> set[int]:
    return {
        int(pid)
        for path in Path("/proc/self/task").glob("*/children")
        for pid in path.read_text(encoding="ascii").split()
    }


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "house")


HELPER = f"command:mine/{LABEL}"
FILE = f"file:{LABEL}"


def test_a_key_goes_to_another_store_and_back_and_leaves_nothing_behind(house: House) -> None:
    assert house.move(HELPER) == ""
    assert (house.entry.secret, house.entry.copy) == (HELPER, "")
    assert house.holders() == [f"own/{LABEL}"]
    assert house.move(FILE) == ""
    assert house.holders() == [f"secrets/{LABEL}"]
    assert [event for event, _ in house.events] == ["key.add", "key.move", "key.move"]
    assert KEY.reveal() not in repr(house.events)
    assert house.events[1][1] == {"key": LABEL, "from": FILE, "to": HELPER, "fingerprint": house.entry.fingerprint}


def test_the_previous_key_goes_along(house: House) -> None:
    store, name = house.stores.open(FILE)
    store.write(name, OLD)
    store.swap(name, OLD, KEY)
    house.move(HELPER)
    assert house.slots(HELPER) == [KEY, None, OLD]
    assert house.slots(FILE) == [None, None, None]


@pytest.mark.parametrize("back", [False, True])
def test_a_move_killed_at_any_point_leaves_a_key_and_is_completed_by_the_same_command(
    tmp_path: Path, back: bool
) -> None:
    def fresh() -> House:
        shutil.rmtree(tmp_path / "house", ignore_errors=True)
        made = House(tmp_path / "house")
        if back:
            made.move(HELPER)
        return made

    house = fresh()
    source, target = (HELPER, FILE) if back else (FILE, HELPER)
    kills = 0
    for _ in kills_of(house, target):
        kills += 1
        assert house.slots(house.entry.secret)[0] == KEY, "an agent has no key"
        assert house.entry.secret in (source, target)
        house.move(target)
        assert (house.entry.secret, house.entry.copy) == (target, "")
        assert house.holders() == [f"secrets/{LABEL}" if back else f"own/{LABEL}"]
        fresh()
    assert kills >= 15


def test_a_move_that_was_killed_can_be_taken_back_or_go_elsewhere(house: House) -> None:
    for point in kills_of(house, HELPER):
        if point % 2:
            house.move("command:mine/elsewhere")
            assert house.holders() == ["own/elsewhere"]
        house.move(FILE)
        assert (house.entry.secret, house.entry.copy) == (FILE, "")
        assert house.holders() == [f"secrets/{LABEL}"]


def test_another_key_in_the_new_place_is_not_written_over(house: House) -> None:
    store, name = house.stores.open(HELPER)
    store.write(name, OLD)
    with pytest.raises(UsageError, match="another key already"):
        house.move(HELPER)
    assert house.slots(HELPER)[0] == OLD
    assert (house.entry.secret, house.entry.copy) == (FILE, "")


def test_a_place_that_can_only_be_read_is_refused_before_anything_is_done(house: House) -> None:
    for reference in ("env:SOME_KEY", f"command:reader/{LABEL}"):
        with pytest.raises(UsageError):
            house.move(reference)
    assert [event for event, _ in house.events] == ["key.add"]


def test_a_copy_that_callmeter_cannot_remove_is_told(house: House) -> None:
    house.move(HELPER)
    with RegistryFile(house.keys) as registry:
        entry = registry.entries[LABEL]
        entry.secret = f"command:reader/{LABEL}"
        registry.put(entry)
    assert "remove it by hand" in house.move(FILE)
    assert house.slots(FILE)[0] == KEY
    assert house.entry.copy == ""


def test_a_key_that_is_being_rotated_stays(house: House) -> None:
    store, name = house.stores.open(FILE)
    store.write(name, OLD, PENDING)
    with pytest.raises(Busy, match="is being rotated"):
        house.move(HELPER)
    assert house.slots(FILE) == [KEY, OLD, None]


def test_a_key_that_is_not_the_registered_one_stays(house: House) -> None:
    store, name = house.stores.open(FILE)
    store.write(name, OLD)
    with pytest.raises(NoKey, match="another key than the one that was registered") as caught:
        house.move(HELPER)
    assert caught.value.code == "key_changed"
    assert not house.slots(HELPER)[0]


def test_a_store_that_does_not_give_back_what_it_took_gets_no_key(tmp_path: Path) -> None:
    house = House(tmp_path / "house")
    house.stores = Stores(
        str(tmp_path / "house" / "secrets"),
        {"PATH": "/usr/bin:/bin"},
        helpers={"hole": {"read": ["false"], "write": ["cat"]}},
    )
    with pytest.raises(Unavailable, match="does not give back"):
        house.move("command:hole/x")
    assert house.entry.secret == FILE
    assert house.slots(FILE)[0] == KEY


def test_a_key_under_way_is_not_replaced_and_its_removal_takes_both_places(house: House) -> None:
    with RegistryFile(house.keys) as registry:
        entry = registry.entries[LABEL]
        entry.copy = HELPER
        registry.put(entry)
    store, name = house.stores.open(HELPER)
    store.write(name, KEY)
    with pytest.raises(UsageError, match="is being moved"):
        add_key(house.keys, house.stores, LABEL, OLD, house.audit, given={}, otherwise={}, replace=True)
    remove_key(house.keys, house.stores, LABEL, house.audit)
    assert house.holders() == []


def test_keys_removed_from_a_store_of_others_can_keep_their_secret(house: House) -> None:
    house.move(HELPER)
    assert "the secret stays" in remove_key(house.keys, house.stores, LABEL, house.audit, keep_secret=True)
    assert house.holders() == [f"own/{LABEL}"]


def test_a_move_to_vault_killed_at_any_point_is_completed(bao: vault.Bao, tmp_path: Path) -> None:
    env = {"VAULT_ADDR": bao.address, "VAULT_TOKEN": vault.ROOT}
    house = House(tmp_path / "house", env)
    there = f"vault:secret/moves/{LABEL}"
    for _ in kills_of(house, there):
        assert house.slots(house.entry.secret)[0] == KEY
        house.move(there)
        assert house.holders() == [] and house.slots(there) == [KEY, None, None]
        house.move(FILE)
        assert house.holders() == [f"secrets/{LABEL}"] and house.slots(there) == [None, None, None]


def test_a_vault_that_is_sealed_in_the_middle_of_a_move_costs_no_key(bao: vault.Bao, tmp_path: Path) -> None:
    env = {"VAULT_ADDR": bao.address, "VAULT_TOKEN": vault.ROOT}
    house = House(tmp_path / "house", env)
    there = "vault:secret/sealed"
    house.move(there)
    bao.seal()
    try:
        with pytest.raises(Unavailable, match="sealed"):
            house.move(FILE)
    finally:
        bao.unseal()
    assert house.entry.secret == there and house.slots(there)[0] == KEY
    house.move(FILE)
    assert house.slots(FILE)[0] == KEY and house.slots(there)[0] is None


@pytest.mark.parametrize(
    ("store", "reference"),
    [
        ("file", FILE),
        ("keychain", f"keychain:{LABEL}"),
        ("vault", f"vault:secret/callmeter/{LABEL}"),
        ("vault:kv/team/", f"vault:kv/team/{LABEL}"),
        ("vault:kv/code#openrouter", "vault:kv/code#openrouter"),
        ("aws-sm", f"aws-sm:callmeter/{LABEL}"),
        ("command:pass", f"command:pass/callmeter/{LABEL}"),
        ("command:op/vault/item/field", "command:op/vault/item/field"),
    ],
)
def test_a_store_alone_gets_a_place_named_after_the_label(store: str, reference: str) -> None:
    assert reference_for(store, LABEL) == reference


@pytest.mark.parametrize(
    "store",
    [
        "",
        "disk",
        "command",
        "vault:secret",
        "vault:secret/../x",
        "command:pass/--help",
        "file:a/b",
        "file:x.pending",
        KEY.reveal(),
    ],
)
def test_what_names_no_place_is_refused_without_being_read_as_one(store: str) -> None:
    with pytest.raises(UsageError) as caught:
        reference_for(store, LABEL)
    assert KEY.reveal() not in str(caught.value)


@given(
    st.text(max_size=40), st.sampled_from(["", "file:", "vault:a/", "command:pass/", "aws-sm:", "keychain:", "env:"])
)
def test_whatever_is_asked_for_is_a_good_reference_or_an_error(text: str, store: str) -> None:
    try:
        reference = reference_for(store + text, LABEL)
    except UsageError:
        return
    assert reference_fault(reference) == ""
    assert reference_for(reference, LABEL) == reference
    assert "\n" not in reference and "/../" not in reference


@pytest.mark.parametrize("name", ["secret", "copy"])
def test_a_registry_with_a_key_in_the_place_of_a_reference_does_not_show_it(name: str) -> None:
    table = {"provider": "openrouter", "base_url": URL, "secret": FILE, name: KEY.reveal()}
    with pytest.raises(CallmeterError, match=f"`{name}` is not a reference") as caught:
        read_registry({"keys": {LABEL: table}}, "keys.toml")
    assert KEY.reveal() not in str(caught.value)


def test_a_person_moves_a_key_and_calls_find_it_there(run_callmeter: Run, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (home / "config.toml").write_text(f"""
[helpers.mine]
read = ["cat", "{folder}/{{name}}"]
write = ["sh", "-c", 'umask 77; cat >"$1"', "-", "{folder}/{{name}}"]
delete = ["rm", "{folder}/{{name}}"]
""")
    run_callmeter("budget", "keys", "add", "code", "--provider", "openrouter", input=KEY.reveal())
    done = run_callmeter("budget", "keys", "move", LABEL, "command:mine/code", "-v")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"callmeter: moved the key {LABEL} from {FILE} to command:mine/code\n"
    shown = run_callmeter("budget", "keys", "list", "--format", "csv")
    assert '"ok","mine code"' in shown.stdout
    again = run_callmeter("budget", "keys", "move", LABEL, "command:mine/code", "-v")
    assert again.stderr == f"callmeter: the key {LABEL} lies at command:mine/code\n"
    audited = run_callmeter("budget", "audit", "show", "--format", "json").stdout
    assert "key.move" in audited and KEY.reveal() not in audited


def test_calls_go_on_while_their_key_moves_to_and_fro(
    run_callmeter: Run, run_llm_call: Run, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (home / "config.toml").write_text(f"""
model = "openai/gpt-4o-mini"
[helpers.mine]
read = ["sh", "-c", 'test -e "$0" || exit 1; cat "$0"', "{folder}/{{name}}"]
write = ["sh", "-c", 'umask 77; cat >"$0"', "{folder}/{{name}}"]
delete = ["rm", "{folder}/{{name}}"]
""")
    stop, failed, done = threading.Event(), [], []

    def call(address: str) -> None:
        while not stop.is_set():
            called = run_llm_call("-q", "--base-url", address, "--agent", "code", "Hi")
            (failed if called.returncode else done).append(called.stderr)

    with MisbehavingServer() as server:
        address = server.base_url("ok")
        added = run_callmeter(
            "budget", "keys", "add", "code", "--base-url", address, "--label", LABEL, input=KEY.reveal()
        )
        assert added.returncode == 0, added.stderr
        callers = [threading.Thread(target=call, args=(address,)) for _ in range(3)]
        for caller in callers:
            caller.start()
        for place in ("command:mine/code", "file") * 4:
            assert run_callmeter("budget", "keys", "move", LABEL, place).returncode == 0
        stop.set()
        for caller in callers:
            caller.join()
    assert failed == [] and len(done) > 10


def test_a_call_that_looked_before_the_move_and_reads_after_it_finds_the_key(
    run_callmeter: Run, run_llm_call: Run, home: Path
) -> None:
    """The old store's own read command makes the rest of the move happen, and then has nothing."""
    (home / "config.toml").write_text(f"""
model = "openai/gpt-4o-mini"
[helpers.old]
read = ["sh", "-c", 'cp "$0/after.toml" "$0/keys.toml"; exit 1', "{home}"]
""")
    with MisbehavingServer() as server:
        address = server.base_url("ok")
        run_callmeter("budget", "keys", "add", "code", "--base-url", address, "--label", LABEL, input=KEY.reveal())
        after = (home / "keys.toml").read_text()
        (home / "after.toml").write_text(after)
        before = after.replace(FILE, "command:old/code")
        assert before != after
        (home / "keys.toml").write_text(before)
        called = run_llm_call("-q", "--base-url", address, "--agent", "code", "Hi")
        assert (called.returncode, called.stderr) == (0, "")
    (home / "keys.toml").write_text(before.replace(address, "https://openrouter.ai/api/v1"))
    (home / "after.toml").write_text(after.replace(address, "https://openrouter.ai/api/v1"))
    assert callmeter.get_secret("code") == KEY.reveal()
