"""What a review asks of the usage log about its span and the one before it: all of it at once, which takes little more
time than one of the questions by itself."""

from __future__ import annotations

from collections.abc import Mapping

from callmeter.reports.review_span import Span
from callmeter.reports.usage import Figures, Usage
from callmeter.words.period import Period

DIMENSIONS = {
    "agent": ("agents", "By agent"),
    "purpose": ("purposes", "By purpose"),
    "model": ("models", "By model"),
    "environment": ("environments", "By environment"),
    "work_item": ("work_items", "By work item"),
}
# Of which there are thousands; what each cost is asked for itself.
_MANY_VALUES = "work_item"
_BY = (
    ("provider", "model", "status"),
    ("provider", "model", "agent"),
    ("status", "finish_reason", "error"),
    ("origin",),
    *((key,) for key in DIMENSIONS if key != _MANY_VALUES),
)
_ONLY = (
    "calls", "refused", "errors", "retried", "retried_nano", "retried_unknown", "unknown", "nano", "calls_nano",
    "priced", "tokens_in", "tokens_out", "tokens_cached", "tokens_cache_write",
)  # fmt: skip
_OF_SPANS = (
    "calls", "refused", "errors", "corrections", "unknown", "nano", "priced", "priced_nano", "priced_tokens",
    "tokens_in", "tokens_out",
)  # fmt: skip
Groups = Mapping[tuple[str, ...], Figures]


class Account:
    """The groups of a `span` and of the one before it, and the `spans` up to it by their labels. Figures are those that
    reviews speak of, without times; `first` is when the log begins."""

    def __init__(self, usage: Usage, span: Span) -> None:
        self.span = span
        self.first = usage.reading.first
        bys = ((span.parts_unit,), *_BY)
        period = Period(span.before.start, span.end, "")
        found = usage.groupings([(span.unit, *by) for by in bys], _ONLY, period=period)
        self._groups: dict[tuple[tuple[str, ...], str], dict[tuple[str, ...], Figures]] = {}
        for by, groups in zip(bys, found, strict=True):
            for (label, *names), figures in groups:
                self._groups.setdefault((by, label), {})[tuple(names)] = figures
        for each in (span, span.before):
            self._groups[(_MANY_VALUES,), each.label] = {
                spent.names: Figures(
                    calls=spent.calls, unknown=spent.unknown, nano=spent.nano, priced=spent.calls - spent.unknown
                )
                for spent in usage.spent((_MANY_VALUES,), period=each.period, times=False)
            }
        period = Period(span.looked_back()[0].start, span.end, "")
        spans = usage.groups((span.unit,), period=period, only=_OF_SPANS)
        self.spans = {names[0]: figures for names, figures in spans}

    def now(self, *by: str) -> Groups:
        """The groups of the span by `provider` and `model`, say."""
        return self._groups.get((by, self.span.label), {})

    def before(self, *by: str) -> Groups:
        """Those of the span before."""
        return self._groups.get((by, self.span.before.label), {})

    def total(self, span: Span) -> Figures:
        """All of one of the `spans`."""
        return self.spans.get(span.label, Figures())
