"""What calls could have cost less, over records in memory: loops that say what `savings_question` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from callmeter.reports.grouping import NONE
from callmeter.reports.savings_pricing import Charge
from callmeter.reports.savings_question import (
    IN_A_ROW,
    KEPT_MS,
    LEAST_CACHED,
    SAME_SIZE,
    Answer,
    AnswerSizes,
    Question,
    Saved,
    Saving,
    Work,
)
from callmeter.store.seen_ids import key_of
from callmeter.words.record import Tokens, UsageRecord

Read = Callable[[UsageRecord], str]
# Of a call: tokens that a cache would have had, tokens that are written to it, whether in a conversation.
Repeat = tuple[int, int, bool]
_FAILED = ("error", "timeout", "truncated", "unknown")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def answer_sizes(calls: Sequence[UsageRecord], purpose_of: Read) -> dict[str, AnswerSizes]:
    """See `Usage.answer_sizes`."""
    sizes: dict[str, list[int]] = {}
    for call in calls:
        if call.status == "ok" and call.tokens is not None:
            sizes.setdefault(purpose_of(call), []).append(call.tokens.out)
    found = {}
    for purpose, each in sizes.items():
        each.sort()
        count = len(each)
        found[purpose] = AnswerSizes(count, each[(count + 1) // 2 - 1], each[(9 * count + 9) // 10 - 1], each[-1])
    return found


def savings(
    calls: Sequence[UsageRecord], question: Question, reader: Callable[[str], Read], paid: Callable[[UsageRecord], int]
) -> Answer:
    """See `Usage.savings`; `paid` is a call's cost with its corrections."""
    readers = [reader(name) for name in question.by]
    agent, session = reader("agent"), reader("session")
    numbers = {work.names: number for number, work in enumerate(question.works)}
    repeats = _repeats(calls, agent, session)
    sums: dict[tuple[Saving, int | None, tuple[str, str] | None, str, bool], list[int]] = {}
    alone = dict.fromkeys(Saving, 0)
    unfit: dict[int, int] = {}
    for call in calls:
        cost = paid(call)
        if call.status in ("refused", "cancelled") or cost <= 0:
            continue
        number = numbers[tuple(read(call) for read in readers)]
        name = agent(call), session(call)
        first, last = question.zombies.get(name, (1, 0))
        repeat = repeats.get(call.id, (0, 0, False))
        found = _saves(call, cost, question.works[number], question.tariffs, repeat)
        if _is_unfit(call, question.works[number], question.tariffs):
            unfit[number] = unfit.get(number, 0) + 1
        found[Saving.ZOMBIE] = cost if first <= _ms(call) <= last else 0
        found = {
            kind: min(found.get(kind, 0), cost) if kind == Saving.MODEL else max(0, min(found.get(kind, 0), cost))
            for kind in Saving
        }
        for kind, saved in found.items():
            alone[kind] += saved
        sure = {**found, Saving.MODEL: found[Saving.MODEL] if question.works[number].tried else 0}
        largest = max(sure, key=lambda kind: sure[kind])
        if sure[largest] == 0:
            largest = Saving.MODEL
        if found[largest] == 0:
            continue
        is_zombie, is_cache = largest == Saving.ZOMBIE, largest == Saving.CACHE
        place = (
            largest,
            None if is_zombie else number,
            name if is_zombie else None,
            call.status if largest == Saving.FAILED else "",
            is_cache and repeat[2],
        )
        each = sums.setdefault(place, [0, 0, 0, 0])
        for at, more in enumerate((1, cost, found[largest], repeat[0] if is_cache else 0)):
            each[at] += more
    return Answer([Saved(*place, *each) for place, each in sums.items()], alone, unfit)


def _saves(
    call: UsageRecord, cost: int, work: Work, tariffs: Sequence[Sequence[Charge]], repeat: Repeat
) -> dict[Saving, int]:
    found: dict[Saving, int] = {}
    tokens = call.tokens
    if call.status in _FAILED:
        found[Saving.FAILED] = cost
    if call.status != "ok" or tokens is None or tokens.in_ + tokens.out == 0:
        return found
    charge = _charge(tariffs[work.own], call, tokens)
    own = None if charge is None else charge.rates.cost(tokens)
    if call.attempts > 1 and own is not None:
        found[Saving.RETRIES] = cost - own
        cost = min(cost, own)
    other = None if work.other is None else _charge(tariffs[work.other], call, tokens)
    if other is not None and _takes(other, tokens):
        price = other.rates.cost(tokens)
        if price is not None:
            billed = cost if own is None or price < own else min(cost, own)
            found[Saving.MODEL] = billed - price
    if charge is not None:
        rates = charge.rates
        if work.ceiling is not None and tokens.out > work.ceiling and rates.out is not None:
            found[Saving.ANSWERS] = (tokens.out - work.ceiling) * rates.out // rates.unit
        if rates.in_ is not None and rates.cached is not None and rates.write is not None:
            read, written, _ = repeat
            dearer = max(rates.write - rates.in_, 0)
            found[Saving.CACHE] = (read * (rates.in_ - rates.cached) - written * dearer) // rates.unit
    return found


def _is_unfit(call: UsageRecord, work: Work, tariffs: Sequence[Sequence[Charge]]) -> bool:
    tokens = call.tokens
    if call.status != "ok" or tokens is None or tokens.in_ + tokens.out == 0 or work.other is None:
        return False
    other = _charge(tariffs[work.other], call, tokens)
    return other is not None and not _takes(other, tokens)


def _charge(tariff: Sequence[Charge], call: UsageRecord, tokens: Tokens) -> Charge | None:
    for each in tariff:
        fits = each.above < tokens.in_ and (each.upto is None or tokens.in_ <= each.upto)
        if fits and each.begin <= _ms(call) < each.end:
            return each
    return None


def _takes(charge: Charge, tokens: Tokens) -> bool:
    return (charge.context is None or tokens.in_ + tokens.out <= charge.context) and (
        charge.max_output is None or tokens.out <= charge.max_output
    )


def _repeats(calls: Sequence[UsageRecord], agent: Read, session: Read) -> Mapping[str, Repeat]:
    """By id."""
    runs: dict[tuple[str, ...], list[UsageRecord]] = {}
    for call in sorted(calls, key=lambda call: (_ms(call), key_of(call.id))):
        if call.status == "ok" and call.tokens is not None and call.tokens.in_ >= LEAST_CACHED:
            own = agent(call), call.provider, call.model
            if session(call) != NONE:
                runs.setdefault(("grown", *own, session(call)), []).append(call)
            if _is_sketch(call.prompt_sketch):
                runs.setdefault(("same", *own, str(call.prompt_sketch)), []).append(call)
    found: dict[str, Repeat] = {}
    for key, run in runs.items():
        steps: list[tuple[UsageRecord, UsageRecord]] = []
        for before, call in pairwise(run):
            if not _follows(before, call, grown=key[0] == "grown"):
                _add(found, steps, key[0] == "grown")
                steps = []
            else:
                steps.append((before, call))
        _add(found, steps, key[0] == "grown")
    return found


def _add(found: dict[str, Repeat], steps: Sequence[tuple[UsageRecord, UsageRecord]], grown: bool) -> None:
    if len(steps) < IN_A_ROW:
        return
    for number, (before, call) in enumerate(steps):
        assert before.tokens is not None and call.tokens is not None
        tokens = call.tokens
        again = min(before.tokens.in_, tokens.in_)
        read = again - tokens.cached - tokens.cache_write - tokens.cache_write_1h
        written = tokens.in_ - again + (before.tokens.in_ if number == 0 else 0)
        if read > 0:
            found[call.id] = max(found.get(call.id, (0, 0, False)), (read, written, grown), key=lambda r: (r[0], r[2]))


def _follows(before: UsageRecord, call: UsageRecord, *, grown: bool) -> bool:
    assert before.tokens is not None and call.tokens is not None
    size, size_before = call.tokens.in_, before.tokens.in_
    if _ms(call) - _ms(before) > KEPT_MS:
        return False
    if grown:
        return size >= size_before + max(before.tokens.out - before.tokens.reasoning, 1)
    return abs(size - size_before) * SAME_SIZE <= size_before


def _is_sketch(text: str | None) -> bool:
    return text is not None and len(text) == 16 and set(text) <= set("0123456789abcdef")


def _ms(call: UsageRecord) -> int:
    return (call.instant - _EPOCH) // timedelta(milliseconds=1)
