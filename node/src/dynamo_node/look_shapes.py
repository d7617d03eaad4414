"""The shapes of looks inside, preference lists and staleness, for the OpenAPI document alone.

docs/console.md and docs/staleness.md say what the fields mean. A dot is 16 hexadecimal digits of an
actor, a colon and a counter; a vector gives the last counter of each actor.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from dynamo_node.answer_shapes import Base64, Member, RingSeen, Status

Kind = Literal["value", "tombstone", "expired", "unknown"]
Way = Literal["put", "replica", "repair", "hint", "exchange", "offer", "restore", "delivered"]


class PreferenceList(msgspec.Struct):
    """Who keeps a key, and whom this node takes for up."""

    key: Base64
    partition: int
    owners: list[str]
    stand_ins: list[str]
    up: dict[str, bool]


class Look(msgspec.Struct, kw_only=True):
    """`no_answer`: which nodes did not answer, and why."""

    no_answer: dict[str, str]


class MemberSeen(Member, kw_only=True):
    """A line of the ring document, the member's status (null if it did not answer), and which other
    members take it for up."""

    answered: bool
    seen_by: dict[str, Literal["up", "down"]]
    status: Status | None


class ClusterLook(Look, kw_only=True):
    """Every member, as it says itself and as the others see it."""

    asked: str
    ring: RingSeen
    members: list[MemberSeen]


class Role(msgspec.Struct, kw_only=True):
    """What a node is for a partition."""

    node: str
    owner: bool
    complete: bool
    writer: bool


class VersionSeen(msgspec.Struct, kw_only=True):
    """One version of a copy. `value` has its first 256 bytes, "" for a reader without the right."""

    dot: str
    kind: Kind
    bytes: int
    value: Base64
    content_type: str
    expires_ms: int | None
    request_id: str | None


class CopySeen(Role, kw_only=True):
    """One copy of a key; with `target` it is a hint for that node. `lacks`: versions of other
    copies that its history does not cover. `superseded`: its versions that others have replaced."""

    target: str | None
    damaged: bool
    digest: str
    bytes: int
    vector: dict[str, int]
    dots: list[str]
    siblings: list[VersionSeen]
    actors_count: int
    siblings_count: int
    lacks: list[str]
    superseded: list[str]


class WithoutCopy(Role, kw_only=True):
    """A node that shows no record of the key."""

    damaged: bool


class KeyLook(Look, kw_only=True):
    """A key, its partition and its owners."""

    key: Base64
    partition: int
    owners: list[str]
    values_shown: bool


class RecordsLook(KeyLook, kw_only=True):
    """Every copy of a key. `left_out`: hints of the key that a node has and does not show."""

    copies: list[CopySeen]
    without: list[WithoutCopy]
    owners_agree: bool
    left_out: dict[str, int]


class Came(msgspec.Struct, kw_only=True):
    """When and by which way versions came to a node; with `target` as a hint for that node."""

    node: str
    way: Way
    at_ms: int
    target: str | None


class EventSeen(msgspec.Struct, kw_only=True):
    """One put of a key. `coordinator` is null and `at_ms` 0 if no node remembers the put itself.
    `context`: the put came with one. `parents`: the latest events that its writer had seen."""

    dot: str
    coordinator: str | None
    at_ms: int
    target: str | None
    kind: Kind
    bytes: int
    value: Base64
    context: bool
    parents: list[str]
    superseded_by: list[str]
    came: list[Came]


class ChangeSeen(Came, kw_only=True):
    """One change of one copy: versions that appeared, and versions that went."""

    new: list[str]
    gone: list[str]


class HistoryLook(KeyLook, kw_only=True):
    """The causal history of a key. `dropped`: changes of any key that a node has forgotten."""

    watched: bool
    events: list[EventSeen]
    changes: list[ChangeSeen]
    dropped: dict[str, int]


class TreeSeen(Role, kw_only=True):
    """The hash tree of one copy of a partition; `seen` and `floor` are numbers of rounds."""

    root: str
    leaves: list[str]
    seen: int
    floor: int


class TreesLook(Look, kw_only=True):
    """The hash trees of a partition; `differ` has the numbers of leaves that are not equal."""

    partition: int
    owners: list[str]
    copies: list[TreeSeen]
    differ: list[int]


class HintsSeen(msgspec.Struct, kw_only=True):
    """The hints of one node for one target; some of the keys if they were asked for."""

    target: str
    count: int
    bytes: int
    oldest_s: float
    waits_for: str
    keys: list[Base64]


class Holder(msgspec.Struct, kw_only=True):
    """The hints of one node. It tries again in `next_attempt_ms`."""

    node: str
    next_attempt_ms: int
    targets: list[HintsSeen]


class HintsLook(Look, kw_only=True):
    """The hints of each node that answered, by target."""

    holders: list[Holder]


class Quantiles(msgspec.Struct):
    """Times in milliseconds, null for a time without an end."""

    p50: float | None
    p99: float | None


class Predicted(msgspec.Struct, kw_only=True):
    """One R and W. `fresh` has a share of reads for each of `t_ms`. What is null cannot be while
    nodes are down, or has no end."""

    r: int
    w: int
    present: bool
    possible: bool
    overlap: bool
    missed: float
    fresh_at_once: float | None
    fresh_999_ms: float | None
    fresh: list[float] | None
    read_ms: Quantiles | None
    write_ms: Quantiles | None


class PairSampled(msgspec.Struct, kw_only=True):
    """The samples of the calls of one node to another one."""

    caller: str = msgspec.field(name="from")
    to: str
    writes: int
    reads: int
    lost: int
    w_ms: Quantiles | None
    a_ms: Quantiles | None
    r_ms: Quantiles | None
    s_ms: Quantiles | None


class Measured(msgspec.Struct, kw_only=True):
    """Reads of canaries, and what is predicted for the same times."""

    reads: int
    fresh: int
    measured: float | None
    predicted: float | None


class Point(Measured, kw_only=True):
    """Reads that began in this time after the acknowledgement."""

    from_ms: int
    to_ms: int


class Canary(Measured, kw_only=True):
    """All reads of canaries, and by the time at which they began."""

    per_minute: int
    points: list[Point]


class StalenessReport(msgspec.Struct, kw_only=True):
    """How likely a read sees the last write: one of `settings` for each R and W, one of `delays`
    for each pair of nodes with samples."""

    node: str
    samples: int
    sampled_per_minute: int
    nodes: list[str]
    missing: list[str]
    down: list[str]
    assumed: bool
    trials: int
    age_s: float
    n: int
    ring_n: int
    r: int
    w: int
    dw: int
    hedge_ms: float
    t_ms: list[int]
    settings: list[Predicted]
    delays: list[PairSampled]
    canary: Canary
    advice: list[str]


class Asked(msgspec.Struct):
    """A node that was asked: `role` is owner or stand-in, `ms` counts from the request's start."""

    node: str
    role: Literal["owner", "stand-in"]
    answer: str
    ms: float


class Skipped(msgspec.Struct):
    """A node that was not asked, and why."""

    node: str
    reason: str


class Explained(msgspec.Struct):
    """The JSON of every request with `explain=true`, in the place of its own answer. `status` is
    the one that the request has without it."""

    status: int
    partition: int
    coordinator: str
    asked: list[Asked]
    skipped: list[Skipped]
    decided: str
