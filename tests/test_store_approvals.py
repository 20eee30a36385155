"""The approvals and requests files: what holds at an instant, whatever stands in them and whoever dies over them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.flows import approvals
from callmeter.ledger.protocol import Amount, Standing, Window
from callmeter.policy.document import Policy, parse_policy
from callmeter.policy.grant_lines import read_lines
from callmeter.policy.grants import Allowances
from callmeter.store.approvals import read_allowances, read_everything
from callmeter.store.files import FileProblem
from callmeter.store.places import Places
from callmeter.words.errors import Refused, UsageError
from callmeter.words.subject import facts_of, parse_subject
from kill_points import every_kill

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
MONTH_END = datetime(2026, 12, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
POLICY = b"""{"enforcement": "hard", "quotas": [
  {"subject": "agent:code", "limit": 50}, {"subject": "agent:code", "limit": 5, "period": "day"},
  {"subject": "session:*", "limit": 2}, {"subject": "agent:code", "limit": 20, "unit": "calls", "period": "minute"}]}"""
Events = list[tuple[str, Mapping[str, object]]]


class Office:
    """Both files in a directory, and what the flows do there; `events` are what they audited."""

    def __init__(self, directory: Path) -> None:
        self.places = Places(str(directory), str(directory))
        self.events: Events = []
        self.policy: Policy = parse_policy(POLICY, "budget.json")
        self.calls = 0

    def audit(self, event: str, facts: Mapping[str, object]) -> None:
        self.events.append((event, facts))

    def ask(self, subject: str = "agent:code", amount: int = 5, *, at: datetime = NOW, **changes: str) -> str:
        members = {"unit": "usd", "period": "", "by": "bob@here", "reason": "", **changes}
        return approvals.ask_for_more(
            self.places, self.policy, at, subject, amount=amount, audit=self.audit, **members
        ).id

    def approve(self, id: str, *, at: datetime = NOW, by: str = "ann@here", **changes: object) -> None:
        members = {"amount": None, "unit": None, "until": None, "calls": None, "reason": "", **changes}
        approvals.approve(
            self.places, self.policy, at, id, standings=self.standings, by=by, audit=self.audit, **members
        )  # type: ignore[arg-type]

    def standings(self, windows: list[Window]) -> dict[Window, Standing]:
        return {window: Standing(Amount(calls=self.calls), Amount()) for window in windows}

    def deny(self, id: str, at: datetime = NOW) -> None:
        approvals.deny(self.places, at, id, by="ann@here", reason="no", audit=self.audit)

    def freeze(self, subject: str, until: datetime | None = None, at: datetime = NOW) -> None:
        approvals.freeze(
            self.places, at, parse_subject(subject), until=until, by="ann@here", reason="loop", audit=self.audit
        )

    def thaw(self, subject: str, at: datetime = NOW) -> int:
        thawed = parse_subject(subject)
        return approvals.thaw(self.places, self.policy, at, thawed, by="ann@here", reason="", audit=self.audit)

    def now(self, at: datetime = NOW) -> Allowances:
        return read_allowances(self.places, at)

    def granted(self, at: datetime = NOW, bucket: str = "agent:code", period: str = "month", calls: int = 0) -> int:
        return self.now(at).granted(bucket, period, "usd", calls)

    def state(self, id: str, at: datetime = NOW) -> str:
        everything = read_everything(self.places, at)
        return everything.state(everything.requests[id])


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


# Approvals


def test_without_files_nothing_is_granted_and_nothing_frozen(office: Office) -> None:
    found = office.now()
    assert (office.granted(), found.approved("agent:code", "month", "usd"), found.frozen({"agent": "code"})) == (
        0,
        False,
        None,
    )


def test_an_approval_holds_for_its_bucket_unit_and_period_and_no_other(office: Office) -> None:
    office.approve(office.ask(period="month"))
    found = office.now()
    assert found.granted("agent:code", "month", "usd") == 5
    assert found.granted("own/agent:code", "month", "usd") == 5
    assert found.approved("agent:code", "month", "usd")
    for bucket, period, unit in [
        ("agent:code2", "month", "usd"),
        ("agent:code", "day", "usd"),
        ("agent:code", "month", "tokens"),
        ("total", "month", "usd"),
    ]:
        assert found.granted(bucket, period, unit) == 0
        assert not found.approved(bucket, period, unit)


def test_a_request_without_a_period_is_about_all_quotas_in_its_unit_that_do_not_reset_by_themselves(
    office: Office,
) -> None:
    office.approve(office.ask())
    assert [office.granted(period=period) for period in ("month", "day", "minute")] == [5, 5, 0]


def test_an_approval_ends_with_the_quotas_period(office: Office) -> None:
    office.approve(office.ask())
    assert office.granted(datetime(2026, 11, 21, 23, 59, 59, tzinfo=UTC), period="day") == 5
    assert office.granted(datetime(2026, 11, 22, tzinfo=UTC), period="day") == 0
    assert office.granted(MONTH_END - timedelta(seconds=1)) == 5
    assert office.granted(MONTH_END) == 0


def test_an_approval_for_a_time_ends_then_but_never_after_the_period(office: Office) -> None:
    office.approve(office.ask(), until=NOW + 2 * HOUR)
    assert office.granted(NOW + 2 * HOUR - timedelta(seconds=1)) == 5
    assert office.granted(NOW + 2 * HOUR) == 0
    office.approve(office.ask(), until=MONTH_END + HOUR)
    assert office.granted(MONTH_END - timedelta(seconds=1)) == 5
    assert office.granted(MONTH_END) == 0


def test_an_approval_for_so_many_calls_ends_at_that_call(office: Office) -> None:
    office.calls = 17
    office.approve(office.ask(), calls=3)
    assert [office.granted(calls=calls) for calls in (17, 19, 20, 21)] == [5, 5, 0, 0]
    assert office.now().last_call("agent:code", "month", "usd", 17) == 20
    assert office.now().last_call("agent:code", "month", "usd", 20) is None


def test_several_approvals_add_up(office: Office) -> None:
    office.approve(office.ask(amount=5))
    office.approve(office.ask(amount=3), amount=2)
    assert office.granted() == 7


def test_a_quota_per_minute_is_raised_only_for_a_time_that_is_given(office: Office) -> None:
    id = office.ask(unit="calls", period="minute", amount=10)
    with pytest.raises(UsageError, match="resets by itself"):
        office.approve(id)
    office.approve(id, until=NOW + HOUR)
    found = office.now(NOW + HOUR / 2)
    assert found.granted("agent:code", "minute", "calls") == 10
    assert office.now(NOW + HOUR).granted("agent:code", "minute", "calls") == 0


def test_the_same_request_is_filed_once_and_one_for_another_amount_takes_its_place(office: Office) -> None:
    first = office.ask()
    assert office.ask(reason="other words", at=NOW + HOUR) == first
    second = office.ask(amount=7)
    assert second != first
    assert (office.state(first), office.state(second)) == ("replaced", "open")
    with pytest.raises(UsageError, match="replaced"):
        office.approve(first)
    assert len(Path(office.places.requests).read_text().splitlines()) == 2


def test_a_request_is_answered_once(office: Office) -> None:
    id = office.ask()
    office.approve(id)
    with pytest.raises(UsageError, match="was approved by ann@here"):
        office.approve(id)
    assert office.granted() == 5
    again = office.ask()
    assert again != id


def test_a_denial_holds_until_the_period_ends_and_can_be_changed_into_an_approval(office: Office) -> None:
    id = office.ask(period="day")
    office.deny(id)
    denial = office.now().denied("agent:code", "day", "usd")
    assert denial is not None
    assert (denial.id, denial.by, denial.reason) == (id, "ann@here", "no")
    assert office.now().denied("agent:code", "month", "usd") is None
    assert office.now(datetime(2026, 11, 22, tzinfo=UTC)).denied("agent:code", "day", "usd") is None
    office.approve(id)
    assert office.now().denied("agent:code", "day", "usd") is None
    assert office.granted(period="day") == 5


def test_denying_what_was_approved_takes_it_back(office: Office) -> None:
    id = office.ask()
    office.approve(id)
    office.deny(id)
    assert office.granted() == 0
    assert office.state(id) == "denied"


def test_a_request_that_nobody_answers_expires_with_its_period(office: Office) -> None:
    id = office.ask("agent:code", period="day")
    tomorrow = NOW + 24 * HOUR
    assert office.state(id, tomorrow) == "expired"
    with pytest.raises(UsageError, match="has expired"):
        office.approve(id, at=tomorrow)
    assert office.ask("agent:code", period="day", at=tomorrow) != id


def test_who_asks_for_what_no_quota_is_on_is_told_what_there_is(office: Office) -> None:
    with pytest.raises(UsageError, match="no quota on agent:other"):
        office.ask("agent:other")
    with pytest.raises(UsageError, match="no quota on agent:code in tokens") as failure:
        office.ask(unit="tokens")
    assert "month in usd" in failure.value.hint
    with pytest.raises(UsageError, match="many"):
        office.ask("session:*")
    office.ask("session:s-12")


# Who may approve


def test_where_the_policy_says_so_nobody_approves_what_he_requested_himself(office: Office) -> None:
    office.policy.approvals.self_approval = False
    id = office.ask(by="ann@here")
    for self in ("ann@here", "ann@elsewhere", "ann@"):  # the host's name is a setting that everybody can change
        with pytest.raises(Refused, match="himself"):
            office.approve(id, by=self)
    office.approve(id, by="bob@here")
    assert office.granted() == 5


def test_where_the_policy_names_approvers_nobody_else_approves_or_thaws(office: Office) -> None:
    office.policy.approvals.approvers = ("eve",)
    id = office.ask()
    office.freeze("agent:code")
    with pytest.raises(Refused, match="not among the approvers"):
        office.approve(id)
    with pytest.raises(Refused, match="not among the approvers"):
        office.thaw("agent:code")
    office.approve(id, by="eve@here")
    assert office.granted() == 5


def test_an_agents_file_can_ask_and_stop_but_never_grant_nor_lift(office: Office) -> None:
    office.approve(office.ask())
    office.freeze("agent:code")
    lines = Path(office.places.approvals).read_bytes()
    os.unlink(office.places.approvals)
    with Path(office.places.requests).open("ab") as file:
        file.write(lines)
        file.write(b'{"event":"thaw","at":"2026-11-21T09:30:00Z","by":"x","lifts":["f-1"]}\n')
    assert office.granted() == 0
    frozen = office.now().frozen({"agent": "code"})
    assert frozen is not None
    assert frozen.automatic


def test_a_request_that_was_changed_after_it_was_read_cannot_be_approved(office: Office) -> None:
    id = office.ask()
    path = Path(office.places.requests)
    path.write_text(path.read_text().replace('"amount":0.000000005', '"amount":500'))
    assert '"amount":500' in path.read_text()
    with pytest.raises(UsageError, match="no request"):
        office.approve(id)
    assert "it was changed" in read_everything(office.places, NOW).problems[0]


# Freezes


def test_a_freeze_stops_every_call_under_its_subject_until_it_is_thawed(office: Office) -> None:
    office.freeze("model:anthropic/*")
    call = facts_of({"agent": "code"}, model="anthropic/claude")
    far = NOW + timedelta(days=4000)
    assert office.now(far).frozen(call) is not None
    assert office.now().frozen(facts_of({"agent": "code"}, model="openai/gpt")) is None
    assert office.thaw("model:anthropic/*") == 1
    assert office.now(far).frozen(call) is None


def test_the_past_knows_nothing_of_what_came_later(office: Office) -> None:
    office.freeze("agent:code")
    office.thaw("agent:code", at=NOW + 2 * HOUR)
    asked = office.ask(at=NOW + 2 * HOUR)
    for hours, frozen in ((-1, False), (1, True), (3, False)):
        then = read_everything(office.places, NOW + hours * HOUR, past=True)
        assert bool(then.live_freezes()) is frozen
        assert (asked in then.requests) is (hours == 3)
    assert not read_everything(office.places, NOW + HOUR).live_freezes()


def test_freezing_total_stops_everything(office: Office) -> None:
    office.freeze("total")
    assert office.now().frozen({}) is not None


def test_of_several_freezes_the_longest_is_told_and_thawing_one_leaves_the_others(office: Office) -> None:
    office.freeze("agent:code", NOW + HOUR)
    office.freeze("agent:code", NOW + 3 * HOUR)
    office.freeze("agent:*", NOW + 2 * HOUR)
    found = office.now().frozen({"agent": "code"})
    assert found is not None
    assert found.until == int((NOW + 3 * HOUR).timestamp())
    assert office.thaw("agent:code") == 2
    found = office.now().frozen({"agent": "code"})
    assert found is not None
    assert str(found.subject) == "agent:*"
    assert office.now(NOW + 2 * HOUR).frozen({"agent": "code"}) is None


def test_thawing_what_is_not_frozen_says_what_is(office: Office) -> None:
    office.freeze("total")
    with pytest.raises(UsageError, match="agent:code is not frozen") as failure:
        office.thaw("agent:code")
    assert "total" in failure.value.hint


def test_the_loop_breaker_freezes_from_an_agents_process_and_a_person_thaws(office: Office) -> None:
    subject = parse_subject("agent:code")
    for _ in range(2):
        approvals.trip(
            office.places, NOW, subject, until=NOW + HOUR, by="code@here", reason="63 calls", audit=office.audit
        )
    assert not Path(office.places.approvals).exists()
    found = office.now().frozen({"agent": "code"})
    assert found is not None
    assert (found.automatic, found.reason) == (True, "63 calls")
    assert [event for event, _ in office.events] == ["subject.freeze"]
    office.thaw("agent:code")
    assert office.now().frozen({"agent": "code"}) is None


# What stands in the files


def test_everything_that_is_done_is_audited(office: Office) -> None:
    id = office.ask()
    office.approve(id)
    office.deny(id)
    office.freeze("total")
    office.thaw("total")
    assert [event for event, _ in office.events] == [
        "approval.request",
        "approval.approve",
        "approval.deny",
        "subject.freeze",
        "subject.thaw",
    ]
    assert office.events[1][1]["id"] == id


def test_an_approval_that_cannot_be_audited_is_not_given_but_a_freeze_holds(office: Office) -> None:
    id = office.ask()

    def full(event: str, facts: Mapping[str, object]) -> None:
        raise FileProblem("cannot append to audit.jsonl: no space left on device")

    office.audit = full  # type: ignore[method-assign]
    with pytest.raises(FileProblem):
        office.approve(id)
    assert office.granted() == 0
    with pytest.raises(FileProblem):
        office.freeze("total")
    assert office.now().frozen({}) is not None


def test_agents_of_other_users_can_read_the_approvals_and_only_its_owner_can_write_them(office: Office) -> None:
    before = os.umask(0)
    try:
        office.freeze("total")
    finally:
        os.umask(before)
    assert os.stat(office.places.approvals).st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "line",
    [
        b"not JSON",
        b'{"event":"approve"}',
        b'{"event":"grant","id":"r","at":"2026-11-21T09:30:00Z","by":"x","subject":"agent:code"}',
        b'{"event":"approve","id":"r","at":"2026-11-21T09:30:00Z","by":"x","subject":"agent:code","unit":"usd",'
        b'"amount":-5,"ends":{"month":null}}',
        b'{"event":"approve","id":"r","at":"2026-11-21T09:30:00Z","by":"x","subject":"agent:code","unit":"usd",'
        b'"amount":NaN,"ends":{"month":null}}',
        b'{"event":"approve","id":"r","at":"2026-11-21T09:30:00Z","by":"x","subject":"agent:code","unit":"eur",'
        b'"amount":5,"ends":{"month":null}}',
        b'{"event":"approve","id":"r","at":"2026-11-21T09:30:00Z","by":"x","subject":"agent:code","unit":"usd",'
        b'"amount":5,"ends":{"month":"next year"}}',
        b'{"event":"approve","id":"r","at":"2026-11-21T09:30:00Z","by":"x","subject":"agent:code","unit":"usd",'
        b'"amount":5,"ends":{}}',
        b'{"event":"approve","id":"r","at":"2026-11-21T09:30:00Z","by":"x","subject":"agent:code","unit":"usd",'
        b'"amount":5,"amount":6,"ends":{"month":null}}',
        b"[1]",
        b"\xff\xfe",
    ],
)
def test_a_line_that_cannot_be_understood_grants_nothing_is_told_and_leaves_the_others(
    office: Office, line: bytes
) -> None:
    office.freeze("agent:other")
    path = Path(office.places.approvals)
    path.write_bytes(line + b"\n" + path.read_bytes())
    found = office.now()
    assert found.granted("agent:code", "month", "usd") == 0
    assert found.frozen({"agent": "other"}) is not None
    assert len(found.problems) == 1
    assert f"{path}:1 is left out" in found.problems[0]


def test_half_a_line_at_the_end_is_sealed_by_the_next_writer(office: Office) -> None:
    office.approve(office.ask())
    path = Path(office.places.approvals)
    half = path.read_bytes()[:40]
    with path.open("ab") as file:
        file.write(half)
    assert office.granted() == 5
    assert office.now().problems == []  # it may be being written at this moment
    office.freeze("total")
    assert office.granted() == 5
    assert office.now().frozen({}) is not None


def test_a_file_that_cannot_be_read_is_an_error_not_a_file_without_freezes(office: Office) -> None:
    os.mkdir(office.places.approvals)
    with pytest.raises(FileProblem):
        office.now()


def test_what_is_over_is_not_read_again_by_calls(office: Office) -> None:
    office.approve(office.ask(), until=NOW + HOUR)
    path = Path(office.places.approvals)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"usd"', b'"???"'))
    assert office.now(MONTH_END).problems == []
    assert len(office.now(NOW).problems) == 1


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b'{"over":"', b'"event":', b'"freeze"', b"\n", b"{}"])).map(b"".join)
)
def test_whatever_bytes_stand_there_reading_never_fails_and_never_grants(data: bytes) -> None:
    found = Allowances(NOW)
    read_lines(found, data, "approvals.jsonl", trusted=True, everything=True)
    assert found.grants == {}


def test_a_long_file_of_requests_is_shortened_to_what_is_still_open(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callmeter.store.approvals._MOST_REQUESTS", 2000)
    for day in range(20):
        office.ask(period="day", at=NOW + timedelta(days=day))
    open_one = office.ask(period="month", at=NOW + timedelta(days=20))
    approvals.trip(office.places, NOW, parse_subject("agent:x"), until=None, by="x@here", reason="", audit=office.audit)
    office.ask(period="day", at=NOW + timedelta(days=21))
    later = NOW + timedelta(days=21)
    assert Path(office.places.requests).stat().st_size < 2500
    assert office.state(open_one, later) == "open"
    assert office.now(later).frozen({"agent": "x"}) is not None


# Many at once, and kill -9


def test_the_same_request_of_many_processes_at_once_is_filed_once(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; "
        "from test_store_approvals import Office; "
        "print(Office(Path(sys.argv[2])).ask())"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    ids = {process.communicate(timeout=60)[0].strip() for process in running}
    assert len(ids) == 1
    assert len((tmp_path / "requests.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("step", ["approve", "deny", "freeze", "thaw"])
def test_whoever_is_killed_at_any_point_the_same_command_again_completes_it(
    step: str, tmp_path: Path, office: Office
) -> None:
    id = office.ask()
    office.freeze("agent:x")
    files = {name: Path(name).read_bytes() for name in (office.places.requests, office.places.approvals)}
    steps: dict[str, Callable[[], object]] = {
        "approve": lambda: office.approve(id),
        "deny": lambda: office.deny(id),
        "freeze": lambda: office.freeze("total"),
        "thaw": lambda: office.thaw("agent:x"),
    }
    for _ in every_kill(steps[step]):
        found = office.now()
        if found.granted("agent:code", "month", "usd") == 0 and step == "approve":
            office.approve(id)
            found = office.now()
        elif step != "approve":
            try:
                steps[step]()
            except UsageError:
                assert step == "thaw"  # done before it was killed
            found = office.now()
        assert found.granted("agent:code", "month", "usd") == (5 if step == "approve" else 0)
        assert (found.frozen({"agent": "x"}) is None) == (step == "thaw")
        assert (found.frozen({}) is not None) == (step == "freeze")
        assert (found.denied("agent:code", "month", "usd") is not None) == (step == "deny")
        for name, data in files.items():
            Path(name).write_bytes(data)


def test_an_amount_in_the_file_is_a_number_of_dollars(office: Office) -> None:
    office.approve(office.ask(amount=1_500_000_000))
    line = json.loads(Path(office.places.approvals).read_text())
    assert (line["amount"], line["by"], line["ends"]["month"]) == (1.5, "ann@here", "2026-12-01T00:00:00.000Z")
