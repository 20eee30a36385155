"""Conversations: `-c` continues the latest one of this agent and session, `--conversation ID` one by its name.

A conversation is named by whoever begins it with `--conversation`; otherwise its first call's id is its name.

Calls keep no text unless they are asked to: by `-c`, by `--conversation`, or for every call by the setting
`keep_conversations`. What is kept is the messages, the model and the call's id, in `private/conversations`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callmeter.store.private import CONVERSATIONS, PrivateRoom, open_room
from callmeter.words.errors import UsageError
from callmeter.words.jsontext import dumps

if TYPE_CHECKING:
    from callmeter.cli.calling import One
    from callmeter.flows.terms import Call, Outcome

Message = dict[str, object]
Turn = dict[str, Any]

_PATIENCE = 10.0


def history(one: One) -> list[Message]:
    """The messages so far of the conversation that this call continues; its last model goes into
    `one.conversation_model`. Raises UsageError, Malformed for a damaged conversation, FileProblem."""
    given = one.given
    room = _room(one)
    if given["conversation"] is not None:
        if given["continue_"]:
            raise UsageError(
                "-c and --conversation do not go together", "name the conversation, or continue the latest"
            )
        name = str(given["conversation"])
        if not name.strip():
            raise UsageError("--conversation: the name is empty", "write `--conversation review-17`")
        one.conversation = name
    else:
        pointer = room.read(_latest_of(one))
        latest = pointer.get("conversation") if pointer else None
        if pointer is not None and not isinstance(latest, str):
            raise room.damaged(_latest_of(one), "it names no conversation")
        one.conversation = str(latest) if pointer else None
    turns = _turns(room, one.conversation) if one.conversation else []
    if given["continue_"] and not turns:
        who = " and ".join(f"{tag} {one.tags[tag]}" for tag in ("agent", "session") if tag in one.tags)
        one.warnings.append(
            f"no earlier conversation{f' of {who}' if who else ''} is kept, so this call begins one; "
            "calls keep their text only with -c, --conversation or the setting keep_conversations"
        )
        one.conversation = None
    if turns:
        one.conversation_model = str(turns[-1]["model"])
    messages = [message for turn in turns for message in turn["messages"]]
    # A system prompt that was given later replaced the one before.
    systems = [message for message in messages if message["role"] == "system"]
    return systems[-1:] + [message for message in messages if message["role"] != "system"]


def keep(one: One, call: Call, outcome: Outcome) -> None:
    """Add the call's own messages and its answer to its conversation, or begin one. Raises Malformed, FileProblem,
    Busy; then nothing was added."""
    room = _room(one)
    identity = str(outcome.record["id"])
    name = one.conversation or identity
    # Not what earlier turns have: those objects are the history's own.
    own = [message for message in call.request.messages if not any(message is earlier for earlier in one.history)]
    turn = {
        "id": identity,
        "timestamp": outcome.record["timestamp"],
        "model": call.request.model,
        "messages": [*own, {"role": "assistant", "content": outcome.text}],
    }
    with room.lock(name, _PATIENCE):
        # Whoever took a turn meanwhile keeps it: this one follows.
        room.write(name, {"turns": [*_turns(room, name), turn]})
    room.write(_latest_of(one), {"conversation": name})


def _room(one: One) -> PrivateRoom:
    world = one.world
    return open_room(world.paths.private, CONVERSATIONS, world.settings.number("private_days"), world.clock())


def _turns(room: PrivateRoom, name: str) -> list[Turn]:
    document = room.read(name)
    if document is None:
        return []
    turns = document.get("turns")
    if not isinstance(turns, list) or not all(_is_turn(turn) for turn in turns):
        raise room.damaged(name, "not a conversation")
    return turns


def _is_turn(turn: object) -> bool:
    if not isinstance(turn, dict) or not isinstance(turn.get("model"), str):
        return False
    messages = turn.get("messages")
    return isinstance(messages, list) and all(
        isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages
    )


def _latest_of(one: One) -> str:
    """Where the latest conversation of this agent and session is noted: a name that no command line can hold."""
    return "\0latest " + dumps([one.tags.get("agent"), one.tags.get("session")])
