"""Rows about the claims beyond their size: data to begin with, labels, annotations, attributes.

A claim from a data source is made before the StatefulSet, which would make an empty one. This is
done only for a ring that has nothing yet: no StatefulSet, no pod, no claim that is recorded as a
member's. Later a missing claim means a lost disk, and the node rebuilds from the others; it must
not begin with the old data again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from dynamo_operator import claims
from dynamo_operator.actions import MakeClaim, Note, PatchClaim, Step
from dynamo_operator.origins import Origin
from dynamo_operator.plan.pods import patch
from dynamo_operator.quantity import amount
from dynamo_operator.snapshot import COPY_OF, GIVEN, Claim, Snapshot

KEY = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
RESERVED = "dynamo-ring.dev/"
FIELDS = ("labels", "annotations")
AGAIN_S = 15.0
"""Seconds until the next look at a backup that is not there yet."""


def faults(o: Snapshot) -> Iterator[tuple[str, str]]:
    """What no rule of the schema can check."""
    wanted = o.spec.storage.claim_template
    for field in FIELDS:
        for key in getattr(wanted, field):
            path = f"spec.storage.claimTemplate.{field}"
            if not KEY.fullmatch(key):
                yield "SpecInvalid", f"{path}: {key!r} cannot name a label or an annotation"
            elif key.startswith(RESERVED) or (field == "labels" and key in o.owner.selector):
                yield "SpecInvalid", f"{path}: only the operator sets {key}"
    source = wanted.data_source
    if source is not None and _nothing_yet(o) and source.count > o.spec.size:
        yield (
            "SpecInvalid",
            f"spec.storage.claimTemplate.dataSource.count is {source.count}, spec.size is"
            f" {o.spec.size}: every node with data must run, to show its ring",
        )
    if o.origin is not None and not o.origin.missing and _nothing_yet(o):
        yield from (("SpecInvalid", text) for text in _unlike(o, o.origin))


def _nothing_yet(o: Snapshot) -> bool:
    """Whether the ring has not begun: a claim that is absent is not a disk that is lost."""
    begun = o.workload is not None or o.ring is not None
    return not (begun or o.pods or o.nodes or o.recorded)


def begin_with_data(o: Snapshot) -> Step | None:
    """Claims of the first pods from their data sources."""
    if o.origin is not None and _nothing_yet(o):
        return _begin_with_snapshots(o, o.origin)
    source = o.spec.storage.claim_template.data_source
    if source is None or o.spec.stopped or not _nothing_yet(o):
        return None
    missing = [ordinal for ordinal in range(source.count) if ordinal not in o.claims]
    text = f"making {len(missing)} claims from {source.kind} {source.name}"
    acts = [MakeClaim(object=claims.from_source(o.owner, o.spec, each)) for each in missing]
    return Step("MakingObjects", text, tuple(acts)) if acts else None


def _unlike(o: Snapshot, origin: Origin) -> Iterator[str]:
    """What the spec must have to begin with these snapshots, and has not."""
    named, spec = f"DynamoBackup {origin.name}", o.spec
    if spec.storage.claim_template.data_source is not None:
        source = "spec.storage.claimTemplate.dataSource"
        yield f"{source} and spec.bootstrap.fromBackup: only one of both"
    if spec.size < origin.size:
        yield (
            f"spec.size is {spec.size}, {named} is of {origin.size} nodes: every node with data"
            " must run; the ring can be made smaller afterwards"
        )
    for path, wish, fact in (
        ("spec.ring.partitions", spec.ring.partitions, origin.partitions),
        ("spec.replication.factor", spec.replication.factor, origin.factor),
        ("spec.conflicts", spec.conflicts, origin.conflicts),
    ):
        if wish != fact:
            yield f"{path} is {wish}, the ring of {named} was made with {fact}"
    asked = amount(spec.storage.size)
    for _, size in origin.snapshots.values():
        if asked is not None and (needed := amount(size)) is not None and needed > asked:
            yield f"spec.storage.size is {spec.storage.size}, a snapshot of {named} needs {size}"
            break
    for ordinal in origin.snapshots:
        claim = o.claims.get(ordinal)
        if claim is not None and COPY_OF not in claim.annotations:
            yield f"claim {claim.name} exists and is not of {named}: delete it, or use another name"


def _begin_with_snapshots(o: Snapshot, origin: Origin) -> Step | None:
    """Claims from the snapshots of another ring. The note on each names that ring and the id of the
    new one, which stays when this resource is deleted and made again (decision 20). Nothing else
    begins before that: a ring that was founded empty could not take the snapshots any more."""
    if origin.missing:
        text = f"spec.bootstrap.fromBackup: {origin.missing}"
        return Step("WaitingForBackup", text, progressing=False, again_s=AGAIN_S)
    note = o.copy_of or f"{origin.cluster} {o.uid}"
    acts = [
        MakeClaim(object=claims.from_snapshot(o.owner, o.spec, ordinal, name, note))
        for ordinal, (name, _) in sorted(origin.snapshots.items())
        if ordinal not in o.claims
    ]
    text = f"making {len(acts)} claims from the snapshots of DynamoBackup {origin.name}"
    return Step("MakingObjects", text, tuple(acts)) if acts else None


def dress(o: Snapshot) -> Step | None:
    """Labels, annotations and the class of attributes of the claims as the spec says."""
    found = [_dressed(o, claim) for _, claim in sorted(o.claims.items())]
    left = tuple(each for each in found if each is not None and each.key not in o.settled)
    text = f"bringing {len(left)} claims to spec.storage.claimTemplate"
    return Step("ChangingClaims", text, left) if left else None


def _dressed(o: Snapshot, claim: Claim) -> PatchClaim | None:
    if claim.deleting or claim.ordinal >= o.replicas:
        return None
    wanted = o.spec.storage.claim_template
    before = claims.noted(claim)
    asks = _asks(o, claim, before)
    attributes = wanted.volume_attributes_class_name if asks else before.get("attributes")
    meta: dict[str, Any] = {}
    for field in FIELDS:
        mine, has = getattr(wanted, field), getattr(claim, field)
        gone = {key: None for key in before.get(field, ()) if key not in mine and key in has}
        changed = {key: value for key, value in mine.items() if has.get(key) != value}
        if gone or changed:
            meta[field] = gone | changed
    note = claims.given(wanted, attributes)
    if claim.annotations.get(GIVEN) != note:
        meta["annotations"] = meta.get("annotations", {}) | {GIVEN: note}
    body: dict[str, Any] = {"metadata": meta} if meta else {}
    if asks:
        body["spec"] = {"volumeAttributesClassName": wanted.volume_attributes_class_name}
    return patch(claim, body, _note(claim, attributes) if asks else None) if body else None


def _note(claim: Claim, attributes: str | None) -> Note:
    return Note("AttributesChanged", f"{claim.name} gets the attributes of class {attributes}")


def _asks(o: Snapshot, claim: Claim, before: dict[str, Any]) -> bool:
    """Whether the class of attributes is to be asked for. An API server that does not know the
    field drops it without a word; it is asked once, and `troubles` tells."""
    wish = o.spec.storage.claim_template.volume_attributes_class_name
    if wish is None or claim.attributes == wish or claim.phase != "Bound":
        return False
    return claim.attributes is not None or before.get("attributes") != wish
