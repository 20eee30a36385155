"""What `budget savings` asks of the usage log, and what the log answers: calls by the saving that each falls under.

For a call, these could have been less, and by how much; none by more than the call cost, its later corrections
included. The largest counts, of equal ones the first of `Saving`; but a cheaper model that has not been tried for such
work counts only where there is nothing else. Calls that were refused, or ended because somebody asked for that, and
calls that cost nothing have none. An answered call of no tokens has no price: nobody counted them.

- a zombie session: all of it, in the session's time as a zombie;
- failed calls: all of a call without a whole answer;
- retries: of an answered call with several attempts, what is above the price of its tokens;
- a cheaper model: what is above the price of the same tokens at the other model, if they fit that model. Of a purpose's
  calls all change to it, so those that would be dearer there take from what the others save (below 0). What was billed
  above the own price stays out of it for retries, and where the other price is no lower than the own one;
- long answers: the price of the tokens above the ceiling;
- prompt cache: the tokens that a cache would have had, read instead of sent, less what writing to it costs. Nobody
  keeps prompts, so that they repeat is told from their sizes: a call of `LEAST_CACHED` tokens and more follows upon the
  call before it (of the same agent, model and session, by time and then by the bits of `key_of`) if it comes within
  `KEPT_MS` and its prompt holds that call's prompt and answer at least; or, for calls of the same agent, model and
  sketch, if their prompts differ by a part in `SAME_SIZE` at most. `IN_A_ROW` such steps make evidence. Each then
  repeats the smaller of the two prompts and writes the rest of its own; the first one also what the call before it
  should have written. Of both ways to repeat, the one with more tokens counts.

All of it is in whole nano-dollars: prices are rounded up, what would be saved on tokens is rounded down.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from callmeter.reports.savings_pricing import Charge

LEAST_CACHED = 1024  # the least that providers cache (OpenAI's and Anthropic's pages on prompt caching)
KEPT_MS = 300_000  # how long they keep it
IN_A_ROW = 3  # two may be chance
SAME_SIZE = 50
# A session that is never silent is given three days before its cost counts as wasted.
ZOMBIE_AFTER = timedelta(hours=72)


class Saving(enum.StrEnum):
    """The kinds of savings, in people's words."""

    ZOMBIE = "zombie session"
    FAILED = "failed calls"
    RETRIES = "retries"
    MODEL = "cheaper model"
    ANSWERS = "long answers"
    CACHE = "prompt cache"


class Work(NamedTuple):
    """Calls that are alike in the `names` that the question goes by. `own` and `other` are the tariffs, by number, of
    their model and of the one to change to, which was `tried` or not; `ceiling` is for their answers, in tokens."""

    names: tuple[str, ...]
    own: int
    other: int | None = None
    tried: bool = True
    ceiling: int | None = None


@dataclass(frozen=True)
class Question:
    """Every call's names are those of one of the `works`. `zombies` are agents and sessions, each with the first and
    the last millisecond since 1970 at which its calls are wasted."""

    by: Sequence[str]
    works: Sequence[Work]
    tariffs: Sequence[Sequence[Charge]]
    zombies: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)


class Saved(NamedTuple):
    """Calls whose saving is of one kind: in nano-dollars what they cost and what would be saved. `work` is the
    number of theirs, None for those of a zombie, whose agent and `session` those are; `ended` is the status of failed
    calls, else empty; of a cache, `tokens` are what it would have had, `grown` tells conversations from prompts that
    are the same again."""

    saving: Saving
    work: int | None
    session: tuple[str, str] | None
    ended: str
    grown: bool
    calls: int
    cost: int
    saved: int
    tokens: int


class Answer(NamedTuple):
    """In no order; what each kind would save by itself; and by the number of their work, how many answered calls do not
    fit the model to change to."""

    saved: list[Saved]
    alone: dict[Saving, int]
    unfit: dict[int, int]


class AnswerSizes(NamedTuple):
    """Tokens of the whole answers for a purpose: how many answers, half of them have `usual` at most, nine of ten
    `most`, none more than `largest`."""

    answers: int
    usual: int
    most: int
    largest: int
