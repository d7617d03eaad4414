"""What the API server would say to an object of ours: defaults, schema, CEL rules."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import cel
import jsonschema

Object = dict[str, Any]
UNITS = {"": 1, "m": Fraction(1, 1000)} | {
    unit + ending: base**power
    for ending, base in (("i", 1024), ("", 1000))
    for power, unit in enumerate(("k" if base == 1000 else "K", "M", "G", "T", "P"), start=1)
}


def schema_of(crd: Object) -> Object:
    """The schema of its only version."""
    schema: Object = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def defaulted(schema: Object, value: Any) -> Any:
    """As the API server fills an object before it checks it."""
    if isinstance(value, dict):
        filled = dict(value)
        for field, inner in schema.get("properties", {}).items():
            if field not in filled and "default" in inner:
                filled[field] = copy.deepcopy(inner["default"])
            if field in filled:
                filled[field] = defaulted(inner, filled[field])
        return filled
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), item) for item in value]
    return value


def refusals(crd: Object, new: Object, old: Object | None = None) -> list[str]:
    """Messages about everything that is wrong with an object; with `old`, with the change to it."""
    schema = schema_of(crd)
    new = defaulted(schema, new)
    wrong = [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(new)]
    return wrong or list(_broken(schema, new, None if old is None else defaulted(schema, old)))


def _broken(schema: Object, new: Any, old: Any) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" in rule["rule"] and old is None:
            continue
        if not _holds(rule["rule"], new, old):
            yield rule["message"]
    if isinstance(new, dict):
        for field, inner in schema.get("properties", {}).items():
            if field in new:
                yield from _broken(inner, new[field], (old or {}).get(field))
    if isinstance(new, list):  # atomic lists: their items have no old self
        for item in new:
            yield from _broken(schema.get("items", {}), item, None)


def _holds(rule: str, new: Any, old: Any) -> bool:
    context = cel.Context()
    context.add_variable("self", new)
    context.add_variable("oldSelf", old)
    context.add_function("quantity", lambda text: text)
    context.add_function("compareTo", _compare)
    return bool(cel.evaluate(rule, context))


def _compare(one: str, other: str) -> int:
    a, b = _amount(one), _amount(other)
    return (a > b) - (a < b)


def _amount(quantity: str) -> Fraction:
    digits = quantity.rstrip("mkKMGTPi")
    return Fraction(digits) * UNITS[quantity[len(digits) :]]
