"""`budget watch`: the page, and the terminal that it is drawn on."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from callmeter.cli.look import Look, cells_of
from callmeter.cli.screen import screen
from callmeter.cli.watch_feed import Feed, Picture
from callmeter.cli.watch_view import page
from callmeter.cli.world import World
from callmeter.store.inflight import Breadcrumb
from callmeter.store.usage_append import append_usage
from callmeter.words.errors import CallmeterError, Stopped
from callmeter.words.instant import text_of
from callmeter.words.jsontext import dumps
from conftest import Run
from terminal import Terminal
from usage_lines import call, write

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
EVIL = "evil\x1b[2J\x1b]0;owned\x07[bold]‮日本語"


class Clock:
    """The time, as it passes for the feed."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now.timestamp()

    def passes(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(home: Path, clock: Clock) -> World:
    return World(clock=clock, monotonic=clock)


@pytest.fixture
def log(home: Path) -> str:
    return str(home / "usage.jsonl")


def shown(picture: Picture, width: int = 120, height: int = 40, **look: bool) -> list[str]:
    file = StringIO()
    console = Console(file=file, width=width, height=height, color_system=None)
    console.print(page(picture, width, height, Look(width, **look)), end="")
    return [line.rstrip() for line in file.getvalue().removesuffix("\n").split("\n")]


def text(picture: Picture, width: int = 120, height: int = 40) -> str:
    """The page with folded lines and aligned cells as one line of words."""
    return " ".join(" ".join(shown(picture, width, height)).split())


def test_calls_appear_as_their_lines_are_written(world: World, log: str, clock: Clock) -> None:
    write(log, [call(NOW - timedelta(minutes=9), tags={"agent": "early"}, cost=Decimal("1.5"))])
    feed = Feed(world, None, [])
    assert "today $1.50 1 call" in text(feed.look())
    clock.passes(seconds=10)
    append_usage(log, call(clock.now, tags={"agent": "late"}, cost=Decimal("1.25"), status="error", duration_ms=0))
    found = text(feed.look())
    assert "last minute $1.25 1 call 1 failed $75.00 an hour at this pace" in found
    assert "today $2.75 2 calls 1 failed" in found
    assert re.search(r"11-20 09:30:10 error late .* 11-20 09:21:00 ok early", found)


def test_closing_the_log_neither_loses_nor_repeats_a_call(world: World, log: str, run_callmeter: Run) -> None:
    write(log, [call(NOW - timedelta(days=60)), call(NOW)])
    feed = Feed(world, None, [])
    append_usage(log, call(NOW, cost=Decimal(1)))
    closed = run_callmeter("budget", "log", "close")
    assert closed.returncode == 0 and Path(log).read_bytes().count(b"\n") < 3
    append_usage(log, call(NOW, cost=Decimal(2)))
    traffic = feed.look().traffic
    assert (traffic.today.calls, traffic.today.nano) == (3, 3_009_600_000)


def test_a_log_that_is_deleted_and_begun_again_is_followed(world: World, log: str) -> None:
    write(log, [call(NOW)])
    feed = Feed(world, None, [])
    os.unlink(log)
    picture = feed.look()
    assert "There is no usage log" in text(picture)
    append_usage(log, call(NOW))
    picture = feed.look()
    assert (picture.traffic.today.calls, list(picture.problems)) == (2, [])


def test_a_log_that_does_not_exist_yet_is_waited_for(world: World, log: str) -> None:
    feed = Feed(world, None, [])
    assert "No calls in the last 12 hours" in text(feed.look())
    append_usage(log, call(NOW))
    assert feed.look().traffic.today.calls == 1


def test_a_policy_that_breaks_is_told_and_the_one_before_stays(world: World, home: Path, clock: Clock) -> None:
    policy = home / "budget.json"
    policy.write_text('{"quotas": [{"subject": "total", "limit": 10}]}')
    write(home / "usage.jsonl", [call(NOW)])
    feed = Feed(world, None, [])
    assert "total per month" in text(feed.look())
    policy.write_text("{")
    clock.passes(minutes=1)
    picture = feed.look()
    assert "total per month" in text(picture) and "budget.json:1: is not JSON" in text(picture)
    policy.write_text('{"quotas": [{"subject": "agent:code", "limit": 20}]}')
    clock.passes(minutes=1)
    picture = feed.look()
    assert "agent:code per month" in text(picture) and list(picture.problems) == []


def test_quotas_follow_what_is_spent(world: World, home: Path, log: str, clock: Clock) -> None:
    (home / "budget.json").write_text(
        '{"quotas": [{"subject": "total", "limit": 10}, {"subject": "total", "limit": 4, "unit": "calls"}]}'
    )
    write(log, [call(NOW, cost=Decimal(9))])
    assert re.search(
        r"total per month \S+ 90% \$1\.00 left total per month \S+ 25% 3 calls left",
        text(Feed(world, None, []).look(), 80),
    )


def test_running_calls_requests_and_freezes_are_shown(
    world: World, home: Path, run_callmeter: Run, clock: Clock
) -> None:
    clock.now = datetime.now(UTC)
    record: dict[str, object] = {
        "v": 1,
        "id": "a",
        "timestamp": text_of(clock.now - timedelta(seconds=7)),
        "tags": {"agent": "busy", "purpose": "deep"},
        "provider": "openrouter",
        "model": "some/model",
        "cost": None,
        "cost_source": "unknown",
        "estimate": Decimal("0.12"),
        "status": "unknown",
    }
    crumb = Breadcrumb.begin(str(home / "inflight"), record, str(home / "usage.jsonl"), clock.now.timestamp() + 60)
    (home / "budget.json").write_text('{"quotas": [{"subject": "agent:code", "limit": 10}]}')
    assert run_callmeter("budget", "freeze", "agent:ops", "--reason", "runs away").returncode == 0
    assert run_callmeter("budget", "request", "agent:code", "5", "--reason", "release").returncode == 0
    feed = Feed(world, None, [])
    found = text(feed.look(), 80)
    assert re.search(r"Running: 1 call, up to \$0\.120 busy deep model up to \$0\.120 [78] s", found)
    assert re.search(r"Frozen agent:ops by \S+: runs away", found)
    assert re.search(r"Waiting for approval r-\w+ \$5\.00 more for agent:code, asked by \S+: release", found)
    crumb.done()
    assert "Running" not in text(feed.look())


def test_conditions_choose_calls(world: World, log: str) -> None:
    lines = [call(NOW, tags={"agent": name}, cost=Decimal(1)) for name in ("code", "codec", "docs")]
    write(log, lines)
    feed = Feed(world, None, ["agent=code*"])
    append_usage(log, call(NOW, tags={"agent": "docs"}, cost=Decimal(1)))
    append_usage(log, call(NOW, tags={"agent": "code"}, cost=Decimal(1)))
    picture = feed.look()
    assert picture.traffic.today.calls == 3
    assert "only agent=code*" in text(picture)


def test_another_log_is_shown_without_quotas(world: World, home: Path, tmp_path: Path) -> None:
    (home / "budget.json").write_text('{"quotas": [{"subject": "total", "limit": 10}]}')
    other = write(tmp_path / "other.jsonl", [call(NOW)])
    picture = Feed(world, other, []).look()
    assert picture.traffic.today.calls == 1
    assert "Quotas" not in text(picture)


def test_an_hour_beyond_the_usual_is_warned_of_with_its_figures(world: World, log: str) -> None:
    lines = [
        call(NOW.replace(hour=hour, minute=15) - timedelta(days=back), cost=Decimal("0.20"))
        for back in range(1, 29)
        for hour in range(24)
    ]
    write(log, [*lines, call(NOW, tags={"agent": "loop it"}, cost=Decimal(4))])
    found = text(Feed(world, None, []).look())
    assert "09:00 to 10:00 came to $4.00, 20 times what is usual then ($0.200, on 20 like days)" in found
    assert "most of it by loop it, $4.00: stop it with `callmeter budget freeze 'agent:loop it'`." in found
    assert "this hour $4.00 1 call usually $0.200 by its end" in found


def busy(world: World, home: Path, log: str) -> Picture:
    """A page on which everything wants room, and some of it is out to drive the terminal."""
    agents = ["code", EVIL, "a-name-that-is-far-too-long-for-any-column-of-any-table", *map(str, range(20))]
    lines = [
        call(
            NOW - timedelta(minutes=number),
            tags={"agent": agents[number % len(agents)], "purpose": EVIL},
            model=f"some/{EVIL}",
            cost=Decimal("1.23"),
            status=["ok", "error", "refused"][number % 3],
            error=EVIL,
        )
        for number in range(100)
    ]
    write(log, lines)
    (home / "budget.json").write_text('{"quotas": [{"subject": "agent:*", "limit": 10}]}')
    return Feed(world, None, [f"purpose={EVIL}"]).look()


def test_sessions_that_are_over_do_not_hide_the_quotas_of_those_at_work(world: World, home: Path, log: str) -> None:
    old = [call(NOW - timedelta(days=9), tags={"session": f"old-{n}"}, cost=Decimal(9)) for n in range(20)]
    write(log, [*old, call(NOW, tags={"session": "now"}, cost=Decimal(1))])
    limits = [{"subject": "session:*", "limit": 10, "period": "life"}, {"subject": "total", "limit": 1000}]
    (home / "budget.json").write_text(dumps({"quotas": limits}))
    lines = shown(Feed(world, None, []).look(), 80, 24)
    first = lines.index("Quotas") + 1
    assert [line.split()[0] for line in lines[first : first + 2]] == ["total", "session:now"]


def test_an_agent_whose_costs_nobody_knows_has_not_spent_nothing(world: World, log: str) -> None:
    write(log, [call(NOW, tags={"agent": "dark"}, cost=None, cost_source="unknown")])
    assert re.search(r"dark +unknown +unknown +1", "\n".join(shown(Feed(world, None, []).look())))


def test_a_narrow_page_keeps_names_and_money(world: World, home: Path, log: str) -> None:
    (home / "budget.json").write_text('{"quotas": [{"subject": "total", "limit": 10}]}')
    write(log, [call(NOW, tags={"agent": "code"}, cost=Decimal("1.5"))])
    lines = [line.split() for line in shown(Feed(world, None, []).look(), 30)]
    assert ["code", "$1.50"] in lines
    assert ["total", "per", "month", "$8.50", "left"] in lines
    assert ["today", "$1.50", "1", "call"] in lines


@pytest.mark.parametrize("width", [20, 29, 30, 41, 42, 49, 50, 69, 70, 80, 90, 100, 120])
def test_a_call_tells_what_it_cost_however_narrow_the_page_is(width: int, world: World, log: str) -> None:
    write(log, [call(NOW, tags={"agent": "a" * 40}, cost=Decimal("0.123456789"))])
    line = shown(Feed(world, None, []).look(), width)[-1]
    assert "$0.123" in line.split() and "a…a" in line


@pytest.mark.parametrize("width", [50, 60, 70, 80, 90, 120])
def test_what_is_said_beside_spend_is_said_whole_or_in_fewer_words(width: int, world: World, log: str) -> None:
    past = [call(NOW - timedelta(days=day), cost=Decimal("1.5")) for day in range(1, 15)]
    now = [call(NOW, cost=Decimal(1)), call(NOW, cost=None, cost_source="unknown"), call(NOW, status="refused", cost=0)]
    write(log, [*past, *now])
    lines = shown(Feed(world, None, []).look(), width, 24)
    minute, _, today = lines[1:4]
    assert not any("…" in line for line in lines[1:4])
    assert minute.endswith("$60.00 an hour at this pace" if width >= 60 else "$60.00 an hour")
    assert today.endswith("1 refused, 1 of unknown cost" if width >= 70 else "1 of unknown cost")
    assert ("usually $1.50" in today) == (width >= 80)


def test_room_that_no_call_needs_is_for_quotas(world: World, home: Path, log: str) -> None:
    (home / "budget.json").write_text('{"quotas": [{"subject": "agent:*", "limit": 10}]}')
    lately = [call(NOW, tags={"agent": f"a{number}"}, cost=1) for number in range(4)]
    write(log, [call(NOW - timedelta(hours=13), tags={"agent": f"a{number}"}, cost=1) for number in range(4)])
    assert sum("per month" in line for line in shown(Feed(world, None, []).look(), 80, 16)) == 4
    write(log, lately)
    page = shown(Feed(world, None, []).look(), 80, 16)
    assert len(page) <= 16 and sum(line.startswith("09:30:00") for line in page) == 4


@pytest.mark.parametrize("width", [30, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("height", [10, 24, 40, 80])
def test_the_page_fits_the_terminal_and_shows_calls(
    width: int, height: int, world: World, home: Path, log: str
) -> None:
    lines = shown(busy(world, home, log), width, height)
    assert all(cells_of(line) <= width for line in lines)
    heading = next(number for number, line in enumerate(lines) if line.startswith("time  "))
    assert heading < height - 1 or height == 10
    assert lines[heading + 1].startswith("11-20 09:" if width >= 100 else "09:")
    if height >= 24:
        assert len(lines) <= height


@pytest.mark.parametrize("width", [60, 120])
def test_text_from_calls_drives_no_terminal_and_is_no_markup(width: int, world: World, home: Path, log: str) -> None:
    lines = shown(busy(world, home, log), width, 80)
    assert all(line.isprintable() for line in lines)
    if width == 120:
        assert any("[bold]" in line for line in lines)


def test_a_terminal_without_blocks_gets_ascii(world: World, home: Path, log: str) -> None:
    write(log, [call(NOW)])
    (home / "budget.json").write_text('{"quotas": [{"subject": "total", "limit": 10}]}')
    lines = shown(Feed(world, None, []).look(), blocks=False)
    assert "\n".join(lines).isascii()


# The terminal


@pytest.mark.parametrize("env", [{}, {"TERM": "xterm"}])
def test_it_refuses_to_draw_on_a_pipe_and_names_what_can(env: dict[str, str], run_callmeter: Run) -> None:
    result = run_callmeter("budget", "watch", env=env)
    assert (result.returncode, result.stdout) == (2, "")
    assert "budget status" in result.stderr and "log show --follow" in result.stderr


@pytest.fixture
def terminal(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[[str], Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(options: str = "") -> Terminal:
        inner = f"echo pid $$; exec callmeter budget watch {options}"
        script = f"trap : INT; unset COLUMNS LINES; export TERM=xterm; sh -c '{inner}'; " + (
            'echo "status $?"; stty -a | grep -o ".icanon"; read -r end'
        )
        found = Terminal(["sh", "-c", script], environment, tmp_path)
        found.resize(100, 30)
        opened.append(found)
        return found

    yield open_terminal
    for each in opened:
        each.close()


def test_q_ends_it_and_the_terminal_is_as_it_was(terminal: Callable[[str], Terminal]) -> None:
    view = terminal("")
    assert "\x1b[?1049h" in view.wait_for("No calls in the last 12 hours")
    view.type("xq")
    end = view.wait_for("status 0")
    assert "\x1b[?25h" in end and "\x1b[?1049l" in end
    assert "-icanon" not in view.wait_for("icanon")


def test_ctrl_c_ends_it_and_the_terminal_is_as_it_was(terminal: Callable[[str], Terminal]) -> None:
    view = terminal("")
    view.wait_for("No calls")
    view.type("\x03")
    assert "\x1b[?1049l" in view.wait_for("status 130")
    assert "-icanon" not in view.wait_for("icanon")


def test_what_is_written_meanwhile_is_drawn(terminal: Callable[[str], Terminal], log: str) -> None:
    view = terminal("--interval 0.2")
    view.wait_for("No calls")
    append_usage(log, call(datetime.now(UTC), tags={"agent": "late"}, cost=Decimal("1.25"), duration_ms=0))
    view.wait_for("$75.00 an hour")
    view.wait_for("late")


def test_it_follows_the_size_of_the_window(terminal: Callable[[str], Terminal]) -> None:
    view = terminal("--interval 60")
    view.wait_for("No calls")
    view.resize(60, 20)
    frame = view.wait_for("No calls").rpartition("\x1b[H")[2]
    lines = [re.sub(r"\x1b\[[0-9;?]*\w", "", line) for line in frame.split("\n")]
    assert lines[0].rstrip("\r").endswith("(UTC)  q ends") and len(lines[0].rstrip("\r")) == 60


def test_no_color_is_heeded(terminal: Callable[[str], Terminal], environment: dict[str, str]) -> None:
    environment["NO_COLOR"] = "1"
    view = terminal("")
    assert not re.search(r"\x1b\[[0-9;]*m", view.wait_for("No calls"))


def test_a_page_that_says_the_same_is_not_drawn_again(terminal: Callable[[str], Terminal], log: str) -> None:
    view = terminal("--interval 0.2")
    view.wait_for("No calls")
    view.resize(101, 30)
    drawn = view.wait_for("No calls")
    append_usage(log, call(datetime.now(UTC), tags={"agent": "late"}))
    drawn += view.wait_for("late")
    assert drawn.count("q ends") <= 4  # a minute may have passed


def test_it_stops_on_ctrl_z_with_the_terminal_as_it_was_and_goes_on(
    need: Callable[[str], str], environment: dict[str, str], tmp_path: Path
) -> None:
    environment["PS1"] = "ready> "
    with Terminal([need("bash"), "--norc", "-i"], environment, tmp_path) as shell:
        shell.wait_for("ready> ")
        shell.type("unset COLUMNS LINES; TERM=xterm callmeter budget watch\n")
        shell.wait_for("No calls")
        shell.type("\x1a")
        assert "\x1b[?1049l" in shell.wait_for("ready> ")
        shell.type("fg\n")
        assert "\x1b[?1049h" in shell.wait_for("No calls")
        shell.type("q")
        shell.wait_for("ready> ")
        shell.type("echo status $?\n")
        shell.wait_for("status 0")


def test_terminated_it_leaves_the_terminal_as_it_was(terminal: Callable[[str], Terminal]) -> None:
    view = terminal("")
    number = re.search(r"pid (\d+)", view.wait_for("No calls"))
    assert number is not None
    os.kill(int(number[1]), signal.SIGTERM)
    assert "\x1b[?1049l" in view.wait_for("status 143")


def test_it_ends_when_its_window_is_closed(terminal: Callable[[str], Terminal], environment: dict[str, str]) -> None:
    view = terminal("--interval 0.2")
    number = re.search(r"pid (\d+)", view.wait_for("No calls"))
    assert number is not None
    process = os.pidfd_open(int(number[1]))
    view.close()
    assert select.select([process], [], [], 120)[0], "it is still there"
    os.close(process)


def test_a_termination_in_the_middle_of_a_look_is_not_taken_for_one_of_its_problems() -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as stream, os.fdopen(master):
        world = World(env={"TERM": "xterm"}, stdout=stream, stdin=StringIO())
        with pytest.raises(Stopped), screen(world) as taken:
            with suppress(CallmeterError):
                signal.raise_signal(signal.SIGTERM)
            taken.wait(0)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
