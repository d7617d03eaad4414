"""The pod template of a ring: the one that it runs with, until a person asks for another.

Another version of the operator may make another template from the same spec; then every pod of
every ring would restart. So the operator notes the applied template on the StatefulSet, with the
version that made it. It keeps this template until one of its fields in the spec changes, or
`update.template: WithOperator` asks for the new one. Then the rings take it one after the other
(see `turns`).

A field that only this version knows is not a change by a person while it has its default.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from dynamo_operator import children
from dynamo_operator.drift import covers
from dynamo_operator.snapshot import STATEFUL_SET, TEMPLATE, Snapshot
from dynamo_operator.spec import VERSION, ClusterSpec

FIELDS = (
    "anti_entropy",
    "auth",
    "background",
    "image",
    "image_pull_policy",
    "image_pull_secrets",
    "pod_template",
    "recovery",
    "resources",
    "run_as",
    "topology",
)
"""The fields that the pod template is made from, and `ring.maxConcurrentMoves`."""
RECORD_BYTES_MAX = 200_000
"""Kubernetes takes 256 KiB of annotations for an object. A larger template is not kept."""
Template = dict[str, Any]


class Rendered(msgspec.Struct, frozen=True):
    """A template, the version that made it, and the fields with their values."""

    version: str
    wish: dict[str, Any]
    template: Template

    def note(self) -> str | None:
        """As an annotation; None: it is too large to be kept."""
        text = json.dumps(msgspec.to_builtins(self), separators=(",", ":"))
        return text if len(text.encode()) <= RECORD_BYTES_MAX else None


def chosen(o: Snapshot, fresh: Template) -> Rendered:
    """The template to apply; `fresh` is the one that this version makes from the spec."""
    mine = _mine(o, fresh)
    seen = _recorded(o) or _unrecorded(o, mine)
    if seen is None or changed(seen.wish, mine.wish):
        return mine
    if seen.template != mine.template and o.spec.update.template == "WithOperator" and o.turn:
        return mine
    return seen


def behind(o: Snapshot) -> bool:
    """Whether the ring runs with a template of another version and should get this one's."""
    if o.spec.update.template != "WithOperator" or o.workload is None:
        return False
    fresh = children.stateful_set(o.owner, o.spec, o.replicas)["spec"]["template"]
    mine = _mine(o, fresh)
    seen = _recorded(o) or _unrecorded(o, mine)
    return seen is not None and seen.template != mine.template and not changed(seen.wish, mine.wish)


def version_of(o: Snapshot) -> str:
    """The version that made the applied template."""
    seen = _recorded(o)
    return seen.version if seen is not None else ""


def wish_of(spec: ClusterSpec) -> dict[str, Any]:
    """The fields that pods are made of, by their paths."""
    made = {"max_concurrent_moves": msgspec.to_builtins(spec.ring.max_concurrent_moves)}
    for name in FIELDS:
        made |= _leaves(name, getattr(spec, name))
    return dict(json.loads(json.dumps(made)))


def _leaves(path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, msgspec.Struct):
        return {path: msgspec.to_builtins(value)}
    made: dict[str, Any] = {}
    for field in value.__struct_fields__:
        made |= _leaves(f"{path}.{field}", getattr(value, field))
    return made


def changed(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a person has changed one of them since."""
    default = wish_of(ClusterSpec())
    return any(value != before.get(path, default[path]) for path, value in now.items())


def _mine(o: Snapshot, fresh: Template) -> Rendered:
    return Rendered(VERSION, wish_of(o.spec), json.loads(json.dumps(fresh)))


def _recorded(o: Snapshot) -> Rendered | None:
    text = o.workload.annotations.get(TEMPLATE) if o.workload else None
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=Rendered)
    except msgspec.DecodeError:
        return None  # not written by an operator


def _unrecorded(o: Snapshot, mine: Rendered) -> Rendered | None:
    """The template of an operator that kept no record, as the API server has it: kept, unless the
    image or the resources show that the spec has changed since."""
    seen = o.objects.get((STATEFUL_SET, o.name))
    if seen is None or covers(mine.template, seen["spec"]["template"]):
        return None
    template = _bare(seen["spec"]["template"])
    if _plain(template) != _plain(mine.template):
        return None
    return msgspec.structs.replace(mine, version="", template=template)


def _bare(value: Any) -> Any:
    """Without the nulls that the API server writes: `creationTimestamp`."""
    if isinstance(value, dict):
        return {name: _bare(inner) for name, inner in value.items() if inner is not None}
    return [_bare(item) for item in value] if isinstance(value, list) else value


def _plain(template: Template) -> list[tuple[str, str]]:
    return [(c["name"], c["image"]) for c in template["spec"]["containers"]]
