"""How an API server merges what it is given into what it has."""

from __future__ import annotations

from typing import Any


def merged(below: Any, above: Any) -> Any:
    """RFC 7386."""
    if not isinstance(above, dict) or not isinstance(below, dict):
        return above
    made = {name: value for name, value in below.items() if name not in above}
    return made | {n: merged(below.get(n, {}), v) for n, v in above.items() if v is not None}


def applied(below: Any, above: Any) -> Any:
    """Merged as a server-side apply does: selectors are replaced whole."""
    if not isinstance(above, dict) or not isinstance(below, dict):
        return above
    both = merged(below, {n: v for n, v in above.items() if n not in below})
    return both | {
        name: value if name.lower().endswith("selector") else applied(below[name], value)
        for name, value in above.items()
        if name in below
    }


def without(existing: Any, applied: Any) -> Any:
    """What is left when a manager's own fields are taken out."""
    if not isinstance(existing, dict) or not isinstance(applied, dict):
        return None
    kept = {}
    for name, value in existing.items():
        left = value if name not in applied else without(value, applied[name])
        if left is not None and (left != {} or name not in applied):
            kept[name] = left
    return kept
