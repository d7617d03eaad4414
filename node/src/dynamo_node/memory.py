"""How much memory a node takes at most: one formula over its limits (T-4).

Each term is a limit that some module keeps, times what a unit of it costs. The sum is told at the
start, in the status and in the metrics, and is the memory limit of the operator's default pod.
"""

from __future__ import annotations

import os

import structlog

from dynamo_core.frames import MESSAGE_BYTES_MAX
from dynamo_core.journal import PAGE_BYTES
from dynamo_core.settings import Settings
from dynamo_node.budget import LARGE_BYTES_MIN
from dynamo_node.descriptors import LINKS_MAX
from dynamo_node.edge import Limits
from dynamo_node.link_bytes import READ_BYTES_MIN, LinkBytes
from dynamo_node.link_ends import LinkLimits
from dynamo_node.storage import BLOCK_CACHE_BYTES_MAX, MEMTABLES_MAX
from dynamo_node.strangers import STRANGERS_MAX

MIB = 1 << 20
BASE_BYTES = 96 * MIB
"""The interpreter, the modules and an empty store: 75 MiB measured, and what lies between blocks
that are in use."""
SLICE_ROWS = 16
"""Rows of the largest values that one slice of background work, or of a listing, holds beside a
page, with what is decoded of them."""
LINK_BYTES = 2 * READ_BYTES_MIN
"""Of a link or a stranger: its objects, and what it reads while there is no room."""
CONNECTION_BYTES = 16 * 1024
"""Its objects and its head."""
PUT_COPIES = 3
"""Of a large value under way beside its body: the record, the batch of the store, and the record's
former self. Its frames are among those that wait."""
ANSWER_PERMILLE = 2500
"""An answer that is being made: encoded, a third longer, in a buffer that grows as it fills."""
TOMBSTONE_BYTES = 200
log = structlog.get_logger()


def terms(core: Settings, limits: Limits, memtable_bytes: int, links: LinkLimits) -> dict[str, int]:
    """The bytes of each part at most."""
    # Of each connection one answer is counted as unread, and the next may wait behind it.
    admin = limits.admin_bodies_bytes_max + 2 * limits.admin_answers_bytes_max
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
        "frames_arriving": LinkBytes(links.arriving_bytes_max).most,
        "frames_waiting": LinkBytes(links.waiting_bytes_max).most,
        "frame_decoded": MESSAGE_BYTES_MAX,
        "links": (LINKS_MAX + STRANGERS_MAX) * LINK_BYTES,
        "admin": admin + limits.admin_connections_max * CONNECTION_BYTES,
        "scans": 2 * (PAGE_BYTES + SLICE_ROWS * limits.value_bytes_max),
        "tombstones": core.tombstones_max * TOMBSTONE_BYTES,
        "history": core.history_bytes_max,
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


def told(core: Settings, limits: Limits, memtable_bytes: int, links: LinkLimits) -> int:
    """The bound, and a line in the log that says what it is made of."""
    parts = terms(core, limits, memtable_bytes, links)
    bound = bound_bytes(parts)
    shown = {f"{name}_mib": size // MIB for name, size in parts.items()}
    log.info("memory: at most", bound_mib=bound // MIB, **shown)
    return bound
