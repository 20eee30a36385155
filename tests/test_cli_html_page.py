"""The HTML page and its charts as text: labels, bars, bounds, and nothing unescaped."""

from __future__ import annotations

import re
import xml.etree.ElementTree
from decimal import Decimal
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callmeter.cli.html_charts import chart_of, short_label
from callmeter.cli.html_page import html_page
from callmeter.reports.report import Board, Column, Kind, Report, Row

FACTS = {"zone": "UTC", "now": "2026-11-16T06:00:00.000Z"}


def course(costs: list[int | None]) -> Report:
    columns = [
        Column("week", "week", Kind.TEXT),
        Column("cost", "cost", Kind.MONEY),
        Column("calls", "calls", Kind.COUNT),
    ]
    rows = [Row({"week": f"2026-W{10 + n}", "cost": cost, "calls": 1}) for n, cost in enumerate(costs)]
    return Report("The last weeks", columns, rows)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("2026-11-09 Mon", "Mon 9"),
        ("2026-W46", "W46"),
        ("2026-10", "Oct"),
        ("2026-11-09", "9 Nov"),
        ("2026-11-09 09:00", "09"),
        ("2026-10-25 02:00+02:00", "02"),
        ("(none)", "(none)"),
    ],
)
def test_labels_are_short(text: str, label: str) -> None:
    assert short_label(text) == label


@given(st.lists(st.none() | st.integers(-(10**12), 10**18), min_size=2, max_size=40))
def test_every_bar_and_tick_lies_within_its_chart(costs: list[int | None]) -> None:
    chart = chart_of("course", course(costs), "", "")
    if chart is None:
        assert not any(costs)
        return
    for bar in chart.bars:
        assert bar.height >= 0
        assert 0 <= bar.x <= bar.x + bar.width <= chart.width
        assert 0 <= bar.y <= bar.y + bar.height <= chart.height
    assert all(0 <= tick.y <= chart.height for tick in chart.ticks)
    assert len(chart.ticks) <= 7
    assert len(chart.bars) == len(costs)


def test_the_dearest_bar_is_the_highest_and_the_last_one_is_now() -> None:
    chart = chart_of("course", course([10**9, 3 * 10**9, 2 * 10**9]), "", "")
    assert chart is not None
    heights = [bar.height for bar in chart.bars]
    assert heights[1] == pytest.approx(3 * heights[0], abs=0.2)
    assert heights[2] == pytest.approx(2 * heights[0], abs=0.2)
    assert [bar.kind for bar in chart.bars] == ["past", "past", "now"]
    assert [mark.text for mark in chart.values] == ["$1.00", "$3.00", "$2.00"]
    assert [mark.text for mark in chart.ticks] == ["$0", "$1", "$2", "$3"]
    assert chart.ticks[0].y == pytest.approx(chart.bars[0].y + chart.bars[0].height, abs=0.2)


@pytest.mark.parametrize("count", [2, 8, 9, 31])
def test_bars_have_their_amount_above_their_middle_and_at_most_eight_have_labels(count: int) -> None:
    chart = chart_of("course", course([10**9 * (n + 1) for n in range(count)]), "", "")
    assert chart is not None
    middles = [bar.x + bar.width / 2 for bar in chart.bars]
    every = -(-count // 8)
    assert [mark.text for mark in chart.labels] == [f"W{10 + n}" for n in range(0, count, every)]
    assert [mark.x for mark in chart.labels] == pytest.approx(middles[::every], abs=0.2)
    if count > 8:
        assert list(chart.values) == []
        return
    assert [mark.x for mark in chart.values] == pytest.approx(middles, abs=0.2)
    assert all(0 < bar.y - mark.y < 12 for mark, bar in zip(chart.values, chart.bars, strict=True))


def test_days_stand_beside_those_before_and_each_bar_says_which_it_is() -> None:
    columns = [Column("day", "day", Kind.TEXT), Column("cost", "cost", Kind.MONEY), Column("before", "", Kind.MONEY)]
    days = [("2026-11-09 Mon", 10**9, 2 * 10**9), ("2026-11-10 Tue", 3 * 10**9, 0)]
    rows = [Row({"day": day, "cost": cost, "before": before}) for day, cost, before in days]
    chart = chart_of("parts", Report("By day", columns, rows), "week 46", "week 45")
    assert chart is not None
    assert [bar.title for bar in chart.bars] == [
        "2026-11-09 Mon, before: $2.00",
        "2026-11-10 Tue, before: $0.00",
        "2026-11-09 Mon: $1.00",
        "2026-11-10 Tue: $3.00",
    ]
    assert chart.legend == [("now", "week 46"), ("before", "week 45")]
    assert chart.description == "2026-11-09 Mon: $1.00, 2026-11-10 Tue: $3.00"
    before, _, now, _ = chart.bars
    assert before.x + before.width == pytest.approx(now.x, abs=0.2)
    alone = chart_of("parts", Report("By day", columns[:2], [Row({"day": day, "cost": 5}) for day, *_ in days]), "", "")
    assert alone is not None and [bar.kind for bar in alone.bars] == ["now", "now"] and not alone.legend


class Reader(HTMLParser):
    """Elements and texts of a page, as a browser finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(board: Board) -> Reader:
    reader = Reader()
    reader.feed(html_page(board))
    return reader


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_text_becomes_markup_wherever_it_stands(name: str) -> None:
    def board(text: str) -> Board:
        quoted = text.replace("`", "'")  # in notes, commands stand between backticks, and are set as such
        rows = [Row({"agent": text, "cost": 5, "why": text})]
        columns = [
            Column("agent", text, Kind.TEXT),
            Column("cost", "cost", Kind.MONEY),
            Column("why", "", Kind.TEXT, below=True),
        ]
        report = Report(text, columns, rows, {"cost": 5}, notes=[quoted])
        return Board(text, {"agents": report}, notes=[quoted], facts=FACTS, lead=[text, text])

    plain = [(tag, sorted(attributes)) for tag, attributes in read(board("x")).tags]
    assert [(tag, sorted(attributes)) for tag, attributes in read(board(name)).tags] == plain


def test_tables_have_headers_and_charts_have_names() -> None:
    reader = read(Board("Review", {"course": course([1, 2])}, facts=FACTS))
    heads = [attributes for tag, attributes in reader.tags if tag == "th"]
    assert {each["scope"] for each in heads} == {"col", "row"}
    assert [attributes.get("aria-label") for tag, attributes in reader.tags if tag == "table"] == ["The last weeks"]
    charts = [attributes for tag, attributes in reader.tags if tag == "svg" and attributes.get("role") == "img"]
    ids = {attributes.get("id") for _, attributes in reader.tags}
    assert charts
    assert all(set(str(each["aria-labelledby"]).split()) <= ids for each in charts)
    assert ("html", {"lang": "en"}) in reader.tags


def test_what_a_share_a_level_and_a_change_are_is_drawn() -> None:
    columns = [
        Column("agent", "agent", Kind.TEXT),
        Column("share", "share", Kind.SHARE),
        Column("level", "full", Kind.FILL),
        Column("difference", "change", Kind.DIFFERENCE),
    ]
    rows = [
        Row({"agent": "a", "share": Decimal("0.8"), "level": Decimal("1.2"), "difference": 4}),
        Row({"agent": "b", "share": Decimal("0.2"), "level": Decimal("0.95"), "difference": -2}),
    ]
    reader = read(Board("Review", {"agents": Report("By agent", columns, rows)}, facts=FACTS))
    drawn = [attributes for tag, attributes in reader.tags if tag == "rect" and attributes.get("class") != "track"]
    assert [(each["class"], float(str(each["x"])), float(str(each["width"]))) for each in drawn] == [
        ("share", 0, 100),
        ("over", 0, 100),
        ("more", 50, 50),
        ("share", 0, 25),
        ("near", 0, 95),
        ("less", 25, 25),
    ]


def test_columns_for_scripts_do_not_push_others_over_the_edge() -> None:
    columns = [Column("week", "week", Kind.TEXT), Column("quality", "quality", Kind.TEXT, optional=10)]
    report = Report("What will probably be spent", columns, [Row({"week": "2026-W46", "quality": "ok"})])
    page = html_page(Board("Review", {"forecast": report}, facts=FACTS))
    assert "2026-W46" in page and "quality" not in page


def tiles(**cells: object) -> list[str]:
    """What stands above everything else for a span with these figures, a line for each."""
    row = Row({"week": "2026-W46", "cost": 5, "calls": 153, **cells})  # type: ignore[dict-item]
    report = Report("The last weeks", course([1]).columns, [Row({"week": "2026-W45", "cost": 4, "calls": 1}), row])
    page = html_page(Board("Review", {"course": report}, facts=FACTS))
    return [" ".join(re.sub(r"<[^>]+>", " ", tile).split()) for tile in re.findall(r'<div class="tile">.*', page)]


def test_the_figures_of_the_span_stand_on_top() -> None:
    change = {"difference": 205_240_000, "change": Decimal("0.616")}
    sizes = {"tokens": 175_700, "cost_per_1k_tokens": 3_062_948}
    assert tiles(cost=538_160_000, **change, **sizes, refused=3, errors=2) == [
        "spent $0.538",
        "change +$0.205 +62%",
        "calls 153 3 refused",
        "tokens 176 k $0.00306 per 1k",
        "errors 2 1.3% of calls",
    ]
    assert tiles(cost=None, difference=-2 * 10**9) == ["spent unknown", "change -$2.00", "calls 153"]


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        (999, "999"),
        (1_000, "1 k"),
        (25_449, "25.4 k"),
        (999_499, "999 k"),
        (999_500, "1 M"),
        (3_084_000, "3.08 M"),
        (999_999_999, "1 G"),
        (1_234 * 10**9, "1,230 G"),
    ],
)
def test_tokens_on_top_have_three_digits_and_a_unit(tokens: int, shown: str) -> None:
    assert tiles(tokens=tokens)[-1] == f"tokens {shown}"


def test_the_page_is_well_formed() -> None:
    page = html_page(Board("Review", {"course": course([1, 2])}, facts=FACTS, lead=["a", "b"], notes=["c"]))
    body = page[page.index("<body>") : page.index("</html>")]
    xml.etree.ElementTree.fromstring(body)


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_text_can_be_read_on_its_ground_in_light_and_dark_and_on_paper() -> None:
    page = html_page(Board("Review", {}, facts=FACTS))
    palettes = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", part)) for part in re.split(r"@media", page)]
    palettes = [palette for palette in palettes if palette]
    assert len(palettes) == 3
    for palette in palettes:
        for ground in ("page", "card"):
            for text in ("text", "quiet", "more", "less"):
                dark, light = sorted((luminance(palette[text]), luminance(palette[ground])))
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground, palette)
