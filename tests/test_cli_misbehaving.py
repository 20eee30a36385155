"""`llm-call` against a server that misbehaves in some two hundred ways: one line each, the right status and cost.

The columns: exit status; status, error, cost and its source in the usage line; requests that were made; scenarios.
"""

# ruff: noqa: E501, RUF005 - a table; a command line in two parts

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from conftest import SCRIPTS
from servers.misbehaving import MisbehavingServer
from servers.scenarios import SCENARIOS

KEY = "sk-or-v1-0123456789abcdef0123456789abcdef"
# The worst case of this call: 535 tokens for "Hi" and its frame, 4,096 for the answer, at gpt-4o-mini's prices.
ESTIMATE = 0.0025371

# These end by their deadline only.
ENDLESS = {
    "stall-head",
    "stall-body",
    "stall-mid-stream",
    "drip",
    "drip-head",
    "drip-comments",
    "never-reads",
    "stall-unframed",
}
ENDLESS |= {"error-stall", "endless-tokens"}

EXPECTED = [
    (0, "ok", "", 0, "provider", 1, """cost-zero"""),
    (
        0,
        "ok",
        "",
        0.00042,
        "price",
        1,
        """byok-no-upstream cost-digits cost-huge cost-inf cost-list cost-nan cost-negative cost-null cost-text cost-true""",
    ),
    (
        0,
        "ok",
        "",
        ESTIMATE,
        "estimate",
        1,
        """deep-nesting endless-trailers giant-int tokens-float tokens-huge tokens-negative tokens-null tokens-string tokens-true usage-list usage-missing usage-null usage-string""",
    ),
    (
        0,
        "ok",
        "",
        0.0096,
        "provider",
        1,
        """bare-lf bom comments cost-object cost-string cr crlf done-then-open duplicate-keys echo empty-text escapes extensions finish-filter finish-length finish-tools interim interim-hints json-as-sse json-as-text length-twice line-separators multi-line-data nan-json no-choices no-done no-final-newline no-space not-byok-upstream not-object nul-bytes null-choices null-text number-text ok ok-json ok-length ok-until-close one-byte other-fields parts-text reasoning slow-reader split-utf8 sse-as-json sse-untyped surrogates usage-each-chunk usage-early usage-with-finish x-groq""",
    ),
    (0, "ok", "", 0.0096, "provider", 2, """402-then-ok 500-then-ok 503-then-ok 529-then-ok error-then-ok"""),
    (0, "ok", "", 0.0096, "provider", 3, """429-then-ok"""),
    (0, "ok", "", 0.0105, "provider", 1, """byok"""),
    (0, "ok", "", 1.98e-06, "provider", 1, """cost-tiny"""),
    (3, "error", "402", 0, "price", 1, """402-afford 402-credits 402-key-limit"""),
    (3, "error", "403", 0, "price", 1, """403-guardrail 403-key-limit"""),
    (3, "error", "insufficient_quota", 0, "price", 1, """429-quota"""),
    (6, "error", "key_refused", 0, "price", 1, """401 401-then-ok early-401-hold"""),
    (7, "error", "400", 0, "price", 1, """echo-error"""),
    (7, "error", "403", 0, "price", 1, """403-moderation"""),
    (7, "error", "404", 0, "price", 1, """404"""),
    (7, "error", "451", 0, "price", 1, """451"""),
    (7, "error", "500", 0, "price", 1, """error-stall"""),
    (7, "error", "500", 0, "price", 3, """500 error-empty error-escapes error-huge error-list"""),
    (7, "error", "502", 0, "price", 3, """html-502"""),
    (7, "error", "503", 0, "price", 3, """503 503-retry"""),
    (7, "error", "context_length_exceeded", 0, "price", 1, """400-context"""),
    (7, "error", "encoding", ESTIMATE, "estimate", 1, """br deflate gzip gzip-bomb zstd"""),
    (7, "error", "error", 0, "price", 3, """error-json-text"""),
    (7, "error", "invalid_request", 0, "price", 1, """400"""),
    (7, "error", "payload_too_large", 0, "price", 1, """413 early-413"""),
    (
        7,
        "error",
        "protocol",
        ESTIMATE,
        "estimate",
        1,
        """chunk-garbage chunk-giant chunk-negative chunk-too-long coding-gzip empty-200 endless-interim folded html-200 http-09 length-and-chunks length-conflict length-garbage length-negative length-underscore no-colon not-http nul-header slow-interim space-before-colon status-101 status-204 status-garbage text-200 until-close-cut""",
    ),
    (7, "error", "provider_overloaded", 0, "price", 3, """529"""),
    (7, "error", "provider_unavailable", 0, "price", 3, """502 error-first error-json"""),
    (
        7,
        "error",
        "redirect",
        0,
        "price",
        1,
        """redirect-301 redirect-302 redirect-303 redirect-307 redirect-308 status-304""",
    ),
    (
        7,
        "error",
        "reset",
        ESTIMATE,
        "estimate",
        1,
        """close-early close-head close-mid-chunk close-mid-head reset-head reset-then-ok reset-unread""",
    ),
    (7, "error", "server_error", 0, "price", 3, """error-json-code"""),
    (
        7,
        "error",
        "too_large",
        ESTIMATE,
        "estimate",
        1,
        """endless-comments endless-extension endless-headers endless-json endless-line huge-header huge-length many-headers""",
    ),
    (7, "error", "unprocessable", 0, "price", 1, """422"""),
    (7, "timeout", "408", ESTIMATE, "estimate", 1, """408"""),
    (7, "timeout", "504", ESTIMATE, "estimate", 1, """504"""),
    (7, "timeout", "524", ESTIMATE, "estimate", 1, """524"""),
    (
        7,
        "timeout",
        "timeout",
        ESTIMATE,
        "estimate",
        1,
        """drip drip-comments drip-head never-reads stall-body stall-head""",
    ),
    (8, "error", "402", 0, "price", 3, """402-in-flight"""),
    (8, "error", "429", 0, "price", 1, """429-huge"""),
    (
        8,
        "error",
        "429",
        0,
        "price",
        3,
        """429 429-date 429-milliseconds 429-negative 429-none 429-nonsense 429-upstream gzip-429""",
    ),
    (9, "error", "502", 0.0096, "provider", 1, """error-choice"""),
    (9, "error", "provider_unavailable", ESTIMATE, "estimate", 1, """error-mid-stream"""),
    (9, "error", "server_error", ESTIMATE, "estimate", 1, """error-mid-code"""),
    (9, "timeout", "timeout", ESTIMATE, "estimate", 1, """endless-tokens stall-mid-stream stall-unframed"""),
    (9, "truncated", "no_finish_reason", ESTIMATE, "estimate", 1, """error-event"""),
    (9, "truncated", "no_finish_reason", 0.0096, "provider", 1, """empty-choices-only no-finish"""),
    (9, "truncated", "protocol", ESTIMATE, "estimate", 1, """error-bare invalid-utf8 not-json"""),
    (9, "truncated", "reset", ESTIMATE, "estimate", 1, """close-mid-event reset-mid-stream"""),
]


@dataclass
class Result:
    exit_status: int
    stdout: bytes
    stderr: str
    lines: list[dict[str, object]]
    requests: int


@pytest.fixture(scope="module")
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as running:
        yield running


@pytest.fixture(scope="module")
def results(server: MisbehavingServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """Every scenario once, some at a time: most of them wait for something."""
    home = tmp_path_factory.mktemp("misbehaving")

    def call(scenario: str) -> Result:
        log = home / f"{scenario}.jsonl"
        done = subprocess.run(
            [SCRIPTS / "llm-call", "--base-url", server.base_url(scenario), "-m", "openai/gpt-4o-mini", "-v", "Hi"]
            + ["--timeout", "3" if scenario in ENDLESS else "60", "--log", str(log)],
            env={"PATH": "/usr/bin:/bin", "CALLMETER_HOME": str(home), "CALLMETER_API_KEY": KEY},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=180,
        )
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        requests = sum(request.scenario == scenario for request in server.requests)
        return Result(done.returncode, done.stdout, done.stderr.decode(), lines, requests)

    with ThreadPoolExecutor(8) as pool:
        return dict(zip(SCENARIOS, pool.map(call, SCENARIOS), strict=True))


CASES = [(scenario, *row[:-1]) for row in EXPECTED for scenario in row[-1].split()]


def test_the_table_has_every_scenario() -> None:
    assert sorted(case[0] for case in CASES) == sorted(SCENARIOS)


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_each_way_to_misbehave_has_its_outcome(case: tuple[object, ...], results: dict[str, Result]) -> None:
    scenario, exit_status, status, error, cost, source, requests = case
    result = results[str(scenario)]
    assert len(result.lines) == 1, result.stderr
    line = result.lines[0]
    found = (result.exit_status, line["status"], line.get("error", ""), line["cost"], line["cost_source"])
    assert found == (exit_status, status, error, cost, source), result.stderr
    assert result.requests == requests == line["attempts"]
    if exit_status:
        assert result.stderr.count("callmeter: error: ") == 1
    assert "Traceback" not in result.stderr


def test_no_prompt_and_no_key_went_to_a_stranger(results: dict[str, Result], server: MisbehavingServer) -> None:
    assert results
    assert server.stranger.requests == []


def test_the_key_is_in_no_line_and_no_message(results: dict[str, Result]) -> None:
    for result in results.values():
        assert KEY not in result.stderr
        assert KEY not in json.dumps(result.lines)


def test_escapes_of_the_endpoint_do_not_reach_stderr(results: dict[str, Result]) -> None:
    for result in results.values():
        assert not set(result.stderr) & {"\x1b", "\x07", "\x9b", "\u202e"}


def test_what_came_of_a_cut_answer_is_printed(results: dict[str, Result]) -> None:
    for scenario in ("close-mid-event", "reset-mid-stream", "error-mid-stream", "stall-mid-stream"):
        assert results[scenario].stdout in (b"Hello, w\n", b"Hell\n")


def test_generation_ids_are_kept_even_when_the_answer_is_cut(results: dict[str, Result]) -> None:
    for scenario in ("ok", "stall-mid-stream", "reset-mid-stream", "500"):
        assert str(results[scenario].lines[0].get("generation_id", "")).startswith("gen-"), scenario
