"""The actions on a ring and its objects, as data; `act` carries them out.

Each action is one request that changes something (`Change` first asks for the plan whose hash it
sends). It is safe to send it twice or late: objects are applied whole, claims and pods are named by
uid and resourceVersion, ring changes by their hash and cluster id.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from dynamo_operator.snapshot import Document


class Note(Struct, frozen=True):
    """A Kubernetes Event that will be posted: what happened, for people."""

    reason: str
    message: str
    warning: bool = False


class Act(Struct, frozen=True, kw_only=True):
    """One action; `note` is posted after the action is done."""

    note: Note | None = None

    @property
    def key(self) -> str:
        """The object of the action, as a key among the actions of one pass."""
        return type(self).__name__


class MakeSecret(Act, frozen=True, kw_only=True):
    """Create the cluster secret; the operator never writes it again."""


class MakeAuthority(Act, frozen=True, kw_only=True):
    """Change the ring's own authority: make the first, make the next, let the next sign, or stop
    believing the previous. `version`: only if its Secret is unchanged since the snapshot, "" if
    there is none."""

    change: Literal["first", "next", "switch", "drop"]
    version: str
    asked: str = ""


class Certify(Act, frozen=True, kw_only=True):
    """Write the Secret that is mounted into pods: a certificate of these names, or, without
    `renew`, only the authorities that are believed now."""

    names: tuple[str, ...]
    renew: bool
    version: str


class Apply(Act, frozen=True, kw_only=True):
    """Server-side apply of a whole object that is absent or the operator's. `resource_version`:
    only if the object is unchanged since the snapshot."""

    object: Document
    resource_version: str | None = None

    @property
    def key(self) -> str:
        return f"Apply {self.object['kind']}/{self.object['metadata']['name']}"


class PatchClaim(Act, frozen=True, kw_only=True):
    """Merge a few fields into this claim, by its uid."""

    name: str
    uid: str
    resource_version: str
    body: Document

    @property
    def key(self) -> str:
        return f"PatchClaim {self.name}"


class Delete(Act, frozen=True, kw_only=True):
    """Delete this object, by its uid, if it is unchanged since the snapshot."""

    kind: str
    name: str
    uid: str
    resource_version: str

    @property
    def key(self) -> str:
        return f"Delete {self.kind}/{self.name}"


class DeleteTaken(Delete, frozen=True, kw_only=True):
    """Delete this DynamoBackup, and so its volume snapshots, unless a ring needs them to begin.
    `ordinals`: of the snapshots."""

    ordinals: tuple[int, ...]


class Evict(Act, frozen=True, kw_only=True):
    """Evict this pod, by its uid, under its disruption budget."""

    name: str
    uid: str
    resource_version: str


class Found(Act, frozen=True, kw_only=True):
    """Create the ring (S-RING-5). The class has the word of `status.plan.type` and of the metric of
    actions, which stay as they are."""

    via: int
    body: Document


class Change(Act, frozen=True, kw_only=True):
    """Plan and apply a change of owners (S-MOVE-6). `id` None: the plan's hash is the operation's
    id, so that two operators with the same decision apply it once."""

    via: int
    what: Literal["join", "leave", "weights", "moves", "rebalance", "defaults"]
    wishes: Document
    id: str | None = None

    @property
    def key(self) -> str:
        return f"Change {self.what}"


class Cancel(Act, frozen=True, kw_only=True):
    """Cancel the moves that have not switched yet."""

    via: int


class StartRepair(Act, frozen=True, kw_only=True):
    """Run anti-entropy under the DynamoRepair's uid."""

    via: int
    id: str
    body: Document

    @property
    def key(self) -> str:
        return f"StartRepair {self.id}"


class MakeClaim(Act, frozen=True, kw_only=True):
    """Create a claim from a data source, before the StatefulSet makes an empty one."""

    object: Document

    @property
    def key(self) -> str:
        return f"MakeClaim {self.object['metadata']['name']}"


class CopySecret(Act, frozen=True, kw_only=True):
    """Create the copy of the cluster secret that belongs to a backup by volume snapshots; `run`:
    the id of the backup."""

    name: str
    metadata: Document
    run: str

    @property
    def key(self) -> str:
        return f"CopySecret {self.name}"


class MakeSnapshot(Act, frozen=True, kw_only=True):
    """Create the VolumeSnapshot of one claim; `run`: the id of the backup that it is part of."""

    object: Document
    run: str

    @property
    def key(self) -> str:
        return f"MakeSnapshot {self.object['metadata']['name']}"


class MakeRepair(Act, frozen=True, kw_only=True):
    """Create the DynamoRepair that the schedule asks for."""

    object: Document


class StartRun(Act, frozen=True, kw_only=True):
    """Ask a node to lead a backup or a restore, or to go on with it under the same id."""

    via: int
    path: str
    body: Document

    @property
    def key(self) -> str:
        return f"StartRun {self.body['id']}"


class MakeRun(Act, frozen=True, kw_only=True):
    """Create the DynamoBackup that the schedule asks for, or the DynamoRestore that a new ring
    begins with."""

    object: Document


class DeleteBackups(Act, frozen=True, kw_only=True):
    """Delete backups in an archive, and the parts that no other backup refers to; the actions after
    it wait until that is done."""

    via: int
    body: Document

    @property
    def key(self) -> str:
        return f"DeleteBackups {self.body['id']}"


class Step(Struct, frozen=True):
    """The result of one snapshot: the row of the table, and the actions to do now."""

    reason: str
    message: str
    actions: tuple[Any, ...] = ()
    progressing: bool = True
    invalid: bool = False
    again_s: float | None = None
    """`actions` are Acts, carried out in order. `invalid`: a person must first change the spec, or
    something around it. `again_s`: seconds until the next look, if it is not the usual time."""
