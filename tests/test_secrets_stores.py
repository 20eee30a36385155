"""One contract for all secret stores, each against its real server: bao, moto, gnome-keyring, pass, files."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from callmeter.secrets.open_store import Stores
from callmeter.secrets.secret import Secret
from callmeter.secrets.store import CURRENT, PENDING, PREVIOUS, Conflict, SecretStore
from callmeter.words.errors import NoKey, UsageError
from conftest import lacking
from servers import keyring_daemon, password_store, secrets_manager, vault

ONE, TWO, THREE = Secret("sk-or-v1-" + "1" * 64), Secret("sk-or-v1-" + "2" * 64), Secret("sk-or-v1-" + "3" * 64)
KINDS = ("file", "keychain", "vault", "vault with a field", "aws-sm", "command", "own command")

Place = tuple[Stores, str]


@pytest.fixture(scope="session")
def running() -> Iterator[Callable[[str], Any]]:
    """Starts a server when the first test needs it, one for the whole session."""
    started: dict[str, Any] = {}
    with ExitStack() as stack:

        def get(kind: str) -> Any:
            if kind not in started:
                module: Any = {"vault": vault, "aws-sm": secrets_manager, "command": password_store}[kind]
                if module.missing():
                    lacking(module.missing())
                make = {
                    "vault": vault.openbao,
                    "aws-sm": secrets_manager.moto,
                    "command": password_store.password_store,
                }
                started[kind] = stack.enter_context(make[kind]())  # type: ignore[operator]
            return started[kind]

        yield get


@pytest.fixture(scope="session")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A desktop session with an unlocked keyring."""
    if keyring_daemon.missing():
        lacking(keyring_daemon.missing())
    with (
        keyring_daemon.session_bus(tmp_path_factory.mktemp("desktop")) as session,
        keyring_daemon.gnome_keyring(session),
    ):
        yield session


@pytest.fixture(params=KINDS)
def place(
    request: pytest.FixtureRequest,
    running: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    """What opens a store of each kind, and a reference to an empty place in it."""
    name = f"{request.node.name.partition('[')[0][:60]}-{tmp_path.name[-40:]}"
    directory, kind = str(tmp_path / "secrets"), str(request.param)
    if kind == "keychain":
        for variable, value in request.getfixturevalue("desktop").items():
            monkeypatch.setenv(variable, value)
        return Stores(directory, {}), f"keychain:{name}"
    if kind.startswith("vault"):
        env = {"VAULT_ADDR": running("vault").address, "VAULT_TOKEN": vault.ROOT}
        return Stores(directory, env), f"vault:secret/callmeter/{name}" + ("#openrouter" if " " in kind else "")
    if kind == "aws-sm":
        aws = running("aws-sm")
        aws.reset()
        for variable, value in aws.env.items():
            monkeypatch.setenv(variable, value)
        return Stores(directory, {}), f"aws-sm:callmeter/{name}"
    if kind == "command":
        return Stores(directory, running("command")), f"command:pass/callmeter/{name}"
    if kind == "own command":
        (tmp_path / "own").mkdir()
        shell = ["sh", "-c"]
        helper = {
            "read": [*shell, 'cat "$1"', "-", f"{tmp_path}/own/{{name}}"],
            "write": [*shell, 'umask 77; cat >"$1"', "-", f"{tmp_path}/own/{{name}}"],
            "delete": ["rm", f"{tmp_path}/own/{{name}}"],
        }
        return Stores(directory, {"PATH": "/usr/bin:/bin"}, helpers={"mine": helper}), f"command:mine/{name}"
    return Stores(directory, {}), f"file:{name}"


def opened(place: Place) -> tuple[SecretStore, str]:
    stores, reference = place
    return stores.open(reference)


def slots(place: Place) -> list[Secret | None]:
    """What a process that opens the store now finds."""
    store, name = opened(place)
    return [store.read(name, slot) for slot in (CURRENT, PENDING, PREVIOUS)]


def test_what_was_written_is_read_by_another_process_and_nothing_else_is_there(place: Place) -> None:
    store, name = opened(place)
    assert slots(place) == [None, None, None]
    store.write(name, ONE)
    assert slots(place) == [ONE, None, None]
    assert store.writable


def test_a_rotation_passes_a_key_through_the_slots_and_leaves_one_previous_key(place: Place) -> None:
    store, name = opened(place)
    store.write(name, ONE)
    store.write(name, TWO, PENDING)
    assert slots(place) == [ONE, TWO, None]
    store.swap(name, ONE, TWO)
    assert slots(place) == [TWO, None, ONE]
    store.write(name, THREE, PENDING)
    assert slots(place) == [TWO, THREE, ONE]
    store.swap(name, TWO, THREE)
    assert slots(place) == [THREE, None, TWO]
    assert store.delete(name, PREVIOUS)
    assert not store.delete(name, PREVIOUS)
    assert slots(place) == [THREE, None, None]


def test_every_step_of_a_rotation_may_be_run_twice(place: Place) -> None:
    store, name = opened(place)
    for _ in range(2):
        store.write(name, ONE)
    for _ in range(2):
        store.write(name, TWO, PENDING)
    assert slots(place) == [ONE, TWO, None]
    for _ in range(2):
        store.swap(name, ONE, TWO)
        assert slots(place) == [TWO, None, ONE]


def test_a_rotation_is_taken_back_by_swapping_the_other_way(place: Place) -> None:
    store, name = opened(place)
    store.write(name, ONE)
    store.write(name, TWO, PENDING)
    store.swap(name, ONE, TWO)
    store.swap(name, TWO, ONE)
    assert slots(place) == [ONE, None, TWO]
    store.delete(name, PREVIOUS)
    assert slots(place) == [ONE, None, None]


def test_a_pending_key_can_be_dropped_and_put_again(place: Place) -> None:
    store, name = opened(place)
    store.write(name, ONE)
    for _ in range(2):
        store.write(name, TWO, PENDING)
        assert slots(place) == [ONE, TWO, None]
        assert store.delete(name, PENDING)
        assert not store.delete(name, PENDING)
        assert slots(place) == [ONE, None, None]


def test_a_swap_over_a_key_that_somebody_replaced_changes_nothing(place: Place) -> None:
    store, name = opened(place)
    store.write(name, THREE)
    before = slots(place)
    for old in (ONE, None):
        with pytest.raises(Conflict, match="is not the one that was to be replaced"):
            store.swap(name, old, TWO)
        assert slots(place) == before


def test_a_swap_where_no_key_was_makes_the_first_one(place: Place) -> None:
    store, name = opened(place)
    with pytest.raises(Conflict):
        store.swap(name, ONE, TWO)
    for _ in range(2):
        store.swap(name, None, ONE)
        assert slots(place) == [ONE, None, None]


def test_a_deleted_name_is_empty_in_all_slots_and_can_be_used_again(place: Place) -> None:
    store, name = opened(place)
    assert not store.delete(name)
    store.write(name, ONE)
    store.write(name, TWO, PENDING)
    store.swap(name, ONE, TWO)
    store.write(name, THREE, PENDING)
    assert store.delete(name)
    assert slots(place) == [None, None, None]
    assert not store.delete(name)
    store.swap(name, None, THREE)
    assert slots(place) == [THREE, None, None]


def test_the_previous_slot_is_filled_by_a_swap_only(place: Place) -> None:
    store, name = opened(place)
    with pytest.raises(ValueError):
        store.write(name, ONE, PREVIOUS)


def test_the_place_is_described_without_the_key(place: Place) -> None:
    store, name = opened(place)
    store.write(name, ONE)
    described = store.describe(name)
    assert name.rpartition("/")[2].partition("#")[0] in described
    assert ONE.reveal() not in described + repr(store) + str(vars(store))


def _swap(stores: Stores, reference: str, new: Secret, gate: Any, results: Any) -> None:
    store, name = stores.open(reference)
    gate.wait()
    try:
        store.swap(name, ONE, new)
        results.put(new.reveal())
    except Conflict:
        results.put("")
    except BaseException as error:
        results.put(f"failed: {error}")


def test_of_several_who_swap_at_once_one_wins_and_the_others_are_told(place: Place) -> None:
    store, name = opened(place)
    store.write(name, ONE)
    fork = multiprocessing.get_context("fork")
    gate, results = fork.Barrier(4), fork.Queue()
    keys = [Secret(f"sk-or-v1-{number}" + "7" * 63) for number in range(4)]
    rivals = [fork.Process(target=_swap, args=(*place, new, gate, results)) for new in keys]
    for rival in rivals:
        rival.start()
    won = [results.get(timeout=60) for _ in rivals]
    for rival in rivals:
        rival.join()
    current, _, previous = slots(place)
    assert current is not None
    assert sorted(won) == ["", "", "", current.reveal()]
    assert previous == ONE


def _read_until(stores: Stores, reference: str, stop: Any, read: Any, results: Any) -> None:
    store, name = stores.open(reference)
    seen: set[str] = set()
    try:
        while not stop.is_set():
            begin = time.perf_counter()
            found = store.read(name)
            seen.add("none" if found is None else found.reveal())
            read.release()
            # Without a rest it has the lock again before those who wait for it are awake: nobody reads like that.
            time.sleep(time.perf_counter() - begin)
    except BaseException as error:
        seen.add(f"failed: {error}")
    results.put(seen)


def test_readers_find_a_key_at_every_moment_of_many_swaps(place: Place) -> None:
    store, name = opened(place)
    store.write(name, ONE)
    fork = multiprocessing.get_context("fork")
    stop, results, read = fork.Event(), fork.Queue(), [fork.Semaphore(0) for _ in range(2)]
    readers = [fork.Process(target=_read_until, args=(*place, stop, each, results)) for each in read]
    for reader in readers:
        reader.start()
    keys = [ONE, TWO, THREE, ONE, TWO, THREE]
    for old, new in pairwise(keys):
        store.write(name, new, PENDING)
        store.swap(name, old, new)
        # Nor does anybody swap so often that others, on a busy machine, never get the lock.
        all_have_read = all(each.acquire(timeout=60) for each in read)
        if not all_have_read:
            break
    stop.set()
    found = [results.get(timeout=60) for _ in readers]
    for reader in readers:
        reader.join()
    assert set().union(*found) <= {key.reveal() for key in (ONE, TWO, THREE)}
    assert all_have_read


def test_what_cannot_be_a_key_is_refused_and_not_shown(place: Place) -> None:
    stores, reference = place
    store, name = stores.open(reference)
    store.write(name, Secret("two words"))
    with pytest.raises(NoKey, match="has a space in it") as caught:
        store.read(name)
    assert "two words" not in str(caught.value)


def test_the_environment_can_only_be_read() -> None:
    store, name = Stores("/nowhere", {"SOME_KEY": ONE.reveal()}).open("env:SOME_KEY")
    assert not store.writable
    assert store.read(name) == ONE
    assert store.read(name, PREVIOUS) is None
    for change in (lambda: store.write(name, TWO), lambda: store.swap(name, ONE, TWO), lambda: store.delete(name)):
        with pytest.raises(UsageError):
            change()
