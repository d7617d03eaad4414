"""After a switch: `old` stands until every old owner has durably learnt it (S-MOVE-3).

Until then writes are joint over both lists, and no move and no round begins. Any owner, old or new,
may clear `old`. They wait for one another by rank, and each of them would write the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dynamo_core.membership.ring_news import RingNews
from dynamo_core.membership.ring_state import RingState, Taken
from dynamo_core.protocol.messages import Message, Refused
from dynamo_core.protocol.move_messages import Settle, Settled
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.ring.document import Entry
from dynamo_core.runtime.host import Host


class Settling:
    """The switches that this node knows and that are not settled."""

    def __init__(
        self, node: Host, rings: RingState, news: RingNews, write_batch: WriteBatch
    ) -> None:
        self.node = node
        self.rings = rings
        self.news = news
        self.write_batch = write_batch
        self._due: dict[int, float] = {}
        """By partition: when this owner begins to ask."""
        self._asked: dict[int, set[str]] = {}

    def learned(self, taken: Taken) -> None:
        """The ring is taken."""
        node = self.node
        due, self._due = self._due, {}
        for partition, entry in enumerate(taken.ring.entries):
            names = (*entry.owners, *(entry.old or ()))
            if entry.old is not None and node.name in names:
                rank = sum(name < node.name for name in set(names))
                at = node.now + rank * node.settings.call_s
                self._due[partition] = due.get(partition, at)

    def turn(self, now: float) -> None:
        """Ask about the switches that are due."""
        for partition, due in list(self._due.items()):
            if now >= due:
                self._ask(partition)

    def _ask(self, partition: int) -> None:
        """Ask every old owner whether it has learnt the switch; then clear `old`."""
        node = self.node
        entry = node.ring.entries[partition]
        if entry.old is None or partition in self._asked:
            return
        waiting = set(node.ring.live(entry.old))
        if not waiting:
            self._clear(partition, entry)
            return
        self._asked[partition] = waiting

        def heard(name: str, reply: Message | None) -> None:
            if self._asked.get(partition) is not waiting:
                return
            waiting.discard(name)
            if not isinstance(reply, Settled):
                del self._asked[partition]
            elif not waiting:
                del self._asked[partition]
                self._clear(partition, entry)

        for name in sorted(waiting):
            node.ask(name, Settle(0, partition, entry.id), partial(heard, name))

    def _clear(self, partition: int, entry: Entry) -> None:
        node = self.node
        if node.ring.entries[partition] == entry:
            self.rings.write(partition, Entry(entry.term, entry.version + 1, entry.owners))
            node.counters["switches_settled"] += 1
            self.news.tell(partition, (*entry.owners, *(entry.old or ())))

    def settle(self, message: Settle, reply: Callable[[Message], None]) -> None:
        """Answer when the switch is durable here."""
        node = self.node
        entries = node.ring.entries
        if not 0 <= message.partition < len(entries):
            return
        entry = entries[message.partition]
        if entry.id != message.entry_id:
            reply(Refused(message.id, Refusal.ENTRY, message.partition, entry))
            return

        def synced(durable: bool) -> None:
            if durable:
                reply(Settled(message.id))

        self.write_batch.then(None, synced)
