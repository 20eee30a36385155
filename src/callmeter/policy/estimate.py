"""What a call may cost before it is sent: an expectation for people, and an upper bound for hard limits.

The bound holds because no common tokenizer makes more tokens than bytes, the output ceiling is always sent, and
each amount is the highest that could apply. It ends where content is added on the way (web search, files) or
the model routes the call elsewhere: then there is no bound, and `worst` is None.
"""

from __future__ import annotations

from decimal import Decimal, localcontext

from callmeter.policy.prices import Price, part_price
from callmeter.words.money import nano, usd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

# Tokens for 100 bytes of each kind, fitted on SmolLM2's tokenizer (49,000 tokens, digits one by one, like those of
# Qwen, DeepSeek and Gemini) over English, Python, YAML, JSON lines, server logs and seven other languages: 0.8 to 1.5
# times the true count. Larger vocabularies need fewer tokens. Random base64 and hex need up to twice as many.
_LETTERS, _DIGITS, _OTHER_ASCII, _NOT_ASCII = 29, 100, 75, 60

# What chat templates put around a message and before the conversation (role marks, a default system prompt, the
# preamble for tools: up to some 350 tokens at Anthropic).
_FRAME_OF_MESSAGE, _MOST_FRAME_OF_MESSAGE = 4, 16
_MOST_FRAME = 512

# An image in tokens: usual at the large providers, and the most (Qwen-VL at full resolution). GPT-4o mini bills
# 2,833 tokens and 5,667 for each of up to eight tiles.
_IMAGE, _MOST_IMAGE = 1_600, 16_384
_MOST_IMAGE_4O_MINI = 2_833 + 8 * 5_667

_WORDS = bytes(byte for byte in range(128) if chr(byte).isalpha() or chr(byte).isspace())
_ASCII = bytes(range(128))


class Prompt:
    """The size of what is sent. `tokens` is the expectation for the text; `bounded` is False when something in it
    has a size that cannot be known here."""

    __slots__ = ("bounded", "images", "messages", "text_bytes", "tokens")

    def __init__(self, text_bytes: int, tokens: int, messages: int = 1, images: int = 0, bounded: bool = True) -> None:
        self.text_bytes = text_bytes
        self.tokens = tokens
        self.messages = messages
        self.images = images
        self.bounded = bounded


class Estimate:
    """Tokens and USD, rounded up to the nano-dollar; None is unknown, for `worst` also: without a bound."""

    __slots__ = ("expected", "most_input_tokens", "worst")

    def __init__(self, most_input_tokens: int, expected: Decimal | None, worst: Decimal | None) -> None:
        self.most_input_tokens = most_input_tokens
        self.expected = expected
        self.worst = worst


def measure(messages: Iterable[Mapping[str, object]], further: Iterable[str] = ()) -> Prompt:
    """The size of chat messages (content as text or parts), with `further` text that travels in the prompt, such as
    tools and schemas as JSON."""
    texts = list(further)
    count = images = 0
    bounded = True
    for message in messages:
        count += 1
        content = message.get("content")
        texts.append(str(message.get("name", "")))
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            for part in content:
                kind = part.get("type") if isinstance(part, dict) else None
                if kind == "text":
                    texts.append(str(part.get("text", "")))
                elif kind == "image_url":
                    images += 1
                else:
                    bounded = False
        elif content is not None:
            bounded = False
        if "tool_calls" in message:
            texts.append(str(message["tool_calls"]))
    tokens = size = 0
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        size += len(data)
        tokens += expected_tokens(data)
    return Prompt(size, tokens, count, images, bounded)


def expected_tokens(data: bytes) -> int:
    """How many tokens UTF-8 text probably has; rather too many than too few, never more than it has bytes."""
    beyond = data.translate(None, _WORDS)
    not_ascii = len(beyond.translate(None, _ASCII))
    digits = len(beyond) - len(beyond.translate(None, b"0123456789"))
    other = len(beyond) - not_ascii - digits
    letters = len(data) - len(beyond)
    return -(-(letters * _LETTERS + digits * _DIGITS + other * _OTHER_ASCII + not_ascii * _NOT_ASCII) // 100)


def estimate(
    price: Price | None,
    prompt: Prompt,
    ceiling: int,
    at: datetime,
    *,
    model: str = "",
    context: int | None = None,
    service: str = "",
) -> Estimate:
    """The cost of a call whose answer fills its ceiling of output tokens.

    `context` is the model's limit in tokens, if known; a longer prompt is refused there. The worst case takes each
    byte as a token, at the dearest of plain input and cache writes, every price by hour and prompt size that could
    apply, and output at the dearer of text and reasoning.
    """
    most_image = _MOST_IMAGE_4O_MINI if "4o-mini" in model else _MOST_IMAGE
    text = prompt.tokens + prompt.messages * _FRAME_OF_MESSAGE
    most_text = prompt.text_bytes + prompt.messages * _MOST_FRAME_OF_MESSAGE + _MOST_FRAME
    if context is not None:
        text, most_text = min(text, context), min(most_text, context)
    tokens = text + prompt.images * _IMAGE
    most_tokens = most_text + prompt.images * most_image
    expected = worst = None
    if price is not None:
        amounts = price.amounts(at, tokens, service)
        expected = _sum(amounts, tokens, amounts.get("in"), ceiling, amounts.get("out"), prompt.images)
        if prompt.bounded:
            amounts = price.highest(at, most_tokens, service)
            dearest_in = _dearest(amounts, ("in", "cached", "cache_write", "cache_write_1h"))
            dearest_out = _dearest(amounts, ("out", "reasoning"))
            worst = _sum(amounts, most_tokens, dearest_in, ceiling, dearest_out, prompt.images)
    return Estimate(most_tokens, expected, worst)


def _dearest(amounts: Mapping[str, Decimal], names: tuple[str, ...]) -> Decimal | None:
    """None when the plain kind, the first, is unknown: the others are only parts of it."""
    if names[0] not in amounts:
        return None
    return max(part_price(amounts, name) or Decimal(0) for name in names)


def _sum(
    amounts: Mapping[str, Decimal],
    tokens: int,
    input_price: Decimal | None,
    ceiling: int,
    output_price: Decimal | None,
    images: int,
) -> Decimal | None:
    if input_price is None or output_price is None:
        return None
    with localcontext() as context:
        context.prec = 100
        fees = amounts.get("request", Decimal(0)) + images * amounts.get("image", Decimal(0))
        return usd(nano(tokens * input_price + ceiling * output_price + fees))
