"""Breadcrumbs and recovery: a call that was sent has one line in the log, whatever became of its process."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from callmeter.flows.recovery import recover
from callmeter.store.files import FileProblem
from callmeter.store.inflight import Breadcrumb
from callmeter.store.usage_append import append_usage
from callmeter.words.usage import usage_line
from conftest import fill
from kill_points import dies, every_kill

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)


class Place:
    """A log and its breadcrumbs."""

    def __init__(self, directory: Path) -> None:
        self.log = str(directory / "usage.jsonl")
        self.inflight = str(directory / "inflight")

    def begin(self, id: str = "c1", **fields: object) -> Breadcrumb:
        return Breadcrumb.begin(self.inflight, record(id, **fields), self.log, LATER.timestamp())

    def lines(self) -> list[dict[str, object]]:
        if not os.path.exists(self.log):
            return []
        text = Path(self.log).read_text()
        return [json.loads(line, parse_float=Decimal) for line in text.splitlines() if line]

    def left(self) -> list[str]:
        return os.listdir(self.inflight) if os.path.exists(self.inflight) else []


def record(id: str, **fields: object) -> dict[str, object]:
    return {
        "v": 1,
        "id": id,
        "timestamp": "2026-11-21T09:30:00.000Z",
        "tags": {"agent": "code"},
        "provider": "openrouter",
        "model": "m",
        "estimate": Decimal("0.05"),
        **fields,
    }


def done(id: str) -> bytes:
    return usage_line({**record(id), "cost": Decimal("0.01"), "cost_source": "provider", "status": "ok"})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_call_that_was_killed_before_it_was_sent_leaves_no_line(place: Place) -> None:
    dies(place.begin)
    assert place.left() == ["c1.call"]
    assert recover(place.inflight, NOW).records == []
    assert place.lines() == [] and place.left() == []


def test_a_call_that_was_killed_after_it_was_sent_is_logged_at_its_estimate(place: Place) -> None:
    dies(lambda: place.begin().sent())
    (recovered,) = recover(place.inflight, NOW).records
    (line,) = place.lines()
    assert line["id"] == recovered["id"] == "c1"
    assert (line["status"], line["cost"], line["cost_source"]) == ("unknown", Decimal("0.05"), "estimate")
    assert line["tags"] == {"agent": "code"}
    assert line["timestamp"] == "2026-11-21T09:30:00.000Z", "it belongs to the period in which it began"
    assert line["recorded_at"] == "2026-11-21T09:30:00.000Z"
    assert place.left() == []


def test_what_the_provider_had_said_is_in_the_recovered_line(place: Place) -> None:
    def call() -> None:
        crumb = place.begin()
        crumb.sent()
        crumb.generation("gen-7")
        crumb.usage({"in": 5, "out": 1}, None)
        crumb.usage({"in": 5, "out": 9}, Decimal("0.0123"))

    dies(call)
    recover(place.inflight, NOW)
    (line,) = place.lines()
    assert (line["cost"], line["cost_source"]) == (Decimal("0.0123"), "provider")
    assert line["generation_id"] == "gen-7"
    assert line["tokens"] == {"in": 5, "out": 9}


def test_a_second_attempt_is_logged_with_its_own_model_and_estimate(place: Place) -> None:
    def call() -> None:
        crumb = place.begin()
        crumb.sent()
        crumb.usage({"in": 5, "out": 1}, Decimal("0.001"))
        crumb.sent({"model": "fallback", "attempts": 2, "estimate": Decimal("0.11")})

    dies(call)
    recover(place.inflight, NOW)
    (line,) = place.lines()
    assert (line["model"], line["attempts"], line["cost"]) == ("fallback", 2, Decimal("0.11"))


def test_a_price_that_nobody_knows_stays_unknown_and_is_never_zero(place: Place) -> None:
    dies(lambda: place.begin(estimate=None).sent())
    recover(place.inflight, NOW)
    (line,) = place.lines()
    assert (line["cost"], line["cost_source"]) == (None, "unknown")


def test_a_call_that_was_killed_between_its_line_and_the_end_has_one_line(place: Place) -> None:
    def call() -> None:
        place.begin().sent()
        append_usage(place.log, done("c1"))

    append_usage(place.log, done("before"))
    dies(call)
    append_usage(place.log, done("after"))
    assert recover(place.inflight, NOW).records == []
    assert [line["id"] for line in place.lines()] == ["before", "c1", "after"]
    assert place.left() == []


def test_a_call_killed_before_any_of_its_changes_has_its_line_if_it_was_sent(tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    place = Place(tmp_path)

    def call() -> None:
        crumb = place.begin()
        crumb.sent()
        os.mkdir(sent)  # stands for the request: mkdir is one step, and not one that kills
        crumb.generation("gen-1")
        crumb.usage({"in": 1, "out": 1}, Decimal("0.01"))
        append_usage(place.log, done("c1"))
        crumb.done()

    points = 0
    for _ in every_kill(call):
        points += 1
        recover(place.inflight, NOW)
        append_usage(place.log, done("next"))
        ids = [json.loads(line)["id"] for line in whole_lines(place.log)]
        assert ids.count("c1") == 1 if sent.exists() else ids.count("c1") <= 1
        assert ids[-1] == "next"
        assert place.left() == []
        Path(place.log).unlink()
        if sent.exists():
            sent.rmdir()
    assert points > 8


def whole_lines(path: str) -> Iterator[str]:
    """The lines that are JSON; fragments of killed writers are not."""
    for line in Path(path).read_text().split("\n"):
        try:
            json.loads(line)
        except ValueError:
            continue
        yield line


def test_a_recoverer_killed_before_any_of_its_changes_leaves_one_line(place: Place) -> None:
    points = 0
    dies(lambda: place.begin().sent())
    for _ in every_kill(lambda: recover(place.inflight, NOW)):
        points += 1
        recover(place.inflight, NOW)
        append_usage(place.log, done("next"))
        assert Counter(json.loads(line)["id"] for line in whole_lines(place.log)) == {"c1": 1, "next": 1}
        assert place.left() == []
        Path(place.log).unlink()
        dies(lambda: place.begin().sent())
    assert points >= 5


def test_a_half_written_line_does_not_count_as_the_calls_line(place: Place) -> None:
    def call() -> None:
        place.begin().sent()
        descriptor = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, done("c1")[:-20])

    dies(call)
    assert len(recover(place.inflight, NOW).records) == 1
    assert [json.loads(line)["status"] for line in whole_lines(place.log)] == ["unknown"]


def test_a_line_that_lacks_only_its_newline_counts_since_the_next_writer_seals_it(place: Place) -> None:
    def call() -> None:
        place.begin().sent()
        descriptor = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, done("c1")[:-1])

    dies(call)
    assert recover(place.inflight, NOW).records == []
    append_usage(place.log, done("next"))
    assert [line["id"] for line in place.lines()] == ["c1", "next"]


def test_a_stopped_process_is_not_taken_for_a_dead_one(place: Place) -> None:
    child = os.fork()
    if child == 0:
        place.begin().sent()
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(1)
    try:
        os.waitpid(child, os.WUNTRACED)
        assert recover(place.inflight, LATER + timedelta(days=2)).records == []
        assert place.left() == ["c1.call"]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert len(recover(place.inflight, NOW).records) == 1


def test_the_other_calls_of_a_batch_are_left_alone(place: Place) -> None:
    crumbs: list[Breadcrumb] = []
    threads = [threading.Thread(target=lambda n=n: crumbs.append(place.begin(f"c{n}"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for crumb in crumbs:
        crumb.sent()
    dies(lambda: place.begin("dead").sent())
    assert [line["id"] for line in recover(place.inflight, NOW).records] == ["dead"]
    for crumb in crumbs:
        crumb.done()
    assert place.left() == []


def test_ten_recoverers_at_once_write_one_line_for_each_dead_call(place: Place) -> None:
    ids = [f"c{n}" for n in range(40)]
    dies(lambda: [place.begin(id).sent() for id in ids])
    children = []
    for _ in range(10):
        child = os.fork()
        if child == 0:
            recover(place.inflight, NOW)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    recover(place.inflight, NOW)
    assert Counter(line["id"] for line in place.lines()) == dict.fromkeys(ids, 1)
    assert place.left() == []


def test_with_a_limit_every_dead_call_is_found_after_a_few_looks(place: Place) -> None:
    dies(lambda: [place.begin(f"c{n}").sent() for n in range(30)])
    looks = 0
    while place.left():
        assert len(recover(place.inflight, NOW, limit=4).records) <= 4
        looks += 1
        assert looks < 10
    assert len(place.lines()) == 30


def test_a_call_of_another_machine_is_finished_only_after_its_deadline(place: Place) -> None:
    dies(lambda: place.begin().sent())
    path = Path(place.inflight, "c1.call")
    head, rest = path.read_bytes().split(b"\n", 1)
    fields = json.loads(head)
    fields.update(host="elsewhere", boot="another")
    path.write_bytes(json.dumps(fields).encode() + b"\n" + rest)
    assert recover(place.inflight, NOW).records == []
    assert place.left() == ["c1.call"]
    assert len(recover(place.inflight, LATER + timedelta(seconds=2)).records) == 1


def test_a_torn_end_of_a_breadcrumb_is_read_as_far_as_it_goes(place: Place) -> None:
    dies(lambda: place.begin().sent())
    with Path(place.inflight, "c1.call").open("ab") as file:
        file.write(b'{"generation_id":"gen')
    (line,) = recover(place.inflight, NOW).records
    assert "generation_id" not in line


@pytest.mark.parametrize(
    "content", [b"\0" * 700 + b"\n", b"not json\n", b"[]\n", b'{"v":1}\n', b'{"v":9}\n{"sent":{}}\n']
)
def test_an_unreadable_breadcrumb_is_reported_and_kept(place: Place, content: bytes) -> None:
    os.mkdir(place.inflight)
    Path(place.inflight, "c1.call").write_bytes(content)
    recovery = recover(place.inflight, NOW)
    assert recovery.records == []
    assert len(recovery.problems) == 1 and "c1.call" in recovery.problems[0]
    assert place.left() == ["c1.call"]


def test_an_unreadable_breadcrumb_does_not_keep_others_from_recovery(place: Place) -> None:
    dies(lambda: place.begin().sent())
    Path(place.inflight, "a.call").write_bytes(b"garbage\n")
    Path(place.inflight, "z.call").write_bytes(b"garbage\n")
    recovery = recover(place.inflight, NOW)
    assert len(recovery.records) == 1 and len(recovery.problems) == 2


def test_a_deleted_log_is_begun_again_by_recovery(place: Place) -> None:
    append_usage(place.log, done("old"))
    dies(lambda: place.begin().sent())
    os.unlink(place.log)
    recover(place.inflight, NOW)
    assert [line["id"] for line in place.lines()] == ["c1"]


def test_a_call_goes_to_the_log_that_it_was_begun_with(place: Place, tmp_path: Path) -> None:
    other = str(tmp_path / "other.jsonl")
    dies(lambda: Breadcrumb.begin(place.inflight, record("c1"), other, 0).sent())
    recover(place.inflight, NOW)
    assert place.lines() == []
    assert b'"c1"' in Path(other).read_bytes()


def test_nothing_is_sent_when_the_log_cannot_be_written(place: Place, tmp_path: Path) -> None:
    os.mkdir(place.log)
    with pytest.raises(FileProblem, match="not a regular file"):
        place.begin()
    os.rmdir(place.log)
    os.symlink(tmp_path / "elsewhere", place.log)
    with pytest.raises(FileProblem):
        place.begin()
    assert not os.path.exists(place.inflight)


def test_breadcrumbs_are_for_their_owner_only(place: Place) -> None:
    old = os.umask(0)
    try:
        crumb = place.begin()
    finally:
        os.umask(old)
    assert os.stat(place.inflight).st_mode & 0o777 == 0o700
    assert os.stat(os.path.join(place.inflight, "c1.call")).st_mode & 0o777 == 0o600
    crumb.done()


@pytest.fixture
def small_disk(file_system: Callable[[int], Path]) -> Path:
    return file_system(256)


def test_on_a_full_disk_nothing_is_sent(small_disk: Path) -> None:
    place = Place(small_disk)
    place.begin("first").done()
    fill(small_disk)
    with pytest.raises(FileProblem, match="no space left"):
        place.begin()
    assert place.left() == []


def test_when_the_disk_fills_up_during_a_call_its_line_is_written_once_there_is_room(small_disk: Path) -> None:
    place = Place(small_disk)
    append_usage(place.log, done("before"))
    crumb = place.begin()
    crumb.sent()
    while os.stat(place.log).st_size % 4096:  # the log's last block has room for no line any more
        with open(place.log, "ab") as file:
            file.write(b"\n")
    ballast = fill(small_disk)
    with pytest.raises(FileProblem):
        append_usage(place.log, done("c1"))
    crumb.final({**record("c1"), "cost": Decimal("0.01"), "cost_source": "provider", "status": "ok"})
    crumb.leave()
    assert "no space left" in recover(place.inflight, NOW).problems[0]
    ballast.unlink()
    assert len(recover(place.inflight, NOW).records) == 1
    assert [(line["id"], line["status"], line["cost"]) for line in place.lines()] == [
        ("before", "ok", Decimal("0.01")),
        ("c1", "ok", Decimal("0.01")),
    ]
    assert place.left() == []


def test_a_file_size_limit_never_leaves_half_a_line(place: Place) -> None:
    def writer() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        for n in range(50):
            try:
                append_usage(place.log, done(f"c{n}"))
            except FileProblem:
                break
        else:
            raise AssertionError("the limit did not bite")

    dies(writer)
    assert 1 <= len(place.lines()) < 10
    assert Path(place.log).read_bytes().endswith(b"\n")


WORKER = """
import os, sys
from datetime import UTC, datetime
from decimal import Decimal
from callmeter.flows.recovery import recover
from callmeter.store.inflight import Breadcrumb
from callmeter.store.usage_append import append_usage
from callmeter.words.usage import usage_line
home, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
log, inflight = home + "/usage.jsonl", home + "/inflight"
for n in range(count):
    recover(inflight, datetime.now(UTC), limit=16)
    record = {"v": 1, "id": f"{name}-{n}", "timestamp": "2026-11-21T09:30:00.000Z", "estimate": Decimal("0.05")}
    crumb = Breadcrumb.begin(inflight, record, log, 4e9)
    crumb.sent()
    os.write(1, (record["id"] + "\\n").encode())
    crumb.usage({"in": 1, "out": 1}, Decimal("0.01"))
    append_usage(log, usage_line({**record, "cost": Decimal("0.01"), "cost_source": "provider", "status": "ok",
                                  "note": "x" * 3000}))
    crumb.done()
"""


def test_sixteen_writers_under_random_kills_leave_one_line_for_each_call_that_was_sent(place: Place) -> None:
    chance = random.Random(7)
    command = [sys.executable, "-c", WORKER, os.path.dirname(place.log)]

    def spawn(number: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, f"w{number}", "100000"], stdout=subprocess.PIPE)

    running = [spawn(number) for number in range(16)]
    sent: list[bytes] = []
    killed = 0
    for number in range(16, 60):
        victim = running.pop(chance.randrange(len(running)))
        assert victim.stdout is not None
        sent += [victim.stdout.readline() for _ in range(chance.randrange(1, 30))]
        victim.kill()
        sent += victim.stdout.readlines()
        killed += victim.wait() == -signal.SIGKILL
        running.append(spawn(number))
    for worker in running:
        worker.kill()
        sent += worker.communicate()[0].splitlines()
    while recover(place.inflight, NOW).records:
        pass
    ids = Counter(line.decode().strip() for line in sent if line)
    logged = Counter(json.loads(line)["id"] for line in whole_lines(place.log))
    assert killed == 44 and len(ids) > 500
    assert not {id: times for id, times in logged.items() if times != 1}
    assert not set(ids) - set(logged)
    assert place.left() == []
