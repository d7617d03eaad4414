"""The pod template of a ring: the one that it runs with, until a person asks for another.

Another version of the operator may make another template from the same spec; then every pod of
every ring would restart. So the operator notes the applied template on the StatefulSet, with the
version that made it. It keeps this template until one of its fields in the spec changes, or
`update.template: WithOperator` asks for the new one. Then the rings take it one after the other
(see `turns`).

A field that only this version knows is not a change by a person while it has its default.

A newer protocol between nodes (`update.peerProtocolMin`) can cut a ring: a pod that has it refuses
nodes that do not speak it (C17). So the template gets it only when every node has said that it
speaks it. Then the template keeps it, also while nodes are down.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from dynamo_operator import children
from dynamo_operator.actions import Step
from dynamo_operator.drift import covers
from dynamo_operator.plan.going_over import security
from dynamo_operator.pod import CONTAINER, PEER_PROTOCOL_MIN, Mounts, protocol_min
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
"""The fields that the pod template is made from, with `ring.maxConcurrentMoves`,
`update.peerProtocolMin` and what nodes tell clients (`exposure`); and what pods have of Secrets,
ConfigMaps and claims, which follows from `tls`, `access` and `backup`."""
SECURED = (
    "tls", "certificate", "access", "audience", "backup_secret", "backup_claim", "copy_of",
)  # fmt: skip
UNSECURED = Mounts(secret="")
RECORD_BYTES_MAX = 200_000
"""Kubernetes takes 256 KiB of annotations for an object. A larger template is not kept."""
AGAIN_S = 15.0
"""Seconds until the next look at nodes that do not speak a protocol."""
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
    recorded = _recorded(o) or _unrecorded(o, mine)
    if recorded is None or changed(recorded.wish, mine.wish):
        return mine
    if recorded.template != mine.template and o.spec.update.template == "WithOperator" and o.turn:
        return mine
    return recorded


def behind(o: Snapshot) -> bool:
    """Whether the ring runs with a template of another version and should get this one's."""
    if o.spec.update.template != "WithOperator" or o.workload is None:
        return False
    made = children.stateful_set(o.owner, carried_out(o), o.replicas, security=security(o))
    fresh = made["spec"]["template"]
    mine = _mine(o, fresh)
    recorded = _recorded(o) or _unrecorded(o, mine)
    return (
        recorded is not None
        and recorded.template != mine.template
        and not changed(recorded.wish, mine.wish)
    )


def version_of(o: Snapshot) -> str:
    """The version that made the applied template."""
    recorded = _recorded(o)
    return recorded.version if recorded is not None else ""


def carried_out(o: Snapshot) -> ClusterSpec:
    """The spec that pods are made of now: a newer protocol waits for the nodes."""
    wish = o.spec.update.peer_protocol_min
    if wish is None:  # it follows from the phase of TLS, which waits for the nodes too
        return o.spec
    has = min(wish, _applied(o))
    least = has if has < wish and silent_on(o, wish) else wish
    update = msgspec.structs.replace(o.spec.update, peer_protocol_min=least)
    return msgspec.structs.replace(o.spec, update=update)


def silent_on(o: Snapshot, protocol: int) -> list[str]:
    """Nodes that have not said that they speak it, or that get another image first."""
    recorded = _recorded(o)
    updated = recorded is not None and recorded.wish.get("image") != o.spec.image
    old = {pod.ordinal for pod in o.unrolled()}
    every = {*range(max(o.spec.size, o.replicas)), *o.pods, *o.live_ordinals}
    return [
        o.pod_name(i)
        for i in sorted(every)
        if updated or i in old or i not in o.nodes or o.nodes[i].speaks < protocol
    ]


def protocol(o: Snapshot) -> Step | None:
    """All nodes are there, and some of them do not speak the protocol that the spec asks for."""
    wish = o.spec.update.peer_protocol_min
    if wish is None or carried_out(o).update.peer_protocol_min == wish:
        return None
    names = ", ".join(silent_on(o, wish))
    text = f"spec.update.peerProtocolMin is {wish}, and {names} cannot speak it: update spec.image"
    return Step("OldProtocol", text, progressing=False, invalid=True, again_s=AGAIN_S)


def _applied(o: Snapshot) -> int:
    """The oldest protocol that the StatefulSet's pods take."""
    existing = o.objects.get((STATEFUL_SET, o.name))
    containers = existing["spec"]["template"]["spec"]["containers"] if existing else ()
    for made in (c for c in containers if c["name"] == CONTAINER):
        for variable in made.get("env", ()):
            if variable["name"] == PEER_PROTOCOL_MIN and str(variable.get("value")).isdecimal():
                return int(variable["value"])
    return 1


def wish_of(spec: ClusterSpec, mounts: Mounts = UNSECURED) -> dict[str, Any]:
    """The fields that pods are made of, by their paths."""
    made: dict[str, Any] = {
        "max_concurrent_moves": spec.ring.max_concurrent_moves,
        "peer_protocol_min": protocol_min(spec, mounts),
    }
    made["advertised"] = spec.exposure.advertised
    made |= {name: getattr(mounts, name) for name in SECURED}
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
    mounts = children.mounts_of(o.owner, o.spec, security(o))
    return Rendered(VERSION, wish_of(carried_out(o), mounts), json.loads(json.dumps(fresh)))


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
    existing = o.objects.get((STATEFUL_SET, o.name))
    if existing is None or covers(mine.template, existing["spec"]["template"]):
        return None
    template = _bare(existing["spec"]["template"])
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
