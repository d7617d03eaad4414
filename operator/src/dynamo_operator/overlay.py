"""Merges `spec.podTemplate` into the template that the operator makes."""

from __future__ import annotations

from typing import Any


def laid_over(below: Any, above: Any) -> Any:
    """Merges objects field by field and lists of named objects by name. Adds other objects to their
    list. Replaces everything else."""
    if isinstance(below, dict) and isinstance(above, dict):
        both = {field: laid_over(below[field], above[field]) for field in below.keys() & above}
        return below | above | both
    if _of_objects(below) and _of_objects(above):
        named = {item["name"]: item for item in above if "name" in item}
        kept = [laid_over(item, named.pop(item.get("name"), item)) for item in below]
        return kept + [item for item in above if "name" not in item or item["name"] in named]
    return above


def _of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
