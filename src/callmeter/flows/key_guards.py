"""Model lists at the provider: a guardrail for each key with a list, so that it holds for whoever has the key."""

from __future__ import annotations

from callmeter.flows.rotation_run import Bench
from callmeter.providers.management import Declined, Management
from callmeter.secrets.registry import Entry
from callmeter.words.errors import NoKey

_NAME = "callmeter "


def guard_state(bench: Bench, entry: Entry) -> str:
    """How the provider holds a key's model list: `same`, `set` where it is to be written, or why it cannot be; nothing
    for an entry without one."""
    account = bench.management(entry)
    if not entry.allowed_models or account is None or not entry.provider_key:
        return ""
    if any(name.endswith("*") for name in entry.allowed_models):
        return "here only: the provider knows no families"
    try:
        found = next((each for each in account.guardrails() if each.get("name") == _NAME + entry.label), None)
        held = found is not None and (str(found["id"]), entry.provider_key) in account.assignments()
    except (Declined, NoKey) as error:
        return f"here only: {error.message}"
    return "same" if held and found and found.get("allowed_models") == list(entry.allowed_models) else "set"


def guard_models(bench: Bench, entry: Entry) -> list[str]:
    """Have the provider allow a key the models of its entry and no others; what it cannot hold is given back as
    sentences. Nothing happens for an entry without a list. Raises NoKey, Unavailable."""
    account = bench.management(entry)
    if not entry.allowed_models or account is None or not entry.provider_key:
        return []
    families = [name for name in entry.allowed_models if name.endswith("*")]
    if families:
        return [
            f"the provider knows no families of models ({', '.join(families)}): the list of {entry.label} holds for "
            "calls through callmeter only"
        ]
    wanted = {"allowed_models": list(entry.allowed_models)}
    name = _NAME + entry.label
    found = next((each for each in account.guardrails() if each.get("name") == name), None)
    if found is None:
        found = account.create_guardrail({"name": name, **wanted})
    elif found.get("allowed_models") != wanted["allowed_models"]:
        account.change_guardrail(str(found["id"]), wanted)
    if (str(found["id"]), entry.provider_key) not in account.assignments():
        account.assign_guardrail(str(found["id"]), [entry.provider_key])
    return []


def carry_guardrails(account: Management, old: str, new: str) -> None:
    """Put a new key under the guardrails that the old one is under. Raises Unavailable."""
    try:
        assignments = account.assignments()
    except (Declined, NoKey):
        return  # an account without them
    for guardrail, hash in assignments:
        if hash == old and (guardrail, new) not in assignments:
            account.assign_guardrail(guardrail, [new])
