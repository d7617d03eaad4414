"""The shapes of answers, for the OpenAPI document alone: no code makes an answer of them.

The core answers with plain dictionaries. A test holds the answers of real nodes against these
shapes (tests/dynamo_node/test_openapi.py). Times end in `_s` (seconds) or `_ms`, sizes are bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Base64 = Annotated[str, Meta(extra_json_schema={"format": "byte", "contentEncoding": "base64"})]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
State = Literal["running", "done", "failed"]


class Problem(msgspec.Struct, kw_only=True):
    """An error, RFC 9457. `type` ends in a slug that docs/operations.md lists, or is
    `about:blank`."""

    type: str
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    acks: Acks | UnsetType = UNSET
    context: str | UnsetType = UNSET
    allow: list[str] | UnsetType = UNSET
    plan: Plan | UnsetType = UNSET


class Acks(msgspec.Struct):
    """How many nodes had a write when its answer was decided."""

    total: int
    owners: int
    hinted: int
    durable: int


class Sibling(msgspec.Struct, kw_only=True):
    """One value of a key; `dot` names the event that wrote it."""

    data: Base64
    content_type: str
    dot: str
    content_encoding: str | UnsetType = UNSET
    expires_at: Time | UnsetType = UNSET


class Values(msgspec.Struct):
    """All values of a key, and the context that covers them: send it with the next put."""

    key: Base64
    context: str
    values: list[Sibling]


class BatchResult(msgspec.Struct, kw_only=True):
    """The outcome of one operation of a batch."""

    status: int
    context: str | UnsetType = UNSET
    values: list[Sibling] | UnsetType = UNSET
    acks: Acks | UnsetType = UNSET
    applied: Literal["no", "unknown"] | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET


class BatchAnswer(msgspec.Struct):
    """The outcomes of a batch, in the order of its operations."""

    results: list[BatchResult]


class Member(msgspec.Struct):
    """A member of the ring; `id` is 16 hexadecimal digits. `client` and `admin` are `host:port`;
    `admin` is null where this node has not heard it."""

    name: str
    incarnation: int
    id: str
    address: str
    client: str
    zone: str
    weight: int
    state: str
    admin: str | None


class Move(msgspec.Struct):
    """A replica on its way from one owner to another; `out` is null where no owner loses it."""

    out: str | None
    into: str | None = msgspec.field(name="in")


class Entry(msgspec.Struct):
    """One partition: its owners in the order of preference, and its move, if there is one."""

    term: int
    version: int
    owners: list[str]
    move: Move | None
    old: list[str] | None


class RingSeen(msgspec.Struct):
    """The ring document of the node that was asked, without members and partitions."""

    cluster_id: str
    epoch: int
    digest: str
    partitions: int
    n: int
    r: int
    w: int


class Ring(RingSeen):
    """The ring document: members, owners of each partition, defaults of requests."""

    dw: int
    sloppy: bool
    conflicts: Literal["Siblings", "LastWriteWins"]
    members: list[Member]
    entries: list[Entry]
    target: list[list[str]] | None


class Live(msgspec.Struct):
    """Whether the event loop runs and the store is open."""

    live: bool


class Ready(msgspec.Struct, kw_only=True):
    """Whether this node takes part; if not, why."""

    ready: bool
    reason: str | UnsetType = UNSET
    durability: str | UnsetType = UNSET


class Held(msgspec.Struct):
    """Partitions that a node holds, owns, and has completely."""

    held: int
    owned: int
    complete: int


class Operation(msgspec.Struct):
    """The last change of the ring; `earlier` has the ids of older ones that were not cancelled."""

    id: str | None
    moves_total: int
    moves_done: int
    state: Literal["none", "running", "done", "cancelled"]
    earlier: list[str]


class Transfer(msgspec.Struct, kw_only=True):
    """A partition that this node receives; `reason` says why it waits."""

    partition: int
    out: str | None
    into: str | None = msgspec.field(name="in")
    state: str
    reason: str
    records_done: int
    bytes_done: int
    bytes_total: int


class Lapses(msgspec.Struct):
    """An approval that is not used yet, and the seconds that are left."""

    lapses_s: float


class Kept(msgspec.Struct):
    """Hints for one node."""

    count: int
    bytes: int


class Tree(msgspec.Struct):
    """Whether the hash trees are sure of all records."""

    state: Literal["built", "settling"]


class Tombstones(msgspec.Struct):
    """Tombstones that are not collected, and what the oldest waits for."""

    count: int
    oldest_s: float | None
    waiting_for: str | None


class Background(msgspec.Struct):
    """The share of full speed that background work has, and the latency that it follows."""

    budget: float
    latency_p99_ms: float | None


class Freshness(msgspec.Struct):
    """The last report of staleness, for the ring's own R and W."""

    fresh_at_once: float
    fresh_999_ms: float | None
    canary: float | None
    canary_predicted: float | None
    age_s: float


class Memory(msgspec.Struct):
    """What the process may take by the formula, and what it takes."""

    bound_bytes: int
    used_bytes: int


class TlsState(msgspec.Struct):
    """How links are made and taken, and which certificate and authorities the node has now."""

    peers: str
    certificate: str
    not_after: str
    authorities: list[str]


class Status(msgspec.Struct, kw_only=True):
    """The state of one node; docs/http-api.md says what each field means. More fields may come."""

    name: str
    id: str
    cluster_id: str | None
    disk: Literal["member", "left", "empty", "foreign"]
    state: str | None
    epoch: int
    digest: str
    ring_fsynced: bool
    partitions: Held
    operation: Operation
    transfers: list[Transfer]
    replacements: dict[str, Lapses]
    hints: dict[str, Kept]
    tree: Tree
    oldest_comparison_s: float | None
    oldest_exchange_s: float | None
    tombstones: Tombstones
    background: Background
    peers: dict[str, str]
    address_trouble: str
    emptied: bool
    durability: str
    staleness: Freshness | None
    disk_bytes: int
    version: str
    speaks: int
    uptime_s: float
    memory: Memory
    access: str
    secrets: list[str]
    tls: TlsState


class PlannedMove(msgspec.Struct):
    """One move of a plan; bytes and keys are null where no owner can tell."""

    partition: int
    out: str | None
    into: str | None = msgspec.field(name="in")
    bytes: int | None = None
    keys: int | None = None


class RingDefaults(msgspec.Struct):
    """Defaults of requests that do not say otherwise."""

    r: int
    w: int
    dw: int
    sloppy: bool


class ChangedDefaults(msgspec.Struct):
    """Defaults before and after the change."""

    before: RingDefaults
    after: RingDefaults


class Plan(msgspec.Struct, kw_only=True):
    """What a change would do. `before` and `after` count replicas by node."""

    hash: str
    moves: list[PlannedMove]
    before: dict[str, int]
    after: dict[str, int]
    zones: dict[str, dict[str, int]]
    violations: list[str]
    bytes: int | None
    seconds_estimated: float | None
    defaults: ChangedDefaults | UnsetType = UNSET


class Accepted(msgspec.Struct):
    """A change of the ring that every member that is up has heard of."""

    operation_id: str
    epoch: int


class Cancelled(msgspec.Struct):
    """`undone` is false where there was nothing to undo."""

    operation_id: str | None
    undone: bool
    epoch: int


class Removal(msgspec.Struct, kw_only=True):
    """What the removal of a node may lose: the partitions that may lose acknowledged writes, and
    those that keep fewer than N copies. With `force` also the operation."""

    may_be_lost: list[int]
    below_n: list[int]
    w: int
    operation_id: str | UnsetType = UNSET
    epoch: int | UnsetType = UNSET


class Approval(msgspec.Struct):
    """One empty node may take the place of this member for `lapses_s` seconds."""

    name: str
    lapses_s: float


class Started(msgspec.Struct, kw_only=True):
    """A repair, backup or restore by its id."""

    id: str
    state: State


class RepairReport(Started):
    """Progress and result of a repair."""

    partitions_total: int
    partitions_done: int
    keys_repaired: int


class BackupReport(Started, kw_only=True):
    """Progress and result of a backup; `missed` names members whose data is not in it, `damaged`
    counts keys that it lacks, because all copies were damaged."""

    reason: str | None
    partitions_total: int
    partitions_done: int
    missed: list[str]
    damaged: int
    records: int
    bytes: int
    stored_bytes: int


class RestoreReport(Started, kw_only=True):
    """Progress and result of a restore; `took_ms` until its last part."""

    backup: str
    reason: str | None
    parts_total: int
    parts_done: int
    bytes_total: int
    bytes_done: int
    records: int
    skipped: int
    took_ms: int


class DeletionReport(Started, kw_only=True):
    """Progress and result of a deletion of backups; `parts` are deleted."""

    reason: str | None
    parts: int


class KeyPage(msgspec.Struct):
    """Live keys; `next` continues the listing, null after the last page."""

    keys: list[Base64]
    next: str | None
