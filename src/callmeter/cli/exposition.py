"""Metrics as text that scrapers read, and as JSON.

Prometheus: the text exposition format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/).
OpenMetrics 1.0: counters' families lose their `_total`, and the text ends with `# EOF`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from callmeter.cli.look import escaped
from callmeter.reports.metrics import Family, Labels, Value
from callmeter.words.jsontext import dumps

PREFIX = "callmeter_"


def exposition(families: Sequence[Family], *, openmetrics: bool = False) -> str:
    """One line a sample, under its family's HELP and TYPE; money to its last digit."""
    lines = []
    for family in families:
        counter = family.kind == "counter"
        sample = PREFIX + family.name + ("_total" if counter else "")
        name = PREFIX + family.name if openmetrics else sample
        help = family.help.replace("\\", "\\\\").replace("\n", "\\n")
        lines += [f"# HELP {name} {help}", f"# TYPE {name} {family.kind}"]
        seen: dict[str, Value] = {}
        for labels, value in family.samples:
            # Names that differ in what cannot be printed may meet here, and a sample must not stand twice.
            seen[_labels(labels)] = seen.get(_labels(labels), 0) + value
        lines += [f"{sample}{labels} {_number(value)}" for labels, value in seen.items()]
    return "".join(f"{line}\n" for line in [*lines, *(["# EOF"] if openmetrics else [])])


def as_json(families: Sequence[Family]) -> str:
    """The same families as one line of JSON."""
    found = [
        {
            "name": PREFIX + family.name + ("_total" if family.kind == "counter" else ""),
            "type": family.kind,
            "help": family.help,
            "samples": [{"labels": dict(labels), "value": value} for labels, value in family.samples],
        }
        for family in families
    ]
    return dumps({"metrics": found}) + "\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_quoted(value)}"' for name, value in labels) + "}"


def _quoted(text: str) -> str:
    r"""A label's value: what cannot be printed as `\x1b`, then backslash, quote and newline as the format has it."""
    lines = [escaped(line).replace("\\", "\\\\").replace('"', '\\"') for line in text.split("\n")]
    return "\\n".join(lines)


def _number(value: Value) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
