"""Whether an object has the wanted content, without a request to the server.

Each object has the digest of the content that was last applied. If the digest differs, the operator
now wants other content. If the digest is equal but a field differs, another client has edited the
object.

Fields that the server adds are no edit. But a map that selects is compared exactly: with one more
key it selects nothing. Kubernetes replaces such maps as a whole when they are applied.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, Literal

from dynamo_operator.owner import Owner, labels_of
from dynamo_operator.ports import FIELD_MANAGER
from dynamo_operator.quantity import amount
from dynamo_operator.snapshot import APPLIED, Document


def sealed(wanted: Document) -> dict[str, Any]:
    """The object with the digest of itself among its annotations."""
    digest = sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
    meta = wanted["metadata"]
    notes = {**meta.get("annotations", {}), APPLIED: digest}
    return {**wanted, "metadata": {**meta, "annotations": notes}}


def differs(wanted: Document, existing: Document) -> Literal["", "wish", "edit"]:
    """Compares a sealed object with the server's."""
    notes = existing["metadata"].get("annotations") or {}
    if notes.get(APPLIED) != wanted["metadata"]["annotations"][APPLIED]:
        return "wish"
    return "" if covers(wanted, existing) else "edit"


def covers(wanted: Any, existing: Any) -> bool:
    """Whether all wanted fields are present; fields that the server added do not count, unless they
    make a map select less or a rule admit fewer."""
    if isinstance(wanted, dict):
        fields = existing if isinstance(existing, dict) else {}
        return all(
            (exact if selects(name) else covers)(value, fields.get(name))
            for name, value in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        items = existing or []
        return len(wanted) == len(items) and all(map(covers, wanted, items))
    if wanted == existing or (existing is None and not wanted):
        return True
    mine, theirs = (None if v is None else amount(str(v)) for v in (wanted, existing))
    return mine is not None and mine == theirs


def selects(field: str) -> bool:
    """Whether a further key in this field changes what is selected: Service selectors, label
    selectors of budgets, policies and spreads, node selectors of pods, rules of policies."""
    return field in ("selector", "matchLabels", "ingress", "egress") or field.endswith("Selector")


def exact(wanted: Any, existing: Any) -> bool:
    """Whether both are equal, except for fields that are empty or left out. An empty selector
    selects everything, so it is not the same as none."""
    return bool(_bare(wanted) == _bare(existing)) or (not wanted and existing is None)


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        bare = {name: _bare(inner) for name, inner in value.items()}
        return {
            name: inner
            for name, inner in bare.items()
            if inner not in (None, []) and (inner != {} or name != "matchLabels")
        }
    return [_bare(item) for item in value] if isinstance(value, list | tuple) else value


def ours(existing: Document, owner: Owner) -> bool:
    """Whether the operator may apply the object: the resource's own, or one that it left behind."""
    return controlled(existing, owner.uid) or orphaned(existing, owner)


def orphaned(existing: Document, owner: Owner) -> bool:
    """Whether it was made for a resource of this name that was deleted with `--cascade=orphan`: no
    other owner controls it, and it has our labels, our digest and our field manager. A resource
    that is made again takes it over."""
    meta = existing["metadata"]
    if any(reference.get("controller") for reference in meta.get("ownerReferences") or ()):
        return False
    hands = (row.get("manager") for row in meta.get("managedFields") or ())
    labels = meta.get("labels") or {}
    return (
        labels_of(owner).items() <= labels.items()
        and APPLIED in (meta.get("annotations") or {})
        and FIELD_MANAGER in hands
    )


def controlled(existing: Document, uid: str) -> bool:
    """Whether the object is the resource's own."""
    references = existing["metadata"].get("ownerReferences") or ()
    return any(ref.get("controller") and ref["uid"] == uid for ref in references)
