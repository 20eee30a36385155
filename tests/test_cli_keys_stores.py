"""Keys in other stores than files, as a person and a program use them: `--store`, `keys exec`, `get_secret`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import callmeter
from callmeter.secrets.holders import holders
from callmeter.secrets.secret import Secret
from callmeter.words.errors import NoKey, UsageError
from conftest import Run
from servers import vault

KEY, OTHER = "sk-or-v1-" + "5e" * 32, "sk-or-v1-" + "7" * 64
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def vault_env(bao: vault.Bao) -> dict[str, str | None]:
    return {"VAULT_ADDR": bao.address, "VAULT_TOKEN": vault.ROOT}


def add(run_callmeter: Run, *arguments: str, env: Mapping[str, str | None] | None = None, key: str = KEY) -> None:
    done = run_callmeter("budget", "keys", "add", *arguments, input=key, env=env)
    assert done.returncode == 0, done.stderr


# Adding


def test_a_key_can_be_put_into_vault_from_the_start(
    run_callmeter: Run, bao: vault.Bao, vault_env: dict[str, str | None], home: Path
) -> None:
    add(run_callmeter, "code", "--provider", "openrouter", "--store", "vault", env=vault_env)
    read = bao.root.secrets.kv.v2.read_secret_version
    path = "callmeter/code@openrouter"
    assert read(path, raise_on_deleted_version=True)["data"]["data"] == {"key": KEY}
    assert 'secret = "vault:secret/callmeter/code@openrouter"' in (home / "keys.toml").read_text()
    add(run_callmeter, "code", "--provider", "openrouter", "--replace", env=vault_env, key=OTHER)
    assert read(path, raise_on_deleted_version=True)["data"]["data"] == {"key": OTHER}, "a replacement goes there too"
    done = run_callmeter("budget", "keys", "remove", "code@openrouter", "--yes", env=vault_env)
    assert done.returncode == 0
    assert bao.root.list("secret/metadata/callmeter") is None


def test_a_key_that_lies_somewhere_already_is_registered_without_being_typed(
    run_callmeter: Run, bao: vault.Bao, vault_env: dict[str, str | None], home: Path
) -> None:
    bao.root.secrets.kv.v2.create_or_update_secret("team", {"openrouter": KEY, "owner": "alice"})
    where = ("--store", "vault:secret/team#openrouter", "--existing")
    done = run_callmeter("budget", "keys", "add", "code", "--provider", "openrouter", *where, env=vault_env)
    assert done.returncode == 0, done.stderr
    shown = run_callmeter("budget", "keys", "show", "code@openrouter", "--format", "json", env=vault_env)
    facts = json.loads(shown.stdout)["facts"]
    assert facts["state"] == "ok" and facts["where"].startswith("secret/team#openrouter in Vault at http")
    assert KEY not in shown.stdout
    metadata = bao.root.secrets.kv.v2.read_secret_metadata("team")["data"]
    assert metadata["current_version"] == 1, "what is there already is not written again"
    kept = run_callmeter("budget", "keys", "remove", "code@openrouter", "--yes", "--keep-secret", "-v", env=vault_env)
    assert "the secret stays: secret/team#openrouter in Vault" in kept.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--existing"], 2, "where does the key lie"),
        (["--store", "env:NOT_SET", "--existing"], 6, "there is no key for code@openrouter at the variable NOT_SET"),
        (["--store", "env:NOT_SET"], 2, "cannot be stored in the environment"),
        (["--store", "disk"], 2, "does not begin with one of"),
        (["--store", "command:nope/x"], 5, "there is no helper 'nope'"),
    ],
)
def test_places_that_do_not_work_are_refused_with_the_reason(
    run_callmeter: Run, home: Path, arguments: list[str], status: int, message: str
) -> None:
    done = run_callmeter("budget", "keys", "add", "code", "--provider", "openrouter", *arguments, input=KEY)
    assert done.returncode == status and message in done.stderr
    assert KEY not in done.stderr
    assert not (home / "keys.toml").exists()


def test_a_vault_that_is_down_ends_a_call_with_status_7_and_a_listing_says_so(
    run_callmeter: Run, run_llm_call: Run, vault_env: dict[str, str | None]
) -> None:
    add(run_callmeter, "code", "--provider", "openrouter", "--store", "vault:secret/down", env=vault_env)
    down = {**vault_env, "VAULT_ADDR": "http://127.0.0.1:9"}
    called = run_llm_call("--agent", "code", "--model", "openai/gpt-4o-mini", "Hi", env=down)
    assert called.returncode == 7
    assert "Vault at http://127.0.0.1:9 cannot be reached" in called.stderr
    listed = run_callmeter("budget", "keys", "list", "--format", "csv", env=down)
    assert '"unreachable"' in listed.stdout and listed.returncode == 0


# Running a command


def test_a_command_gets_the_key_the_tags_and_its_own_exit_status(run_callmeter: Run, home: Path) -> None:
    add(run_callmeter, "code", "--provider", "openrouter")
    tags = "$CALLMETER_AGENT $CALLMETER_SESSION $CALLMETER_PURPOSE ${CALLMETER_MANAGEMENT_KEY-none}"
    script = f'echo "$OPENROUTER_API_KEY {tags}"; exit 42'
    done = run_callmeter(
        *("budget", "keys", "exec", "code", "--session", "s-1", "--purpose", "trying", "--", "sh", "-c", script),
        env={"CALLMETER_MANAGEMENT_KEY": OTHER},
    )
    assert done.returncode == 42
    assert done.stdout == f"{KEY} code s-1 trying none\n"
    assert done.stderr == ""
    audited = run_callmeter("budget", "audit", "show", "--format", "json").stdout
    assert "key.exec" in audited and KEY not in audited


def test_the_variable_is_the_providers_or_the_settings(run_callmeter: Run, home: Path) -> None:
    (home / "config.toml").write_text(
        '[providers.image-lab]\nbase_url = "https://images.example.org/v1"\n'
        '[providers.search]\nbase_url = "https://search.example.org"\nkey_variable = "SEARCH_TOKEN"\n'
    )
    for provider, variable in (
        ("openai", "OPENAI_API_KEY"),
        ("image-lab", "IMAGE_LAB_API_KEY"),
        ("search", "SEARCH_TOKEN"),
    ):
        key = f"{KEY[:-6]}{len(variable):06}"
        add(run_callmeter, "code", "--provider", provider, key=key)
        shown = run_callmeter("budget", "keys", "exec", "code", "--provider", provider, "--", "printenv", variable)
        assert shown.stdout == key + "\n"


def test_signals_reach_the_command_itself_and_pipes_end_it_quietly(
    run_callmeter: Run, start: Start, home: Path
) -> None:
    add(run_callmeter, "code", "--provider", "openrouter")
    running = start("callmeter", "budget", "keys", "exec", "code", "--", "sh", "-c", "echo $$; exec sleep 1000")
    assert running.stdout is not None
    assert int(running.stdout.readline()) == running.pid, "it has the place of callmeter"
    running.send_signal(signal.SIGTERM)
    assert running.wait(120) == -signal.SIGTERM
    done = run_callmeter("budget", "keys", "exec", "code", "--", "sh", "-c", "yes | head -1; trap")
    assert done.stdout.splitlines()[0] == "y" and done.stderr == ""


def test_who_runs_with_a_key_is_known_for_as_long_as_it_runs(run_callmeter: Run, start: Start, home: Path) -> None:
    add(run_callmeter, "code", "--provider", "openrouter")
    running = start(
        *("callmeter", "budget", "keys", "exec", "code", "--", "sh", "-c", "echo up; read line"), stdin=subprocess.PIPE
    )
    assert running.stdout is not None and running.stdin is not None
    running.stdout.readline()
    (found,) = holders(str(home / "holders"), "code@openrouter")
    assert (found.pid, found.program) == (running.pid, "sh")
    assert holders(str(home / "holders"), "other") == []
    assert f"sh (process {running.pid}) with code@openrouter" in run_callmeter("doctor", "--format", "csv").stdout
    running.communicate(b"\n", 30)
    assert holders(str(home / "holders")) == []
    assert os.listdir(home / "holders") == []


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nobody", "--", "true"], 6, "there is no key of openrouter for agent 'nobody'"),
        (["code", "--", "no-such-program"], 2, "cannot run 'no-such-program': no such file"),
        (["code", "--", "/"], 2, "cannot run '/': permission denied"),
        (["code"], 2, "missing argument"),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_nothing(
    run_callmeter: Run, home: Path, arguments: list[str], status: int, message: str
) -> None:
    add(run_callmeter, "code", "--provider", "openrouter")
    done = run_callmeter("budget", "keys", "exec", *arguments)
    assert done.returncode == status and message in done.stderr.lower() and KEY not in done.stderr
    assert not (home / "holders").exists() or os.listdir(home / "holders") == []


# Programs


def test_a_program_asks_for_its_agents_key(run_callmeter: Run, home: Path) -> None:
    add(run_callmeter, "code", "--provider", "openrouter")
    add(run_callmeter, "code", "--provider", "openai", key=OTHER)
    key = callmeter.get_secret("code", "llm_api_key")
    assert key == KEY and type(key) is str, "what a library puts into its header is the key, not `***`"
    assert not isinstance(key, Secret)
    assert callmeter.get_secret("code", "openai_api_key") == OTHER
    with pytest.raises(NoKey, match="no key of openrouter for agent 'web'"):
        callmeter.get_secret("web")
    for name in ("llm", "_api_key", "password"):
        with pytest.raises(UsageError):
            callmeter.get_secret("code", name)
    with pytest.raises(UsageError, match="unknown provider 'nosuch'"):
        callmeter.get_secret("code", "nosuch_api_key")


def test_a_program_that_asks_again_gets_the_key_that_was_put_there_meanwhile(run_callmeter: Run, home: Path) -> None:
    add(run_callmeter, "code", "--provider", "openrouter")
    assert callmeter.get_secret("code") == KEY
    add(run_callmeter, "code", "--provider", "openrouter", "--replace", key=OTHER)
    assert callmeter.get_secret("code") == OTHER


def test_importing_the_package_costs_nothing() -> None:
    code = "import sys; before = set(sys.modules); import callmeter; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "['callmeter']\n"


def test_a_key_in_a_file_or_variable_is_read_without_the_libraries_of_other_stores(
    run_callmeter: Run, home: Path, environment: dict[str, str]
) -> None:
    add(run_callmeter, "code", "--provider", "openrouter")
    code = """
import json, sys
from callmeter.secrets.lookup import readings
from callmeter.secrets.open_store import Stores
from callmeter.secrets.registry import Entry
for where in ("file:code@openrouter", "env:SOME_KEY"):
    entry = Entry("x", provider="p", base_url="https://example.org", secret=where)
    assert next(readings(entry, Stores(sys.argv[1], {"SOME_KEY": "k"})))
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code, home / "secrets"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"hvac", "boto3", "botocore", "keyring", "secretstorage", "requests", "subprocess", "threading"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('[vault]\nadress = "x"', "[vault]: unknown setting 'adress'"),
        ("[vault]\naddress = 5", "`vault.address` is not text"),
        ("[helpers]\nmine = 5", "`helpers.mine` is not a table"),
        ('[helpers.mine]\nwrite = ["x"]', "[helpers.mine]: `read` is missing"),
        ('[helpers.mine]\nread = "cat {name}"', "[helpers.mine]: `read` is not a list of text"),
        ('[helpers.mine]\nread = ["cat"]\nlist = ["ls"]', "[helpers.mine]: unknown setting 'list'"),
    ],
)
def test_settings_of_stores_that_are_wrong_are_named(
    run_callmeter: Run, home: Path, settings: str, message: str
) -> None:
    (home / "config.toml").write_text(settings)
    done = run_callmeter("budget", "keys", "list")
    assert done.returncode == 5 and message in done.stderr
