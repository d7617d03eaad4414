"""The plan of a history, as data: the clients' steps and the faults, as JSON, to be run again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dynamo_core.protocol.frames import FRAME_BYTES_MAX
from dynamo_core.settings import Settings
from dynamo_core.testing.fault import Fault
from dynamo_core.testing.network import Weather
from dynamo_core.testing.wire import Wire

NAMES = "abcdefgh"
COPIED = "first"
"""The name of a ring whose disks are copied."""
APART = (b"k", b"K", b"\xff", b"\xfe\x00", b"a key/%2F 25")
"""Bytes that careless code would treat as equal, and one key in the last leaf of the ring."""
TOGETHER = (b"0", b"1", b"2", b"8", b"12")
"""All in one partition, in both of its leaves."""
KEYS = len(APART)
CORE = Settings()
SAMPLES = 600
"""Samples of delays in a minute, in a history with canaries."""
READY_S, CREATED_S = 1.7, 2.8
"""Clients begin this long after the first start: all nodes have met by the third heartbeat."""


class Limits(msgspec.Struct, omit_defaults=True):
    """Limits of one turn, in bytes, rows and records. In few histories they are so small, and
    values so large, that frames are cut, and every copy, delivery or handover takes several
    turns."""

    frame_bytes: int = FRAME_BYTES_MAX
    fetch_bytes: int = CORE.fetch_bytes_max
    siblings_bytes: int = CORE.siblings_bytes_max
    rows: int = 3
    keys: int = 2


class Step(msgspec.Struct, omit_defaults=True):
    """One operation of a client. `context`: below 0 none, else which of the contexts collected
    until then, 1.0 the latest; an "update" reads first and uses that context. `retry`: the node
    that is asked again under the same request id after `retry_s` without success. `strict` None:
    the ring's default. `bytes`: minimum size of the value. `joined`: it enters its node in one turn
    with the step before it, like the operations of a batch. `expires_s`: the value expires this
    many seconds after the node's clock; `until_s`: this many seconds after, or before, a clock that
    no fault has set; 0 for neither."""

    at: float
    kind: str
    key: int
    node: int
    context: float = -1.0
    r: int = 0
    w: int = 0
    strict: bool | None = None
    named: bool = False
    retry: int = -1
    retry_s: float = 0.5
    expires_s: int = 0
    until_s: float = 0.0
    show: bool = False
    bytes: int = 0
    joined: bool = False
    reuse: int = -1
    """After the ack, its request id comes again at this node, with another value (S-REQ-2)."""
    client: str = ""
    """The client whose share of the node it uses (T-5)."""

    @property
    def expires(self) -> bool:
        """Whether the value has an expiry."""
        return bool(self.expires_s or self.until_s)


class Copied(msgspec.Struct, omit_defaults=True):
    """The second ring of a history, which starts on copies of the disks (S-BAK-4): its name, and
    what its clients and its faults do. No name: there is none. `one_secret`: an administrator gives
    it the secret of the first ring too. `meanwhile`: of the first ring, in seconds after the
    administrator has begun; other times in seconds after the second ring's start."""

    name: str = ""
    one_secret: bool = False
    begins_s: float = 0.0
    ends_at: float = 0.0
    steps: list[Step] = []
    faults: list[Fault] = []
    faults_meanwhile: list[Fault] = []
    steps_meanwhile: list[Step] = []


class Plan(msgspec.Struct):
    """The plan of one history."""

    seed: int
    nodes: int
    n: int
    r: int
    w: int
    dw: int
    lossy: bool
    quiet: bool
    created: bool
    """By the administrator's command, not by hand."""
    weather: Weather
    lag_s: float
    """Maximum time of a node's turn: entries in this time share one batch."""
    hint_bytes_max: int
    ends_at: float
    idle_s: float
    steps: list[Step]
    faults: list[Fault]
    families: list[str]
    sloppy: bool = True
    """The ring's value at its beginning."""
    siblings_max: int = 100
    in_flight_max: int = 4096
    founders: int = 0
    """The number of founders of the ring, 0: all nodes; the others may join."""
    tombstone_age_s: float = 12.0
    """Longer than the life of any operation, its retry and a frame (S-DEL-2)."""
    latency_threshold_ms: float = 75.0
    """S-BG-1; so low that any read over the network exceeds it and slows background work."""
    looks: int = 0
    """How many rounds of reads follow the healing, while nodes rebuild their data."""
    limits: Limits = msgspec.field(default_factory=Limits)
    together: bool = False
    """All keys lie in one partition."""
    older: list[int] = []
    """Nodes that begin in the version before (C17)."""
    history_bytes: int = 0
    """What each node may remember of changes, in bytes (`history_bytes_max`)."""
    approved: bool = False
    """A node that lost its disk waits for a person's approval (S-MEM-6)."""
    rotates_at: float = 0.0
    """When the secret begins to change, and the time of each step; 0: it does not change."""
    rotates_s: float = 1.0
    canaries: int = 0
    """Canaries of each node in a minute; with them the nodes sample delays and report staleness."""
    wire: Wire = msgspec.field(default_factory=Wire)
    """If the wire is bad, links behave like TCP, and frames are sealed."""
    copied: Copied = msgspec.field(default_factory=Copied)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the nodes; copies need names with a number."""
        if self.copied.name:
            return tuple(f"{COPIED}-{ordinal}" for ordinal in range(self.nodes))
        return tuple(NAMES[: self.nodes])

    @property
    def keys(self) -> tuple[bytes, ...]:
        """As many as `KEYS`; steps name them by their number."""
        return TOGETHER if self.together else APART


def settings_of(plan: Plan) -> Settings:
    """Rare heartbeats and short waits: less virtual time, fewer events."""
    return Settings(
        hedge_s=0.05,
        heartbeat_s=1.0,
        suspect_s=3.0,
        hint_scan_s=1.0,
        exchange_s=1.0,
        confirm_s=0.1,
        call_s=1.0,
        tombstone_age_min_s=plan.tombstone_age_s,
        leaf_bits=1,
        hint_bytes_max=plan.hint_bytes_max,
        rows_max=plan.limits.rows,
        keys_max=plan.limits.keys,
        fetch_bytes_max=plan.limits.fetch_bytes,
        siblings_bytes_max=plan.limits.siblings_bytes,
        exchanges_max=4,
        hints_in_flight_max=2,
        moves_s=0.5,
        collect_s=1.0,
        siblings_max=plan.siblings_max,
        in_flight_max=plan.in_flight_max,
        latency_threshold_ms=plan.latency_threshold_ms,
        hedges_at_once_max=2.0,
        replace_lost=not plan.approved,
        approval_s=4.0,
        history_bytes_max=plan.history_bytes,
        delay_samples_per_minute=SAMPLES if plan.canaries else 0,
        canaries_per_minute=plan.canaries,
    )


def save_plan(path: Path, plan: Plan) -> None:
    """As JSON, for tests/simulation/seeds."""
    path.write_bytes(msgspec.json.encode(plan) + b"\n")


def load_plan(path: Path) -> Plan:
    """The inverse. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(path.read_bytes(), type=Plan)
