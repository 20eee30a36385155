"""What a first reading of the calls shows: later corrections, how long answers usually are, and which prompts repeat.

A prompt repeats for a cache where the log gives evidence of it, without its text: a session whose prompts grow from
call to call by at least the answer before (a conversation sends all of it again), or near-identical prompts of equal
size (`prompt_sketch`); each time within the five minutes that caches keep, three times in a row at least, and from
1,024 tokens on, the least that providers cache (OpenAI's and Anthropic's pages on prompt caching).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from callmeter.reports.grouping import NONE
from callmeter.words.record import UsageRecord

KEPT = timedelta(minutes=5)
_IN_A_ROW = 3
LEAST_CACHED = 1024
_SAME_SIZE = 50  # prompts within 1/50 of each other are of one size
FEWEST = 20
_MOST_RUNS = 20_000  # those that are over are forgotten then
_TIMES_USUAL = 4
_RARE = 10  # an answer is far above the usual when at most 1 of 10 is


@dataclass(frozen=True)
class Repeat:
    """Of a call's prompt, the tokens that a cache would have had, and those that it would have had to write."""

    read: int
    written: int
    grown: bool  # a conversation; else the same prompt again


@dataclass
class _Run:
    at: datetime
    size: int
    out: int
    steps: int = 0
    waiting: list[tuple[str, Repeat]] = field(default_factory=list)


@dataclass
class Evidence:
    """`corrections` is by call, in nano-dollars; `usual` the median answer of a purpose, and `ceilings` what would have
    cut only the answers far above it, by purpose, in tokens."""

    corrections: dict[str, int] = field(default_factory=dict)
    repeats: dict[str, Repeat] = field(default_factory=dict)
    usual: dict[str, int] = field(default_factory=dict)
    ceilings: dict[str, int] = field(default_factory=dict)


def evidence(records: Iterable[UsageRecord]) -> Evidence:
    """From records in order of time."""
    found = Evidence()
    sizes: dict[str, Counter[int]] = {}
    conversations: dict[tuple[str, ...], _Run] = {}
    prompts: dict[tuple[str, ...], _Run] = {}
    for record in records:
        if record.corrects is not None:
            nano = record.cost_nano or 0
            found.corrections[record.corrects] = found.corrections.get(record.corrects, 0) + nano
            continue
        tokens = record.tokens
        if record.status != "ok" or tokens is None:
            continue
        purpose = record.tags.get("purpose") or NONE
        counts = sizes.get(purpose)
        if counts is None:
            counts = sizes[purpose] = Counter()
        counts[tokens.out] += 1
        if tokens.in_ < LEAST_CACHED:
            continue
        own = (record.tags.get("agent", ""), record.provider, record.model)
        session = record.tags.get("session")
        if session:
            _step(found, conversations, (*own, session), record, grown=True)
        if record.prompt_sketch:
            _step(found, prompts, (*own, record.prompt_sketch), record, grown=False)
    for purpose, counts in sizes.items():
        found.usual[purpose] = usual = _median(counts)
        ceiling = _rounded(max(usual, 1) * _TIMES_USUAL)
        above = sum(count for size, count in counts.items() if size > ceiling)
        if counts.total() >= FEWEST and 0 < above * _RARE <= counts.total():
            found.ceilings[purpose] = ceiling
    return found


def _step(
    found: Evidence, runs: dict[tuple[str, ...], _Run], key: tuple[str, ...], record: UsageRecord, *, grown: bool
) -> None:
    """One more call of a conversation, or of a prompt that may repeat."""
    tokens, at = record.tokens, record.instant
    assert tokens is not None
    run = runs.get(key)
    said = tokens.out - tokens.reasoning
    fits = run is not None and at - run.at <= KEPT
    if run is not None and fits:
        if grown:
            fits = tokens.in_ >= run.size + max(run.out, 1)
        else:
            fits = abs(tokens.in_ - run.size) * _SAME_SIZE <= run.size
    if run is None or not fits:
        if len(runs) >= _MOST_RUNS:
            for old in [name for name, each in runs.items() if at - each.at > KEPT]:
                del runs[old]
        runs[key] = _Run(at, tokens.in_, said)
        return
    repeated = min(run.size, tokens.in_)
    had = tokens.cached + tokens.cache_write + tokens.cache_write_1h
    # The first prompt of a run is written to the cache before it can be read from it.
    written = tokens.in_ - repeated + (run.size if run.steps == 0 else 0)
    if repeated > had:
        run.waiting.append((record.id, Repeat(repeated - had, written, grown)))
    run.steps += 1
    run.at, run.size, run.out = at, tokens.in_, said
    if run.steps >= _IN_A_ROW:
        for id, repeat in run.waiting:
            before = found.repeats.get(id)
            if before is None or before.read < repeat.read:
                found.repeats[id] = repeat
        run.waiting.clear()


def _median(counts: Counter[int]) -> int:
    """By nearest rank."""
    rank, passed = -(-counts.total() // 2), 0
    for size in sorted(counts):
        passed += counts[size]
        if passed >= rank:
            return size
    return 0


def _rounded(tokens: int) -> int:
    """Up to two digits, and to 64 at least: a ceiling that a person would write."""
    step: int = 10 ** max(len(str(tokens)) - 2, 0)
    return max(-(-tokens // step) * step, 64)
