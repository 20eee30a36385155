"""What an attempt's end means: whether it may have been charged, and whether it may be repeated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from callmeter.flows.verdict import Verdict, judge, retry_wait
from callmeter.providers.chat import Answer, Failure
from callmeter.providers.presets import Provider
from callmeter.providers.wire import WireError
from callmeter.words.errors import Busy, Incomplete, NoKey, Refused, Unavailable

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def judged(
    status: int,
    code: str = "",
    *,
    provider: str = "mine",
    text: str = "",
    message: str = "out",
    kind: str = "",
    retry_after: str = "",
) -> Verdict:
    """The verdict on an endpoint's error: with a status from 200 to 299, one that stood in the body."""
    answer = Answer(status, None)
    answer.text = [text] if text else []
    answer.failure = Failure(code or str(status), message, kind=kind, retry_after=retry_after)
    return judge(answer, None, Provider(provider, "https://x.example/v1"), "code@mine")


@pytest.mark.parametrize(
    ("status", "at_openrouter", "elsewhere"),
    [
        (400, False, False),
        (401, False, False),
        (402, False, False),
        (404, False, False),
        (429, False, False),
        (500, False, True),
        (502, False, True),
        (529, False, False),
        (408, True, True),
        (504, True, True),
        (524, True, True),
    ],
)
def test_an_errors_status_says_whether_it_may_have_been_charged(
    status: int, at_openrouter: bool, elsewhere: bool
) -> None:
    assert judged(status, provider="openrouter").charged is at_openrouter
    assert judged(status).charged is elsewhere


@pytest.mark.parametrize(("code", "elsewhere"), [("429", False), ("400", False), ("500", True), ("server_error", True)])
def test_an_error_in_the_body_without_any_text_is_as_free_as_one_by_status(code: str, elsewhere: bool) -> None:
    assert judged(200, code, provider="openrouter").charged is False
    assert judged(200, code).charged is elsewhere


@pytest.mark.parametrize("provider", ["openrouter", "mine"])
def test_an_error_after_some_of_the_answer_was_charged_and_is_never_repeated(provider: str) -> None:
    verdict = judged(200, "429", provider=provider, text="Once upon")
    assert (verdict.charged, verdict.retry, verdict.other_model) == (True, False, False)
    assert isinstance(verdict.error, Incomplete)


def test_a_server_that_says_when_to_come_back_has_not_answered_and_is_free() -> None:
    assert judged(503, retry_after="2").charged is False
    assert judged(503).charged is True


@pytest.mark.parametrize(
    ("status", "retry", "other_model", "error"),
    [
        (400, False, False, Unavailable),
        (401, False, False, NoKey),
        (403, False, False, Refused),
        (404, False, True, Unavailable),
        (429, True, True, Busy),
        (500, True, True, Unavailable),
        (504, False, False, Unavailable),
        (529, True, True, Unavailable),
        (302, False, False, Unavailable),
    ],
)
def test_what_may_be_tried_again_and_what_the_caller_reads(
    status: int, retry: bool, other_model: bool, error: type[Exception]
) -> None:
    verdict = judged(status)
    assert (verdict.retry, verdict.other_model) == (retry, other_model)
    assert isinstance(verdict.error, error)


def test_only_a_401_asks_for_another_key() -> None:
    assert [status for status in (400, 401, 402, 403, 404, 429, 500) if judged(status).key_refused] == [401]


def test_a_spent_limit_is_not_tried_again_but_what_is_in_flight_is_waited_for() -> None:
    spent = judged(402)
    assert (type(spent.error), spent.retry) == (Refused, False)
    quota = judged(429, "insufficient_quota")
    assert (type(quota.error), quota.retry) == (Refused, False)
    in_flight = judged(402, retry_after="1")
    assert (type(in_flight.error), in_flight.retry) == (Busy, True)


@pytest.mark.parametrize("finished", [True, False])
def test_what_left_and_was_never_answered_may_have_been_charged_and_is_not_repeated(finished: bool) -> None:
    provider, answer = Provider("mine", "https://x.example/v1"), Answer(200, None)
    answer.finish_reason = "stop" if finished else None
    sent = judge(answer, WireError("reset", "cut", sent=True), provider, "")
    assert (sent.done, sent.charged, sent.retry) == (finished, True, False)
    unsent = judge(Answer(0, None), WireError("connect", "refused", sent=False), provider, "")
    assert (unsent.charged, unsent.retry) == (False, True)
    impossible = judge(Answer(0, None), WireError("bad_url", "no", sent=False), provider, "")
    assert (impossible.charged, impossible.retry) == (False, False)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7),
        ("1.5", 1.5),
        ("ms:250", 0.25),
        ((NOW + timedelta(seconds=90)).strftime("%a, %d %b %Y %H:%M:%S GMT"), 90),
        ((NOW - timedelta(seconds=90)).strftime("%a, %d %b %Y %H:%M:%S GMT"), 0),
    ],
)
def test_the_endpoint_says_how_long_to_wait(said: str, seconds: float) -> None:
    assert retry_wait(said, 1, 0, NOW) == seconds
    assert seconds < retry_wait(said, 1, 1, NOW) <= seconds + 0.25


@pytest.mark.parametrize("said", ["", "soon", "-1", "ms:soon", "1e9", "Fri, 99 Foo 2026"])
def test_otherwise_the_waits_double_up_to_twenty_seconds(said: str) -> None:
    assert [retry_wait(said, failures, 1, NOW) for failures in (1, 2, 3, 9)] == [1, 2, 4, 20]
    assert retry_wait(said, 1, 0, NOW) == 0.5
