"""What every ledger keeps, SQLite, PostgreSQL, and PostgreSQL behind a pooler in transaction mode."""
# ruff: noqa: F401, F811 - fixtures are imported, and then asked for by name

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from callmeter.ledger.open_ledger import open_ledger, without_password
from callmeter.ledger.protocol import (
    MOST,
    Amount,
    Basis,
    Cap,
    Ledger,
    LedgerProblem,
    Reservation,
    Uncounted,
    Window,
)
from ledger_engines import (
    AGENT,
    BASIS,
    CENT,
    LATER,
    LIFE,
    NOW,
    OTHER,
    TOTAL,
    address,
    at_most,
    costing,
    counted,
    in_children,
    ledger,
    pooler,
    reservation,
    server,
    usd,
    where,
)

DAY = 86_400


def stay(reservation: Reservation) -> list[Window]:
    return reservation.windows


# --- reserve, settle, release


def test_a_reservation_holds_in_every_window(ledger: Ledger) -> None:
    assert ledger.reserve(reservation(tokens=500), at_most(CENT))
    for window in (TOTAL, AGENT):
        assert where(ledger, window).held == Amount(CENT, 500, 1)
        assert where(ledger, window).settled == Amount()


def test_one_window_without_room_holds_nothing_anywhere(ledger: Ledger) -> None:
    assert not ledger.reserve(reservation(), [*at_most(CENT, TOTAL), *at_most(CENT - 1, AGENT)])
    assert usd(ledger, TOTAL) == usd(ledger, AGENT) == (0, 0)
    assert ledger.open_reservations() == []


def test_a_cap_is_met_to_the_nano_dollar(ledger: Ledger) -> None:
    assert ledger.reserve(reservation("c1"), at_most(2 * CENT))
    assert not ledger.reserve(reservation("c2", usd=CENT + 1), at_most(2 * CENT))
    assert ledger.reserve(reservation("c3"), at_most(2 * CENT))
    assert not ledger.reserve(reservation("c4", usd=1), at_most(2 * CENT))
    assert ledger.reserve(reservation("free", usd=0), at_most(2 * CENT))


@pytest.mark.parametrize("unit", ["usd", "tokens", "calls"])
def test_each_unit_has_its_cap(ledger: Ledger, unit: str) -> None:
    hold = Amount(7, 8, 1)
    first = reservation("c1", usd=7, tokens=8)
    assert ledger.reserve(first, [Cap(TOTAL, unit, hold.of(unit))])
    assert not ledger.reserve(reservation("c2", usd=7, tokens=8), [Cap(TOTAL, unit, 2 * hold.of(unit) - 1)])
    assert ledger.reserve(reservation("c2", usd=7, tokens=8), [Cap(TOTAL, unit, 2 * hold.of(unit))])


def test_of_two_caps_on_a_window_the_tighter_one_holds(ledger: Ledger) -> None:
    assert not ledger.reserve(reservation(), [*at_most(CENT), *at_most(CENT - 1)])
    assert not ledger.reserve(reservation(), [*at_most(CENT - 1), *at_most(CENT)])
    assert not ledger.reserve(reservation(), [Cap(TOTAL, "usd", CENT), Cap(TOTAL, "calls", 0)])


def test_a_window_that_two_quotas_share_is_booked_once(ledger: Ledger) -> None:
    ledger.reserve(reservation(windows=(TOTAL, AGENT, TOTAL)), [])
    assert usd(ledger) == (0, CENT)
    ledger.settle("c1", costing(5))
    assert usd(ledger) == (5, 0)


def test_the_true_cost_takes_the_place_of_the_hold(ledger: Ledger) -> None:
    ledger.reserve(reservation(tokens=500), [])
    assert ledger.settle("c1", costing(3, tokens=40))
    for window in (TOTAL, AGENT):
        assert where(ledger, window).settled == Amount(3, 40, 1)
        assert where(ledger, window).held == Amount()
    assert ledger.open_reservations() == []


def test_a_cost_above_the_hold_is_booked_in_full(ledger: Ledger) -> None:
    ledger.reserve(reservation(), at_most(CENT))
    ledger.settle("c1", costing(5 * CENT))
    assert usd(ledger) == (5 * CENT, 0)
    assert not ledger.reserve(reservation("c2", usd=1), at_most(CENT))


def test_a_call_is_settled_once(ledger: Ledger) -> None:
    ledger.reserve(reservation(), [])
    assert ledger.settle("c1", costing(3))
    written = []
    assert not ledger.settle("c1", lambda assumed: written.append(assumed) or Amount(3, 0, 1))
    assert written == [Amount()], "whoever settles has a line to write, whether or not there is a hold"
    assert usd(ledger) == (3, 0)


def test_whoever_knows_a_call_by_its_hold_alone_writes_nothing_without_it(ledger: Ledger) -> None:
    ledger.reserve(reservation(), [])
    assert ledger.settle("c1", costing(3), only_held=True)
    assert not ledger.settle("c1", lambda assumed: pytest.fail("it wrote"), only_held=True)
    assert usd(ledger) == (3, 0)
    ledger.reserve(reservation("c2"), [])
    ledger.take_over("c2", OTHER.log, lambda _: Amount(4, 0, 1))
    written = []
    assert ledger.settle("c2", lambda assumed: written.append(assumed) or Amount(), only_held=True)
    assert written == [Amount(4, 0, 1)], "what another host has booked is there to be corrected"


def test_a_released_call_leaves_nothing(ledger: Ledger) -> None:
    ledger.reserve(reservation(), [])
    assert ledger.release("c1")
    assert not ledger.release("c1")
    assert not ledger.settle("c1", costing(3))
    assert usd(ledger) == (0, 0)


def test_nothing_changes_when_the_line_cannot_be_written(ledger: Ledger) -> None:
    def fails(assumed: Amount) -> Amount:
        raise RuntimeError("the disk is full")

    ledger.reserve(reservation(), [])
    with pytest.raises(RuntimeError):
        ledger.settle("c1", fails)
    assert usd(ledger) == (0, CENT)
    assert ledger.settle("c1", costing(3))


def test_a_call_is_booked_where_it_was_reserved_whatever_the_time_is(ledger: Ledger) -> None:
    yesterday = Window("agent:code", "day", NOW - 2 * DAY, NOW - DAY)
    ledger.reserve(reservation(windows=(yesterday,), created=NOW - DAY - 1), [])
    ledger.settle("c1", costing(3))
    assert usd(ledger, yesterday) == (3, 0)


def test_the_same_call_again_replaces_its_hold(ledger: Ledger) -> None:
    ledger.reserve(reservation(), at_most(3 * CENT))
    assert ledger.reserve(reservation(usd=3 * CENT, windows=(TOTAL, LIFE)), at_most(3 * CENT))
    assert usd(ledger, TOTAL) == usd(ledger, LIFE) == (0, 3 * CENT)
    assert usd(ledger, AGENT) == (0, 0)
    (found,) = ledger.open_reservations()
    assert found.hold == Amount(3 * CENT, 0, 1)
    assert ledger.reserve(reservation(usd=CENT), at_most(3 * CENT))
    assert usd(ledger) == (0, CENT)


def test_a_larger_hold_that_does_not_fit_leaves_the_first_one(ledger: Ledger) -> None:
    ledger.reserve(reservation(), at_most(3 * CENT))
    assert not ledger.reserve(reservation(usd=4 * CENT), at_most(3 * CENT))
    assert usd(ledger) == usd(ledger, AGENT) == (0, CENT)
    assert ledger.reserve(reservation(), at_most(CENT)), "the same hold again is no second one"
    assert usd(ledger) == (0, CENT)


def test_open_reservations_come_oldest_first_and_whole(ledger: Ledger) -> None:
    made = reservation("c2", tokens=9, record='{"tags": {"agent": "ä\\"\'%s"}}', created=NOW - 5)
    ledger.reserve(reservation("c1"), [])
    ledger.reserve(made, [])
    first, second = ledger.open_reservations()
    assert (first.call_id, second.call_id) == ("c2", "c1")
    for name in ("call_id", "windows", "hold", "created", "deadline", "owner", "record"):
        assert getattr(first, name) == getattr(made, name)
    assert (first.basis.log, first.basis.mark) == (BASIS.log, BASIS.mark)
    assert [window.end for window in first.windows] == [window.end for window in made.windows]


def test_a_bucket_may_be_called_anything(ledger: Ledger) -> None:
    odd = Window("agent:'; DROP TABLE windows; -- %s {} \\ \u202e \U0001f4b8", "month", TOTAL.start, LATER)
    ledger.reserve(reservation("c'1", windows=(odd,)), at_most(CENT, odd))
    assert usd(ledger, odd) == (0, CENT)
    ledger.settle("c'1", costing(1))
    assert usd(ledger, odd) == (1, 0)


def test_absurd_amounts_are_cut_and_break_nothing(ledger: Ledger) -> None:
    assert not ledger.reserve(reservation(usd=10**30), at_most(CENT))
    ledger.reserve(reservation(), at_most(10**40))
    ledger.settle("c1", costing(10**30))
    assert usd(ledger) == (MOST, 0)
    assert not ledger.reserve(reservation("c2"), at_most(CENT))


# --- what the totals stand on


def test_a_new_ledger_has_counted_nothing(address: str) -> None:
    new = open_ledger(address)
    with pytest.raises(Uncounted):
        new.standings([TOTAL], BASIS)
    with pytest.raises(Uncounted):
        new.reserve(reservation(), [])
    assert usd(new) == (0, 0), "who only wants to look may look"
    assert new.counted(BASIS.log) == ""
    assert new.open_reservations() == []
    assert new.windows("month", TOTAL.start) == {}


def test_a_changed_policy_must_be_counted_first(ledger: Ledger) -> None:
    changed = Basis(BASIS.log, "mark-2")
    with pytest.raises(Uncounted):
        ledger.standings([TOTAL], changed)
    with pytest.raises(Uncounted):
        ledger.reserve(reservation(basis=changed), [])
    counted(ledger, changed)
    assert ledger.reserve(reservation(basis=changed), [])
    with pytest.raises(Uncounted):
        ledger.reserve(reservation("c2"), [])


def test_a_distrusted_log_must_be_counted_anew_and_others_not(ledger: Ledger) -> None:
    ledger.distrust(BASIS.log)
    assert ledger.counted(BASIS.log) == ""
    with pytest.raises(Uncounted):
        ledger.reserve(reservation(), [])
    assert ledger.reserve(reservation(basis=OTHER), [])


def test_a_recount_says_what_was_different_and_mends_it(ledger: Ledger) -> None:
    ledger.reserve(reservation(), [])
    ledger.settle("c1", costing(3))
    found = {TOTAL: Amount(5, 1, 1), LIFE: Amount(7, 0, 2)}
    differences = ledger.recount(BASIS, NOW, count=lambda: found, windows_of=stay)
    told = {each.window: (each.settled, each.counted) for each in differences}
    assert told == {
        TOTAL: (Amount(3, 0, 1), Amount(5, 1, 1)),
        AGENT: (Amount(3, 0, 1), Amount()),
        LIFE: (Amount(), Amount(7, 0, 2)),
    }
    assert where(ledger, TOTAL).settled == Amount(5, 1, 1)
    assert where(ledger, AGENT).settled == Amount()
    assert ledger.recount(BASIS, NOW, count=lambda: found, windows_of=stay) == []


def test_a_check_changes_nothing(ledger: Ledger) -> None:
    ledger.reserve(reservation(), [])
    differences = ledger.recount(
        Basis(BASIS.log, "other"), NOW, count=lambda: {TOTAL: Amount(5)}, windows_of=lambda _: None, write=False
    )
    assert [each.window for each in differences] == [TOTAL]
    assert usd(ledger) == (0, CENT)
    assert ledger.counted(BASIS.log) == BASIS.mark


def test_a_recount_leaves_what_other_logs_say(ledger: Ledger) -> None:
    ledger.reserve(reservation("a"), [])
    ledger.settle("a", costing(3))
    ledger.reserve(reservation("b", basis=OTHER), [])
    ledger.settle("b", costing(4))
    ledger.recount(BASIS, NOW, count=lambda: {TOTAL: Amount(100, 0, 1)}, windows_of=stay)
    assert usd(ledger) == (104, 0)
    ledger.recount(OTHER, NOW, count=dict, windows_of=stay)
    assert usd(ledger) == (100, 0)


def test_a_recount_leaves_windows_that_ended(ledger: Ledger) -> None:
    ended = Window("total", "day", NOW - DAY, NOW)
    ledger.reserve(reservation(windows=(ended,)), [])
    ledger.settle("c1", costing(3))
    assert ledger.recount(BASIS, NOW, count=lambda: {ended: Amount(9)}, windows_of=stay) == []
    assert usd(ledger, ended) == (3, 0)


def test_a_recount_moves_running_calls_into_the_windows_of_the_new_policy(ledger: Ledger) -> None:
    changed = Basis(BASIS.log, "mark-2")
    ledger.reserve(reservation(), [])
    ledger.reserve(reservation("other", basis=OTHER), [])
    ledger.recount(changed, NOW, count=dict, windows_of=lambda _: [TOTAL, LIFE])
    assert usd(ledger, TOTAL) == (0, 2 * CENT)
    assert usd(ledger, LIFE) == usd(ledger, AGENT) == (0, CENT)
    ledger.settle("c1", costing(3))
    assert usd(ledger, TOTAL) == (3, CENT)
    assert usd(ledger, LIFE) == (3, 0)
    assert usd(ledger, AGENT) == (0, CENT)


def test_a_recount_ends_a_hold_whose_line_it_counted(ledger: Ledger) -> None:
    ledger.reserve(reservation(), [])
    ledger.recount(BASIS, NOW, count=lambda: {TOTAL: Amount(3, 0, 1)}, windows_of=lambda _: None)
    assert usd(ledger) == (3, 0)
    assert not ledger.settle("c1", costing(3))
    assert usd(ledger) == (3, 0)


def test_a_count_that_fails_changes_nothing(ledger: Ledger) -> None:
    def fails() -> dict[Window, Amount]:
        raise RuntimeError("the log cannot be read")

    ledger.reserve(reservation(), [])
    with pytest.raises(RuntimeError):
        ledger.recount(Basis(BASIS.log, "mark-2"), NOW, count=fails, windows_of=stay)
    assert ledger.counted(BASIS.log) == BASIS.mark
    assert usd(ledger) == (0, CENT)


def test_two_logs_add_up_and_share_one_cap(ledger: Ledger) -> None:
    assert ledger.reserve(reservation("a"), at_most(3 * CENT))
    assert ledger.reserve(reservation("b", basis=OTHER), at_most(3 * CENT))
    ledger.settle("a", costing(2 * CENT))
    assert usd(ledger) == (2 * CENT, CENT)
    assert not ledger.reserve(reservation("c", basis=OTHER), at_most(3 * CENT))
    assert where(ledger).settled == ledger.windows("month", TOTAL.start)[TOTAL].settled


def test_buckets_that_begin_alike_are_listed_in_one_unit(ledger: Ledger) -> None:
    sessions = [Window(f"session:{name}", "life", 0, 0) for name in ("a", "b", "%", "é")]
    others = [Window("sessions", "life", 0, 0), Window("session:a", "month", TOTAL.start, TOTAL.end)]
    ledger.reserve(reservation("one", windows=[*sessions[:2], *others]), [])
    ledger.reserve(reservation("two", windows=sessions[1:]), [])
    ledger.settle("one", lambda _: Amount(3, 40, 1))
    found = {name: amounts for name, *amounts in ledger.amounts("life", 0, "session:", "tokens")}
    held = reservation().hold
    assert found == {
        "session:a": [40, 0, 1],
        "session:b": [40, held.tokens, 1 + held.calls],
        "session:%": [0, held.tokens, held.calls],
        "session:é": [0, held.tokens, held.calls],
    }
    assert [row[1:3] for row in ledger.amounts("life", 0, "session:a", "usd")] == [(3, 0)]
    assert ledger.amounts("life", 0, "session:%%", "calls") == ledger.amounts("day", 0, "", "usd") == []


# --- corrections and other hosts


def test_a_correction_is_booked_in_windows_that_exist(ledger: Ledger) -> None:
    ledger.reserve(reservation(), [])
    ledger.settle("c1", costing(5))
    ledger.adjust([TOTAL, AGENT, LIFE], BASIS, lambda: Amount(-2, 7, 0))
    assert where(ledger, TOTAL).settled == where(ledger, AGENT).settled == Amount(3, 7, 1)
    assert ledger.windows("life", 0) == {}
    assert ledger.counted(BASIS.log) == BASIS.mark
    found = {TOTAL: Amount(3, 7, 1), AGENT: Amount(3, 7, 1)}
    assert ledger.recount(BASIS, NOW, count=lambda: found, windows_of=stay) == []


def test_a_correction_for_another_policy_is_not_written(ledger: Ledger) -> None:
    written = []
    with pytest.raises(Uncounted):
        ledger.adjust([TOTAL], Basis(BASIS.log, "mark-2"), lambda: written.append(1) or Amount())
    assert written == []
    assert ledger.counted(BASIS.log) == BASIS.mark


def test_a_correction_that_was_cut_off_has_the_log_counted_anew(ledger: Ledger) -> None:
    def fails() -> Amount:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.adjust([TOTAL], BASIS, fails)
    with pytest.raises(Uncounted):
        ledger.reserve(reservation(), [])


def test_a_call_whose_host_is_gone_is_booked_in_the_share_of_who_found_it(ledger: Ledger) -> None:
    ledger.reserve(reservation(), [])
    seen = []
    assert ledger.take_over("c1", OTHER.log, lambda found: seen.append(found.call_id) or Amount(CENT, 0, 1))
    assert seen == ["c1"]
    assert usd(ledger) == (CENT, 0)
    assert ledger.open_reservations() == ledger.taken_over(OTHER.log) == []
    assert [found.call_id for found in ledger.taken_over(BASIS.log)] == ["c1"]
    assert (
        ledger.recount(
            OTHER, NOW, count=lambda: {TOTAL: Amount(CENT, 0, 1), AGENT: Amount(CENT, 0, 1)}, windows_of=stay
        )
        == []
    )


def test_two_hosts_that_find_it_book_it_once(ledger: Ledger) -> None:
    ledger.reserve(reservation(), [])
    ledger.take_over("c1", OTHER.log, lambda _: Amount(CENT, 0, 1))
    assert not ledger.take_over("c1", "log-c", lambda _: pytest.fail("it was taken over already"))
    assert usd(ledger) == (CENT, 0)


def test_a_host_that_comes_back_is_told_what_was_booked_and_corrects_it(ledger: Ledger) -> None:
    ledger.reserve(reservation(), [])
    ledger.take_over("c1", OTHER.log, lambda _: Amount(CENT, 0, 1))
    told = []
    assert ledger.settle("c1", lambda assumed: told.append(assumed) or Amount(5 - assumed.usd, 0, 0))
    assert told == [Amount(CENT, 0, 1)]
    assert ledger.taken_over(BASIS.log) == []
    with pytest.raises(Uncounted):
        ledger.reserve(reservation("c2"), [])
    shares = {TOTAL: Amount(5 - CENT, 0, 0), AGENT: Amount(5 - CENT, 0, 0)}
    ledger.recount(BASIS, NOW, count=lambda: shares, windows_of=stay)
    assert where(ledger).settled == Amount(5, 0, 1)
    assert not ledger.settle("c1", costing(5))


def test_a_call_that_was_taken_over_is_not_released(ledger: Ledger) -> None:
    ledger.reserve(reservation(), [])
    ledger.take_over("c1", OTHER.log, lambda _: Amount(CENT, 0, 1))
    assert not ledger.release("c1")
    assert usd(ledger) == (CENT, 0)


def test_a_call_that_was_taken_over_gets_no_further_hold(ledger: Ledger) -> None:
    ledger.reserve(reservation(), [])
    ledger.take_over("c1", OTHER.log, lambda _: Amount(CENT, 0, 1))
    with pytest.raises(LedgerProblem, match="given up"):
        ledger.reserve(reservation(usd=2 * CENT), [])
    assert usd(ledger) == (CENT, 0)


def test_a_take_over_that_was_cut_off_has_the_log_counted_anew(ledger: Ledger) -> None:
    def fails(_: Reservation) -> Amount:
        raise KeyboardInterrupt

    ledger.reserve(reservation(), [])
    with pytest.raises(KeyboardInterrupt):
        ledger.take_over("c1", OTHER.log, fails)
    with pytest.raises(Uncounted):
        ledger.reserve(reservation("c2", basis=OTHER), [])
    assert ledger.reserve(reservation("c2"), [])
    assert ledger.settle("c1", costing(3))


def test_a_take_over_for_a_log_that_was_counted_for_other_quotas_has_it_counted_anew(ledger: Ledger) -> None:
    changed = Basis(OTHER.log, "mark-2")
    ledger.reserve(reservation(windows=(AGENT,)), [])
    counted(ledger, changed)
    ledger.take_over("c1", OTHER.log, lambda _: Amount(CENT, 0, 1))
    with pytest.raises(Uncounted):
        ledger.standings([TOTAL], changed)
    ledger.recount(changed, NOW, count=lambda: {TOTAL: Amount(CENT, 0, 1)}, windows_of=stay)
    assert usd(ledger, TOTAL) == (CENT, 0)
    assert usd(ledger, AGENT) == (0, 0)


def test_a_take_over_whose_line_was_counted_meanwhile_has_the_log_counted_anew(ledger: Ledger) -> None:
    ledger.reserve(reservation(), [])
    shares = {TOTAL: Amount(CENT, 0, 1), AGENT: Amount(CENT, 0, 1)}
    ledger.recount(OTHER, NOW, count=lambda: shares, windows_of=stay)
    ledger.take_over("c1", OTHER.log, lambda _: Amount(CENT, 0, 1), logged=lambda: True)
    with pytest.raises(Uncounted):
        ledger.standings([TOTAL], OTHER)
    ledger.recount(OTHER, NOW, count=lambda: shares, windows_of=stay)
    assert usd(ledger) == (CENT, 0)


# --- the clock


def test_a_clock_that_went_back_into_a_former_period_stops_calls_under_a_hard_cap(ledger: Ledger) -> None:
    tomorrow = Window("agent:code", "day", AGENT.start + DAY, LATER)
    ledger.reserve(reservation("ahead", windows=(tomorrow,), created=tomorrow.start), [])
    early = reservation("back", windows=(AGENT,), created=tomorrow.start - 7200)
    with pytest.raises(LedgerProblem, match="clock went back") as caught:
        ledger.reserve(early, at_most(CENT, AGENT))
    assert caught.value.code == "clock"
    assert ledger.reserve(early, []), "who enforces nothing is not stopped"


def test_a_long_call_may_ask_for_more_when_others_are_in_the_next_period(ledger: Ledger) -> None:
    tomorrow = Window("agent:code", "day", AGENT.start + DAY, LATER)
    ledger.reserve(reservation("long", windows=(AGENT,), created=tomorrow.start - 7200), at_most(3 * CENT, AGENT))
    ledger.reserve(reservation("next", windows=(tomorrow,), created=tomorrow.start + 60), at_most(CENT, tomorrow))
    more = reservation("long", windows=(AGENT,), created=tomorrow.start - 7200, usd=2 * CENT)
    assert ledger.reserve(more, at_most(3 * CENT, AGENT))


def test_two_hosts_that_disagree_by_minutes_at_midnight_both_call(ledger: Ledger) -> None:
    tomorrow = Window("agent:code", "day", AGENT.start + DAY, LATER)
    ledger.reserve(reservation("fast", windows=(tomorrow,), created=tomorrow.start + 5), [])
    slow = reservation("slow", windows=(AGENT,), created=tomorrow.start - 60, basis=OTHER)
    assert ledger.reserve(slow, at_most(CENT, AGENT))
    assert usd(ledger, AGENT) == usd(ledger, tomorrow) == (0, CENT)


def test_windows_of_a_future_that_never_was_can_be_dropped(ledger: Ledger) -> None:
    future = Window("agent:code", "day", NOW + 4000 * DAY, NOW + 4001 * DAY)
    ledger.reserve(reservation("ahead", windows=(future,)), [])
    assert ledger.forget_ahead(NOW) == 0, "as long as a call holds something there"
    ledger.settle("ahead", costing(1))
    assert ledger.forget_ahead(NOW) == 1
    assert ledger.reserve(reservation(windows=(AGENT,)), at_most(CENT, AGENT))


# --- what is kept, and for how long


def test_texts_are_kept(ledger: Ledger) -> None:
    assert ledger.remember("warned/total") == ""
    assert ledger.remember("warned/total", "0.5") == ""
    assert ledger.remember("warned/total", "0.75") == "0.5"
    assert ledger.remember("warned/total") == "0.75"


def test_of_many_who_keep_a_text_first_one_is_told_that_it_is_the_first(ledger: Ledger, tmp_path: Path) -> None:
    def body(number: int) -> None:
        if ledger.remember("warned/total", "0.5") == "":
            (tmp_path / f"first-{number}").touch()

    in_children(8, body)
    assert len(list(tmp_path.glob("first-*"))) == 1


@pytest.mark.parametrize("sweep", [True, False])
def test_windows_that_ended_long_ago_are_dropped(ledger: Ledger, sweep: bool) -> None:
    def window(period: str, length: int, ended_days_ago: int) -> Window:
        end = NOW - ended_days_ago * DAY
        return Window("total", period, end - length, end)

    dropped = [window("month", 30 * DAY, 401), window("minute", 60, 3), window("hour", 3600, 3)]
    stay = [window("month", 30 * DAY, 399), window("day", DAY, 3), window("minute", 60, 1), LIFE, TOTAL]
    held = window("month", 30 * DAY, 500)
    ledger.reserve(reservation("old", windows=(*dropped, *stay)), [])
    ledger.settle("old", costing(3))
    ledger.reserve(reservation("held", windows=(held,)), [])
    if sweep:
        ledger.reserve(reservation("sweeps-000", windows=(LIFE,), usd=0), [])
    else:
        assert ledger.prune(NOW) == len(dropped)
    assert [usd(ledger, each)[0] for each in dropped] == [0] * len(dropped)
    assert [usd(ledger, each)[0] for each in stay] == [3] * len(stay)
    assert usd(ledger, held) == (0, CENT)
    assert ledger.counted(BASIS.log) == BASIS.mark


# --- many at once


def test_of_many_processes_exactly_as_many_get_through_as_fit(ledger: Ledger, tmp_path: Path) -> None:
    def body(number: int) -> None:
        for attempt in range(6):
            call_id = f"c{number}-{attempt}"
            windows = (TOTAL, AGENT, LIFE) if number % 2 else (LIFE, TOTAL)
            made = reservation(call_id, windows=windows, basis=BASIS if number % 3 else OTHER)
            if ledger.reserve(made, at_most(20 * CENT, TOTAL, LIFE)):
                (tmp_path / call_id).touch()
                if attempt % 2:
                    ledger.settle(call_id, costing(CENT))

    in_children(8, body)
    served = len(list(tmp_path.glob("c*")))
    assert served == 20
    assert sum(usd(ledger)) == sum(usd(ledger, LIFE)) == 20 * CENT
    assert usd(ledger)[1] == len(ledger.open_reservations()) * CENT


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    faults: list[BaseException] = []

    def body(number: int) -> None:
        try:
            for attempt in range(5):
                assert ledger.reserve(reservation(f"c{number}-{attempt}"), at_most(100 * CENT))
                assert ledger.settle(f"c{number}-{attempt}", costing(3))
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert usd(ledger) == (90, 0)


def test_many_settlers_of_one_call_write_one_cost(ledger: Ledger, tmp_path: Path) -> None:
    ledger.reserve(reservation(), [])

    def body(number: int) -> None:
        if ledger.settle("c1", costing(3)):
            (tmp_path / f"settled-{number}").touch()

    in_children(8, body)
    assert len(list(tmp_path.glob("settled-*"))) == 1
    assert usd(ledger) == (3, 0)


def test_a_recount_among_busy_callers_misses_none_and_counts_none_twice(ledger: Ledger, tmp_path: Path) -> None:
    """The log is a directory here: a file of three nano-dollars for each settled call."""
    log = tmp_path / "log"
    log.mkdir()

    def write(call_id: str) -> Amount:
        (log / call_id).touch()
        return Amount(3, 0, 1)

    def count() -> dict[Window, Amount]:
        lines = len(list(log.iterdir()))
        return {TOTAL: Amount(3 * lines, 0, lines)} if lines else {}

    def body(number: int) -> None:
        for attempt in range(12):
            if number == 0:
                found = ledger.recount(
                    BASIS,
                    NOW,
                    count=count,
                    windows_of=lambda found: None if (log / found.call_id).exists() else found.windows,
                )
                assert found == [], found[0].__slots__ and (found[0].settled, found[0].counted)
            else:
                call_id = f"c{number}-{attempt}"
                ledger.reserve(reservation(call_id, windows=(TOTAL,)), at_most(1000 * CENT))
                ledger.settle(call_id, lambda _, call_id=call_id: write(call_id))

    in_children(6, body)
    assert usd(ledger) == (3 * 5 * 12, 0)


# --- addresses


@pytest.mark.parametrize("address", ["mysql://host/db", "redis://localhost", "http://x"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(LedgerProblem, match="no ledger for"):
        open_ledger(address)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://callmeter:s3:cr@t@db/x", "postgresql://callmeter:***@db/x"),
        ("postgresql://callmeter@db/x", "postgresql://callmeter@db/x"),
        ("/var/lib/ledger.db", "/var/lib/ledger.db"),
        ("/odd@dir:1/ledger.db", "/odd@dir:1/ledger.db"),
    ],
)
def test_a_password_is_not_shown(address: str, shown: str) -> None:
    assert without_password(address) == shown
