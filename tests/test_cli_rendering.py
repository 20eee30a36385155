"""One report in every shape: the same rows, exact figures, text that stays text."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from callmeter.cli.cells import shown_column
from callmeter.cli.rendering import pieces, render
from callmeter.reports.breakdown import Question, breakdown
from callmeter.reports.report import Board, Cell, Column, Kind, Report, Row
from callmeter.words.jsontext import loads
from callmeter.words.period import Period
from log_text import at, log_records
from plain_usage import PlainUsage

SHAPES = ["text", "json", "jsonl", "csv", "tsv", "markdown"]
LOG = """
2026-11-20T09:00Z agent=code   purpose=triage cost=0.000001979964 in=1200 out=400 cached=7 ms=2310
2026-11-20T09:01Z agent=code   purpose=review cost=12.5           in=10   out=20           ms=310
2026-11-20T09:02Z agent=triage purpose=triage                     in=10   out=20           ms=90000
2026-11-20T09:03Z agent=triage purpose=triage status=refused
"""
COLOUR = re.compile(r"\x1b\[\d+m")


class Stream(io.StringIO):
    """A stream that says what it is."""

    def __init__(self, terminal: bool = False, encoding: str = "utf-8") -> None:
        super().__init__()
        self._terminal = terminal
        self._encoding = encoding

    @property
    def encoding(self) -> str:
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal


def tree() -> Report:
    period = Period(at("2026-11-20T00:00Z"), at("2026-11-21T00:00Z"), "2026-11-20")
    return breakdown(PlainUsage(log_records(LOG)), Question(by=["agent", "purpose"], period=period))


def text(report: Report | Board, width: int = 100, env: Mapping[str, str] | None = None, **stream: object) -> str:
    return render(report, "text", Stream(**stream), {"COLUMNS": str(width), **(env or {})})  # type: ignore[arg-type]


def flat(*names: str) -> Report:
    columns = [Column("name", "name", Kind.TEXT), Column("cost", "cost", Kind.MONEY)]
    return Report("Names", columns, [Row({"name": name, "cost": -1}) for name in names])


def test_the_text_of_a_tree_is_a_table_with_bars() -> None:
    assert (
        text(tree(), 78)
        == """\
Cost by agent, purpose
2026-11-20 (UTC)

agent / purpose      cost  unknown   share              calls  errors  refused
code             $12.5000           100.0%  ██████████      2       0
  review         $12.5000           100.0%  ██████████      1       0
  triage         <$0.0001             0.0%                  1       0
triage            unknown        1                          1       0        1
  triage          unknown        1                          1       0        1
──────────────────────────────────────────────────────────────────────────────
total            $12.5000        1  100.0%                  3       0        1

Of the cost: $12.50 billed by the provider (2 calls).
The cost of 1 call is unknown and in no sum.
1 call refused before anything was sent: not among the calls.
"""
    )


def test_json_is_one_object_with_exact_numbers() -> None:
    found = loads(render(tree(), "json", None, {}))
    assert isinstance(found, dict)
    assert list(found) == ["title", "period", "rows", "total", "notes", "facts"]
    assert found["period"] == {
        "label": "2026-11-20",
        "start": "2026-11-20T00:00:00.000Z",
        "end": "2026-11-21T00:00:00.000Z",
        "zone": "UTC",
    }
    assert found["total"]["cost"] == Decimal("12.50000198")
    triage = found["rows"][2]
    assert (triage["agent"], triage["purpose"], triage["cost"]) == ("code", "triage", Decimal("0.00000198"))
    assert (triage["latency_p95_ms"], triage["tokens_cached"]) == (2310, 7)
    assert found["rows"][3]["cost"] is None, "unknown is no zero"
    assert sum(row["cost"] or 0 for row in found["rows"] if row["row"] == "group") == found["total"]["cost"]


def test_json_lines_mark_what_repeats_other_rows() -> None:
    rows = [loads(line) for line in render(tree(), "jsonl", None, {}).splitlines()]
    assert [row["row"] for row in rows] == ["subtotal", "group", "group", "subtotal", "group", "total"]  # type: ignore[index,call-overload]
    assert {tuple(row) for row in rows} == {tuple(rows[0])}, "every line has the same keys"  # type: ignore[arg-type]


def test_rows_that_repeat_nothing_are_not_marked() -> None:
    assert render(flat("a"), "jsonl", None, {}) == '{"name":"a","cost":-0.000000001}\n'
    assert render(flat("a"), "csv", None, {}) == '"name","cost"\r\n"a","-0.000000001"\r\n'


def test_every_shape_has_the_same_rows() -> None:
    report = tree()
    names = [(row.cells["agent"], row.cells["purpose"]) for row in report.rows]
    rows = list(csv.DictReader(io.StringIO(render(report, "csv", None, {}), newline="")))
    assert [(row["agent"], row["purpose"] or None) for row in rows[:-1]] == names
    lines = render(report, "tsv", None, {}).splitlines()
    assert [line.split("\t") for line in lines] == [list(rows[0]), *(list(row.values()) for row in rows)]
    marked = [line for line in render(report, "markdown", None, {}).splitlines() if line.startswith("|")]
    assert len(marked) == 2 + len(names) + 1
    body = text(report).split("\n\n")[1].splitlines()
    assert len(body) == 1 + len(names) + 2


def test_csv_is_rfc_4180_with_every_cell_quoted() -> None:
    assert render(flat('say "hi", you'), "csv", None, {}) == '"name","cost"\r\n"say ""hi"", you","-0.000000001"\r\n'


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＠"])
@pytest.mark.parametrize("shape", ["csv", "tsv"])
def test_no_text_is_a_formula_and_numbers_stay_numbers(start: str, shape: str) -> None:
    output = render(flat(start + "cmd|' /C calc'!A0"), shape, None, {})
    cells = re.split(r'[\t\r\n,"]+', output)
    assert any(cell.startswith("'") and "cmd" in cell for cell in cells)
    assert "-0.000000001" in cells
    assert len(output.splitlines()) == 2


def test_markdown_shows_text_as_it_is() -> None:
    output = render(flat("a|b`c`<script>*d*_e_[f](g)&amp; h_i\\"), "markdown", None, {})
    assert r"| a\|b\`c\`&lt;script&gt;\*d\*\_e\_\[f\](g)&amp;amp; h_i\\ |" in output


def test_markdown_has_a_heading_a_table_and_notes() -> None:
    lines = render(tree(), "markdown", None, {}).splitlines()
    assert lines[0] == "## Cost by agent, purpose"
    assert lines[4].startswith("| agent | purpose | cost |")
    assert lines[5].startswith("| --- | --- | ---: |")
    assert lines[6].startswith("| **code** |  | **$12.5000** |")
    assert lines[7].startswith("| code | review | $12.5000 |")
    assert any(line.startswith("| **total** |") for line in lines)
    assert "- The cost of 1 call is unknown and in no sum." in lines


@given(st.text(max_size=60), st.integers(40, 120))
def test_no_text_drives_a_terminal_or_changes_the_shape(name: str, width: int) -> None:
    board = Board(name or "x", {"section": flat("plain", name)}, notes=[])
    shape = [*text(Board("x", {"section": flat("plain", "x")}, notes=[]), width).splitlines()]
    output = text(board, width)
    lines = output[:-1].split("\n")
    assert all(line.isprintable() for line in lines)
    if " " not in name:  # sentences may fold
        assert len(lines) == len(shape)
    for machine in ("csv", "tsv"):
        output = render(flat(name), machine, None, {})
        assert all(line.replace("\t", "").isprintable() for line in output.replace("\r\n", "\n").split("\n"))
    assert render(flat(name), "jsonl", None, {}).isascii()


def test_control_and_invisible_characters_become_escapes() -> None:
    output = text(flat("re\x1b[31mv\u202eiew\u200b\x9b"))
    assert r"re\x1b[31mv\u202eiew\u200b\x9b" in output


@pytest.mark.parametrize("width", [60, 72, 80, 100, 140, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = "agent=0192f0c1-aaaa-7bbb-8ccc-1234567890ab-and-more purpose=漢字漢字漢字漢字漢字漢字漢字"
    log = f"{LOG}2026-11-20T09:04Z {long} cost=123456"
    report = breakdown(PlainUsage(log_records(log)), Question(by=["agent", "purpose"]))
    lines = text(report, width).splitlines()
    assert max(map(cell_len, lines)) <= width
    table = [line for line in lines[3:] if "$" in line and "Of the cost" not in line]
    ends = {
        cell_len(line[: line.index("$")] + line[line.index("$") :].split(" ")[0]) for line in table if "<" not in line
    }
    assert len(ends) == 1, "amounts end in one column, whatever the script of the names"


def test_a_narrow_terminal_loses_optional_columns_first_and_then_the_middle_of_names() -> None:
    log = "2026-11-20T09:00Z agent=anthropic/claude-3.5-sonnet-20241022 cost=1 in=1 out=1 ms=1"
    report = breakdown(PlainUsage(log_records(log)), Question())
    assert "anthropic/claude-3.5-sonnet-20241022" in text(report, 110)
    narrow = text(report, 60).splitlines()
    assert narrow[3].split() == ["agent", "cost", "share", "calls", "errors"]
    assert narrow[4].split()[0] == "anthropic/c…t-20241022"
    narrower = text(report, 42).splitlines()
    assert narrower[3].split() == ["agent", "cost", "share", "calls"]
    assert narrower[4].split()[0] == "anthropic/…-20241022"


TRIAL = Report(
    "Trial",
    [
        Column("subject", "subject", Kind.TEXT),
        Column("ratio", "error / last week", Kind.RATIO),
        Column("spent", "spent", Kind.RATE),
        Column("why", "because", Kind.TEXT),
        Column("act", "to do", Kind.COMMAND, below=True),
    ],
    [Row({"subject": "agent:code", "ratio": Decimal("1.18"), "spent": 12 * 10**9, "why": "a few words", "act": "ls"})],
    {"subject": None, "ratio": None, "spent": 12 * 10**9, "why": None},
)


def test_a_narrow_terminal_folds_titles() -> None:
    assert (
        text(TRIAL, 38)
        == """\
Trial

subject     error   spent  because
                /
             last
             week
agent:code  1.18x  $12.00  a few words
  ls
──────────────────────────────────────
total              $12.00
"""
    )


def test_what_is_too_wide_even_so_has_its_cells_one_below_the_other() -> None:
    assert (
        text(TRIAL, 27)
        == """\
Trial

agent:code
  error / last week  1.18x
  spent              $12.00
  because
    a few words
  ls
───────────────────────────
total
  spent              $12.00
"""
    )


@pytest.mark.parametrize("width", [24, 30, 40, 60])
def test_a_tree_in_one_column_keeps_its_levels(width: int) -> None:
    log = f"{LOG}2026-11-20T09:04Z agent=code purpose=chat cost=123456789.123456789"
    question = Question(by=["agent", "purpose"], percentiles=True)
    lines = text(breakdown(PlainUsage(log_records(log)), question), width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert any(line.startswith("code") for line in lines)
    assert any(line.startswith("  chat") for line in lines)


def test_a_range_is_shown_whole_or_not_at_all() -> None:
    columns = [
        Column("what", "what", Kind.TEXT),
        Column("low", "95%: from", Kind.RATE, optional=5),
        Column("high", "to", Kind.RATE, optional=5),
    ]
    report = Report("Range", columns, [Row({"what": "w" * 20, "low": 10**9, "high": 123 * 10**9})])
    seen = {tuple(text(report, width).splitlines()[2].split()) for width in range(24, 60)}
    assert seen == {("what",), ("what", "95%:", "from", "to")}


def test_where_titles_fold_they_fold_no_more_than_they_must_and_names_stay_whole() -> None:
    columns = [
        Column("subject", "subject", Kind.TEXT),
        *(Column(f"c{n}", "error / last week", Kind.COUNT) for n in range(3)),
    ]
    report = Report("Errors", columns, [Row({"subject": "agent:review", "c0": 7, "c1": 7, "c2": 7})])
    lines = text(report, 50).splitlines()[2:]
    assert [line.split() for line in lines] == [
        ["subject", *["error", "/"] * 3],
        ["last", "week"] * 3,
        ["agent:review", "7", "7", "7"],
    ]


@pytest.mark.parametrize(
    ("sort", "title"), [("tokens", "tokens in"), ("latency", "took p95"), ("errors", "errors"), ("calls", "calls")]
)
def test_what_rows_are_sorted_by_stays_on_a_narrow_terminal(sort: str, title: str) -> None:
    log = f"{LOG}2026-11-20T09:04Z agent=code purpose=chat cost=1 in=1000000 out=100000 ms=900"
    for percentiles in (False, True):
        question = Question(by=["agent"], sort=sort, percentiles=percentiles)
        heading = text(breakdown(PlainUsage(log_records(log)), question), 46).splitlines()[3]
        assert title.split()[-1] in heading.split(), heading


def test_what_was_asked_for_and_finds_no_room_is_named() -> None:
    columns = [
        Column("what", "what", Kind.TEXT),
        Column("p50", "cost p50", Kind.RATE, optional=2, asked=True),
        Column("p99", "p99", Kind.RATE, optional=4, asked=True),
        Column("calls", "calls", Kind.COUNT, optional=9),
    ]
    report = Report("Costs", columns, [Row({"what": "w" * 14, "p50": 10**9, "p99": 10**9, "calls": 1})])
    said = "No room for p99: make the terminal wider, or use `--format csv`."
    assert said in " ".join(text(report, 28).split())
    assert said.replace("p99", "p50, p99") in " ".join(text(report, 20).split())
    assert "No room" not in text(report, 36)


def test_a_chart_that_finds_no_room_is_not_looked_for_in_a_csv_file() -> None:
    columns = [
        Column("what", "what", Kind.TEXT),
        Column("p99", "p99", Kind.RATE, optional=2, asked=True),
        Column("chart", "by day", Kind.MARKS, optional=1, asked=True),
    ]
    row = {"what": "w" * 14, "p99": 10**9, "chart": "1" * 20}
    assert "No room for chart: make the terminal wider." in " ".join(
        text(Report("Costs", [columns[0], columns[2]], [Row(row)]), 20).split()
    )
    both = " ".join(text(Report("Costs", columns, [Row(row)]), 20).split())
    assert "No room for p99, chart: make the terminal wider, or use `--format csv`." in both


def test_sentences_fold_and_names_do_not() -> None:
    columns = [Column("name", "name", Kind.TEXT), Column("meaning", "meaning", Kind.TEXT)]
    report = Report("Words", columns, [Row({"name": "x" * 30, "meaning": "one two three four five six seven eight"})])
    lines = text(report, 40).splitlines()
    assert max(map(len, lines)) <= 40
    assert " ".join(line.split("  ")[-1].strip() for line in lines[3:]) == "one two three four five six seven eight"


def test_a_terminal_changes_colour_and_nothing_else() -> None:
    piped = text(tree())
    shown = text(tree(), terminal=True)
    assert COLOUR.search(shown)
    assert COLOUR.sub("", shown) == piped
    assert not COLOUR.search(piped)


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(env: dict[str, str]) -> None:
    assert text(tree(), env=env, terminal=True) == text(tree())


def test_without_a_terminal_and_without_columns_the_width_is_100() -> None:
    assert render(tree(), "text", Stream(), {}) == text(tree(), 100)
    assert render(tree(), "text", Stream(), {"COLUMNS": "wide"}) == text(tree(), 100)
    assert render(tree(), "text", None, {}) == render(tree(), "text", Stream(encoding="ascii"), {})


def test_bars_and_rules_are_ascii_where_nothing_else_can_be_shown() -> None:
    output = text(tree(), encoding="latin-1")
    assert output.isascii()
    assert "####" in output
    assert "----" in output
    assert len(output.splitlines()) == len(text(tree()).splitlines())


def test_bars_are_as_long_as_their_shares() -> None:
    log = "2026-11-20T09:00Z agent=a cost=4\n2026-11-20T09:00Z agent=b cost=2\n2026-11-20T09:00Z agent=c cost=0.01\n"
    usage = PlainUsage(log_records(log + "2026-11-20T09:00Z agent=d cost=0"))
    lines = text(breakdown(usage, Question()), 160).splitlines()
    bars = {line[0]: line.count("█") for line in lines if line[:1] in "abcd" and "$" in line}
    assert bars == {"a": 20, "b": 10, "c": 0, "d": 0}
    assert sum("▏" in line for line in lines) == 1, "the smallest share that is not zero shows"


@pytest.mark.parametrize(
    ("amounts", "shown"),
    [
        ([12_340_000_000, 217_000], ["$12.3400", "$0.0002"]),
        ([9_600_000, 1_980], ["$0.009600", "$0.000002"]),
        ([1_500_000_000_000, 10_000_000], ["$1,500.00", "$0.01"]),
        ([55_000_000_000, 3], ["$55.0000", "<$0.0001"]),
        ([-500_000_000, 0], ["-$0.500", "$0.000"]),
        ([0, 0], ["$0.00", "$0.00"]),
        ([None, 10**9], ["unknown", "$1.00"]),
    ],
)
def test_amounts_of_a_column_have_the_same_places(amounts: list[int | None], shown: list[str]) -> None:
    report = Report("Money", [Column("n", "n", Kind.TEXT), Column("cost", "cost", Kind.MONEY)], [
        Row({"n": "row", "cost": amount}) for amount in amounts
    ])  # fmt: skip
    assert [line.split()[-1] for line in text(report).splitlines()[3:]] == shown


@pytest.mark.parametrize(
    ("kind", "cell", "shown"),
    [
        (Kind.COUNT, 1234567, "1,234,567"),
        (Kind.SHARE, Decimal("0.5"), "50.0%"),
        (Kind.FILL, Decimal("1.2"), "120.0%"),
        (Kind.PART, Decimal("0.95"), "95%"),
        (Kind.CHANGE, Decimal("-0.125"), "-12%"),
        (Kind.DAYS, Decimal("2.0"), "2.0 d"),
        (Kind.RATIO, Decimal("9.994"), "9.99x"),
        (Kind.RATIO, Decimal("17.94"), "17.9x"),
        (Kind.RATIO, Decimal("1370.2"), "1,370x"),
        (Kind.MILLISECONDS, 999, "999 ms"),
        (Kind.MILLISECONDS, 1000, "1.00 s"),
        (Kind.MILLISECONDS, 9_990, "9.99 s"),
        (Kind.MILLISECONDS, 10_000, "10.0 s"),
        (Kind.MILLISECONDS, 83_100, "83.1 s"),
        (Kind.INSTANT, "2026-11-21T09:30:01.123+01:00", "2026-11-21 09:30:01+01:00"),
        (Kind.MONEY, None, "unknown"),
        (Kind.RATE, None, ""),
        (Kind.PRICE, 150_000_000, "$0.15"),
        (Kind.PRICE, None, "unknown"),
    ],
)
def test_kinds_read_well(kind: Kind, cell: Cell, shown: str) -> None:
    assert shown_column(Column("c", "", kind), [cell]) == [shown]


def test_a_board_is_one_object_one_page_or_one_table() -> None:
    board = Board("Page", {"one": flat("a"), "two": tree()}, notes=["A note."], facts={"now": "x"})
    found = loads(render(board, "json", None, {}))
    assert isinstance(found, dict)
    assert list(found["sections"]) == ["one", "two"]
    assert (found["notes"], found["facts"]) == (["A note."], {"now": "x"})
    lines = [loads(line) for line in render(board, "jsonl", None, {}).splitlines()]
    assert [line["section"] for line in lines] == ["one"] + ["two"] * 6  # type: ignore[index,call-overload]
    rows = list(csv.DictReader(io.StringIO(render(board, "csv", None, {}), newline="")))
    assert len(rows) == 7
    assert (rows[0]["section"], rows[0]["name"], rows[0]["row"], rows[0]["agent"]) == ("one", "a", "", "")
    page = text(board)
    assert page.startswith("Page\n\nNames\n")
    assert page.endswith("\n\nA note.\n")
    assert render(board, "markdown", None, {}).startswith("## Page\n\n### Names\n\n| name | cost |\n")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_report_without_rows_has_every_shape(shape: str) -> None:
    report = breakdown(PlainUsage([]), Question())
    assert render(report, shape, None, {}).endswith("\n")
    assert ("No calls." in render(report, shape, None, {})) == (shape in ("text", "json", "markdown"))


@pytest.mark.parametrize("shape", ["json", "jsonl", "csv", "tsv"])
def test_a_long_report_is_rendered_piece_by_piece_as_a_short_one_is(shape: str) -> None:
    columns = [Column("name", "name", Kind.TEXT), Column("cost", "cost", Kind.MONEY)]
    rows = [Row({"name": f'row "rows":[] {number}', "cost": number}) for number in range(2_500)]
    whole = Report('of "rows":[]', columns, rows, total={"name": None, "cost": 1}, facts={"rows": []})
    found = list(pieces(whole, shape, None, {}))
    assert len(found) > 2 and max(map(len, found)) < sum(map(len, found)) / 2
    parts = [render(replace(whole, rows=rows[start : start + 1]), shape, None, {}) for start in (0, 2_499)]
    text = "".join(found)
    if shape == "json":
        shown = json.loads(text)
        assert [row["name"] for row in shown["rows"]] == [row.cells["name"] for row in rows]
        assert {**shown, "rows": []} == {**json.loads(parts[0]), "rows": []}
        assert json.loads(parts[1])["rows"] == shown["rows"][-1:]
    else:
        lines = text.splitlines()
        assert [lines[0], lines[-2]] == [parts[0].splitlines()[0], parts[1].splitlines()[-2]]
        assert len(lines) == 2_500 + (1 if shape == "jsonl" else 2)
