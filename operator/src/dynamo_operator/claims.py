"""The claims of a ring, as pure functions of its spec.

Kubernetes does not let the operator change the template of the claims in a StatefulSet. So the
template keeps what it had first, and the operator changes the claims one by one (`plan.claims`,
`plan.storage`). Each claim has a note with the names of the labels and annotations that the spec
gave it, so that the operator removes what the spec no longer names and nothing else.
"""

from __future__ import annotations

import json
from typing import Any

from dynamo_operator.owner import CLAIM, Object, Owner, labels_of
from dynamo_operator.snapshot import COPY_OF, GIVEN, Claim, Document
from dynamo_operator.spec import ClusterSpec
from dynamo_operator.spec_storage import ClaimTemplate
from dynamo_operator.volume_snapshots import API, SNAPSHOT

KEPT_META = ("labels", "annotations")
KEPT_SPEC = ("accessModes", "volumeAttributesClassName")
"""Fields of the template that it keeps once it is there, beside its size."""


def given(template: ClaimTemplate, attributes: str | None = None) -> str | None:
    """The note: the names of the labels and annotations of the spec, and the class of attributes
    that was asked for; None: nothing."""
    note: dict[str, Any] = {
        "annotations": sorted(template.annotations),
        "labels": sorted(template.labels),
        "attributes": attributes,
    }
    kept = {name: value for name, value in note.items() if value}
    return json.dumps(kept, separators=(",", ":")) if kept else None


def noted(claim: Claim) -> dict[str, Any]:
    """What the spec gave the claim last."""
    try:
        found = json.loads(claim.annotations.get(GIVEN, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def claim_template(owner: Owner, spec: ClusterSpec, first: Document | None = None) -> Object:
    """The template in the StatefulSet. `first`: the template of the one that is there."""
    wanted = spec.storage.claim_template
    meta: Object = {"name": CLAIM, "labels": wanted.labels | owner.selector}
    if note := given(wanted):
        meta["annotations"] = wanted.annotations | {GIVEN: note}
    named, attributes = spec.storage.class_name, wanted.volume_attributes_class_name
    made: Object = {
        "accessModes": [wanted.access_mode],
        "resources": {"requests": {"storage": spec.storage.size}},
    }
    made |= {} if named is None else {"storageClassName": named}
    made |= {} if attributes is None else {"volumeAttributesClassName": attributes}
    if first is not None:
        _keep(meta, first["metadata"], KEPT_META)
        _keep(made, first["spec"], KEPT_SPEC)
        made["resources"] = {"requests": dict(first["spec"]["resources"]["requests"])}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": made}


def _keep(wanted: Object, first: Document, fields: tuple[str, ...]) -> None:
    for field in fields:
        wanted.pop(field, None)
        if first.get(field):
            wanted[field] = first[field]


def from_source(owner: Owner, spec: ClusterSpec, ordinal: int) -> Object:
    """The claim of a pod that begins with the data of another object."""
    source = spec.storage.claim_template.data_source
    assert source is not None
    group = {"apiGroup": source.api_group} if source.api_group else {}
    named = {"kind": source.kind, "name": source.named(ordinal)}
    return _begun(owner, spec, ordinal, group | named)


def from_snapshot(
    owner: Owner, spec: ClusterSpec, ordinal: int, snapshot: str, note: str
) -> Object:
    """The claim of a pod that begins with a snapshot of another ring's node; its node reads from
    the note which ring that was, and which one it becomes."""
    source = {"apiGroup": API.partition("/")[0], "kind": SNAPSHOT, "name": snapshot}
    made = _begun(owner, spec, ordinal, source)
    made["metadata"]["annotations"] = made["metadata"].get("annotations", {}) | {COPY_OF: note}
    return made


def _begun(owner: Owner, spec: ClusterSpec, ordinal: int, source: Object) -> Object:
    made = claim_template(owner, spec)
    made["spec"]["dataSource"] = source
    place = {"name": owner.claim(ordinal), "namespace": owner.namespace}
    made["metadata"] |= place | {"labels": made["metadata"]["labels"] | labels_of(owner)}
    return made
