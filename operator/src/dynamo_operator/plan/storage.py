"""Rows about the sizes and the class of volumes, and how a mistake in them is taken back.

Kubernetes does not let the operator change the template of the claims. So the template keeps its
first size, and the operator changes the claims one by one. A volume never shrinks. While its volume
has not grown, Kubernetes lets a claim be lowered again, to more than the volume has. The operator
lowers only a size that it asked for itself and noted on the claim: a person may make one claim
larger by hand.

While no claim has a volume, no data can be lost. Then the operator makes the StatefulSet again,
with another class or a smaller size in the template. A claim from a snapshot, or for a named
volume, belongs to a person; the operator never changes it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from dynamo_operator.actions import Delete, Note, PatchClaim, Step
from dynamo_operator.plan.pods import delete, patch
from dynamo_operator.quantity import amount
from dynamo_operator.snapshot import SIZE, STATEFUL_SET, Claim, Document, Snapshot

MEBI = 2**20
"""The smallest step by which a claim can be above its volume."""


def grow(o: Snapshot) -> Step | None:
    """Claims grow if their class allows it. Claims that could not grow are lowered with the
    spec."""
    actions = [action for claim in o.claims.values() if (action := _sized(o, claim)) is not None]
    left = tuple(action for action in actions if action.key not in o.settled)
    text = f"bringing {len(left)} claims to {o.spec.storage.size}"
    return Step("GrowingStorage", text, left) if left else None


def _sized(o: Snapshot, claim: Claim) -> PatchClaim | None:
    wish, size, given = (amount(t) for t in (o.spec.storage.size, claim.size, claim.capacity))
    if claim.phase != "Bound" or claim.deleting or claim.ordinal >= o.replicas:
        return None
    if wish is None or size is None:
        return None
    asked = o.spec.storage.size
    if size > wish:
        if given is None or given >= size or claim.annotations.get(SIZE) != claim.size:
            return None
        if wish <= given:
            wish, asked = _more_than(given)
        if wish >= size:
            return None
    elif size == wish:
        return None
    verb = "growing" if size < wish else "lowering"
    text = f"{verb} {claim.name} from {claim.size} to {asked}"
    body: dict[str, Any] = {"spec": {"resources": {"requests": {"storage": asked}}}}
    body["metadata"] = {"annotations": {SIZE: asked}}
    return patch(claim, body, Note("StorageGrown" if size < wish else "StorageLowered", text))


def _more_than(given: Decimal) -> tuple[Decimal, str]:
    """The smallest size that Kubernetes allows for the claim: more than its volume has."""
    least = int(given) + MEBI
    return Decimal(least), f"{least // MEBI}Mi" if least % MEBI == 0 else str(least)


def template_of(o: Snapshot) -> Document | None:
    """The claims' template, as it is in the StatefulSet."""
    existing = o.objects.get((STATEFUL_SET, o.name))
    templates = existing["spec"].get("volumeClaimTemplates") if existing else None
    return templates[0] if templates else None


def without_volumes(o: Snapshot) -> bool:
    """Whether it is certain that there is no data: no claim has or had a volume, no node ever
    answered, and no person has named a source for a volume."""
    if o.ring is not None or o.recorded or o.nodes:
        return False
    return all(claim.blank for claim in o.claims.values())


def other_class(o: Snapshot) -> str:
    """A text that the spec asks for another class or access mode of volumes, when that is no longer
    possible; or ""."""
    template = template_of(o)
    if template is None or without_volumes(o):
        return ""
    first, wish = template["spec"].get("storageClassName"), o.spec.storage.class_name
    if first != wish:
        was = f"class {first}" if first else "the default class"
        return f"spec.storage.className is {wish or 'unset'}, the volumes were made with {was}"
    modes, mode = template["spec"]["accessModes"], o.spec.storage.claim_template.access_mode
    if modes == [mode]:
        return ""
    field = "spec.storage.claimTemplate.accessMode"
    return f"{field} is {mode}, the volumes were made with {', '.join(modes)}"


def begin_again(o: Snapshot) -> Step | None:
    """While no claim has a volume: delete the StatefulSet and its claims, so that they are made
    again from the spec."""
    if o.spec.stopped or not without_volumes(o):
        return None
    text = "no claim has a volume yet: the claims are made again from the present spec"
    template = template_of(o)
    if o.workload is not None and template is not None:
        if not _mistaken(o, template["spec"]):
            return None
        version = o.workload.resource_version
        gone = Delete(
            kind=STATEFUL_SET,
            name=o.name,
            uid=o.workload.uid,
            resource_version=version,
            note=Note("StorageAskedAnew", text),
        )
        return Step("MakingObjects", text, (gone,))
    old = [c for c in o.claims.values() if _mistaken(o, _as_template(c))]
    if not old or o.workload is not None:
        return None
    return Step("MakingObjects", text, tuple(delete(claim) for claim in old if not claim.deleting))


def _as_template(claim: Claim) -> dict[str, Any]:
    return {
        "accessModes": list(claim.access_modes),
        "resources": {"requests": {"storage": claim.size}},
        "storageClassName": claim.class_name,
        "volumeAttributesClassName": claim.attributes,
    }


def _mistaken(o: Snapshot, made: Document) -> bool:
    """Whether the claims were made with another class, access mode or class of attributes, or with
    a larger size."""
    had, wish = amount(made["resources"]["requests"]["storage"]), amount(o.spec.storage.size)
    larger = had is not None and wish is not None and had > wish
    wanted = o.spec.storage.claim_template
    return (
        larger
        or made.get("storageClassName") != o.spec.storage.class_name
        or made["accessModes"] != [wanted.access_mode]
        or made.get("volumeAttributesClassName") != wanted.volume_attributes_class_name
    )
