"""What any node shows of all nodes: it asks the others and puts the answers side by side
(docs/console.md).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from dynamo_core.admin.planner import Answered, refusal
from dynamo_core.keys import partition_of, store_key
from dynamo_core.look.documents import (
    hints_document,
    history_document,
    members_document,
    records_document,
    trees_document,
)
from dynamo_core.look.gathering import Gathering
from dynamo_core.look.own_copy import LookHost, OwnCopy
from dynamo_core.protocol.look_messages import (
    HINTS,
    HISTORY,
    RECORD,
    STATUS,
    TREE,
    Look,
    status_of,
)
from dynamo_core.ring.document import LEFT

NODES_ASKED_MAX = 256
"""Members that one request asks. The others are named as not asked."""
NODES_OF_A_KEY_MAX = 32
"""The same for a key: its owners first, then those that stand in next."""
Documented = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes a document of the bodies by node."""


class Inside:
    """The requests of people to this node. `done` gets the status and the body in a later turn."""

    def __init__(self, node: LookHost) -> None:
        self.node = node
        self.own = OwnCopy(node)

    def _gather(self, ask: Look, names: list[str], done: Answered, made: Documented) -> None:
        node = self.node
        most, words = NODES_ASKED_MAX, f"not asked: one request asks {NODES_ASKED_MAX} members"
        names, left = names[:most], dict.fromkeys(names[most:], words)
        up = [name for name in names if node.up(name)]
        down = [name for name in names if not node.up(name)]

        def gathered(found: dict[str, Any], missing: dict[str, str]) -> None:
            in_order = {name: found[name] for name in names if name in found}
            done(200, {**made(in_order), "no_answer": missing | left})

        wait_s = node.settings.call_s
        node.later(lambda: node.spawn(Gathering(ask, up, down, wait_s, gathered)))

    def _not_a_member(self, done: Answered) -> bool:
        if self.node.member:
            return False
        done(503, refusal("not-a-member", "this node is in no ring"))
        return True

    def cluster(self, done: Answered) -> None:
        """The state of every member, as it says itself and as the others see it."""
        if self._not_a_member(done):
            return
        ring = self.node.admin.ring_document()
        lines = [m for m in ring["members"] if m["state"] != LEFT]
        what = ("cluster_id", "epoch", "digest", "partitions", "n", "r", "w")
        head = {"asked": self.node.name, "ring": {name: ring[name] for name in what}}

        def made(found: dict[str, Any]) -> dict[str, Any]:
            statuses = {name: status_of(body) for name, body in found.items()}
            return {**head, "members": members_document(lines, statuses)}

        self._gather(Look(0, STATUS), [m["name"] for m in lines], done, made)

    def _keyed(self, what: str, key: bytes, done: Answered, made: Documented) -> None:
        """The same question about one key to its owners and to all that may have a hint of it."""
        if self._not_a_member(done):
            return
        node = self.node
        stored = store_key(key)
        partition = partition_of(stored, node.ring.partition_bits)
        place = node.preference
        owners = list(place.owners(partition))
        head = {"key": b64encode(key).decode(), "partition": partition, "owners": owners}
        every = dict.fromkeys((*place.writers(partition), *place.list(partition)))
        names = list(every)[:NODES_OF_A_KEY_MAX]
        self._gather(
            Look(0, what, partition, stored), names, done, lambda found: {**head, **made(found)}
        )

    def records(self, key: bytes, done: Answered) -> None:
        """Every copy of a key, hints included, side by side."""
        self._keyed(RECORD, key, done, records_document)

    def history(self, key: bytes, done: Answered) -> None:
        """The causal history of a key, as far as the nodes that answer remember it."""
        self._keyed(HISTORY, key, done, history_document)

    def trees(self, partition: int, done: Answered) -> None:
        """The hash trees of all nodes that keep a copy of a partition."""
        if self._not_a_member(done):
            return None
        entries, place = self.node.ring.entries, self.node.preference
        if not 0 <= partition < len(entries):
            return done(400, refusal("bad-parameter", f"partition: 0 to {len(entries) - 1}"))
        head = {"partition": partition, "owners": list(place.owners(partition))}
        return self._gather(
            Look(0, TREE, partition),
            list(place.writers(partition)),
            done,
            lambda found: {**head, **trees_document(found)},
        )

    def hints(self, target: str, limit: int, done: Answered) -> None:
        """The hints of every member by target; of `target` some of the keys too."""
        if not self._not_a_member(done):
            ring = self.node.ring
            names = [m.name for m in ring.members.values() if m.state != LEFT]
            self._gather(Look(0, HINTS, 0, b"", target, limit), names, done, hints_document)
