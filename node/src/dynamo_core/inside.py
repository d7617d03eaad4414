"""What a person may see of a node and of all nodes: answers to `Look`, and the documents made of
them (docs/console.md).

Reading only: nothing here changes a record, a hint, a tree or the ring. One node asks every other
member that it takes for up, so any admin listener shows the whole cluster.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from dynamo_core.codec import decode_record, digest_in
from dynamo_core.errors import Corrupt
from dynamo_core.gathering import Gathering
from dynamo_core.hints import shown
from dynamo_core.ids import DATA, partition_of, store_key
from dynamo_core.look_messages import (
    ACTORS_SHOWN_MAX,
    BODY_BYTES_MAX,
    HINTS,
    HISTORY,
    KEYS_SHOWN_MAX,
    RECORD,
    SHOWN_BYTES_MAX,
    SIBLINGS_SHOWN_MAX,
    STATUS,
    TREE,
    HintsBody,
    HintsFor,
    HistoryBody,
    Look,
    Looked,
    RecordBody,
    RecordSeen,
    SiblingSeen,
    StatusBody,
    TreeBody,
    encode_body,
)
from dynamo_core.messages import Message, Refused
from dynamo_core.planner import Done, refusal
from dynamo_core.ring import LEFT
from dynamo_core.sights import history_document, records_document, trees_document
from dynamo_core.versions import Sibling

if TYPE_CHECKING:
    from dynamo_core.node import Node

RECORDS_SHOWN_MAX = 64
TARGETS_SHOWN_MAX = 256
NODES_ASKED_MAX = 256
"""Members that one request asks; owners first. Of the others nothing is shown."""
HISTORY_BYTES_SHOWN_MAX = 192 * 1024


class Inside:
    """The eyes of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.of_shell: Callable[[], dict[str, Any]] = dict
        """What only the shell knows of this node: disk, version, memory."""
        self._epoch = 0
        self._bodies: dict[str, Callable[[Look], msgspec.Struct]] = {
            STATUS: self._status, RECORD: self._record, TREE: self._tree, HINTS: self._hints,
            HISTORY: self._history,
        }  # fmt: skip

    def beat(self) -> None:
        """Once per heartbeat: the growth of counters becomes lines for people."""
        node = self.node
        ring = node.ring_or_none
        if ring is not None and ring.epoch != self._epoch:
            self._epoch = ring.epoch
            node.happened("ring", "S-RING-3", epoch=ring.epoch)
        node.happenings.beat(node.wall_ms, node.counters)

    # ------------------------------------------------------------ answering

    def answer(self, request: Look, reply: Callable[[Message], None]) -> None:
        """Of this node alone; a body that would be too long is refused."""
        body = encode_body(self._bodies[request.what](request))
        if len(body) > BODY_BYTES_MAX:
            return reply(Refused(request.id, "long"))
        return reply(Looked(request.id, body))

    def _status(self, request: Look) -> StatusBody:
        return StatusBody({**self.node.admin.status(), **self.of_shell()})

    def _record(self, request: Look) -> RecordBody:
        replica, stored, damaged = self.node.replica, request.stored, False
        records = []
        for target in ("", *self.node.hints.targets(stored)[: RECORDS_SHOWN_MAX - 1]):
            try:
                data = self._read(target, stored)
                if data is not None:
                    records.append(self._seen(target, data))
            except Corrupt:
                damaged = True
        partition = request.partition
        seen = replica.numbers.seen(partition)
        return RecordBody(replica.flags(partition), seen, damaged, records)

    def _read(self, target: str, stored: bytes) -> bytes | None:
        """Looking changes nothing: a damaged record is shown as damaged and left to the passes.
        Raises Corrupt."""
        if target:
            return self.node.hints.record(target, stored)
        return self.node.journal.get(DATA, stored)

    def _seen(self, target: str, data: bytes) -> RecordSeen:
        record = decode_record(data)
        history = record.history
        most = ACTORS_SHOWN_MAX
        siblings = [self._sibling(s) for s in record.siblings[:SIBLINGS_SHOWN_MAX]]
        return RecordSeen(
            shown(target) if target else "", digest_in(data), len(data),
            dict(sorted(history.vector.items())[:most]), sorted(history.dots)[:most], siblings,
            len(history.vector), len(record.siblings),
        )  # fmt: skip

    def _sibling(self, sibling: Sibling) -> SiblingSeen:
        value = sibling.value
        live = sibling.live(self.node.wall_ms)
        kind = "value" if live else "tombstone" if value is None else "expired"
        return SiblingSeen(
            sibling.dot, kind, len(value or b""), (value or b"")[:SHOWN_BYTES_MAX],
            sibling.content_type, sibling.expires_ms, sibling.request_id,
        )  # fmt: skip

    def _tree(self, request: Look) -> TreeBody:
        replica, partition = self.node.replica, request.partition
        flags, numbers = replica.flags(partition), replica.numbers
        root, leaves = replica.forest.root(partition), replica.forest.leaves(partition)
        return TreeBody(flags, root, leaves, numbers.seen(partition), numbers.floor(partition))

    def _hints(self, request: Look) -> HintsBody:
        node, lines = self.node, []
        for target, count in sorted(node.hints.counts.items())[:TARGETS_SHOWN_MAX]:
            name = shown(target)
            keys = []
            if request.limit and request.target == name:
                try:
                    rows = node.hints.some(target, b"", min(request.limit, KEYS_SHOWN_MAX))
                    keys = [stored[4:] for stored, _ in rows]
                except Corrupt:
                    keys = []
            size = node.hints.bytes.get(target, 0)
            lines.append(HintsFor(name, count, size, self._why(target), keys))
        next_ms = max(0, int((node.next_scan - node.now) * 1000))
        return HintsBody(next_ms, lines)

    def _why(self, target: str) -> str:
        """What the hints for that target wait for."""
        node = self.node
        if target.startswith("=") or not target:
            return "numbers of another owner (S-DEL-3)"
        if target not in node.preference.names:
            return "the owners that have its place (S-HINT-3)"
        if not node.up(target):
            return f"{target} is down"
        return f"{target} is up: delivery is under way"

    def _history(self, request: Look) -> HistoryBody:
        return self.node.replica.chronicle.of(request.stored, HISTORY_BYTES_SHOWN_MAX)

    # ------------------------------------------------------------ asking all

    def _gather(
        self, ask: Look, names: list[str], done: Done,
        made: Callable[[dict[str, Any], dict[str, str]], dict[str, Any]],
    ) -> None:  # fmt: skip
        node = self.node
        names = names[:NODES_ASKED_MAX]
        up = [name for name in names if node.up(name)]
        down = [name for name in names if not node.up(name)]

        def gathered(found: dict[str, Any], missing: dict[str, str]) -> None:
            in_order = {name: found[name] for name in names if name in found}
            done(200, {**made(in_order, missing), "no_answer": missing})

        node.later(lambda: node.spawn(Gathering(ask, up, down, gathered)))

    def _not_a_member(self, done: Done) -> bool:
        if self.node.member:
            return False
        done(503, refusal("not-a-member", "this node is in no ring"))
        return True

    def _members(self) -> list[str]:
        ring = self.node.ring
        return [m.name for m in ring.members.values() if m.state != LEFT]

    def cluster(self, done: Done) -> None:
        """The state of every member, as it says itself and as the others see it."""
        if self._not_a_member(done):
            return
        ring = self.node.admin.ring_document()
        lines = [m for m in ring["members"] if m["state"] != LEFT]

        def made(found: dict[str, Any], missing: dict[str, str]) -> dict[str, Any]:
            statuses = {name: body.status for name, body in found.items()}
            members = []
            for line in lines:
                name = line["name"]
                seen = {
                    other: said["peers"].get(name, "unknown")
                    for other, said in statuses.items()
                    if other != name and isinstance(said.get("peers"), dict)
                }
                status = statuses.get(name)
                members.append({**line, "answered": status is not None, "seen_by": seen,
                                "status": status})  # fmt: skip
            what = {k: ring[k] for k in ("cluster_id", "epoch", "digest", "partitions", "n", "r",
                                         "w")}  # fmt: skip
            return {"asked": self.node.name, "ring": what, "members": members}

        self._gather(Look(0, STATUS), [m["name"] for m in lines], done, made)

    def _keyed(self, what: str, key: bytes, done: Done, made: Callable[..., Any]) -> None:
        """The same question about one key to its owners and to all who may hold a hint of it."""
        node = self.node
        stored = store_key(key)
        partition = partition_of(stored, node.ring.partition_bits)
        place = node.preference
        head = {
            "key": b64encode(key).decode(), "partition": partition,
            "owners": list(place.owners(partition)),
        }  # fmt: skip
        names = list(place.list(partition))
        self._gather(
            Look(0, what, partition, stored), names, done,
            lambda found, missing: {**head, **made(found)},
        )  # fmt: skip

    def records(self, key: bytes, done: Done) -> None:
        """Every copy of a key, hints included, side by side."""
        if not self._not_a_member(done):
            self._keyed(RECORD, key, done, records_document)

    def history(self, key: bytes, done: Done) -> None:
        """The causal history of a key, as far as the nodes that answer remember it."""
        if not self._not_a_member(done):
            self._keyed(HISTORY, key, done, history_document)

    def trees(self, partition: int, done: Done) -> None:
        """The hash trees of all owners of a partition."""
        if self._not_a_member(done):
            return None
        entries = self.node.ring.entries
        if not 0 <= partition < len(entries):
            return done(400, refusal("bad-parameter", f"partition: 0 to {len(entries) - 1}"))
        names = list(self.node.preference.writers(partition))
        head = {"partition": partition, "owners": list(self.node.preference.owners(partition))}
        return self._gather(
            Look(0, TREE, partition), names, done,
            lambda found, missing: {**head, **trees_document(found)},
        )  # fmt: skip

    def hints(self, target: str, limit: int, done: Done) -> None:
        """The hints of every member by target; with a target the first keys of its hints too."""
        if self._not_a_member(done):
            return

        def made(found: dict[str, HintsBody], missing: dict[str, str]) -> dict[str, Any]:
            holders = [
                {"node": name, "next_attempt_ms": body.next_ms, "targets": [
                    {"target": t.target, "count": t.count, "bytes": t.size,
                     "waits_for": t.waits_for, "keys": [b64encode(k).decode() for k in t.keys]}
                    for t in body.targets]}
                for name, body in found.items()
            ]  # fmt: skip
            return {"holders": holders}

        self._gather(Look(0, HINTS, 0, b"", target, limit), self._members(), done, made)
