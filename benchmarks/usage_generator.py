"""A usage log as a team's agents write it over two months, of any length: for benchmarks, and for trying reports.

    python benchmarks/usage_generator.py 1000000 usage.jsonl

Working hours, quiet nights and weekends; bursts of cron jobs at the full hour; sessions and work items that last; a
few agents that do most of it; errors, refusals, retries, unknown costs, and corrections of them. The same numbers give
the same log. A million lines take some seconds: DuckDB writes them.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

DAYS = 60
_AT_ONCE = 1_000_000
END = datetime(2026, 11, 21, tzinfo=UTC)
_AGENTS = ("code", "review", "triage", "support", "research", "docs", "ops", "sales", "qa", "data", "legal", "intern")
_PURPOSES = ("pattern_analysis", "code_review", "ticket_triage", "summary", "chat", "extraction", "translation")
# Name, USD for a million tokens in and out.
_MODELS = (
    ("anthropic/claude-3.5-sonnet", 3, 15),
    ("openai/gpt-4o-mini", 0.15, 0.6),
    ("google/gemini-2.0-flash", 0.1, 0.4),
    ("meta-llama/llama-3.3-70b", 0.12, 0.3),
    ("openai/o3", 2, 8),
)


def generate(lines: int, path: Path, *, days: int = DAYS, end: datetime = END) -> None:
    """Write `lines` lines, spread over the days before `end`."""
    step = timedelta(days=days) / lines
    with duckdb.connect() as connection, path.open("wb") as file, tempfile.NamedTemporaryFile() as part:
        for first in range(0, lines, _AT_ONCE):
            count = min(_AT_ONCE, lines - first)
            query = _lines(first, count, end - step * (lines - first), step)
            connection.execute(f"COPY ({query}) TO '{part.name}' (FORMAT csv, HEADER false, QUOTE '', DELIMITER '\1')")
            with open(part.name, "rb") as written:
                shutil.copyfileobj(written, file, 1 << 20)


def _random(salt: int) -> str:
    """A number from 0 to 1 that depends on the line's number alone."""
    return f"((hash(i * 64 + {salt}) >> 11)::DOUBLE / 9007199254740992)"


def _choice(words: tuple[str, ...], number: str) -> str:
    return f"([{', '.join(repr(word) for word in words)}])[1 + ({number} * {len(words)})::INT % {len(words)}]"


def _lines(first: int, lines: int, begin: datetime, step: timedelta) -> str:
    models, prices_in, prices_out = zip(*_MODELS, strict=True)
    return f"""
    WITH drawn AS (
        SELECT i,
            -- Each hour of the week gets its share: working hours most, nights and weekends little.
            {int(begin.timestamp() * 1000)} + ((i - {first}) * {step / timedelta(milliseconds=1)})::BIGINT AS even,
            {_random(1)} AS r1, {_random(2)} AS r2, {_random(3)} AS r3, {_random(4)} AS r4, {_random(5)} AS r5,
            {_random(6)} AS r6, {_random(7)} AS r7, {_random(8)} AS r8
        FROM range({first}, {first + lines}) AS numbers(i)
    ), timed AS (
        SELECT *, even // 86400000 * 86400000 AS midnight, (even % 86400000)::DOUBLE / 86400000 AS part FROM drawn
    ), placed AS (
        SELECT *,
            midnight + CASE
                -- One call in ten comes from cron, at the beginning of an hour.
                WHEN r1 < 0.1 THEN (floor(part * 24) * 3600000 + r2 * 20000)::BIGINT
                -- Most of the others lie between 7 and 19 o'clock.
                WHEN part < 0.08 THEN (part / 0.08 * 7 * 3600000)::BIGINT
                WHEN part < 0.92 THEN ((7 + (part - 0.08) / 0.84 * 12) * 3600000)::BIGINT
                ELSE ((19 + (part - 0.92) / 0.08 * 5) * 3600000)::BIGINT
            END AS ms,
            {_choice(_AGENTS, "(r3 * r3)")} AS agent, {_choice(_PURPOSES, "((r3 * 7 + r4 * 2) % 1)")} AS purpose,
            1 + (r4 * r5 * {len(_MODELS)})::INT % {len(_MODELS)} AS model,
            (80 + exp(4 + 4.5 * r6))::BIGINT AS tokens_in, (5 + exp(2 + 5 * r7))::BIGINT AS tokens_out,
            CASE WHEN r8 < 0.95 THEN 'ok' WHEN r8 < 0.97 THEN 'error' WHEN r8 < 0.98 THEN 'timeout'
                WHEN r8 < 0.985 THEN 'truncated' WHEN r8 < 0.995 THEN 'refused' ELSE 'cancelled' END AS status
        FROM timed
    ), priced AS (
        SELECT *,
            printf('%08x-%04x-7%03x-8%03x-%012x', ms // 65536, ms % 65536, (r1 * 4095)::INT, (r2 * 4095)::INT,
                (hash(i) >> 16)::BIGINT) AS id,
            (tokens_in * ([{", ".join(map(str, prices_in))}]::DECIMAL(9,3)[])[model]
                + tokens_out * ([{", ".join(map(str, prices_out))}]::DECIMAL(9,3)[])[model])::DECIMAL(18,3) AS micro
        FROM placed
    ), written AS (
        SELECT *, rtrim(rtrim((micro / 1000000)::DECIMAL(18,9)::VARCHAR, '0'), '.') AS cost FROM (
            SELECT * REPLACE (CASE WHEN status = 'refused' THEN 0 ELSE micro END AS micro) FROM priced)
    )
    SELECT '{{"v":1,"id":"' || id || '","timestamp":"'
        || strftime(make_timestamp(ms * 1000), '%Y-%m-%dT%H:%M:%S.%gZ')
        || '","tags":{{"agent":"' || agent || '","session":"s-' || (i // 300 * 12 + (r3 * 11)::INT)::VARCHAR
        || '","purpose":"' || purpose || '","priority":"' || if(r5 < 0.8, 'normal', 'high')
        || '","environment":"' || if(r6 < 0.85, 'prod', 'dev')
        || if(r7 < 0.4, '","work_item":"SUP-' || (i // 100)::VARCHAR, '')
        || if(r8 < 0.2, '","team":"' || if(r4 < 0.5, 'search', 'platform'), '')
        || '"}},"provider":"openrouter","model":"' || ({list(models)!r})[model]
        || '","served_model":"' || ({list(models)!r})[model]
        || if(status = 'refused', '"', '","tokens":{{"in":' || tokens_in || ',"out":' || tokens_out || ',"cached":'
            || if(r5 < 0.3, tokens_in // 2, 0) || ',"cache_write":0,"cache_write_1h":0,"reasoning":0}}')
        || ',"cost":' || if(r2 < 0.002, 'null', cost) || ',"cost_source":"'
        || CASE WHEN r2 < 0.002 THEN 'unknown' WHEN r2 < 0.9 THEN 'provider' WHEN r2 < 0.98 THEN 'price'
            ELSE 'estimate' END
        || '","estimate":' || rtrim(rtrim((micro / 500000 + 0.001)::DECIMAL(18,6)::VARCHAR, '0'), '.')
        || ',"status":"' || status
        || if(status = 'ok', '","finish_reason":"stop"', '","error":"' || if(status = 'refused', 'quota', 'overloaded')
            || '"')
        || ',"duration_ms":' || (200 + tokens_out * 12 * (0.5 + r1))::BIGINT
        || if(status = 'ok', ',"first_token_ms":' || (100 + r2 * 900)::BIGINT, '')
        || ',"attempts":' || CASE WHEN status = 'refused' THEN 0 WHEN r1 < 0.02 THEN 2 ELSE 1 END
        || ',"key":"' || agent || '@openrouter","key_fingerprint":"' || substr(md5(agent), 1, 12)
        || '","generation_id":"gen-' || ms // 1000 || '-' || substr(md5(id), 1, 20)
        || '","host":"build' || 1 + (r3 * 4)::INT || '"'
        -- One line in two hundred corrects the cost of the call in its place.
        || if(i % 200 = 199, ',"corrects":"' || lag(id, 20, id) OVER (ORDER BY i) || '"', '')
        || '}}'
    FROM written ORDER BY i
    """


def main() -> None:
    """Write a log of so many lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", type=int)
    parser.add_argument("path", type=Path)
    given = parser.parse_args()
    generate(given.lines, given.path)


if __name__ == "__main__":
    main()
