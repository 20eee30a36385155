"""A key in memory, and the file store: what is never shown, what is refused, what survives."""

from __future__ import annotations

import copy
import itertools
import json
import os
import pickle
import resource
import signal
import stat
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.secrets.environment import EnvironmentStore
from callmeter.secrets.file import FileStore
from callmeter.secrets.open_store import Stores
from callmeter.secrets.secret import MAX_KEY, Secret, parse_secret
from callmeter.words.errors import Malformed, NoKey, Unavailable, UsageError
from callmeter.words.jsontext import dumps
from callmeter.words.key_shape import looks_like_key
from conftest import lacking
from kill_points import every_kill

KEY = "sk-or-v1-0123456789abcdef0123456789abcdef"
OTHER = "sk-or-v1-fedcba9876543210fedcba9876543210"
LABEL = "code@openrouter"


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(str(tmp_path / "secrets"))


@pytest.fixture
def filled(store: FileStore) -> FileStore:
    store.write(LABEL, Secret(KEY))
    return store


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def path_of(store: FileStore, name: str = LABEL) -> Path:
    return Path(store.directory, name)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# A key in memory


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        ascii,
        lambda secret: f"{secret}",
        lambda secret: f"{secret!r:>20}",
        lambda secret: f"{secret:>20}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
        lambda secret: "Bearer " + secret,
        lambda secret: " ".join([secret]),
        lambda secret: repr({"locals": [secret]}),
        lambda secret: secret.encode().decode(),
        lambda secret: json.dumps({"key": secret}),
        lambda secret: dumps({"key": secret}),
        lambda secret: repr(pickle.loads(pickle.dumps(secret))),
        lambda secret: repr(pickle.dumps(secret, 0)),
        lambda secret: repr(secret[:]),
    ],
)
def test_no_way_of_showing_a_secret_shows_the_key(show: Callable[[Secret], str]) -> None:
    shown = show(Secret(KEY))
    assert KEY[-8:] not in shown
    assert "***" in shown


def test_only_reveal_gives_the_key_and_copies_keep_it() -> None:
    secret = Secret(KEY)
    assert secret.reveal() == KEY
    assert copy.deepcopy({"key": secret})["key"].reveal() == copy.copy(secret).reveal() == KEY


def test_secrets_are_equal_when_their_keys_are_and_to_nothing_else() -> None:
    assert Secret(KEY) == Secret(KEY)
    assert Secret(KEY) != Secret(OTHER)
    assert Secret(KEY) not in ("***", KEY, None)


def test_a_fingerprint_depends_on_the_key_and_the_salt_and_is_twelve_hexadecimal_digits() -> None:
    mine = Secret(KEY).fingerprint(b"salt")
    assert len(mine) == 12 and int(mine, 16) >= 0
    assert mine == Secret(KEY).fingerprint(b"salt")
    assert mine not in (Secret(OTHER).fingerprint(b"salt"), Secret(KEY).fingerprint(b"pepper"))


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_one_newline_at_the_end_does_not_belong_to_the_key(end: str) -> None:
    assert parse_secret((KEY + end).encode(), "here").reveal() == KEY


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"sk-123\n\n", "more than one line"),
        (b"sk-123\nsk-456", "more than one line"),
        (b"Bearer sk-123", "space"),
        (b"sk-123 \n", "space"),
        (b'"sk-123"', "quotation mark"),
        (b"'sk-123'", "quotation mark"),
        ("sk-12\u00e9".encode(), "printable ASCII"),
        (b"\xef\xbb\xbfsk-123", "printable ASCII"),
        (b"sk-1\x0023", "printable ASCII"),
        (b"sk-1\x1b[2J", "printable ASCII"),
        (b"\xff\xfes\x00k\x00", "printable ASCII"),
        (b"k" * (MAX_KEY + 1), "longer than"),
    ],
)
def test_what_cannot_be_a_key_is_refused_with_its_fault(data: bytes, fault: str) -> None:
    with pytest.raises(NoKey, match=fault):
        parse_secret(data, "here")


@given(st.binary(min_size=6, max_size=200))
def test_no_refusal_shows_what_it_refuses(data: bytes) -> None:
    try:
        key = parse_secret(data, "on standard input").reveal()
    except NoKey as error:
        shown = "".join(traceback.format_exception(error)) + json.dumps(error.as_json())
        assert data.decode("latin-1") not in shown
    else:
        assert key.isascii() and key.isprintable() and " " not in key


def test_keys_of_well_known_providers_are_told_from_labels() -> None:
    assert looks_like_key(KEY)
    assert looks_like_key("sk-ant-api03-abcdefgh")
    assert not any(map(looks_like_key, (LABEL, "production", "sk-short", "a prompt about sk-or-v1-keys", "")))


# The file store


@given(
    st.text("".join(map(chr, range(0x21, 0x7F))), min_size=1, max_size=MAX_KEY).filter(
        lambda t: not set(t) & set("\"'`")
    )
)
def test_a_key_comes_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    store = FileStore(str(tmp_path_factory.getbasetemp() / "round-trip"))
    store.write(LABEL, Secret(key))
    found = store.read(LABEL)
    assert found is not None and found.reveal() == key


def test_what_is_not_there_is_none_and_reading_makes_nothing(store: FileStore) -> None:
    assert store.read(LABEL) is None
    assert store.delete(LABEL) is False
    assert not os.path.exists(store.directory)


def test_a_deleted_key_is_gone(filled: FileStore) -> None:
    assert filled.delete(LABEL) is True
    assert filled.read(LABEL) is None
    assert filled.delete(LABEL) is False


def test_directory_and_file_are_their_owners_alone_without_any_umask(store: FileStore, no_umask: None) -> None:
    store.write(LABEL, Secret(KEY))
    store.salt()
    assert mode(Path(store.directory)) == 0o700
    assert {mode(path) for path in Path(store.directory).iterdir()} == {0o600}


def test_a_umask_that_takes_everything_still_leaves_a_key_that_can_be_read(store: FileStore) -> None:
    Path(store.directory).mkdir(0o700)
    before = os.umask(0o777)
    try:
        store.write(LABEL, Secret(KEY))
    finally:
        os.umask(before)
    assert mode(path_of(store)) == 0o600


def test_whenever_the_writer_is_killed_the_key_is_the_old_or_the_new_one_and_nobody_elses(
    filled: FileStore, no_umask: None
) -> None:
    seen = set()
    for _ in every_kill(lambda: filled.write(LABEL, Secret(OTHER))):
        # What the crash left is 0600 at every moment of its life, also before its first byte.
        assert {mode(path) for path in Path(filled.directory).iterdir()} <= {0o600}
        found = filled.read(LABEL)
        assert found is not None
        seen.add(found.reveal())
        filled.write(LABEL, Secret(KEY))
        assert sorted(os.listdir(filled.directory)) == [".lock", LABEL], "a leftover holds a key"
    assert seen == {KEY, OTHER}, "not every step was hit"


def test_a_leftover_of_any_label_is_removed_by_the_next_writer(filled: FileStore) -> None:
    path_of(filled, ".docs@openai.tmp").write_text(OTHER)
    filled.delete("nobody@openai")
    assert sorted(os.listdir(filled.directory)) == [".lock", LABEL]


def test_a_full_disk_keeps_the_old_key_and_leaves_nothing_behind(filled: FileStore) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        with pytest.raises(Unavailable, match="cannot write"):
            filled.write(LABEL, Secret(OTHER))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    found = filled.read(LABEL)
    assert found is not None and found.reveal() == KEY
    assert sorted(os.listdir(filled.directory)) == [".lock", LABEL]


def test_a_reader_always_finds_a_whole_key_however_often_it_is_replaced(filled: FileStore) -> None:
    child = os.fork()
    if child == 0:
        try:
            for key in itertools.cycle((OTHER, KEY)):
                filled.write(LABEL, Secret(key))
        finally:
            os._exit(1)
    seen = [KEY]
    try:
        while len(seen) < 30:
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "the writer goes on"
            found = filled.read(LABEL)
            assert found is not None and found.reveal() in (KEY, OTHER)
            if found.reveal() != seen[-1]:
                seen.append(found.reveal())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# What is refused


@pytest.mark.parametrize("bits", [0o604, 0o640, 0o620, 0o601, 0o660, 0o644, 0o666])
def test_a_file_that_is_open_to_others_is_refused_with_the_command_that_closes_it(filled: FileStore, bits: int) -> None:
    path_of(filled).chmod(bits)
    with pytest.raises(NoKey, match=f"mode 0{bits:o}") as caught:
        filled.read(LABEL)
    assert f"chmod 600 {path_of(filled)}" in caught.value.hint
    assert caught.value.code == "key_unsafe"


@pytest.mark.parametrize("bits", [0o701, 0o750, 0o755, 0o777])
def test_a_directory_that_is_open_to_others_is_refused_for_reading_and_writing(filled: FileStore, bits: int) -> None:
    os.chmod(filled.directory, bits)
    for use in (lambda: filled.read(LABEL), lambda: filled.write(LABEL, Secret(OTHER)), lambda: filled.delete(LABEL)):
        with pytest.raises(NoKey, match="open to other users") as caught:
            use()
        assert f"chmod 700 {filled.directory}" in caught.value.hint


def test_a_symbolic_link_is_refused_even_to_a_good_file(filled: FileStore, tmp_path: Path) -> None:
    real = tmp_path / "real"
    path_of(filled).rename(real)
    path_of(filled).symlink_to(real)
    with pytest.raises(NoKey, match="symbolic link"):
        filled.read(LABEL)


def test_a_linked_directory_is_refused(filled: FileStore, tmp_path: Path) -> None:
    real = tmp_path / "real"
    os.rename(filled.directory, real)
    os.symlink(real, filled.directory)
    for use in (lambda: filled.read(LABEL), lambda: filled.write(LABEL, Secret(OTHER))):
        with pytest.raises(NoKey, match="symbolic link"):
            use()


def test_writing_replaces_a_symbolic_link_and_leaves_its_target_alone(filled: FileStore, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    path_of(filled, "docs").symlink_to(target)
    filled.write("docs", Secret(KEY))
    assert target.read_text() == "precious"
    assert path_of(filled, "docs").read_text() == KEY + "\n"


def test_a_planted_temporary_link_is_not_written_through(filled: FileStore, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    path_of(filled, f".{LABEL}.tmp").symlink_to(target)
    filled.write(LABEL, Secret(OTHER))
    assert target.read_text() == "precious"


def test_a_hard_link_is_refused(filled: FileStore, tmp_path: Path) -> None:
    os.link(path_of(filled), tmp_path / "second")
    with pytest.raises(NoKey, match="hard link"):
        filled.read(LABEL)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a FIFO", "a directory"])
def test_what_is_no_regular_file_is_refused_at_once(filled: FileStore, make: Callable[[Path, int], None]) -> None:
    path_of(filled).unlink()
    make(path_of(filled), 0o600)
    with pytest.raises(NoKey, match="not a regular file"):
        filled.read(LABEL)


def test_another_users_file_or_directory_is_refused(filled: FileStore) -> None:
    if os.geteuid() != 0:
        lacking("root, who alone can give a file away")
    os.chown(path_of(filled), 12345, -1)
    with pytest.raises(NoKey, match="belongs to another user"):
        filled.read(LABEL)
    os.chown(path_of(filled), 0, -1)
    os.chown(filled.directory, 12345, -1)
    with pytest.raises(NoKey, match="belongs to another user"):
        filled.read(LABEL)


def test_a_file_that_is_too_large_or_no_key_is_refused_without_being_shown(filled: FileStore) -> None:
    for content in (KEY * 1000, KEY + " " + KEY, ""):
        path_of(filled).write_text(content)
        with pytest.raises(NoKey) as caught:
            filled.read(LABEL)
        assert KEY not in str(caught.value) and str(path_of(filled)) in caught.value.message


@pytest.mark.parametrize("name", ["../outside", "a/b", "..", ".", ""])
def test_no_name_leads_out_of_the_store(filled: FileStore, name: str) -> None:
    for use in (lambda: filled.read(name), lambda: filled.write(name, Secret(KEY)), lambda: filled.delete(name)):
        with pytest.raises(ValueError, match="leads out of"):
            use()


# The salt


def test_the_salt_is_made_once_and_kept(store: FileStore) -> None:
    first = store.salt()
    assert len(first) == 32
    assert store.salt() == first
    assert FileStore(store.directory + "2").salt() != first


def test_twenty_processes_that_need_a_salt_at_once_agree_on_one(store: FileStore) -> None:
    children = []
    for _ in range(20):
        child = os.fork()
        if child == 0:
            try:
                path = Path(store.directory + "-" + store.salt().decode())
                path.mkdir(exist_ok=True)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 20
    assert len(list(Path(store.directory).parent.glob("secrets-*"))) == 1


# Opening a store by reference


def test_a_reference_names_store_and_name(tmp_path: Path) -> None:
    store, name = Stores(str(tmp_path), {}).open("file:code@openrouter")
    assert (type(store), name) == (FileStore, "code@openrouter")
    store, name = Stores(str(tmp_path), {"CALLMETER_API_KEY": KEY}).open("env:CALLMETER_API_KEY")
    found = store.read(name)
    assert found is not None and found.reveal() == KEY


def test_a_key_in_the_place_of_a_reference_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(Malformed) as caught:
        Stores(str(tmp_path), {}).open(KEY)
    assert KEY not in str(caught.value)


def test_the_environment_can_only_be_read() -> None:
    store = EnvironmentStore({"BAD": "two words", "EMPTY": ""})
    assert store.read("EMPTY") is None and store.read("NONE") is None
    with pytest.raises(NoKey, match="in BAD has a space"):
        store.read("BAD")
    with pytest.raises(UsageError):
        store.write("NONE", Secret(KEY))
    with pytest.raises(UsageError):
        store.delete("NONE")
