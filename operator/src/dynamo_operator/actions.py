"""What can be done to a ring and its objects: data, carried out by `act`.

Each action is one request that changes something (`Change` first asks for the plan whose hash it
quotes), safe to send twice and safe to send late: objects are applied whole, claims and pods are
named by uid and resourceVersion, ring changes by their hash and cluster id.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from dynamo_operator.snapshot import Document


class Note(Struct, frozen=True):
    """A Kubernetes Event to be: what happened, for people."""

    reason: str
    message: str
    warning: bool = False


class Act(Struct, frozen=True, kw_only=True):
    """Anything that can be done; `note` is told once it has been."""

    note: Note | None = None

    @property
    def key(self) -> str:
        """Names what it is about, among the actions of one pass."""
        return type(self).__name__


class MakeSecret(Act, frozen=True, kw_only=True):
    """Create the cluster secret, never written again."""


class Apply(Act, frozen=True, kw_only=True):
    """Server-side apply of a whole object, absent or ours; `resource_version`: only if it is still
    as it was seen."""

    object: Document
    resource_version: str | None = None

    @property
    def key(self) -> str:
        return f"Apply {self.object['kind']}/{self.object['metadata']['name']}"


class PatchClaim(Act, frozen=True, kw_only=True):
    """Merge a few fields into one very claim."""

    name: str
    uid: str
    resource_version: str
    body: Document

    @property
    def key(self) -> str:
        return f"PatchClaim {self.name}"


class Delete(Act, frozen=True, kw_only=True):
    """Delete one very object, as it was seen."""

    kind: str
    name: str
    uid: str
    resource_version: str

    @property
    def key(self) -> str:
        return f"Delete {self.kind}/{self.name}"


class Evict(Act, frozen=True, kw_only=True):
    """Evict one very pod, under its disruption budget."""

    name: str
    uid: str
    resource_version: str


class Found(Act, frozen=True, kw_only=True):
    """Create the ring (S-RING-5)."""

    via: int
    body: Document


class Change(Act, frozen=True, kw_only=True):
    """Plan and apply a change of who owns what (S-MOVE-6); `id` None: the plan's hash is the
    operation's id, so that two operators who decide the same apply it once."""

    via: int
    what: Literal["join", "leave", "weights", "moves", "rebalance", "defaults"]
    wishes: Document
    id: str | None = None

    @property
    def key(self) -> str:
        return f"Change {self.what}"


class Cancel(Act, frozen=True, kw_only=True):
    """Reverse what has not been switched yet."""

    via: int


class StartRepair(Act, frozen=True, kw_only=True):
    """Run anti-entropy under the DynamoRepair's uid."""

    via: int
    id: str
    body: Document

    @property
    def key(self) -> str:
        return f"StartRepair {self.id}"


class MakeRepair(Act, frozen=True, kw_only=True):
    """Create the DynamoRepair that the schedule asks for."""

    object: Document


class Step(Struct, frozen=True):
    """What one look leads to: the row of the table, and what is to be done about it now."""

    reason: str
    message: str
    actions: tuple[Any, ...] = ()
    progressing: bool = True
    invalid: bool = False
    again_s: float | None = None
    """`actions` are Acts, carried out in order. `invalid`: the spec, or its surroundings, must be
    changed by a person first. `again_s`: seconds until the next look, where it is not the usual."""
