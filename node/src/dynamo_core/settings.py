"""Every knob of the core, with what it means and what higher and lower cost."""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults suit a local network; the simulator uses its own. Times in seconds."""

    hedge_s: float = 0.05
    """Ask one node more, or coordinate here, when a peer is silent for so long, or for as long as
    99 of 100 reads take if that is longer (S-RW-9). Lower: shorter tails, more double work."""
    hedges_at_once_max: float = 20.0
    """S-RW-9: so many gets may ask more nodes in a row before the share of one in twenty holds."""
    fsync_stall_s: float = 0.5
    """S-RW-8: an fsync that lasts so long stalls, and other owners coordinate this node's puts
    until one is quicker. Lower: a slow disk is spared sooner, and a busy one taken for stalled."""
    heartbeat_s: float = 0.5
    """Gossip to every member so often. Lower: faster detection, more idle traffic."""
    suspect_s: float = 2.0
    """A peer whose last echo of our heartbeat is older is down; at least 3 x heartbeat_s."""
    misses_max: int = 3
    """A peer that let so many of our requests time out in a row is down."""
    tombstone_age_min_s: float = 600.0
    """S-DEL-2; bounds the age of frames as well (S-NET-1)."""
    leaf_bits: int = 8
    """2**leaf_bits leaves per partition tree; the same on every node of a ring."""
    in_flight_max: int = 4096
    """Client operations at once; beyond it 503 before any effect (C16)."""
    records_bytes_max: int = 48 * 1024 * 1024
    """Of large records that gets under way have in hand; beyond it they are refused (C16)."""
    siblings_max: int = 100
    """S-SIB-1."""
    siblings_bytes_max: int = 16 * 1024 * 1024
    """The same in bytes of the record. Far below what a frame of one message may have: each side of
    a cut may write so much, and the merge of all must go from node to node."""
    hint_bytes_max: int = 256 * 1024 * 1024
    """Per target (S-HINT-4)."""
    hint_scan_s: float = 2.0
    """Look for deliverable hints so often (S-HINT-2)."""
    hints_in_flight_max: int = 64
    exchange_s: float = 2.0
    """Compare tree roots with one peer so often (S-AE-3)."""
    confirm_s: float = 0.25
    """Wait so long before a difference is acted on (S-AE-2): writes on their way arrive."""
    exchanges_max: int = 4
    """Partitions that are exchanged at once."""
    rows_max: int = 256
    """Rows of one slice of a scan; the loop is never held longer."""
    keys_max: int = 32
    """Records fetched at once by an exchange."""
    fetch_bytes_max: int = 4 * 1024 * 1024
    """Bytes of records that one machine has on their way at once; a record more passes it."""
    collect_s: float = 5.0
    """Look for tombstones that may be collected so often (S-DEL-2)."""
    rounds_max: int = 4
    """Partitions in which one node leads a round at once."""
    tombstones_max: int = 1 << 18
    """Tombstones that a node keeps an eye on, some 200 bytes each; of more, a part waits until
    others are collected. So many per `tombstone_age_min_s` are the most that it can forget."""
    moves_s: float = 0.5
    """Look for partitions to receive, and for what a switch has left to do, so often."""
    moves_max: int = 2
    """Partitions that one node receives at once; higher: sooner done, more load meanwhile."""
    moves_ring_max: int = 16
    """Partitions of the whole ring that move at once, as far as a node can see."""
    latency_threshold_ms: float = 75.0
    """S-BG-1: background work slows down while p99 of reads is above. Below hedge_s one silent peer
    would slow it; higher: clients feel more of it."""
    call_s: float = 2.0
    """A background request without an answer for so long has failed."""
    skew_max_ms: int = 60_000
    """S-LWW-1: a stamp further ahead of the local clock is not followed."""
    volatile: bool = False
    """S-RW-3: the store keeps nothing over a restart. No node counts copies here as durable, and
    `dw` of the puts that this node coordinates is met by copies at the level *memory*."""
    anti_entropy: bool = True
    """False stops the continuous exchange; repairs on demand and rebuilding still run."""
    history_bytes_max: int = 0
    """Memory for the causal history of watched keys; 0: none is kept. Higher: a longer past."""
    history_prefixes: tuple[bytes, ...] = ()
    """Keys that begin so are watched; empty: any key."""
    history_one_in: int = 1
    """Of the keys to watch one in so many is, by its place on the ring."""
    replace_lost: bool = True
    """S-MEM-4."""
    approval_s: float = 600.0
    """S-MEM-6: a person's approval of one replacement lapses after this time. Lower: a disk that is
    late needs another approval; higher: a forgotten approval lets a later disk in."""

    @property
    def frame_age_max_s(self) -> float:
        """S-NET-1: min(60 s, half of the age at which tombstones may be collected)."""
        return min(60.0, self.tombstone_age_min_s / 2)

    def crowded(self, siblings: int, record_bytes: int) -> bool:
        """S-SIB-1: a put without a context would make it worse, and is refused."""
        return siblings >= self.siblings_max or record_bytes > self.siblings_bytes_max


RETUNED = (
    "hedge_s", "fsync_stall_s", "exchange_s", "exchanges_max", "moves_max", "latency_threshold_ms",
    "siblings_max", "hint_bytes_max", "anti_entropy", "replace_lost",
)  # fmt: skip
"""What may change while a node runs: nothing of these is in what other nodes count on, as the
heartbeat and the age of tombstones are, and nothing in the bound of memory."""
