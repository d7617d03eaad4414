"""The owner's side of a move: promises, so that each term has one switch (S-MOVE-1, S-MOVE-4).

An owner that promises adopts the receiver's entry durably. It takes no other entry of that term
until the receiver switches, gives up, is LEFT or is replaced. A receiver switches only with the
promises of all owners, and an owner promises to one receiver only. So every term has one switch,
without a leader. A promise is for a node id. The owner asks the receiver repeatedly whether it
still wants the promise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from dynamo_core.keys import META
from dynamo_core.membership.ring_state import RingState, Taken
from dynamo_core.protocol.messages import Message, Refused
from dynamo_core.protocol.move_messages import Promise, Promised, Still, StillReply
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.ring.document import Entry, Ring
from dynamo_core.runtime.host import Host

_PROMISE = b"promise/"


class PromiseGiven(msgspec.Struct, frozen=True, array_like=True):
    """One promise: for which receiver, for which term, at which version of the entry."""

    receiver: str
    node_id: int
    term: int
    version: int


class Promises:
    """The promises of this node, by partition."""

    def __init__(self, node: Host, rings: RingState, write_batch: WriteBatch) -> None:
        self.node = node
        self.rings = rings
        self.write_batch = write_batch
        self.given: dict[int, PromiseGiven] = {}
        self._asking: set[int] = set()

    def load(self) -> None:
        """Find them on the disk."""
        rows = self.write_batch.scan(META, _PROMISE, _PROMISE + b"\xff", 1 << 16)
        self.given = {
            int.from_bytes(key[len(_PROMISE) :], "big"): msgspec.msgpack.decode(
                row, type=PromiseGiven
            )
            for key, row in rows
        }

    def _keep(self, partition: int, given: PromiseGiven | None) -> None:
        row = msgspec.msgpack.encode(given) if given is not None else None
        self.write_batch.put(META, _PROMISE + partition.to_bytes(2, "big"), row)
        if given is not None:
            self.given[partition] = given
        else:
            self.given.pop(partition, None)

    # ------------------------------------------------------------ what a promise forbids

    def binding(self, partition: int, ring: Ring) -> PromiseGiven | None:
        """The promise that binds this node: its receiver is neither LEFT nor replaced."""
        given = self.given.get(partition)
        if given is None or ring.is_gone(given.receiver, given.node_id):
            return None
        return given

    def admissible(self, before: Ring, after: Ring) -> Ring:
        """`after` without the entries that this node may not take because of a promise."""
        kept: dict[int, Entry] = {}
        for partition in self.given:
            mine, theirs = before.entries[partition], after.entries[partition]
            given = self.binding(partition, after)
            if given is None or mine is theirs or theirs.term != given.term:
                continue
            if theirs.by != given.node_id:
                kept[partition] = mine
        if kept:
            self.node.counters["entries_refused_by_promise"] += len(kept)
        return after.with_entries(kept)

    def learned(self, taken: Taken) -> None:
        """The ring is taken: promises whose term is over, or whose receiver gave up, have been
        kept."""
        for partition, given in list(self.given.items()):
            entry = taken.ring.entries[partition]
            released = entry.by != given.node_id or entry.move is None
            if entry.term > given.term or (entry.version >= given.version and released):
                self._keep(partition, None)

    # ------------------------------------------------------------ giving

    def promise(self, message: Promise, reply: Callable[[Message], None]) -> None:
        """Give a promise, durably, or answer with the reason of a refusal."""
        node, partition, wish = self.node, message.partition, message.wish
        ring = node.ring
        if not 0 <= partition < len(ring.entries):
            return
        mine = ring.entries[partition]
        receiver = wish.move[1] if wish.move is not None else ""
        known = ring.knows(wish) and not ring.is_gone(receiver, wish.by)
        other = self.binding(partition, ring)
        if other is not None and other.term == wish.term and other.node_id != wish.by:
            reply(Refused(message.id, Refusal.PROMISED, partition))
            return
        if known and mine.later(wish) is not mine:
            self.rings.take(ring.with_entry(partition, wish))
        if not known or node.name not in wish.owners or node.ring.entries[partition] != wish:
            reply(Refused(message.id, Refusal.ENTRY, partition, node.ring.entries[partition]))
            return
        self._keep(partition, PromiseGiven(receiver, wish.by, wish.term, wish.version))
        node.counters["promises_given"] += 1

        def synced(durable: bool) -> None:
            if durable:
                reply(Promised(message.id))

        self.write_batch.then(None, synced)

    def ask(self) -> None:
        """Ask every receiver that is up whether it still wants the promise."""
        for partition, given in self.given.items():
            if partition not in self._asking and self.node.up(given.receiver):
                self._asking.add(partition)
                still = Still(0, partition, given.term, given.version)
                heard = partial(self._heard, partition, given)
                self.node.ask(given.receiver, still, heard)

    def _heard(self, partition: int, given: PromiseGiven, reply: Message | None) -> None:
        self._asking.discard(partition)
        if not isinstance(reply, StillReply) or reply.wanted:
            return
        if self.given.get(partition) == given:
            self.node.counters["promises_released"] += 1
            self._keep(partition, None)
        self.rings.take(self.node.ring.with_entry(partition, reply.now))
