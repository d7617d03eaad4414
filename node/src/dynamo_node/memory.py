"""How much memory a node takes at most: one formula over its limits (T-4).

Each term is a limit that some module keeps, times what a unit of it costs. The sum is told at the
start, in the status and in the metrics, and is the memory limit of the operator's default pod.
"""

from __future__ import annotations

import os

import structlog

from dynamo_core.settings import Settings
from dynamo_node.budget import LARGE_BYTES_MIN
from dynamo_node.edge import Limits
from dynamo_node.storage import BLOCK_CACHE_BYTES_MAX, MEMTABLES_MAX

MIB = 1 << 20
BASE_BYTES = 96 * MIB
"""The interpreter, the modules and an empty store: 75 MiB measured, and what lies between blocks
that are in use."""
FRAMES_BYTES_MAX = 160 * MIB
"""Of all links together: frames that wait for a peer to read them, the beginning of one that
arrives, the one that is being made."""
CONNECTION_BYTES = 16 * 1024
"""Its objects and its head."""
PUT_COPIES = 4
"""Of a large value under way beside its body: the record, its frames while they are made, the
batch of the store, and the record's former self."""
ANSWER_PERMILLE = 2500
"""An answer that is being made: encoded, a third longer, in a buffer that grows as it fills."""
TOMBSTONE_BYTES = 200
log = structlog.get_logger()


def terms(core: Settings, limits: Limits, memtable_bytes: int) -> dict[str, int]:
    """The bytes of each part at most."""
    return {
        "base": BASE_BYTES,
        "store": MEMTABLES_MAX * memtable_bytes + BLOCK_CACHE_BYTES_MAX,
        "requests": limits.bodies_bytes_max,
        "large_puts": PUT_COPIES * limits.large_bytes_max,
        "operations": core.in_flight_max * LARGE_BYTES_MIN,
        "connections": limits.connections_max * CONNECTION_BYTES,
        "records_read": core.records_bytes_max,
        "answers_unread": limits.answers_bytes_max,
        "answer_being_made": limits.batch_answer_bytes_max * ANSWER_PERMILLE // 1000,
        "frames": FRAMES_BYTES_MAX,
        "tombstones": core.tombstones_max * TOMBSTONE_BYTES,
    }


def bound_bytes(parts: dict[str, int]) -> int:
    """The formula: the sum, in whole MiB."""
    return -(-sum(parts.values()) // MIB) * MIB


def used_bytes() -> int:
    """What the process has of the machine's memory now; 0 where nobody says."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def told(core: Settings, limits: Limits, memtable_bytes: int) -> int:
    """The bound, and a line in the log that says what it is made of."""
    parts = terms(core, limits, memtable_bytes)
    bound = bound_bytes(parts)
    shown = {f"{name}_mib": size // MIB for name, size in parts.items()}
    log.info("memory: at most", bound_mib=bound // MIB, **shown)
    return bound
