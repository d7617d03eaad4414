"""What one node shows of itself: the answers to `Look`.

A look only reads. A damaged record is shown as damaged and is left to the passes. Every answer has
bounds (`look_messages`), and what does not fit is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any, Protocol

import msgspec

from dynamo_core.admin.admin import Administration
from dynamo_core.causality.codec import decode_record, digest_in
from dynamo_core.causality.records import Sibling
from dynamo_core.errors import Corrupt
from dynamo_core.keys import DATA
from dynamo_core.protocol.look_messages import (
    ACTORS_SHOWN_MAX,
    BODY_BYTES_MAX,
    HINTS,
    HISTORY,
    RECORD,
    RECORDS_SHOWN_MAX,
    SHOWN_BYTES_MAX,
    SIBLINGS_SHOWN_MAX,
    STATUS,
    TARGETS_SHOWN_MAX,
    TREE,
    WORD_CHARS_MAX,
    HintsBody,
    HintsFor,
    HistoryBody,
    Look,
    Looked,
    RecordBody,
    RecordShown,
    SiblingShown,
    StatusBody,
    TreeBody,
    encode_body,
)
from dynamo_core.protocol.messages import Message
from dynamo_core.repair.hint_delivery import Deliveries
from dynamo_core.replica.hint_target import HintTarget, shown
from dynamo_core.replica.replica import Replica
from dynamo_core.runtime.host import Host

ROOM = 4 * 1024
"""Bytes of a body for everything besides records, changes and keys."""
KEYS_BYTES_MAX = 24 * 1024
TOO_LONG = b'{"too_long":true}'


def _within(keys: list[bytes]) -> list[bytes]:
    """The first keys, as many as fit into an answer."""
    sizes = accumulate(map(len, keys))
    return [key for key, size in zip(keys, sizes, strict=True) if size <= KEYS_BYTES_MAX]


class LookHost(Host, Protocol):
    """What looks need of their node."""

    next_scan: float

    @property
    def replica(self) -> Replica: ...
    @property
    def deliveries(self) -> Deliveries: ...
    @property
    def admin(self) -> Administration: ...


class OwnCopy:
    """The answers of one node about itself."""

    def __init__(self, node: LookHost) -> None:
        self.node = node
        self._of_shell: Callable[[], dict[str, Any]] = dict
        self._bodies: dict[str, Callable[[Look], msgspec.Struct]] = {
            STATUS: self._status,
            RECORD: self._record,
            TREE: self._tree,
            HINTS: self._hints,
            HISTORY: self._history,
        }

    def attach(self, of_shell: Callable[[], dict[str, Any]]) -> None:
        """What only the shell knows of this node: disk, version, memory."""
        self._of_shell = of_shell

    def answer(self, request: Look, reply: Callable[[Message], None]) -> None:
        """Answer one question."""
        self.node.counters["looks_answered"] += 1
        body = encode_body(self._bodies[request.what](request))
        assert len(body) <= BODY_BYTES_MAX
        reply(Looked(request.id, body))

    def status(self) -> dict[str, Any]:
        """The status of this node, with what the shell knows."""
        return {**self.node.admin.status(), **self._of_shell()}

    def _status(self, request: Look) -> StatusBody:
        status = msgspec.json.encode(self.status())
        return StatusBody(status if len(status) <= BODY_BYTES_MAX - ROOM else TOO_LONG)

    # ------------------------------------------------------------ one key

    def _record(self, request: Look) -> RecordBody:
        """The node's own record first, then hints. It stops when it has read many bytes, or when
        the body is full."""
        replica, stored = self.node.replica, request.stored
        targets: list[HintTarget] = ["", *replica.hints.targets(stored)]
        records: list[RecordShown] = []
        damaged, size, read = False, 0, 0
        for index, target in enumerate(targets):
            if len(records) == RECORDS_SHOWN_MAX or read > self.node.settings.fetch_bytes_max:
                break
            try:
                data = self._read(index == 0, target, stored)
                if data is not None:
                    read += len(data)
                    line = self._shown("" if index == 0 else shown(target), data)
                    size += len(encode_body(line))
                    if size > BODY_BYTES_MAX - ROOM:
                        break
                    records.append(line)
            except Corrupt:
                damaged = True
        else:
            index += 1
        partition = request.partition
        numbers = replica.numbers.seen(partition)
        flags = replica.flags(partition)
        return RecordBody(flags, numbers, damaged, records, len(targets) - index)

    def _read(self, own: bool, target: HintTarget, stored: bytes) -> bytes | None:
        """One record. Raises Corrupt."""
        replica = self.node.replica
        return (
            replica.write_batch.get(DATA, stored) if own else replica.hints.record(target, stored)
        )

    def _shown(self, target: str, data: bytes) -> RecordShown:
        record = decode_record(data)
        history, most = record.history, ACTORS_SHOWN_MAX
        return RecordShown(
            target[:WORD_CHARS_MAX],
            digest_in(data),
            len(data),
            dict(sorted(history.vector.items())[:most]),
            sorted(history.dots)[:most],
            [self._sibling(s) for s in record.siblings[:SIBLINGS_SHOWN_MAX]],
            len(history.vector),
            len(record.siblings),
        )

    def _sibling(self, sibling: Sibling) -> SiblingShown:
        value = sibling.value
        live = sibling.live(self.node.wall_ms)
        return SiblingShown(
            sibling.dot,
            "value" if live else "tombstone" if value is None else "expired",
            len(value or b""),
            (value or b"")[:SHOWN_BYTES_MAX],
            sibling.content_type[:WORD_CHARS_MAX],
            sibling.expires_ms,
            sibling.request_id[:WORD_CHARS_MAX],
        )

    def _history(self, request: Look) -> HistoryBody:
        history = self.node.replica.history
        if history is None:
            return HistoryBody(False, 0, [])
        return history.of(request.stored, BODY_BYTES_MAX - ROOM)

    # ------------------------------------------------------------ trees and hints

    def _tree(self, request: Look) -> TreeBody:
        replica, partition = self.node.replica, request.partition
        flags, numbers = replica.flags(partition), replica.numbers
        root, leaves = replica.forest.root(partition), replica.forest.leaves(partition)
        return TreeBody(flags, root, leaves, numbers.seen(partition), numbers.floor(partition))

    def _hints(self, request: Look) -> HintsBody:
        node = self.node
        hints = node.replica.hints
        since: dict[str, float] = {}
        for target, at in node.deliveries.since.items():
            since[shown(target)] = min(at, since.get(shown(target), at))
        lines = []
        for name, (count, size) in list(hints.by_name().items())[:TARGETS_SHOWN_MAX]:
            wanted = request.limit and request.target == name
            keys = _within(hints.keys_of(name, request.limit) if wanted else [])
            target = name[:WORD_CHARS_MAX]
            held_ms = int((node.now - since.get(name, node.now)) * 1000)
            lines.append(HintsFor(target, count, size, self._waits_for(name), keys, held_ms))
        return HintsBody(max(0, int((node.next_scan - node.now) * 1000)), lines)

    def _waits_for(self, name: str) -> str:
        """What the hints for that target wait for."""
        node = self.node
        if name == shown(node.replica.quarantine_target):
            return "all owners of the key (S-DEL-3, S-MEM-3)"
        if name not in node.preference.names:
            return "the owners that have its place (S-HINT-3)"
        return "the delivery, which is under way" if node.up(name) else "the node, which is down"
