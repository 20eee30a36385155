"""`callmeter prices show`, `refresh` and `set`, as a person and a script use them."""

from __future__ import annotations

import http.server
import json
import multiprocessing
import threading
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from callmeter.store.price_overrides import set_override
from callmeter.store.price_table import find_price

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
SONNET = "anthropic/claude-sonnet-4.5"
Invoke = Callable[..., Result]


@pytest.fixture
def invoke(home: Path) -> Invoke:
    """Run `callmeter prices …` in this test's home, on 21 November 2026."""

    def invoke(*arguments: str) -> Result:
        world = World(clock=NOW.timestamp)
        return CliRunner().invoke(app, ["prices", *arguments], obj=world)

    return invoke


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line, parse_float=Decimal) for line in result.stdout.splitlines()]


class Listing(http.server.BaseHTTPRequestHandler):
    """Answers GET /v1/models with the server's `answer`: a status and bytes."""

    def do_GET(self) -> None:
        status, body = self.server.answer if self.path == "/v1/models" else (404, b"")  # type: ignore[attr-defined]
        self.server.seen.append(dict(self.headers))  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server:
    """A provider on loopback whose `/models` answers with `models`, or with `raw`."""

    def __init__(self) -> None:
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listing)
        self.http.seen = []  # type: ignore[attr-defined]
        self.models()
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def options(self) -> tuple[str, ...]:
        return ("--base-url", f"http://127.0.0.1:{self.http.server_port}/v1")

    @property
    def seen(self) -> list[dict[str, str]]:
        return self.http.seen  # type: ignore[attr-defined, no-any-return]

    def models(self, **prices: tuple[str, str]) -> None:
        data = [
            {"id": name, "context_length": 1000, "pricing": {"prompt": prompt, "completion": completion}}
            for name, (prompt, completion) in prices.items()
        ]
        self.raw(json.dumps({"data": data}).encode())

    def raw(self, body: bytes, status: int = 200) -> None:
        self.http.answer = (status, body)  # type: ignore[attr-defined]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


# show


def test_show_tells_what_a_model_costs_and_who_says_so(invoke: Invoke) -> None:
    (row,) = rows(invoke("show", SONNET, "--format", "jsonl"))
    assert row["model"] == SONNET and row["provider"] == "openrouter" and row["source"] == "table"
    assert (row["input"], row["output"], row["cached"]) == (3, 15, Decimal("0.3"))
    assert row["context"] == 1_000_000


def test_show_finds_models_by_wildcard_and_by_provider(invoke: Invoke) -> None:
    found = rows(invoke("show", "CLAUDE-opus-4-[0-9]*", "claude-3*", "--provider", "anthropic", "--format", "jsonl"))
    names = [row["model"] for row in found]
    assert "claude-3-opus-latest" in names and "claude-opus-4-1" in names and names == sorted(names)
    assert all(name.startswith(("claude-3", "claude-opus-4-")) for name in names)


def test_show_without_a_model_lists_them_all(invoke: Invoke) -> None:
    assert len(rows(invoke("show", "--provider", "anthropic", "--format", "jsonl"))) > 20


def test_show_says_unknown_and_how_to_set_it(invoke: Invoke) -> None:
    result = invoke("show", "openrouter/auto")
    assert result.exit_code == 0
    assert "unknown: set it with `callmeter prices set openrouter/auto" in " ".join(result.stdout.split())
    (row,) = rows(invoke("show", "openrouter/auto", "--format", "jsonl"))
    assert row["input"] is None and row["output"] is None, "unknown is not 0"


def test_show_tells_what_changes_a_price(invoke: Invoke) -> None:
    text = " ".join(invoke("show", "gpt-5.4", "--provider", "openai").stdout.split())
    assert "prompts of more than 272,000 tokens: input $5.00" in text
    assert "in the service tier flex: input $1.25" in text


def test_show_as_of_an_earlier_day_has_that_days_price(invoke: Invoke, home: Path) -> None:
    (home / "config.toml").write_text('[providers.deepseek]\nbase_url = "https://api.deepseek.com/v1"\n')

    def price(day: str) -> Decimal:
        arguments = ("show", "deepseek-v4-pro", "--provider", "deepseek", "--as-of", day, "--format", "jsonl")
        return Decimal(rows(invoke(*arguments))[0]["input"])

    assert price("2026-05-01") != price("2026-11-21T12:00:00Z")
    assert invoke("show", "--as-of", "someday").exit_code == 2


def test_everything_local_is_shown_as_free(invoke: Invoke) -> None:
    (row,) = rows(invoke("show", "any-model", "--provider", "local", "--format", "jsonl"))
    assert (row["input"], row["output"], row["source"]) == (0, 0, "local")


def test_a_provider_that_nobody_knows_is_a_wrong_command_line(invoke: Invoke) -> None:
    assert invoke("show", "--provider", "nobody").exit_code == 2


# refresh


def test_refresh_keeps_the_providers_prices_and_says_what_changed(invoke: Invoke, server: Server) -> None:
    server.models(a=("0.000001", "0.000002"), b=("0.000001", "0.000002"), c=("-1", "-1"))
    first = invoke("refresh", *server.options, "-v")
    assert first.exit_code == 0 and first.stdout == ""
    assert "2 prices of openrouter, 3 new, 0 changed, 0 gone, 1 whose price it does not know" in first.stderr
    (row,) = rows(invoke("show", "a", "--format", "jsonl"))
    assert (row["input"], row["output"], row["source"], row["date"], row["context"]) == (
        1,
        2,
        "provider",
        "2026-11-21",
        1000,
    )
    server.models(b=("0.000005", "0.000002"), d=("0", "0"))
    second = invoke("refresh", *server.options, "-v")
    assert "2 prices of openrouter, 1 new, 1 changed, 2 gone" in second.stderr
    assert rows(invoke("show", "b", "--format", "jsonl"))[0]["input"] == 5
    assert rows(invoke("show", "d", "--format", "jsonl"))[0]["input"] == 0


def test_refresh_says_nothing_to_cron(invoke: Invoke, server: Server) -> None:
    server.models(a=("0.000001", "0.000002"))
    result = invoke("refresh", *server.options)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_refresh_sends_no_key(invoke: Invoke, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLMETER_API_KEY", "sk-or-v1-secret")
    server.models(a=("0.000001", "0.000002"))
    assert invoke("refresh", *server.options).exit_code == 0
    assert "sk-or-v1-secret" not in str(server.seen) and len(server.seen) == 1


def test_refresh_counts_and_skips_entries_that_cannot_be_read(invoke: Invoke, server: Server) -> None:
    good = {"id": "a", "pricing": {"prompt": "0.000001", "completion": "0.000002"}}
    bad = [{"id": "b"}, 5, {"id": "c", "pricing": {"prompt": "x", "completion": "0"}}]
    server.raw(json.dumps({"data": [good, *bad]}).encode())
    result = invoke("refresh", *server.options, "-v")
    assert result.exit_code == 0 and "3 entries could not be read" in result.stderr


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"{"),
        (200, b'{"data":[]}'),
        (200, b'{"data":[{"id":"a"}]}'),
        (200, b'{"data":[{"id":"a","pricing":{"prompt":"-1","completion":"-1"}}]}'),
        (200, b'{"error":{"message":"no"}}'),
        (200, b"\xff\xfe{}"),
        (200, b"[" * 100_000),
        (302, b""),
        (401, b"{}"),
        (500, b'{"data":[{"id":"a","pricing":{"prompt":"1","completion":"1"}}]}'),
    ],
)
def test_an_empty_or_broken_answer_never_replaces_what_is_known(
    invoke: Invoke, server: Server, status: int, body: bytes
) -> None:
    server.models(a=("0.000001", "0.000002"))
    assert invoke("refresh", *server.options).exit_code == 0
    server.raw(body, status)
    result = invoke("refresh", *server.options)
    assert result.exit_code == 7 and "callmeter: hint: " in result.stderr
    (row,) = rows(invoke("show", "a", "--format", "jsonl"))
    assert (row["input"], row["source"]) == (1, "provider")


def test_a_provider_that_cannot_be_reached_is_unavailable_and_the_table_still_answers(invoke: Invoke) -> None:
    result = invoke("refresh", "--base-url", "http://127.0.0.1:1/v1")
    assert result.exit_code == 7
    assert rows(invoke("show", SONNET, "--format", "jsonl"))[0]["source"] == "table"


def test_what_is_free_has_no_prices_to_fetch(invoke: Invoke) -> None:
    assert invoke("refresh", "--provider", "local").exit_code == 2


# set


def test_set_is_what_calls_are_priced_with_from_then_on(invoke: Invoke, home: Path) -> None:
    assert invoke("set", SONNET, "--input", "0.25", "--output", "1.25", "--cached", "0.1").exit_code == 0
    (row,) = rows(invoke("show", SONNET, "--format", "jsonl"))
    expected = (Decimal("0.25"), Decimal("1.25"), Decimal("0.1"), "override", "2026-11-21")
    assert (row["input"], row["output"], row["cached"], row["source"], row["date"]) == expected
    found = find_price("openrouter", SONNET, NOW, overrides=str(home / "prices.toml"), cache_dir=str(home / "cache"))
    assert found is not None and found.source == "override"


def test_set_takes_prices_for_one_token_too(invoke: Invoke) -> None:
    done = invoke("set", "m", "--input", "2.5e-7", "--output", "0.00000125", "--per", "token", "--request", "0.01")
    assert done.exit_code == 0
    (row,) = rows(invoke("show", "m", "--format", "jsonl"))
    assert (row["input"], row["output"], row["request"]) == (Decimal("0.25"), Decimal("1.25"), Decimal("0.01"))


def test_set_leaves_the_rest_of_the_file_as_a_person_wrote_it(invoke: Invoke, home: Path) -> None:
    before = (
        '# mine\n[openai."gpt-4o"]   # the contract of May\ninput = 2.0\noutput = "8"\n\n'
        "# theirs\n[openrouter.x]\ninput=1\noutput=1\n"
    )
    (home / "prices.toml").write_text(before)
    assert invoke("set", "y/z", "--input", "1", "--output", "2").exit_code == 0
    added = (home / "prices.toml").read_text()
    assert added.startswith(before)
    assert invoke("set", "y/z", "--input", "3", "--output", "4").exit_code == 0
    assert invoke("set", "gpt-4o", "--provider", "openai", "--input", "5", "--output", "6").exit_code == 0
    text = (home / "prices.toml").read_text()
    assert "# theirs\n[openrouter.x]\ninput=1\noutput=1\n" in text
    document = tomllib.loads(text)
    assert document["openai"]["gpt-4o"]["input"] == "5" and document["openrouter"]["y/z"]["output"] == "4"
    assert invoke("set", "gpt-4o", "--provider", "openai", "--remove").exit_code == 0
    assert invoke("set", "y/z", "--remove").exit_code == 0
    assert tomllib.loads((home / "prices.toml").read_text()) == {"openrouter": {"x": {"input": 1, "output": 1}}}


@pytest.mark.parametrize(
    "before",
    [
        "openrouter = {x = {input = 1, output = 1}, m = {input = 1, output = 1}}\n",
        "openrouter.x.input = 1\nopenrouter.x.output = 1\nopenrouter.m.input = 1\nopenrouter.m.output = 1\n",
        "[openrouter]\nx = {input = 1, output = 1}\nm = {input = 1, output = 1}\n",
        "[openrouter.x]\ninput = 1\noutput = 1\n[openrouter.m] # [\ninput = 1\noutput = 1",
        '[ openrouter . "x" ]\r\ninput = 1\r\noutput = 1\r\n[openrouter."m"]\r\ninput = 1\r\noutput = 1\r\n',
    ],
)
def test_set_understands_every_way_in_which_the_file_may_be_written(invoke: Invoke, home: Path, before: str) -> None:
    file = home / "prices.toml"
    other = {"input": 1, "output": 1}
    file.write_bytes(before.encode())
    assert invoke("set", "m", "--input", "7", "--output", "8").exit_code == 0
    document = tomllib.loads(file.read_text())
    assert document["openrouter"].pop("m")["input"] == "7" and document == {"openrouter": {"x": other}}
    file.write_bytes(before.encode())
    assert invoke("set", "m", "--remove").exit_code == 0
    assert tomllib.loads(file.read_text()) == {"openrouter": {"x": other}}


@pytest.mark.parametrize("model", ["a.b", 'a"b', "a]b", "[x]", "a b", "é", "a\nb", "#", "input", "a'b\\"])
def test_models_with_odd_names_can_have_a_price(invoke: Invoke, model: str) -> None:
    for price in ("1", "2"):
        assert invoke("set", model, "--input", price, "--output", "2").exit_code == 0
    assert rows(invoke("show", model, "--format", "jsonl"))[0]["input"] == 2
    assert invoke("set", model, "--remove").exit_code == 0
    assert rows(invoke("show", model, "--format", "jsonl"))[0]["source"] == "unknown"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--input", "1"),
        ("--output", "1"),
        (),
        ("--input", "x", "--output", "1"),
        ("--input", "-1", "--output", "1"),
        ("--input", "nan", "--output", "1"),
        ("--input", "inf", "--output", "1"),
        ("--input", "1_0", "--output", "1"),
        ("--input", "１", "--output", "1"),
        ("--input", "", "--output", "1"),
        ("--input", "1e300", "--output", "1"),
        ("--input", "3", "--output", "15", "--per", "token"),
        ("--input", "1", "--output", "1", "--remove"),
        ("--remove",),
        ("--input", "1", "--output", "1", "--provider", "nobody"),
        ("--input", "1", "--output", "1", "--per", "thousand"),
    ],
)
def test_a_wrong_price_is_a_wrong_command_line_and_changes_nothing(
    invoke: Invoke, home: Path, arguments: tuple[str, ...]
) -> None:
    result = invoke("set", "m", *arguments)
    assert result.exit_code == 2, result.stderr
    assert not (home / "prices.toml").exists()


def test_a_damaged_price_file_stops_every_command_with_its_line_and_is_never_written_over(
    invoke: Invoke, home: Path
) -> None:
    damaged = "[openrouter.m]\ninput = 1\noutput = one\n"
    (home / "prices.toml").write_text(damaged)
    commands = (("show", "m"), ("show",), ("set", "x", "--input", "1", "--output", "1"), ("set", "m", "--remove"))
    for arguments in commands:
        result = invoke(*arguments)
        assert result.exit_code == 5, arguments
        assert "line 3" in result.stderr and "callmeter: hint: " in result.stderr
    assert (home / "prices.toml").read_text() == damaged


def test_many_who_set_prices_at_once_lose_none(home: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(_set, [(str(home / "prices.toml"), number) for number in range(24)])
    document = tomllib.loads((home / "prices.toml").read_text())
    assert sorted(document["openrouter"]) == sorted(f"m{number}" for number in range(24))


def _set(path: str, number: int) -> None:
    set_override(path, "openrouter", f"m{number}", {"input": "1", "output": str(number)})
