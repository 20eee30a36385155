"""Which models may be used by whom: lists of patterns by subject, all of which have to permit a call's model.

`*` stands for any characters. A pattern without a slash is also compared with what follows the vendor, so that
`claude-3-haiku` permits `anthropic/claude-3-haiku`.
"""

from __future__ import annotations

from callmeter.policy.quota_rules import TOTAL, subject_in
from callmeter.policy.reading import Part, kind_of, path_text
from callmeter.words.subject import Subject, matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from callmeter.policy.document import Policy


class ModelRule:
    """The models that calls under a subject may use."""

    __slots__ = ("enforcement", "patterns", "source", "subject")

    def __init__(self, subject: Subject, patterns: tuple[str, ...], enforcement: str, source: str) -> None:
        self.subject = subject
        self.patterns = patterns
        self.enforcement = enforcement
        self.source = source

    def applies(self, facts: Mapping[str, str]) -> bool:
        """Whether a call with these facts falls under the rule."""
        return self.subject.bucket(facts) is not None

    def permits(self, model: str) -> bool:
        """Whether a model is among those of the rule."""
        name = model.lower()
        bare = name.rpartition("/")[2]
        return any(matches(pattern, name) or matches(pattern, bare) for pattern in self.patterns)


def forbidding(policy: Policy, facts: Mapping[str, str]) -> list[ModelRule]:
    """The rules that do not permit the model of a call (`facts["model"]`), the strictest first: a `hard` one refuses
    the call, a `soft` one warns, a `showback` one says nothing. None of them: the model is allowed."""
    model = facts.get("model", "")
    found = [rule for rule in policy.model_rules if rule.applies(facts) and not rule.permits(model)]
    return sorted(found, key=lambda rule: ("hard", "soft", "showback").index(rule.enforcement))


def read_models(root: Part, policy: Policy) -> None:
    """`models`: a list for everyone, or lists by subject."""
    found = root.found.get("models", {})
    if isinstance(found, list):
        add_rule(root, "models", TOTAL, policy)
    elif isinstance(found, dict):
        models = Part(found, (*root.path, "models"), root.faults)
        for text in found:
            subject = subject_in(models, text, text, policy)
            if subject is not None:
                add_rule(models, text, subject, policy)
    else:
        root.fault("models", f"is neither a list of models nor an object of such lists but {kind_of(found)}")


def add_rule(part: Part, key: str, subject: Subject, policy: Policy, enforcement: str = "") -> None:
    """The rule that a list of models stands for."""
    patterns = tuple(pattern.lower() for pattern in part.texts(key, "models"))
    if not part.found[key]:
        part.fault(key, "allows no model", "list some; `callmeter budget freeze` stops a subject altogether")
    enforcement = enforcement or policy.enforcement_for(acts=True)
    policy.model_rules += (ModelRule(subject, patterns, enforcement, path_text((*part.path, key))),)
