"""The outcomes file: killed anywhere, recorded again, everything counts once."""

from __future__ import annotations

from pathlib import Path

import pytest

from callmeter.store.files import FileProblem
from callmeter.store.outcomes import Recorded, read_outcomes, record
from callmeter.words.outcome import Outcome, outcome_line, parse_outcome
from kill_points import every_kill

AT = "2026-11-21T00:00:00.000Z"


def outcomes(count: int) -> list[Outcome]:
    return [Outcome(v=1, id=f"o-{number}", at=AT, work_item=f"S-{number}") for number in range(count)]


def nothing(_: Recorded) -> None:
    """Nobody is told."""


def test_killed_anywhere_and_run_again_everything_is_there_once(tmp_path: Path) -> None:
    path = str(tmp_path / "state" / "outcomes.jsonl")
    record(path, outcomes(1), nothing)
    for point in every_kill(lambda: record(path, outcomes(4), nothing)):
        found = read_outcomes(path)
        assert found.outcomes[0].id == "o-0", point
        done = record(path, outcomes(4), nothing)
        assert len(done.new) + len(done.known) == 4
        ids = [each.id for each in read_outcomes(path).outcomes]
        assert sorted(ids) == ["o-0", "o-1", "o-2", "o-3"], point
        Path(path).write_bytes(outcome_line(outcomes(1)[0]))
    assert len(read_outcomes(path).outcomes) == 4


def test_what_cannot_be_told_is_not_written(tmp_path: Path) -> None:
    path = str(tmp_path / "outcomes.jsonl")

    def fail(_: Recorded) -> None:
        raise FileProblem("the audit log is full")

    with pytest.raises(FileProblem):
        record(path, outcomes(1), fail)
    assert read_outcomes(path).outcomes == []


def test_a_link_in_the_files_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious\n")
    path = tmp_path / "outcomes.jsonl"
    path.symlink_to(target)
    with pytest.raises(FileProblem):
        record(str(path), outcomes(1), nothing)
    assert target.read_text() == "precious\n"


@pytest.mark.parametrize(
    "line",
    [
        b'{"v":2,"id":"a","at":"2026-11-21T00:00:00Z","work_item":"S"}',
        b'{"v":1,"id":"","at":"2026-11-21T00:00:00Z","work_item":"S"}',
        b'{"v":1,"id":"a","at":"2026-11-21T00:00:00Z"}',
        b'{"v":1,"id":"a","at":"some day","work_item":"S"}',
        b'{"v":1,"id":"a","at":"2026-11-21T00:00:00Z","work_item":"S","value":-1}',
        b'{"v":1,"id":"a","at":"2026-11-21T00:00:00Z","work_item":"S","value":"NaN"}',
        b'{"v":1,"id":"a","at":"2026-11-21T00:00:00Z","work_item":"S","value":1e400}',
        b'{"v":1,"id":"a","at":"2026-11-21T00:00:00Z","work_item":7}',
        b"[1]",
        b"[" * 10_000,
        b"",
    ],
)
def test_what_is_no_outcome_is_said_to_be_none(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_outcome(line)


def test_a_member_that_a_later_version_adds_does_no_harm() -> None:
    line = b'{"v":1,"id":"a","at":"2026-11-21T00:00:00Z","work_item":"S","mood":"good"}'
    assert parse_outcome(line).work_item == "S"
