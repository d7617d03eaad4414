"""Every knob of the core, with what it means and what higher and lower cost."""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults suit a local network; the simulator uses its own. Times in seconds."""

    hedge_s: float = 0.05
    """When a peer is silent for this time, a get asks its other nodes, and a put is coordinated
    here. If the 99th percentile of reads is longer, that time counts instead (S-RW-9). Lower:
    shorter tails, more double work."""
    hedges_at_once_max: float = 20.0
    """S-RW-9: this many gets in a row may ask more nodes; after that only one get in twenty may."""
    fsync_stall_s: float = 0.5
    """S-RW-8: an fsync that lasts this long is stalled. Other owners then coordinate this node's
    puts, until an fsync is quicker. Lower: a slow disk is spared sooner, but a busy disk may be
    taken for a stalled one."""
    heartbeat_s: float = 0.5
    """Interval of gossip to every member. Lower: faster detection, more idle traffic."""
    suspect_s: float = 2.0
    """A peer is down when its last echo of this node's heartbeat is older. At least
    3 x heartbeat_s."""
    misses_max: int = 3
    """A peer is down after this many requests of this node in a row have timed out there."""
    tombstone_age_min_s: float = 600.0
    """S-DEL-2: a younger tombstone is not collected. It also bounds the age of frames (S-NET-1)."""
    leaf_bits: int = 8
    """2**leaf_bits leaves per partition tree; the same on every node of a ring."""
    in_flight_max: int = 4096
    """Client operations at once. A further one gets 503, before any effect (C16)."""
    records_bytes_max: int = 48 * 1024 * 1024
    """Bytes of large records that all gets under way hold together. A get that needs more is
    refused (C16)."""
    slow_s: float = 0.5
    """A client's operation that takes this long is logged; 0 logs none. Lower: more log lines,
    some of them about operations that are hardly slow."""
    siblings_max: int = 100
    """S-SIB-1."""
    siblings_bytes_max: int = 16 * 1024 * 1024
    """The same limit in bytes of the record. It is far below the limit of a frame with one message:
    each side of a network cut may write this much, and nodes must send the merge of all sides."""
    hint_bytes_max: int = 256 * 1024 * 1024
    """Per target (S-HINT-4)."""
    hint_scan_s: float = 2.0
    """Interval at which a node looks for hints that can be delivered (S-HINT-2)."""
    hints_in_flight_max: int = 64
    exchange_s: float = 2.0
    """Interval at which a node compares tree roots with one peer (S-AE-3)."""
    confirm_s: float = 0.25
    """Wait this long before a difference is acted on (S-AE-2), so that writes on their way
    arrive."""
    exchanges_max: int = 4
    """Partitions that one node exchanges at once."""
    rows_max: int = 256
    """Rows of one slice of a scan. The event loop is never blocked for longer than one slice."""
    keys_max: int = 32
    """Records fetched at once by an exchange."""
    fetch_bytes_max: int = 4 * 1024 * 1024
    """Bytes of records that one machine has under way at once; one more record may exceed it."""
    collect_s: float = 5.0
    """Interval at which a node looks for tombstones that may be collected (S-DEL-2)."""
    rounds_max: int = 4
    """Partitions in which one node leads a round at once."""
    tombstones_max: int = 1 << 18
    """Tombstones that a node tracks at once, about 200 bytes each. Further ones wait until some are
    collected. So a node can forget at most this many per `tombstone_age_min_s`."""
    moves_s: float = 0.5
    """Interval at which a node looks for partitions to receive, and for work left by a switch."""
    moves_max: int = 2
    """Partitions that one node receives at once. Higher: a move ends sooner, with more load."""
    moves_ring_max: int = 16
    """Partitions of the whole ring that move at once, by the ring document of this node."""
    latency_threshold_ms: float = 75.0
    """S-BG-1: background work slows down while the 99th percentile of reads is above this. If it is
    above hedge_s, one silent peer does not slow background work. Higher: clients feel more of
    it."""
    call_s: float = 2.0
    """A background request without an answer after this time has failed."""
    skew_max_ms: int = 60_000
    """S-LWW-1: this node does not follow a stamp that is further ahead of its clock."""
    volatile: bool = False
    """S-RW-3: the store keeps nothing over a restart. No node counts copies on this node as
    durable. For puts that this node coordinates, copies at the level *memory* count for `dw`."""
    anti_entropy: bool = True
    """False stops the continuous exchange; repairs on demand and rebuilding still run."""
    replace_lost: bool = True
    """S-MEM-4."""
    history_bytes_max: int = 0
    """Memory for the causal history of watched keys; 0: the node keeps none, at no cost. Higher: a
    longer past is shown."""
    history_prefixes: tuple[bytes, ...] = ()
    """Keys that begin with one of these are watched; empty: all keys."""
    history_one_in: int = 1
    """Of these keys one in so many is watched, by its place on the ring. Higher: a longer past of
    fewer keys."""
    delay_samples_per_minute: int = 300
    """Reads, writes and own fsyncs of which the node keeps the delays, each so many a minute, for
    the prediction of staleness; 0 keeps none. Higher: the prediction follows changes sooner."""
    canaries_per_minute: int = 0
    """Writes of canary keys a minute, each with one read through another node, to measure
    staleness; 0 writes none. Higher: a more exact share, and more work."""
    approval_s: float = 600.0
    """S-MEM-6: a person's approval of one replacement ends after this time. Lower: a disk that
    comes late needs a second approval. Higher: a forgotten approval may let a later disk in."""

    @property
    def frame_age_max_s(self) -> float:
        """S-NET-1: min(60 s, half of the age at which tombstones may be collected)."""
        return min(60.0, self.tombstone_age_min_s / 2)

    def crowded(self, siblings: int, record_bytes: int) -> bool:
        """S-SIB-1: whether the record is at a limit, so that a put without a context is refused."""
        return siblings >= self.siblings_max or record_bytes > self.siblings_bytes_max


RETUNED = (
    "hedge_s", "fsync_stall_s", "exchange_s", "exchanges_max", "moves_max", "latency_threshold_ms",
    "siblings_max", "hint_bytes_max", "anti_entropy", "replace_lost", "slow_s",
    "delay_samples_per_minute", "canaries_per_minute",
)  # fmt: skip
"""Settings that may change while a node runs. Other nodes rely on none of these (they rely on the
heartbeat and the age of tombstones), and the bound of memory does not depend on them."""
