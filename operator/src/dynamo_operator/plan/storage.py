"""Rows about the sizes and the class of volumes, and how a slip of the pen is taken back.

The template of the claims cannot be changed, so it keeps its first size, and claims are changed one
by one. A volume never shrinks. A claim may be lowered again while its volume has not grown, as far
as Kubernetes lets it: to more than what the volume has. That is done only to what the operator
itself asked for, which is noted on the claim: a person may make one claim larger by hand.

While no claim has a volume nothing can be lost, and the StatefulSet is made anew with another
class, or a smaller size, in the template. A claim that was made from a snapshot, or for a volume
that is named, is a person's, and never touched.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from dynamo_operator.actions import Delete, Note, PatchClaim, Step
from dynamo_operator.plan.pods import delete, patch
from dynamo_operator.quantity import amount
from dynamo_operator.snapshot import SIZE, STATEFUL_SET, Claim, Document, Snapshot

MEBI = 2**20
"""What a volume is asked to grow by at least, where it is not to grow."""


def grow(o: Snapshot) -> Step | None:
    """Claims grow, where their class allows; those that could not are lowered with the spec."""
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
    """The least that Kubernetes lets a claim be lowered to: more than its volume has."""
    least = int(given) + MEBI
    return Decimal(least), f"{least // MEBI}Mi" if least % MEBI == 0 else str(least)


def template_of(o: Snapshot) -> Document | None:
    """The claims' template, as it is in the StatefulSet."""
    seen = o.objects.get((STATEFUL_SET, o.name))
    templates = seen["spec"].get("volumeClaimTemplates") if seen else None
    return templates[0]["spec"] if templates else None


def without_volumes(o: Snapshot) -> bool:
    """Whether it is certain that there is no data: no claim has, or had, a volume, no node ever
    answered, and no person has said what is to be on one."""
    if o.ring is not None or o.recorded or o.nodes:
        return False
    return all(claim.blank for claim in o.claims.values())


def other_class(o: Snapshot) -> str:
    """That the volumes are to be of another class, where that can no longer be."""
    template = template_of(o)
    if template is None or without_volumes(o):
        return ""
    first, wish = template.get("storageClassName"), o.spec.storage.class_name
    if first == wish:
        return ""
    was = f"class {first}" if first else "the default class"
    return f"spec.storage.className is {wish or 'unset'}, the volumes were made with {was}"


def begin_again(o: Snapshot) -> Step | None:
    """The StatefulSet and its claims go, while none of them has a volume, to be made as asked."""
    if o.spec.stopped or not without_volumes(o):
        return None
    text = "no claim has a volume yet: they are asked for anew, as the spec has them now"
    template = template_of(o)
    if o.workload is not None and template is not None:
        first = template["resources"]["requests"]["storage"]
        if not _mistaken(o, template.get("storageClassName"), first):
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
    old = [c for c in o.claims.values() if _mistaken(o, c.class_name, c.size)]
    if not old or o.workload is not None:
        return None
    return Step("MakingObjects", text, tuple(delete(claim) for claim in old if not claim.deleting))


def _mistaken(o: Snapshot, named: str | None, size: str) -> bool:
    """Whether claims were asked for with another class, or as larger ones."""
    had, wish = amount(size), amount(o.spec.storage.size)
    larger = had is not None and wish is not None and had > wish
    return larger or named != o.spec.storage.class_name
