"""The key registry: which key a call uses, where a key may go, and changes that no crash and no crowd undoes."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.flows.keys import add_key, remove_key, state_of
from callmeter.secrets.environment import hint_once
from callmeter.secrets.file import FileStore
from callmeter.secrets.lookup import Key, key_for, readings
from callmeter.secrets.open_store import Stores
from callmeter.secrets.registry import Entry, label_fault, read_registry
from callmeter.secrets.registry_file import RegistryFile
from callmeter.secrets.secret import Secret
from callmeter.words.errors import Malformed, NoKey, Refused, UsageError
from kill_points import every_kill

KEY = "sk-or-v1-0123456789abcdef0123456789abcdef"
OTHER = "sk-or-v1-fedcba9876543210fedcba9876543210"
URL = "https://openrouter.ai/api/v1"
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def entries(**tables: Mapping[str, object]) -> dict[str, Entry]:
    """Entries of openrouter by label, where a table does not say otherwise."""
    base = {"provider": "openrouter", "base_url": URL, "secret": "file:x"}
    return read_registry(
        {"version": 1, "keys": {label: {**base, **table} for label, table in tables.items()}}, "keys.toml"
    )


def chosen(known: Mapping[str, Entry], env: Mapping[str, str] | None = None, **call: Any) -> str | None:
    """The label of the entry that a call uses."""
    call = {"provider": "openrouter", "base_url": URL, "agent": "code", "now": NOW, **call}
    entry = key_for(known, env or {}, **call)
    return entry.label if entry else None


# Which key a call uses


def test_the_label_comes_before_the_agents_own_before_the_default_before_the_environment() -> None:
    known = entries(mine={"agent": "code"}, common={"default": True}, third={})
    env = {"CALLMETER_API_KEY": KEY, "OPENROUTER_API_KEY": KEY}
    assert chosen(known, env, label="third") == "third"
    assert chosen(known, env) == "mine"
    assert chosen(known, env, agent="docs") == "common"
    assert chosen({}, env) == "env:CALLMETER_API_KEY"
    assert chosen({}, {"OPENROUTER_API_KEY": KEY, "CALLMETER_API_KEY": ""}) == "env:OPENROUTER_API_KEY"


def test_a_call_without_an_agent_uses_the_default_and_never_an_agents_key() -> None:
    assert chosen(entries(mine={"agent": "code"}, common={"default": True}), agent="") == "common"
    with pytest.raises(NoKey):
        chosen(entries(mine={"agent": "code"}, third={}), agent="")


def test_an_end_users_key_serves_that_user_only_whichever_agent_calls() -> None:
    known = entries(alices={"user": "alice"}, mine={"agent": "code"}, common={"default": True})
    assert chosen(known, user="alice") == chosen(known, user="alice", agent="docs") == "alices"
    assert chosen(known, user="bob") == chosen(known) == "mine"
    assert chosen(known, user="bob", agent="docs") == "common"


def test_a_users_key_that_is_one_agents_too_serves_that_agent_only() -> None:
    known = entries(alices={"user": "alice", "agent": "code"}, common={"default": True})
    assert chosen(known, user="alice", agent="code") == "alices"
    assert chosen(known, user="alice", agent="docs") == chosen(known, agent="code") == "common"


def test_keys_that_manage_others_or_were_retired_make_no_calls() -> None:
    known = entries(
        boss={"agent": "code", "management": True},
        old={"agent": "code", "retired": "2026-11-01T00:00:00Z"},
        common={"default": True},
    )
    assert chosen(known) == "common"
    for label in ("boss", "old"):
        with pytest.raises(NoKey):
            chosen(known, label=label)


def test_a_key_of_the_calls_environment_comes_before_one_for_any() -> None:
    known = entries(any={"agent": "code"}, prod={"agent": "code", "environment": "prod"})
    assert chosen(known, environment="prod") == "prod"
    assert chosen(known, environment="dev") == "any"
    assert chosen(known) == "any"


def test_a_key_of_another_environment_is_never_used() -> None:
    known = entries(prod={"agent": "code", "environment": "prod"})
    with pytest.raises(NoKey, match="prod is only for prod") as caught:
        chosen(known, environment="dev")
    assert caught.value.exit_status == 6
    assert chosen(known) == "prod", "a call that names no environment uses the only key"


def test_keys_that_nothing_tells_apart_are_not_guessed_at() -> None:
    known = entries(prod={"agent": "code", "environment": "prod"}, dev={"agent": "code", "environment": "dev"})
    with pytest.raises(NoKey, match="prod, dev") as caught:
        chosen(known)
    assert "--environment" in caught.value.hint and caught.value.code == "key_unclear"


def test_without_any_key_the_error_names_the_agent_and_the_command() -> None:
    with pytest.raises(NoKey) as caught:
        chosen({}, agent="it's me")
    assert caught.value.hint == """run `callmeter budget keys add 'it'"'"'s me' --provider openrouter`"""
    assert caught.value.as_json()["error"] == "no_key"
    assert chosen({}, needed=False) is None


def test_an_expired_key_is_named_and_does_not_give_way_to_the_default() -> None:
    known = entries(mine={"agent": "code", "expires": "2026-11-21T09:30:00Z"}, common={"default": True})
    with pytest.raises(NoKey, match="mine expired on 2026-11-21 09:30 UTC") as caught:
        chosen(known)
    assert caught.value.code == "key_expired"
    assert chosen(known, now=datetime(2026, 11, 21, 9, 29, 59, tzinfo=UTC)) == "mine"


def test_a_key_for_some_models_is_refused_for_others_and_for_their_fallbacks() -> None:
    known = entries(mine={"agent": "code", "allowed_models": ["anthropic/*", "openai/gpt-5"]})
    assert chosen(known, models=["anthropic/claude-sonnet-4.5", "openai/gpt-5"]) == "mine"
    for model in ("openai/gpt-5-mini", "anthropic", "mistral/small"):
        with pytest.raises(Refused, match=model) as caught:
            chosen(known, models=["openai/gpt-5", model])
        assert caught.value.code == "model_not_allowed"


# Where a key may go


@pytest.mark.parametrize(
    "url",
    [
        "http://openrouter.ai/api/v1",
        "https://openrouter.ai:8443/api/v1",
        "https://openrouter.ai.evil.example/api/v1",
        "https://evil.example/openrouter.ai/api/v1",
        "https://eu.openrouter.ai/api/v1",
        "https://openrouter.ai@evil.example/api/v1",
        "https://evil.example\\@openrouter.ai/",
        "https://openrouter.ai\\.evil.example/",
        "https://openrouter.ai#.evil.example/",
        "https://openrouter.ai?.evil.example/",
        "https://openrouter.ai%2eevil.example/",
        "https://openrouter.ai:443@evil.example/",
        "https://openrouter.ai:443:80/",
        "https:// openrouter.ai/",
        "https://openrouter.aı/",
        "//openrouter.ai/",
        "ftp://openrouter.ai/",
        "https://",
        "",
    ],
)
def test_a_key_comes_out_for_its_own_address_only(url: str) -> None:
    known = entries(mine={"agent": "code", "default": True})
    env = {"OPENROUTER_API_KEY": KEY} if "//eu." not in url else {}
    for label in (None, "mine"):
        with pytest.raises(NoKey):
            chosen(known, env, base_url=url, label=label)


@pytest.mark.parametrize(
    "url", [URL, "HTTPS://OpenRouter.AI/api/v1", "https://openrouter.ai:443/other", "https://openrouter.ai"]
)
def test_the_same_address_may_be_written_in_several_ways(url: str) -> None:
    assert chosen(entries(mine={"agent": "code"}), base_url=url) == "mine"


def test_a_key_that_is_named_for_another_provider_says_where_it_belongs() -> None:
    with pytest.raises(NoKey, match=r"is for openrouter at https://openrouter\.ai and is not sent to openai") as caught:
        chosen(entries(mine={}), provider="openai", base_url="https://api.openai.com/v1", label="mine")
    assert caught.value.code == "key_bound"


def test_keys_in_providers_variables_go_to_their_hosts_only_and_our_own_variable_anywhere() -> None:
    env = {"OPENROUTER_API_KEY": KEY, "OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY}
    assert chosen({}, env, base_url=URL) == "env:OPENROUTER_API_KEY"
    assert chosen({}, env, base_url="https://eu.openrouter.ai/api/v1") == "env:OPENROUTER_API_KEY"
    assert chosen({}, env, base_url="https://api.openai.com/v1") == "env:OPENAI_API_KEY"
    assert chosen({}, env, base_url="https://api.anthropic.com/v1") == "env:ANTHROPIC_API_KEY"
    for url in ("https://evilopenrouter.ai/v1", "https://api.openai.com.evil.example/v1", "http://api.openai.com/v1"):
        assert chosen({}, env, base_url=url, needed=False) is None
    assert chosen({}, {"CALLMETER_API_KEY": KEY}, base_url="http://127.0.0.1:8080/v1") == "env:CALLMETER_API_KEY"


def test_a_key_given_as_a_label_is_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        chosen(entries(mine={}), label=KEY)
    assert KEY not in str(caught.value.as_json())


# Reading


def key(entry: Entry, directory: str, env: Mapping[str, str] | None = None) -> Key:
    return next(readings(entry, Stores(directory, env or {})))


def test_a_refused_key_is_read_again_and_given_again_only_when_it_changed(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path / "secrets"))
    store.write("x", Secret(KEY))
    asked = readings(entries(mine={})["mine"], Stores(store.directory, {}))
    first = next(asked)
    store.write("x", Secret(OTHER))
    second = next(asked)
    assert (first.reveal(), second.reveal()) == (KEY, OTHER)
    assert first.fingerprint != second.fingerprint, "the log must tell the old key from the new one"
    assert next(asked, None) is None


def test_a_registered_key_that_is_gone_is_an_error_with_the_command_that_mends_it(tmp_path: Path) -> None:
    with pytest.raises(NoKey, match="the key mine is not where it should be") as caught:
        key(entries(mine={})["mine"], str(tmp_path))
    assert caught.value.code == "key_missing"
    assert "--label mine --replace" in caught.value.hint


def test_a_key_from_the_environment_needs_no_home_that_can_be_written_to() -> None:
    entry = key_for({}, {"CALLMETER_API_KEY": KEY}, provider="openrouter", base_url=URL, agent="", now=NOW)
    assert entry is not None
    assert key(entry, "/dev/null/secrets", {"CALLMETER_API_KEY": KEY}).reveal() == KEY


def test_the_advice_to_register_a_key_is_given_once_for_all_processes(tmp_path: Path) -> None:
    said = hint_once(str(tmp_path / "state"), "OPENROUTER_API_KEY", "openrouter")
    assert said is not None and "callmeter budget keys add AGENT --provider openrouter" in said
    assert hint_once(str(tmp_path / "state"), "OPENROUTER_API_KEY", "openrouter") is None
    assert hint_once("/dev/null/state", "OPENROUTER_API_KEY", "openrouter") is None


# The file


GOOD = 'provider = "openrouter"\nbase_url = "https://openrouter.ai/api/v1"\nsecret = "file:a"\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[keys."a"]\nprovider = \n', "at line 2"),
        ("version = 2\n", "version 2"),
        ("keys = 3\n", "`keys` is not a table"),
        ("[key.a]\n" + GOOD, "unknown entry `key`"),
        ("[keys]\na = 3\n", r'\[keys."a"\] is not a table'),
        ("[keys.a]\n" + GOOD + 'enviroment = "prod"\n', "did you mean `environment`"),
        ("[keys.a]\n" + GOOD + "default = 1\n", "`default` is not `true` or `false`"),
        ("[keys.a]\n" + GOOD + "owner = 1\n", "`owner` is not text"),
        ("[keys.a]\n" + GOOD + "allowed_models = [1]\n", "`allowed_models` is not a list of text"),
        ("[keys.a]\n" + GOOD + 'expires = "soon"\n', "`expires` is not a date or time"),
        ("[keys.a]\n" + GOOD.replace("https", "gopher"), "not a plain http or https URL"),
        ('[keys.a]\nprovider = "openrouter"\nsecret = "file:a"\n', "`base_url` is missing"),
        ("[keys.a]\n" + GOOD.replace("file:a", "file:../a"), "`secret` is not a reference"),
        ("[keys.a]\n" + GOOD.replace("file:a", "file:.salt"), "`secret` is not a reference"),
        ("[keys.a]\n" + GOOD.replace("file:a", KEY), "`secret` is not a reference"),
        (f'[keys."{KEY}"]\n' + GOOD, "a label looks like a key itself"),
        ('[keys."a b"]\n' + GOOD, "is not made of letters"),
        ("[keys.a]\n" + GOOD + "[keys.a]\n" + GOOD, "twice .at line 5"),
        ("\0", "at line 1"),
    ],
)
def test_a_damaged_registry_is_named_with_its_fault_and_never_written_over(
    tmp_path: Path, text: str, fault: str
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(Malformed, match=fault) as caught:
        add(tmp_path)
    assert str(path) in caught.value.message and KEY not in str(caught.value.as_json())
    assert caught.value.exit_status == 5
    assert path.read_text() == text
    assert not (tmp_path / "secrets" / "code@openrouter").exists()


def test_what_a_person_edited_is_kept_except_for_comments(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(f"# mine\n[keys.a]\n{GOOD}expires = 2026-12-31\n")
    with RegistryFile(str(path)) as registry:
        assert registry.entries["a"].expires == datetime(2026, 12, 31, tzinfo=UTC)
        registry.put(Entry("b", provider="openai", base_url="https://api.openai.com/v1", secret="file:b"))
    document = tomllib.loads(path.read_text())
    assert document["keys"]["a"]["expires"] == "2026-12-31"
    assert sorted(read_registry(document, str(path))) == ["a", "b"]
    assert path.stat().st_mode & 0o777 == 0o600


@given(
    st.builds(
        dict,
        agent=st.text(max_size=20),
        owner=st.text(max_size=20),
        purpose=st.text(max_size=20),
        environment=st.text(max_size=20),
        default=st.booleans(),
        shared=st.booleans(),
        allowed_models=st.lists(st.text(max_size=20), max_size=3),
        expires=st.sampled_from(["", "2027-01-01T00:00:00.000Z"]),
    )
)
def test_an_entry_comes_back_as_it_was_registered(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.toml"
    entry = Entry("a", provider="p", base_url=URL, secret="file:a", fingerprint="0123456789ab", **members)
    with RegistryFile(str(path)) as registry:
        registry.put(entry)
    with RegistryFile(str(path)) as registry:
        assert vars(registry.entries["a"]) == vars(entry)


@pytest.mark.parametrize("label", ["code@openrouter", "a", "A.b_c-d+e@f", "9", "x" * 128])
def test_plain_labels_are_labels(label: str) -> None:
    assert label_fault(label) == ""


@pytest.mark.parametrize(
    "label",
    ["", "x" * 129, ".hidden", "-x", "@x", "a/b", "a b", "a\n", "ä", "x.pending", "x.PREVIOUS", "$(touch x)", KEY],
)
def test_what_could_be_another_file_or_a_command_is_no_label(label: str) -> None:
    assert label_fault(label)


# Registering and forgetting


def quietly(event: str, facts: dict[str, object]) -> None:
    """An audit log that nobody reads."""


def add(place: Path, label: str = "code@openrouter", secret: str = KEY, **options: Any) -> str:
    given = {"agent": "code", **options.pop("given", {})}
    otherwise = {"provider": "openrouter", "base_url": URL, "created": "2026-11-21T09:30:00.000Z"}
    options = {"replace": False, **options}
    audit = options.pop("audit", quietly)
    paths = str(place / "keys.toml"), str(place / "secrets")
    return add_key(
        paths[0], Stores(paths[1], {}), label, Secret(secret), audit, given=given, otherwise=otherwise, **options
    )[0]


def remove(place: Path, label: str = "code@openrouter") -> None:
    remove_key(str(place / "keys.toml"), Stores(str(place / "secrets"), {}), label, quietly)


def known(place: Path) -> dict[str, Entry]:
    return read_registry(tomllib.loads((place / "keys.toml").read_text()), "keys.toml")


def held(place: Path, label: str = "code@openrouter") -> str | None:
    secret = FileStore(str(place / "secrets")).read(label)
    return secret.reveal() if secret else None


def test_the_same_command_once_more_changes_nothing_and_another_key_needs_a_word(tmp_path: Path) -> None:
    assert add(tmp_path) == "added"
    assert add(tmp_path) == "unchanged"
    with pytest.raises(UsageError, match="there is a key code@openrouter already"):
        add(tmp_path, secret=OTHER)
    with pytest.raises(UsageError, match="already"):
        add(tmp_path, given={"owner": "alice"})
    assert held(tmp_path) == KEY
    assert add(tmp_path, secret=OTHER, replace=True) == "replaced"
    assert held(tmp_path) == OTHER


def test_a_replacement_keeps_what_was_not_said_again_save_the_dates(tmp_path: Path) -> None:
    add(tmp_path, given={"owner": "alice", "allowed_models": ["a/*"], "expires": "2026-12-01T00:00:00.000Z"})
    add(tmp_path, secret=OTHER, replace=True, given={"owner": "bob"})
    entry = known(tmp_path)["code@openrouter"]
    assert (entry.agent, entry.owner, entry.allowed_models, entry.expires) == ("code", "bob", ("a/*",), None)


def test_a_replacement_cannot_lead_a_key_to_another_address(tmp_path: Path) -> None:
    add(tmp_path)
    with pytest.raises(UsageError, match="which a replacement cannot change"):
        add(tmp_path, secret=OTHER, replace=True, given={"base_url": "https://evil.example/v1"})
    assert held(tmp_path) == KEY


def test_one_key_under_two_labels_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    add(tmp_path)
    with pytest.raises(UsageError, match="registered already, as code@openrouter") as caught:
        add(tmp_path, "docs@openrouter", given={"agent": "docs"})
    assert caught.value.code == "key_shared"
    assert add(tmp_path, "docs@openrouter", given={"agent": "docs", "shared": True}) == "added"
    assert known(tmp_path)["docs@openrouter"].shared


@pytest.mark.parametrize(
    ("label", "given"),
    [("second", {}), ("CODE@openrouter", {"agent": "other"}), ("second", {"agent": "x", "default": True})],
)
def test_what_would_make_the_choice_of_a_key_unclear_is_refused(
    tmp_path: Path, label: str, given: dict[str, object]
) -> None:
    add(tmp_path, given={"default": True})
    with pytest.raises(UsageError):
        add(tmp_path, label, OTHER, given=given)
    assert add(tmp_path, "second", OTHER, given={"environment": "dev"}) == "added"


def test_an_end_user_has_one_key_for_each_agent_or_for_all(tmp_path: Path) -> None:
    third = "sk-or-v1-" + "3" * 32
    add(tmp_path, "alices", given={"agent": "", "user": "alice"})
    with pytest.raises(UsageError, match="alices is user alice's key of openrouter already"):
        add(tmp_path, "again", OTHER, given={"agent": "", "user": "alice"})
    assert add(tmp_path, "bobs", OTHER, given={"agent": "", "user": "bob"}) == "added"
    assert add(tmp_path, "alices-code", third, given={"agent": "code", "user": "alice"}) == "added"


def test_an_unregistered_secret_is_not_overwritten_unless_it_is_the_same(tmp_path: Path) -> None:
    add(tmp_path)
    (tmp_path / "keys.toml").unlink()
    with pytest.raises(UsageError, match="another key already"):
        add(tmp_path, secret=OTHER)
    assert add(tmp_path) == "added"


def test_removing_forgets_entry_and_secret_and_a_second_time_is_an_error(tmp_path: Path) -> None:
    add(tmp_path)
    remove(tmp_path)
    assert known(tmp_path) == {} and held(tmp_path) is None
    for label in ("code@openrouter", "../keys.toml", ".salt"):
        with pytest.raises(NoKey, match="there is no key"):
            remove(tmp_path, label)
    assert (tmp_path / "keys.toml").exists() and (tmp_path / "secrets" / ".salt").exists()


def test_a_change_that_cannot_be_audited_does_not_happen(tmp_path: Path) -> None:
    def broken(event: str, facts: dict[str, object]) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        add(tmp_path, audit=broken)
    assert held(tmp_path) is None and not (tmp_path / "keys.toml").exists()


def test_what_is_audited_names_the_key_by_label_and_fingerprint_alone(tmp_path: Path) -> None:
    events: list[tuple[str, dict[str, object]]] = []
    add(tmp_path, audit=lambda *event: events.append(event))
    add(tmp_path, secret=OTHER, replace=True, audit=lambda *event: events.append(event))
    assert [event for event, _ in events] == ["key.add", "key.replace"]
    assert events[0][1]["key"] == "code@openrouter"
    assert events[0][1]["fingerprint"] != events[1][1]["fingerprint"]
    assert KEY not in repr(events) and OTHER not in repr(events)


def test_an_addition_that_is_killed_anywhere_is_completed_by_the_same_command(tmp_path: Path) -> None:
    for _ in every_kill(lambda: add(tmp_path)):
        for label, entry in (known(tmp_path) if (tmp_path / "keys.toml").exists() else {}).items():
            assert key(entry, str(tmp_path / "secrets")).reveal() == KEY, f"{label} is registered without its key"
        add(tmp_path)
        check_whole(tmp_path, KEY)
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()


def test_a_replacement_that_is_killed_anywhere_leaves_a_key_and_is_completed_by_the_same_command(
    tmp_path: Path,
) -> None:
    add(tmp_path)
    for _ in every_kill(lambda: add(tmp_path, secret=OTHER, replace=True)):
        assert held(tmp_path) in (KEY, OTHER)
        assert add(tmp_path, secret=OTHER, replace=True) in ("replaced", "changed")
        check_whole(tmp_path, OTHER)
        add(tmp_path, replace=True)


def test_a_removal_that_is_killed_anywhere_is_completed_by_the_same_command(tmp_path: Path) -> None:
    add(tmp_path)
    for point in every_kill(lambda: remove(tmp_path)):
        try:
            remove(tmp_path)
        except NoKey:
            assert point > 1, "nothing was done, and the key is not found"
        assert known(tmp_path) == {} and held(tmp_path) is None
        add(tmp_path)


def check_whole(place: Path, secret: str) -> None:
    entry = known(place)["code@openrouter"]
    assert held(place) == secret
    assert state_of(entry, Stores(str(place / "secrets"), {}), NOW) == "ok"
    assert sorted(os.listdir(place / "secrets")) == [".lock", ".salt", "code@openrouter"]
    assert {name for name in os.listdir(place) if "keys.toml" in name and secret in (place / name).read_text()} == set()


def test_twenty_processes_that_add_keys_at_once_lose_none(tmp_path: Path) -> None:
    children = []
    for number in range(20):
        child = os.fork()
        if child == 0:
            try:
                add(tmp_path, f"a{number}@openrouter", f"{KEY}{number}", given={"agent": f"a{number}"})
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 20
    registered = known(tmp_path)
    assert len(registered) == 20
    for label, entry in registered.items():
        assert held(tmp_path, label) == KEY + label.removeprefix("a").partition("@")[0]
        assert state_of(entry, Stores(str(tmp_path / "secrets"), {}), NOW) == "ok"


def test_the_state_of_a_key_tells_what_is_wrong_with_it(tmp_path: Path) -> None:
    add(tmp_path, given={"expires": "2026-12-01T00:00:00.000Z"})
    entry = known(tmp_path)["code@openrouter"]
    secrets = tmp_path / "secrets"
    path = secrets / "code@openrouter"

    def state(now: datetime = NOW) -> str:
        return state_of(entry, Stores(str(secrets), {}), now)

    assert state() == "ok"
    assert state(datetime(2026, 12, 1, tzinfo=UTC)) == "expired"
    path.chmod(0o644)
    assert state() == "unsafe"
    path.chmod(0o600)
    path.write_text(OTHER)
    assert state() == "changed"
    path.unlink()
    assert state() == "missing"
