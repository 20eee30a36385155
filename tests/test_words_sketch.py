"""The sketch of a prompt: alike for what a retry loop asks, different for what a batch asks."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.words.jsontext import dumps
from callmeter.words.sketch import NEAR, distance, last_words, prompt_sketch

SALT = b"0123456789abcdef"
RULES = """
You are a careful triage assistant for the support desk of a shop. Read the ticket below and answer with one word
out of billing, delivery, returns, account and other. Delivery is everything about parcels on their way: late ones,
lost ones, parcels at the wrong address. Returns is everything about goods that went back to us or that the customer
wants to send back. If two apply, take the one that the customer is waiting for. Never explain your choice, never
apologise, never address the customer, and never invent a category of your own. Ticket:
"""
TICKETS = (
    "my parcel shows as delivered but the neighbours have nothing",
    "I was charged twice for the blue kettle",
    "how do I change the e-mail of my account",
    "the jacket is too small, can I get a larger one",
    "your courier left it in the rain",
    "no reply to my refund request since Monday",
    "password reset mail never arrives",
    "which of your shops has this lamp",
    "the invoice lacks our tax number",
    "please cancel yesterday's order before it ships",
)
TASK = """
Fix the failing test in the module billing/invoices. Answer with a patch and nothing else. The function is

    def total(lines): return sum(line.amount for line in lines if line.tax is not None)
"""
FAILURE = """
The patch did not apply. Traceback (most recent call last): File "/srv/build/{}/run.py", line {}, in apply
subprocess.CalledProcessError: Command 'git apply' returned non-zero exit status {}. Took {} ms. Try again.
"""
WORDS = st.text(max_size=60)


def apart(one: str, other: str) -> int:
    return distance(prompt_sketch(one, SALT), prompt_sketch(other, SALT))


def failures(count: int) -> str:
    return "".join(FAILURE.format(4711 + number, 10 + number, number, 300 * number) for number in range(count))


def test_a_retry_with_other_numbers_is_near_identical() -> None:
    first = TASK + FAILURE.format(1, 2, 3, 4)
    assert apart(first, TASK + FAILURE.format(987654, 22, 128, 93_001)) == 0
    assert apart(first, "  " + first.replace(" ", "\n\t ").upper()) == 0


def test_a_prompt_that_grows_by_the_same_failure_stays_near_identical() -> None:
    grown = [prompt_sketch(TASK + failures(count), SALT) for count in range(3, 20)]
    assert max(distance(one, other) for one in grown for other in grown) <= NEAR


def test_a_long_instruction_does_not_make_its_tickets_alike() -> None:
    for prompts in ([RULES + ticket for ticket in TICKETS], [ticket + RULES for ticket in TICKETS]):
        sketches = [prompt_sketch(prompt, SALT) for prompt in prompts]
        near = sum(distance(one, other) <= NEAR for one in sketches for other in sketches) - len(sketches)
        assert near <= 4  # of 90


def test_short_prompts_about_other_things_are_far_apart() -> None:
    assert min(apart(one, other) for one in TICKETS for other in TICKETS if one != other) > 10
    assert apart("summarise the file notes.txt", "summarise the file letter.txt") > NEAR


def test_texts_without_spaces_are_told_apart() -> None:
    assert (
        apart(
            "請翻譯這句話成英文今天天氣很好我們去公園散步吧" * 3, "請寫一首關於秋天的短詩不要超過四行謝謝你的幫助" * 3
        )
        > NEAR
    )
    one, other = (dumps({"task": "label", "text": text.replace(" ", "-")}) for text in TICKETS[:2])
    assert apart(one, other) > NEAR


def test_without_the_salt_nobody_can_guess_what_was_asked() -> None:
    assert distance(prompt_sketch(TASK, SALT), prompt_sketch(TASK, b"another")) > 10


@given(WORDS)
def test_a_sketch_is_16_hex_digits_whatever_the_text(text: str) -> None:
    sketch = prompt_sketch(text, SALT)
    assert len(sketch) == 16 and int(sketch, 16) < 1 << 64
    assert sketch == prompt_sketch(text, SALT)


@given(WORDS, WORDS, WORDS)
def test_the_distance_is_one(one: str, other: str, third: str) -> None:
    assert apart(one, one) == 0
    assert apart(one, other) == apart(other, one) <= 64
    assert apart(one, third) <= apart(one, other) + apart(other, third)


def test_the_last_message_of_the_user_counts_with_all_its_texts() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    parts = [{"type": "text", "text": "what is"}, image, {"type": "text", "text": "this"}]
    messages: list[dict[str, object]] = [
        {"role": "user", "content": "earlier"},
        {"role": "user", "content": parts},
        {"role": "assistant"},
    ]
    assert last_words(messages) == "what is\nthis"
    assert last_words(messages[:1]) == "earlier"
    assert last_words([{"role": "system", "content": "be brief"}]) == ""


@pytest.mark.parametrize("size", [10_000, 5_000_000])
def test_a_long_prompt_costs_no_more_than_a_short_one_of_some_pages(size: int) -> None:
    """Both within 40 times what a prompt of 200 characters takes; without sampling, 5 MB take 1,000 times that."""
    chosen = random.Random(1)
    words = ["".join(chosen.choices("abcdefghijklmnop", k=7)) for _ in range(2000)]
    text = " ".join(chosen.choices(words, k=size // 8))

    def took(prompt: str) -> float:
        best = 1e9
        for _ in range(20):
            start = time.process_time()
            prompt_sketch(prompt, SALT)
            best = min(best, time.process_time() - start)
        return best

    assert took(text) < 40 * took(text[:200])
