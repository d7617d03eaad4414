"""The maximum memory of a node: one formula over its limits (T-4).

Each term is a limit that some module keeps, times the cost of one unit. The node shows the sum in
the log at its start, in the status and in the metrics. It is the memory limit of the operator's
default pod.
"""

from __future__ import annotations

import os

import structlog

from dynamo_core.protocol.frames import MESSAGE_BYTES_MAX
from dynamo_core.replica.write_batch import PAGE_BYTES
from dynamo_core.settings import Settings
from dynamo_node.budget import LARGE_BYTES_MIN
from dynamo_node.descriptors import LINKS_MAX
from dynamo_node.http_limits import Limits
from dynamo_node.link_bytes import READ_BYTES_MIN, LinkBytes
from dynamo_node.link_ends import LinkLimits
from dynamo_node.storage import BLOCK_CACHE_BYTES_MAX, MEMTABLES_MAX
from dynamo_node.strangers import STRANGERS_MAX

MIB = 1 << 20
BASE_BYTES = 96 * MIB
"""The interpreter, the modules and an empty store: 75 MiB measured, plus the gaps between blocks
that are in use."""
SLICE_ROWS = 16
"""Rows of the largest values that one slice of background work, or one listing, holds in addition
to a page, with the decoded forms."""
LINK_BYTES = 2 * READ_BYTES_MIN
"""For a link or a stranger: its objects, and what it reads while there is no room."""
CONNECTION_BYTES = 16 * 1024
"""For its objects and its head."""
PUT_COPIES = 3
"""Copies of a large value under way besides its body: the record, the batch of the store, and the
previous record. Its frames count as waiting frames."""
ANSWER_PERMILLE = 2500
"""For an answer that is being made: encoded, it is a third longer, in a buffer that grows."""
TOMBSTONE_BYTES = 200
TLS_BYTES = 56 * 1024
"""For a connection in TLS: its keys, certificates, and room for a record in each direction; 50 KiB
measured, after 1 MB in each direction."""
log = structlog.get_logger()


def terms(core: Settings, limits: Limits, memtable_bytes: int, links: LinkLimits) -> dict[str, int]:
    """The maximum bytes of each part."""
    # Of each connection, one answer counts as unread, and another may wait behind it.
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


def tls_bytes(limits: Limits) -> int:
    """The bytes that TLS adds if any listener has it: all connections and links at once."""
    connections = limits.connections_max + limits.admin_connections_max
    return (connections + LINKS_MAX + STRANGERS_MAX) * TLS_BYTES


def bound_bytes(parts: dict[str, int]) -> int:
    """The formula: the sum, in whole MiB."""
    return -(-sum(parts.values()) // MIB) * MIB


def used_bytes() -> int:
    """The memory that the process uses now, in bytes; 0 if the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def told(
    core: Settings, limits: Limits, memtable_bytes: int, links: LinkLimits, tls: bool = False
) -> int:
    """The bound; also writes a log line with its terms."""
    parts = terms(core, limits, memtable_bytes, links)
    if tls:
        parts["tls"] = tls_bytes(limits)
    bound = bound_bytes(parts)
    shown = {f"{name}_mib": size // MIB for name, size in parts.items()}
    log.info("memory: at most", bound_mib=bound // MIB, **shown)
    return bound
