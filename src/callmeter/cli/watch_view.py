"""A live view's page: what goes on at one moment, as wide and as high as the terminal.

On a narrow terminal the panels stand below each other and show fewer rows; the newest calls take what is left. All text
that comes from calls is escaped: none of it can drive the terminal, and rich takes none of it for markup.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from decimal import Decimal
from io import StringIO
from typing import TypeVar

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from callmeter.cli.call_lines import call_heading, call_line
from callmeter.cli.cells import shown_column
from callmeter.cli.look import Look, cut, escaped
from callmeter.cli.watch_feed import Picture, unused_in
from callmeter.policy.decision import Stand
from callmeter.reports.grouping import NONE
from callmeter.reports.live import Spend, Traffic
from callmeter.reports.quota_choice import chosen
from callmeter.reports.report import Cell, Column, Kind
from callmeter.reports.sums import FAILED
from callmeter.words.money import amount_text, nano, shown
from callmeter.words.period import zone_named
from callmeter.words.record import UsageRecord
from callmeter.words.wording import counted, duration

_WIDE = 100
_MEDIUM = 76
_NARROW = 50
_HIGH = 32
_CALLS = 7  # lines that calls get, if there are so many, their heading included, before the panels get any
_LEVELS = "▁▂▃▄▅▆▇█"
_MONEY = Column("", "", Kind.MONEY)
_Item = TypeVar("_Item")


def page(picture: Picture, width: int, height: int, look: Look) -> RenderableType:
    """The page, which may be longer than the terminal is high: what is too much is the oldest calls."""
    lines = min(_CALLS, len(picture.traffic.calls) + 1) if picture.traffic.calls else 2
    for rows, panels in ((8, 5), (6, 5), (5, 5), (4, 5), (3, 5), (2, 5), (1, 5), (1, 3), (1, 1), (0, 0)):
        upper = _upper(picture, width, rows, panels, look, gap=height >= _HIGH)
        used = _height(upper, width)
        if used + lines <= height:
            break
    return Group(upper, *_calls(picture, width, max(height - used, 2), look))


def _upper(picture: Picture, width: int, rows: int, count: int, look: Look, *, gap: bool) -> Group:
    """All above the calls: at most `count` panels of so many rows, with or without lines between them."""
    traffic = picture.traffic
    space: list[RenderableType] = [Text()] if gap else []
    parts: list[RenderableType] = [_header(picture, width, look), *space, _spend(traffic, width)]
    if look.blocks:
        parts.append(_minutes(traffic, width))
    notices = [*_odd(traffic), *(Text(escaped(problem), style="yellow") for problem in picture.problems)]
    parts += [*space, *notices] if notices else []
    if width < _WIDE:
        for panel in _panels(picture, width, rows, look)[:count]:
            parts += [*space, panel]
    elif count:
        panels = _panels(picture, (width - 3) // 2, rows, look)[:count]
        grid = Table.grid(padding=(0, 3, 0, 0), expand=True, pad_edge=False)
        grid.add_column(ratio=1)
        grid.add_column(ratio=1)
        grid.add_row(*(Group(*(line for panel in half for line in (*space, panel))) for half in _halves(panels)))
        parts.append(grid)
    return Group(*parts, Text())


def _header(picture: Picture, width: int, look: Look) -> RenderableType:
    right = f"{picture.minute} ({picture.zone})  q ends"
    if width < _MEDIUM:
        right = f"{picture.minute[-5:]} ({picture.zone})  q ends"
    only = f", only {' '.join(picture.conditions)}" if picture.conditions else ""
    name = picture.log if width >= _WIDE else os.path.basename(picture.log)
    left = cut(escaped(f"Calls in {name}{only}"), max(width - len(right) - 2, 8), look)
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1, no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(Text(left, style="bold"), Text(right, style="dim"))
    return grid


def _spend(traffic: Traffic, width: int) -> Table:
    # Where all would be cut to nothing, some columns go.
    without = (3, 4) if width < _NARROW else ()
    table = _table(*_kept((("", False), ("", True), ("", True), ("", True), ("", False)), without))
    lines = (("last minute", traffic.minute), ("this hour", traffic.hour), ("today", traffic.today))
    costs = shown_column(_MONEY, [spend.nano for _, spend in lines])
    rows = [
        (Text(name), Text(cost, style="bold"), Text(counted(spend.calls, "call")), _errors(spend))
        for (name, spend), cost in zip(lines, costs, strict=True)
    ]
    room = width - sum(max(map(Text.__len__, column)) + 2 for column in zip(*rows, strict=True))
    for cells in rows:
        remark = next((text for text in _remarks(str(cells[0]), traffic) if len(text) <= room), "")
        table.add_row(*_kept((*cells, Text(remark, style="dim", no_wrap=True)), without))
    table.columns[-1].ratio = 1
    return table


def _remarks(name: str, traffic: Traffic) -> list[str]:
    """What can be said beside a line of spend, the longest first."""
    usual = traffic.usual
    if name == "last minute":
        pace = shown(60 * traffic.minute.nano)
        return [f"{pace} an hour at this pace", f"{pace} an hour"] if traffic.minute.nano else []
    if name == "this hour":
        return [f"usually {shown(usual.hour)} by its end", f"usually {shown(usual.hour)}"] if usual else []
    unknown = sum(traffic.unknown.values())
    also = [f"{traffic.refused:,} refused"] if traffic.refused else []
    also += [f"{unknown:,} of unknown cost"] if unknown else []
    day = [f"usually {shown(usual.day)} by its end", f"usually {shown(usual.day)}"] if usual else []
    return [", ".join([first, *also]) for first in day] + [", ".join(also)][: len(also)] + also[-1:] + day[-1:]


def _minutes(traffic: Traffic, width: int) -> Text:
    """The last hour's spend by minute."""
    label = "by minute    "
    chosen = traffic.minutes[-max(min(width - len(label), 60), 1) :]
    most = max(chosen)
    text = Text(label, no_wrap=True)
    if most:
        bars = "".join(_LEVELS[min(each * 8 // most, 7)] if each > 0 else " " for each in chosen)
        text.append(bars, style="cyan")
    else:
        text.append(f"nothing spent in the last {len(chosen)} minutes"[: width - len(label)], style="dim")
    return text


def _odd(traffic: Traffic) -> list[Text]:
    odd = traffic.odd
    if odd is None:
        return []
    usual = odd.usual
    if usual.hour:
        times = Decimal(odd.spent) / usual.hour
        than = f"{times:,.{0 if times >= 10 else 1}f} times what is usual then ({shown(usual.hour)}"
    else:
        than = "when usually nothing is spent (nothing"
    said = f"{odd.hour:02}:00 to {odd.hour + 1:02}:00 came to {shown(odd.spent)}, {than}, on {usual.days} like days)"
    if traffic.culprit is not None:
        agent, most = traffic.culprit
        said += f"; most of it by {escaped(agent)}, {shown(most)}"
        if agent != NONE and agent.isprintable():
            said += f": stop it with `callmeter budget freeze {shlex.quote(f'agent:{agent}')}`"
    return [Text(f"{said}.", style="bold red")]


def _panels(picture: Picture, width: int, rows: int, look: Look) -> list[RenderableType]:
    """Those that have something to show; what must be seen first."""
    found = [
        _quotas(picture, width, rows, look),
        _frozen(picture, rows),
        _requests(picture, rows),
        _agents(picture.traffic, width, rows),
        _running(picture, width, rows),
    ]
    return [panel for panel in found if panel is not None]


def _halves(panels: Sequence[RenderableType]) -> tuple[list[RenderableType], list[RenderableType]]:
    """Panels for the left and for the right: of about equal height."""
    left: list[RenderableType] = []
    right: list[RenderableType] = []
    heights = [0, 0]
    for panel in panels:
        half = 0 if heights[0] <= heights[1] else 1
        (left, right)[half].append(panel)
        heights[half] += _height(panel, _WIDE) + 1
    return left, right


def _quotas(picture: Picture, width: int, rows: int, look: Look) -> RenderableType | None:
    stands = picture.board.stands
    if not stands:
        return None
    unused = unused_in(picture.traffic)

    def order(stand: Stand) -> tuple[bool, Decimal, str]:
        key = stand.bucket.key
        return unused(stand.quota, key, stand.held), -_fill(stand), key

    ranked = sorted(stands, key=order)
    told, rest = chosen(ranked, rows, lambda stand: stand.quota)
    cells = max(min(width // 5, 16), 6)
    without = (1, 2) if width < _NARROW else ()
    table = _table(*_kept((("", False), ("", False), ("", True), ("", True)), without))
    for stand in told:
        fill = _fill(stand)
        style = "red" if fill >= 1 else "yellow" if fill >= Decimal("0.8") else "green"
        full = min(int(fill * cells), cells)
        bar = Text("█" * full if look.blocks else "#" * full, style=style)
        bar.append(("░" if look.blocks else ".") * (cells - full), style="dim")
        left = stand.limit() - stand.taken
        word = "left" if left >= 0 else "over"
        cells_of_row = (
            _name(f"{stand.bucket.key.removeprefix('own/')} per {stand.quota.period}"),
            bar,
            Text(f"{fill:.0%}"),
            Text(f"{amount_text(abs(left), stand.quota.unit)} {word}", style=style if without else ""),
        )
        table.add_row(*_kept(cells_of_row, without))
    table.columns[0].ratio = 1
    more = len(rest) + sum(map(sum, picture.board.left_out.values()))
    return _panel("Quotas", table, f"{more:,} more, at {max(map(_fill, rest)):.0%} or below" if rest else "")


def _running(picture: Picture, width: int, rows: int) -> RenderableType | None:
    running = picture.running
    if not running:
        return None
    table = _table(("", False), *([("", False)] if width >= 60 else []), ("", False), ("", True), ("", True))
    for record, seconds in running[:rows]:
        names = [record.tags.get("agent", "-"), *([record.tags.get("purpose", "-")] if width >= 60 else [])]
        table.add_row(
            *(_name(each) for each in [*names, record.model.rpartition("/")[2]]),
            Text("" if record.estimate is None else f"up to {shown(nano(record.estimate))}"),
            Text(duration(seconds)),
        )
    for column in table.columns[:-2]:
        column.ratio = 1
    known = [nano(record.estimate) for record, _ in running if record.estimate is not None]
    title = f"Running: {counted(len(running), 'call')}" + (f", up to {shown(sum(known))}" if known else "")
    rest = len(running) - rows
    return _panel(title, table, f"{rest:,} more, begun later" if rest > 0 else "")


def _agents(traffic: Traffic, width: int, rows: int) -> RenderableType | None:
    if not traffic.agents:
        return None
    shown_agents = traffic.agents[:rows]
    without = (2, 3) if width < _NARROW else ()
    columns = (("agent", False), ("today", True), ("this hour", True), ("calls", True), ("failed", True))
    table = _table(*_kept(columns, without))
    table.show_header = True
    # What only calls of unknown cost took is no zero.
    known = [bool(spend.nano) or not traffic.unknown.get(agent) for agent, spend, _ in shown_agents]
    today: list[Cell] = [spend.nano if has else None for (_, spend, _), has in zip(shown_agents, known, strict=True)]
    hour: list[Cell] = [inside if has else None for (_, _, inside), has in zip(shown_agents, known, strict=True)]
    costs = zip(shown_column(_MONEY, today), shown_column(_MONEY, hour), strict=True)
    for (agent, spend, _), (whole, inside) in zip(shown_agents, costs, strict=True):
        failed = Text(f"{spend.errors:,}" if spend.errors else "", style="red")
        cells = (_name(agent), Text(whole), Text(inside), Text(f"{spend.calls:,}"), failed)
        table.add_row(*_kept(cells, without))
    table.columns[0].ratio = 1
    rest = traffic.agents[rows:]
    return _panel("", table, f"{len(rest):,} more, {shown(sum(each[1].nano for each in rest))}" if rest else "")


def _frozen(picture: Picture, rows: int) -> RenderableType | None:
    allowances = picture.board.allowances
    frozen = allowances.live_freezes() if allowances is not None else []
    if not frozen:
        return None
    lines = []
    for one in frozen[:rows]:
        who = "the loop breaker" if one.automatic else one.by
        reason = f": {one.reason}" if one.reason else ""
        lines.append(_name(f"{one.subject} by {who}{reason}"))
    rest = len(frozen) - rows
    return _panel(Text("Frozen", style="bold red"), Group(*lines), f"{rest:,} more" if rest > 0 else "")


def _requests(picture: Picture, rows: int) -> RenderableType | None:
    allowances = picture.board.allowances
    if allowances is None:
        return None
    found = sorted(allowances.requests.values(), key=lambda one: (one.at, one.id))
    waiting = [one for one in found if allowances.state(one) == "open"]
    if not waiting:
        return None
    lines = []
    for one in waiting[:rows]:
        amount = f"{amount_text(one.amount, one.unit)} more" if one.amount else "to go on"
        reason = f": {one.reason}" if one.reason else ""
        lines.append(_name(f"{one.id}  {amount} for {one.bucket}, asked by {one.agent or one.by}{reason}"))
    rest = len(waiting) - rows
    title = Text("Waiting for approval", style="bold yellow")
    return _panel(title, Group(*lines), f"{rest:,} more" if rest > 0 else "")


def _calls(picture: Picture, width: int, height: int, look: Look) -> list[RenderableType]:
    plain = Look(width, colour=False, blocks=look.blocks)
    calls = picture.traffic.calls[: height - 1]
    if not calls:
        return [Text("No calls in the last 12 hours. They appear here as they end.", style="dim")]
    zone = zone_named(picture.zone)
    lines = [Text(call_heading(plain, lately=True), style="dim", no_wrap=True)]
    lines += [Text(call_line(call, zone, plain, lately=True), style=_style(call), no_wrap=True) for call in calls]
    return list(lines)


def _style(call: UsageRecord) -> str:
    if call.corrects is not None:
        return "dim"
    if call.status in FAILED:
        return "bold red"
    return "yellow" if call.status != "ok" else ""


def _panel(title: str | Text, body: RenderableType, rest: str) -> RenderableType:
    heading = Text(title, style="bold") if isinstance(title, str) else title
    parts: list[RenderableType] = [heading] if heading.plain else []
    return Group(*parts, body, *([Text(rest, style="dim")] if rest else []))


def _table(*columns: tuple[str, bool]) -> Table:
    """A table without lines; each column's heading, and whether it is aligned to the right."""
    table = Table(box=None, show_header=False, expand=True, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading, right in columns:
        table.add_column(heading, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    return table


def _kept(items: Sequence[_Item], without: Sequence[int]) -> list[_Item]:
    """A row's cells, or columns, without some."""
    return [item for index, item in enumerate(items) if index not in without]


def _name(text: str) -> Text:
    return Text(escaped(text), no_wrap=True, overflow="ellipsis")


def _errors(spend: Spend) -> Text:
    return Text(f"{spend.errors:,} failed" if spend.errors else "", style="red")


def _fill(stand: Stand) -> Decimal:
    limit = stand.limit()
    return Decimal(stand.taken) / limit if limit > 0 else Decimal(1)


def _height(part: RenderableType, width: int) -> int:
    console = Console(file=StringIO(), width=width, height=1000, color_system=None)
    return len(console.render_lines(part, pad=False))
