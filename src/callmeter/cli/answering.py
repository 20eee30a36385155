"""What came of a call, as it is shown: the answer or its first code block, one JSON object, a sentence about tokens and
cost."""

from __future__ import annotations

from callmeter.flows.terms import Outcome
from callmeter.words.errors import Incomplete
from callmeter.words.money import nano, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from decimal import Decimal


def first_code_block(text: str) -> str | None:
    """What stands between the first fence (three or more backticks or tildes) and its closing one (CommonMark)."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        start = line.lstrip(" ")
        for mark in ("`", "~"):
            length = len(start) - len(start.lstrip(mark))
            if length >= 3 and len(line) - len(start) < 4:
                block = []
                for inner in lines[number + 1 :]:
                    closing = inner.strip()
                    if closing and not closing.strip(mark) and len(closing) >= length:
                        break
                    block.append(inner)
                return "".join(block)
    return None


def shaped(text: str, *, block: bool, schema: dict[str, object] | None) -> tuple[str, Incomplete | None]:
    """An answer's first code block, if only that is wanted, and what is wrong with the answer: it has no such block,
    and is then given whole, or it does not meet the schema."""
    if block:
        found = first_code_block(text)
        if found is None:
            return text, Incomplete("the answer has no fenced code block", "it is printed whole", code="no_code")
        text = found
    if schema is not None:
        from callmeter.policy.answer_schema import faults

        wrong = faults(schema, text)
        if wrong:
            return text, Incomplete(
                f"the answer does not meet the schema: {wrong[0]}",
                "run it again, or relax it",
                code="schema",
                faults=wrong,
            )
    return text, None


def warnings_about(finish_reason: str) -> list[str]:
    """What the caller is to be told of an answer that ended in this way."""
    if finish_reason == "content_filter":
        return ["the endpoint's content filter stopped the answer"]
    if finish_reason in ("tool_calls", "function_call"):
        return ["the model asks for a tool to be called, which llm-call does not do"]
    return []


def as_json(outcome: Outcome, text: str, *, replayed: bool = False) -> dict[str, object]:
    """The one object of --json."""
    record = outcome.record
    return {
        "text": text,
        "id": record.get("id"),
        "status": record.get("status"),
        "finish_reason": record.get("finish_reason"),
        "model": record.get("model"),
        "asked_model": record.get("asked_model"),
        "served_model": record.get("served_model"),
        "provider": record.get("provider"),
        "tokens": record.get("tokens"),
        "cost": record.get("cost"),
        "cost_source": record.get("cost_source"),
        "estimate": record.get("estimate"),
        "attempts": record.get("attempts"),
        "duration_ms": record.get("duration_ms"),
        "pool": record.get("pool"),
        "note": record.get("note"),
        "generation_id": record.get("generation_id"),
        "tags": record.get("tags"),
        "replayed": replayed,
        "warnings": outcome.warnings,
    }


def usage_text(outcome: Outcome) -> str:
    """`1,200 tokens in (300 cached), 400 out; $0.0096 (provider)`."""
    tokens = outcome.record.get("tokens")
    if isinstance(tokens, dict):
        cached = f" ({tokens['cached']:,} cached)" if tokens.get("cached") else ""
        used = f"{tokens['in']:,} tokens in{cached}, {tokens['out']:,} out"
    else:
        used = "tokens unknown"
    return f"{used}; cost {money_text(outcome.cost)} ({outcome.record.get('cost_source')})"


def money_text(amount: Decimal | None) -> str:
    """An amount in USD for people; None is unknown."""
    return shown(None if amount is None else nano(amount))
