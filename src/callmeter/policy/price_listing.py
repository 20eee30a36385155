"""What a provider's `/models` says about prices, as lines of a price file (see `store/price_table.py`)."""

from __future__ import annotations

from callmeter.policy.prices import from_openrouter, to_json


def listing_lines(document: object) -> tuple[list[dict[str, object]], int]:
    """One line for each model whose entry can be read, and how many could not be.

    A model whose price the provider itself calls unknown has no rates. A name means the model that has it as its
    `id`, before one that has it as its `canonical_slug`. Raises ValueError when there is no list of models.
    """
    models = document.get("data") if isinstance(document, dict) else None
    if not isinstance(models, list):
        raise ValueError("no list of models in the answer")
    lines: dict[str, dict[str, object]] = {}
    slugs: dict[str, str] = {}
    bad = 0
    for model in models:
        try:
            line = _line(model)
        except ValueError:
            bad += 1
            continue
        name = str(line["id"])
        lines[name] = line
        slug = model.get("canonical_slug")
        if isinstance(slug, str) and ":" not in name:
            slugs.setdefault(slug.lower(), name)
    taken = {name.lower() for name in lines}
    for slug, name in slugs.items():
        if slug not in taken:
            lines[name]["names"] = [name.lower(), slug]
    return [lines[name] for name in sorted(lines)], bad


def _line(model: object) -> dict[str, object]:
    if not isinstance(model, dict):
        raise ValueError("an entry that is no object")
    name = model.get("id")
    if not isinstance(name, str) or not name or len(name) > 200 or not name.isprintable():
        raise ValueError("an entry without a name")
    price = from_openrouter(model)
    line: dict[str, object] = {"id": name, "names": [name.lower()]}
    top = model.get("top_provider")
    limits = (
        ("context", model.get("context_length")),
        ("max_output", top.get("max_completion_tokens") if isinstance(top, dict) else None),
    )
    for key, limit in limits:
        if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
            line[key] = limit
    return {**line, "rates": [] if price is None else to_json(price)}
