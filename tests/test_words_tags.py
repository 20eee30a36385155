"""Tags and a policy's rules over them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.policy.document import parse_policy
from callmeter.policy.tag_rules import TagsRefused, settle_tags
from callmeter.words.errors import CallmeterError, Malformed
from callmeter.words.tags import parse_tag


def policy(text: str):  # type: ignore[no-untyped-def]
    return parse_policy(text.encode(), "budget.json")


def test_a_stronger_source_wins() -> None:
    weak, strong = [("agent", "config"), ("team", "search")], [("agent", "option")]
    assert settle_tags([weak, strong], policy("{}")) == {"agent": "option", "team": "search"}


@pytest.mark.parametrize("word", ["ticket_id", "ticket_uuid", "ticket_num", "TICKET-ID"])
def test_the_words_of_ticket_systems_mean_work_item(word: str) -> None:
    assert settle_tags([[(word, "SUP-1")]], policy("{}")) == {"work_item": "SUP-1"}


def test_two_words_for_one_tag_with_two_values_are_refused() -> None:
    with pytest.raises(TagsRefused, match="given twice"):
        settle_tags([[("ticket_id", "1"), ("work_item", "2")]], policy("{}"))


def test_missing_required_tags_are_all_named_with_the_options_that_give_them() -> None:
    rules = policy('{"tags": {"required": ["agent", "cost_center", "team"]}}')
    with pytest.raises(TagsRefused) as caught:
        settle_tags([[("purpose", "triage")]], rules)
    assert "agent, cost_center, team" in caught.value.message
    assert "--cost-center" in caught.value.hint
    assert "--tag team=" in caught.value.hint
    assert caught.value.exit_status == 2
    assert caught.value.tags == {"purpose": "triage"}


def test_a_value_that_the_policy_does_not_list_is_refused() -> None:
    rules = policy('{"tags": {"allowed": {"environment": ["prod", "dev"]}}}')
    with pytest.raises(TagsRefused, match="environment=test"):
        settle_tags([[("environment", "test")]], rules)


def test_seventeen_tags_are_too_many() -> None:
    with pytest.raises(TagsRefused, match="17 tags"):
        settle_tags([[(f"t{n}", "x") for n in range(17)]], policy("{}"))


@pytest.mark.parametrize(
    "value", ["a\nb", "a\tb", "\x1b[31m", "a\u202eb", "a\u200bb", "\udcff", "", "   ", "x" * 513, "a\x85b"]
)
def test_values_that_could_drive_a_terminal_or_say_nothing_are_refused(value: str) -> None:
    with pytest.raises(CallmeterError):
        settle_tags([[("agent", value)]], policy("{}"))


def test_unicode_twins_are_one_tag() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert settle_tags([[("agent", decomposed)]], policy("{}")) == {"agent": composed}


@given(st.text())
def test_any_text_is_a_tag_or_a_clear_error(text: str) -> None:
    try:
        name, value = parse_tag(text)
    except CallmeterError as error:
        assert error.exit_status == 2
    else:
        assert name.isascii()
        assert value.isprintable()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"tag": {}}', "did you mean `tags`"),
        ('{"tags": {"requird": []}}', "did you mean `required`"),
        ('{"tags": {"required": "agent"}}', "not a list"),
        ('{"time_zone": "Mars/Olympus"}', "time_zone"),
        ('{"max_output_tokens": 0}', "max_output_tokens"),
        ('{"max_output_tokens": true}', "max_output_tokens"),
        ('{"version": 2}', "version"),
        ('{"tags": {"aliases": {"a": "b", "b": "c"}}}', "alias itself"),
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"tags": {}, "tags": {}}', "stands twice"),
        ('{"max_output_tokens": NaN}', "NaN"),
    ],
)
def test_a_faulty_policy_denies_and_says_why(text: str, fault: str) -> None:
    with pytest.raises(Malformed) as caught:
        policy(text)
    assert fault in str(caught.value)
    assert caught.value.exit_status == 5


def test_every_fault_of_a_policy_is_reported_at_once() -> None:
    with pytest.raises(Malformed) as caught:
        policy('{"versin": 1, "time_zone": 5, "tags": []}')
    assert str(caught.value).count(";") == 2
