"""May a call go ahead? The decision over where its buckets stand, as the policy's words promise it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from callmeter.policy.decision import Decision, Frozen, Need, Stand, decide, frozen_for
from callmeter.policy.quotas import Bucket, Quota, Stage
from callmeter.words.subject import parse_subject

END = 1_000_000


def stand(
    limit: int = 100,
    settled: int = 0,
    held: int = 0,
    *,
    subject: str = "agent:code",
    enforcement: str = "hard",
    granted: int = 0,
    approved: bool = False,
    end: int = END,
    **more: object,
) -> Stand:
    """A bucket with a quota (hard, money, a month, no warnings unless said) and where it stands."""
    more.setdefault("warn_at", ())
    quota = Quota(parse_subject(subject), limit, enforcement=enforcement, **more)  # type: ignore[arg-type]
    return Stand(Bucket(quota, subject, 0, end), settled, held, granted, approved)


def need(usd: int | None = 10, *, ceiling: int = 1000, each: int = 0, tokens: int = 0, **more: object) -> Need:
    """A call that costs `usd`, and `each` more for each output token; it sends `tokens`."""
    return Need(
        ceiling,
        lambda tokens: None if usd is None else usd + each * tokens,
        lambda output: tokens + output,
        **more,  # type: ignore[arg-type]
    )


def said(decision: Decision) -> tuple[str, str]:
    return decision.action, decision.why


# Hard, soft, showback


def test_a_call_that_fits_goes_ahead_and_says_which_limits_to_hold() -> None:
    money, rate = stand(100, 60, 20), stand(5, 1, unit="calls", period="minute")
    watched = stand(100, 500, enforcement="showback")
    decision = decide([money, rate, watched], need(20))
    assert decision.allowed
    assert decision.ceiling == 1000
    assert decision.caps == [(money.bucket, 100), (rate.bucket, 5)]
    assert decision.buckets == [money.bucket, rate.bucket, watched.bucket]


def test_without_quotas_every_call_goes_ahead() -> None:
    assert decide([], need(None)).allowed


def test_a_hard_quota_stops_what_does_not_fit_and_shows_its_arithmetic() -> None:
    decision = decide([stand(100, 70, 25)], need(40))
    assert said(decision) == ("stop", "limit")
    assert (decision.limit, decision.need, decision.missing, decision.resets_at) == (100, 40, 35, END)
    assert decision.stand is not None
    assert (decision.stand.settled, decision.stand.held) == (70, 25)


def test_money_that_is_only_held_makes_a_call_wait_and_not_stop() -> None:
    decision = decide([stand(100, 70, 25)], need(30))
    assert said(decision) == ("busy", "held")
    assert decision.missing == 25


@pytest.mark.parametrize("period", ["second", "minute"])
def test_what_resets_at_once_makes_a_call_wait(period: str) -> None:
    decision = decide([stand(5, 5, unit="calls", period=period, end=60)], need())
    assert said(decision) == ("busy", "limit")
    assert decision.resets_at == 60


def test_a_call_that_no_period_can_afford_is_told_so() -> None:
    decision = decide([stand(5, 0, unit="tokens", period="minute")], need(tokens=10, ceiling=1))
    assert said(decision) == ("stop", "too_large")
    assert decision.resets_at == 0


def test_of_several_refusals_the_one_that_lasts_longest_is_told() -> None:
    minute = stand(1, 1, unit="calls", period="minute", end=60)
    day, month = stand(10, 10, period="day", end=86_400), stand(50, 50, end=2_600_000)
    for order in itertools.permutations([minute, day, month, stand(100, 80, 15)]):
        assert decide(order, need(10)).stand is month


def test_a_rate_is_told_rather_than_a_hold_that_may_end_sooner() -> None:
    rate, held = stand(1, 1, unit="calls", period="minute", end=60), stand(100, 50, 45, end=END)
    for order in ([rate, held], [held, rate]):
        assert decide(order, need(10)).stand is rate


def test_what_cannot_be_waited_for_is_told_rather_than_what_can() -> None:
    held, gone = stand(100, 50, 45, end=0), stand(100, 100, end=END)
    for order in ([held, gone], [gone, held]):
        assert said(decide(order, need(10))) == ("stop", "limit")


@pytest.mark.parametrize("enforcement", ["soft", "showback"])
def test_what_is_not_hard_never_stops(enforcement: str) -> None:
    stages = (Stage(Decimal(0), "stop"),)
    full = [stand(1, 10**9, enforcement=enforcement, unit=unit, stages=stages) for unit in ("usd", "tokens", "calls")]
    decision = decide(full, need(10, tokens=5))
    assert decision.allowed
    assert decision.caps == []
    assert decision.ceiling == 1000


# What costs nothing, and what nobody knows the price of


def test_a_free_model_stays_allowed_when_money_is_gone() -> None:
    stages = (Stage(Decimal("0.7"), "downgrade", "mini"), Stage(Decimal("0.9"), "approve"), Stage(Decimal(1), "stop"))
    gone = stand(100, 250, stages=stages)
    assert decide([gone], need(0)).allowed
    assert decide([gone], need(0)).caps == []


def test_a_free_call_is_still_a_call() -> None:
    assert said(decide([stand(5, 5, unit="calls", period="day")], need(0))) == ("stop", "limit")


def test_a_model_without_a_price_is_refused_under_a_hard_quota_of_money_alone() -> None:
    assert said(decide([stand(100)], need(None))) == ("stop", "price_unknown")
    assert decide([stand(100, enforcement="soft")], need(None)).allowed
    assert decide([stand(10**6, unit="tokens")], need(None)).allowed


# The output ceiling


def test_the_output_ceiling_is_lowered_to_what_the_tightest_quota_affords() -> None:
    wide, tight, tokens = stand(10_000), stand(5_000), stand(700, 0, unit="tokens")
    assert decide([wide, tight], need(1_000, each=10)).ceiling == 400
    assert decide([wide, tokens], need(0, each=1, tokens=100)).ceiling == 600
    assert decide([tight, tokens], need(1_000, each=10, tokens=100)).ceiling == 400


def test_the_ceiling_is_not_lowered_below_its_floor() -> None:
    assert decide([stand(256)], need(0, each=1), lowest_ceiling=256).ceiling == 256
    assert said(decide([stand(255)], need(0, each=1), lowest_ceiling=256)) == ("stop", "too_large")
    refused = decide([stand(255)], need(0, each=1), lowest_ceiling=256)
    assert (refused.need, refused.missing) == (256, 1)


def test_a_call_that_asks_for_less_than_the_floor_gets_what_it_asks_for_or_nothing() -> None:
    assert decide([stand(50)], need(0, each=1, ceiling=50), lowest_ceiling=256).ceiling == 50
    assert not decide([stand(49)], need(0, each=1, ceiling=50), lowest_ceiling=256).allowed


# Stages

STAGES = (Stage(Decimal("0.7"), "downgrade", "mini"), Stage(Decimal("0.9"), "approve"), Stage(Decimal(1), "stop"))


@pytest.mark.parametrize(
    ("settled", "action"), [(0, "allow"), (69, "allow"), (70, "downgrade"), (89, "downgrade"), (90, "approve")]
)
def test_stages_act_from_their_share_on(settled: int, action: str) -> None:
    decision = decide([stand(100, settled, stages=STAGES)], need(1))
    assert decision.action == action
    assert decision.model == ("mini" if action == "downgrade" else "")


def test_a_stage_is_reached_by_what_is_held_as_well() -> None:
    assert decide([stand(100, 60, 10, stages=STAGES)], need(1)).action == "downgrade"


def test_a_running_session_keeps_its_model_and_no_model_is_downgraded_to_itself() -> None:
    reached = stand(100, 75, stages=STAGES)
    assert decide([reached], need(1, new_session=False)).allowed
    assert decide([reached], need(1, model="mini")).allowed
    assert decide([reached], need(1, model="large")).action == "downgrade"


def test_an_approval_lifts_the_stage_that_asks_for_one_and_no_other() -> None:
    assert decide([stand(100, 95, stages=STAGES, approved=True)], need(1)).action == "downgrade"
    assert decide([stand(100, 95, stages=STAGES[1:], approved=True)], need(1)).allowed
    assert (
        decide([stand(100, 95, stages=(Stage(Decimal("0.5"), "stop"), *STAGES[1:]), approved=True)], need(1)).action
        == "stop"
    )


def test_granted_headroom_moves_the_limit_and_its_stages() -> None:
    assert decide([stand(100, 95, granted=100, stages=STAGES)], need(50)).allowed
    assert said(decide([stand(100, 95, granted=100)], need(106))) == ("stop", "limit")
    decision = decide([stand(100, 95, granted=100)], need(105))
    assert [limit for _, limit in decision.caps] == [200]


def test_any_subset_of_stages_in_any_order_can_be_given() -> None:
    late_downgrade = (Stage(Decimal("0.9"), "downgrade", "mini"), Stage(Decimal("0.2"), "approve"))
    assert decide([stand(100, 50, stages=late_downgrade)], need(1)).action == "approve"
    assert decide([stand(100, 95, stages=late_downgrade)], need(1)).action == "downgrade"
    assert decide([stand(100, 0, stages=(Stage(Decimal(0), "approve"),))], need(1)).action == "approve"


def test_the_strictest_stage_of_several_quotas_wins() -> None:
    downgrade, approve = stand(100, 80, stages=STAGES), stand(1000, 950, stages=STAGES)
    decision = decide([downgrade, approve], need(1))
    assert decision.action == "approve"
    assert decision.stand is approve
    assert said(decide([downgrade, approve, stand(10, 10)], need(1))) == ("stop", "limit")


# Priority


def test_the_last_share_is_for_high_priorities() -> None:
    last = stand(100, 85, reserve=Decimal("0.1"))
    assert said(decide([last], need(10))) == ("stop", "reserved")
    assert decide([last], need(10)).missing == 5
    assert decide([last], need(5)).allowed
    assert said(decide([last], need(15))) == ("stop", "reserved")
    for priority in ("high", "critical", "High"):
        assert decide([last], need(15, priority=priority)).allowed
    assert said(decide([last], need(16, priority="high"))) == ("stop", "limit")


def test_background_work_waits_for_holds_within_its_own_share_only() -> None:
    assert said(decide([stand(100, 50, 45, reserve=Decimal("0.2"))], need(20))) == ("busy", "held")
    assert said(decide([stand(100, 75, 10, reserve=Decimal("0.2"))], need(10))) == ("stop", "reserved")


# Warnings


@pytest.mark.parametrize(
    ("settled", "share"), [(0, None), (49, None), (50, "0.5"), (74, "0.5"), (75, "0.75"), (99, "0.9"), (150, "0.9")]
)
def test_the_highest_threshold_that_is_passed_is_warned_of(settled: int, share: str | None) -> None:
    shares = tuple(map(Decimal, ("0.9", "0.5", "0.75")))
    passed = stand(100, settled, enforcement="soft", warn_at=shares)
    warnings = decide([passed], need(1)).warnings
    assert warnings == ([] if share is None else [(passed, Decimal(share))])


def test_showback_does_not_warn() -> None:
    assert decide([stand(100, 99, enforcement="showback", warn_at=(Decimal("0.5"),))], need(1)).warnings == []


def test_who_has_nothing_to_spend_and_spent_nothing_is_not_warned() -> None:
    assert decide([stand(0, 0, enforcement="soft", warn_at=(Decimal(1),))], need(0)).warnings == []
    assert len(decide([stand(0, 1, enforcement="soft", warn_at=(Decimal(1),))], need(0)).warnings) == 1


# Shared pools


def pooled(own: int, settled: int, *pools: tuple[str, int, int], enforcement: str = "hard") -> list[Stand]:
    """An allocation and the pools behind it, each (name, limit, settled)."""
    names = tuple(name for name, _, _ in pools)
    behind = [stand(limit, spent, subject=f"pool:{name}", enforcement=enforcement) for name, limit, spent in pools]
    return [stand(own, settled, pools=names, enforcement=enforcement), *behind]


def test_an_agent_uses_its_allocation_first_and_then_the_pool() -> None:
    own, pool = pooled(100, 0, ("shared_pool", 50, 0))
    first = decide([own, pool], need(100))
    assert (first.pool, first.buckets, first.caps) == ("", [own.bucket], [(own.bucket, 100)])
    own, pool = pooled(100, 80, ("shared_pool", 50, 0))
    then = decide([own, pool], need(30))
    assert (then.pool, then.buckets, then.caps) == ("shared_pool", [pool.bucket], [(pool.bucket, 50)])


def test_a_call_is_paid_whole_by_one_of_them() -> None:
    decision = decide(pooled(100, 90, ("shared_pool", 50, 40)), need(15))
    assert said(decision) == ("stop", "limit")
    assert decision.missing == 5


def test_pools_are_asked_in_their_order() -> None:
    assert decide(pooled(100, 90, ("a", 50, 0), ("b", 50, 0)), need(15)).pool == "a"
    assert decide(pooled(100, 90, ("a", 50, 45), ("b", 50, 0)), need(15)).pool == "b"


def test_a_pool_that_affords_a_longer_answer_pays_for_it() -> None:
    assert decide(pooled(1000, 0, ("a", 10_000, 0)), need(0, each=1, ceiling=1000)).pool == ""
    assert decide(pooled(1000, 500, ("a", 10_000, 0)), need(0, each=1, ceiling=1000)).pool == "a"
    decision = decide(pooled(1000, 500, ("a", 400, 0)), need(0, each=1, ceiling=1000))
    assert (decision.pool, decision.ceiling) == ("", 500)


def test_an_agent_without_an_allocation_lives_on_the_pool_alone() -> None:
    assert decide(pooled(0, 0, ("shared_pool", 50, 0)), need(10)).pool == "shared_pool"
    decision = decide(pooled(0, 0, ("shared_pool", 50, 45)), need(10))
    assert said(decision) == ("stop", "limit")
    assert str(decision.stand.quota.subject if decision.stand else "") == "pool:shared_pool"


def test_a_pool_in_flight_makes_an_agent_wait_even_when_its_own_is_gone() -> None:
    own, pool = pooled(100, 100, ("shared_pool", 50, 0))
    pool.held = 45
    assert said(decide([own, pool], need(10))) == ("busy", "held")


def test_other_quotas_count_a_call_whoever_pays_it() -> None:
    total = stand(1000, 0, subject="total")
    decision = decide([total, *pooled(100, 100, ("shared_pool", 50, 0))], need(10))
    assert decision.buckets[0] is total.bucket
    assert len(decision.buckets) == 2
    full = stand(1000, 1000, subject="total")
    assert decide([full, *pooled(100, 100, ("shared_pool", 50, 0))], need(10)).stand is full


@pytest.mark.parametrize("enforcement", ["soft", "showback"])
def test_pools_pay_in_the_same_order_when_nothing_is_enforced(enforcement: str) -> None:
    assert decide(pooled(100, 0, ("a", 50, 0), enforcement=enforcement), need(10)).pool == ""
    assert decide(pooled(100, 95, ("a", 50, 0), enforcement=enforcement), need(10)).pool == "a"
    assert decide(pooled(100, 95, ("a", 50, 45), enforcement=enforcement), need(10)).pool == ""


# Frozen subjects


def test_a_frozen_subject_stops_first() -> None:
    frozen = Frozen(parse_subject("agent:code"), 500, "loop")
    decision = decide([stand(0, enforcement="soft")], need(0), frozen=frozen)
    assert said(decision) == ("stop", "frozen")
    assert decision.frozen is frozen
    assert decision.resets_at == 500


def test_which_freeze_a_call_falls_under() -> None:
    brief, long = Frozen(parse_subject("agent:*"), 200), Frozen(parse_subject("agent:code"), 900)
    total, other = Frozen(parse_subject("total"), 0), Frozen(parse_subject("agent:chat"))
    facts = {"agent": "code"}
    assert frozen_for([brief, long, other], facts, 100) is long
    assert frozen_for([brief, total, long], facts, 100) is total
    assert frozen_for([brief, long], facts, 899) is long
    assert frozen_for([brief, long], facts, 900) is None
    assert frozen_for([other], facts, 100) is None


# Properties

amounts = st.integers(0, 60)


@st.composite
def stands(draw: st.DrawFn, enforcements: Sequence[str] = ("showback", "soft", "hard")) -> list[Stand]:
    """Up to four buckets without stages."""
    return [
        stand(
            draw(st.integers(1, 60)),
            draw(amounts),
            draw(amounts),
            subject=f"team:t{index}",
            enforcement=draw(st.sampled_from(enforcements)),
            unit=draw(st.sampled_from(["usd", "tokens", "calls"])),
            period=draw(st.sampled_from(["minute", "day", "month"])),
            reserve=draw(st.sampled_from([Decimal(0), Decimal("0.25")])),
            granted=draw(st.sampled_from([0, 0, 15])),
        )
        for index in range(draw(st.integers(0, 4)))
    ]


needs = st.builds(
    need,
    st.none() | st.integers(0, 30),
    ceiling=st.integers(1, 40),
    each=st.integers(0, 2),
    tokens=st.integers(0, 10),
    priority=st.sampled_from(["", "low", "high"]),
)


def fits(each: Stand, call: Need, ceiling: int) -> bool:
    """The rule itself, in its plainest form."""
    amount = call.of(each.quota.unit, ceiling)
    if each.quota.enforcement != "hard" or amount == 0:
        return True
    return amount is not None and each.settled + each.held + amount <= each.limit(call.priority)


@given(stands(), needs, st.integers(1, 40))
def test_exactly_the_calls_that_fit_go_ahead_with_the_highest_ceiling_that_fits(
    buckets: list[Stand], call: Need, lowest: int
) -> None:
    decision = decide(buckets, call, lowest_ceiling=lowest)
    fitting = [
        ceiling
        for ceiling in range(min(lowest, call.ceiling), call.ceiling + 1)
        if all(fits(each, call, ceiling) for each in buckets)
    ]
    assert decision.allowed == bool(fitting)
    if fitting:
        assert decision.ceiling == fitting[-1]


@given(stands(), needs, st.integers(1, 40))
def test_a_refusal_names_a_bucket_that_refuses_and_what_is_missing_there(
    buckets: list[Stand], call: Need, lowest: int
) -> None:
    decision = decide(buckets, call, lowest_ceiling=lowest)
    assume(not decision.allowed)
    assert decision.stand in buckets
    assert decision.stand is not None
    assert decision.stand.quota.enforcement == "hard"
    if decision.why == "price_unknown":
        assert call.of("usd") is None
        return
    assert decision.missing > 0
    assert decision.missing == decision.stand.taken + decision.need - decision.stand.limit(call.priority)
    nothing_held = decision.stand.settled + decision.need <= decision.limit
    assert nothing_held == (decision.why == "held")
    assert decision.action == "busy" or not nothing_held


@given(stands(), needs, st.data())
def test_neither_the_order_of_buckets_nor_less_money_makes_a_call_pass(
    buckets: list[Stand], call: Need, data: st.DataObject
) -> None:
    decision = decide(buckets, call, lowest_ceiling=1)
    shuffled = decide(data.draw(st.permutations(buckets)), call, lowest_ceiling=1)
    assert (shuffled.action, shuffled.ceiling if shuffled.allowed else 0) == (
        decision.action,
        decision.ceiling if decision.allowed else 0,
    )
    for each in buckets:
        each.held += data.draw(amounts)
    worse = decide(buckets, call, lowest_ceiling=1)
    assert not worse.allowed or (decision.allowed and worse.ceiling <= decision.ceiling)


@given(
    st.integers(1, 60), amounts, amounts, st.lists(st.tuples(st.integers(1, 60), amounts, amounts), max_size=3), needs
)
def test_with_pools_a_call_goes_ahead_exactly_when_one_payer_affords_it(
    limit: int, settled: int, held: int, pools: list[tuple[int, int, int]], call: Need
) -> None:
    behind = [stand(room, spent, busy, subject=f"pool:p{n}") for n, (room, spent, busy) in enumerate(pools)]
    own = stand(limit, settled, held, pools=tuple(f"p{n}" for n in range(len(pools))))
    decision = decide([own, *behind], call, lowest_ceiling=1)
    best = max(
        (ceiling for payer in (own, *behind) for ceiling in range(1, call.ceiling + 1) if fits(payer, call, ceiling)),
        default=0,
    )
    assert decision.allowed == bool(best)
    if best:
        payer = behind[int(decision.pool[1:])] if decision.pool else own
        assert decision.ceiling == best
        assert decision.buckets == [payer.bucket]
        assert fits(payer, call, best)
