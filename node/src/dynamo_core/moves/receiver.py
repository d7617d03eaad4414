"""Moves of partitions: the receiver drives, and is the only writer of the entry (S-MOVE-1..4, 7).

A node compares the target with the owners. If it is the first node in the target that is not an
owner, it *begins*: it writes the move into the entry and asks every owner for its promise. With all
promises it makes a full pass with every owner. When it has also compared its numbers with another
owner, it *switches*: it is complete, and writes the new owners and the next term; `old` has the old
owners until every one of them has durably learnt the switch. Only the entry must survive a restart:
after it the receiver asks and copies again. If the target no longer wants the move, the receiver
*undoes* it with an entry without the move.

A leaving node becomes LEFT when no entry names it and its disk is empty. A joining node becomes
MEMBER when all moves to it in the target have switched.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from dynamo_core.membership.ring_news import RingNews
from dynamo_core.membership.ring_state import RingState, Taken
from dynamo_core.moves.cleanup import Cleanup
from dynamo_core.moves.promises import Promises
from dynamo_core.moves.receiving import COPYING, PROMISES, Receiving
from dynamo_core.moves.settling import Settling
from dynamo_core.moves.sizing import Counts, Sizing
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.move_messages import Promise, Promised, Still, StillReply
from dynamo_core.repair.exchange import Exchange
from dynamo_core.replica.replica import Replica
from dynamo_core.request.admission_control import AdmissionControl
from dynamo_core.ring.document import JOINING, LEAVING, LEFT, MEMBER, Entry, Ring
from dynamo_core.ring.planning import without_receiver
from dynamo_core.runtime.host import Host


class Moves:
    """The part of a node that moves partitions."""

    def __init__(
        self,
        node: Host,
        rings: RingState,
        news: RingNews,
        replica: Replica,
        *,
        promises: Promises,
        settling: Settling,
        admission: AdmissionControl,
    ) -> None:
        self.node = node
        self.rings = rings
        self.news = news
        self.replica = replica
        self.promises = promises
        self.settling = settling
        self.admission = admission
        self.receiving: dict[int, Receiving] = {}
        self.wake_at = 0.0
        """When `tick` has something to do."""
        self._cleanups: set[int] = set()
        self._settled: Ring | None = None
        """The last document by which this node had nothing to receive."""
        self.waiting_for = ""
        self.departing = False
        """This node owns nothing any more: it takes no further operation, and those under way
        end."""

    def tick(self, now: float) -> None:
        """Do what is due: begin, continue, settle, clean up, change this node's state."""
        node = self.node
        self.wake_at = now + node.settings.moves_s
        if not node.writable:
            return
        self._begin()
        for receiving in list(self.receiving.values()):
            self._drive(receiving)
        self.promises.ask()
        self.settling.turn(now)
        self._clean_up()
        self._change_state()

    # ------------------------------------------------------------ what the ring says

    def admissible(self, before: Ring, after: Ring) -> Ring:
        """S-MOVE-4: a receiver that holds every promise takes no other entry of its term; it writes
        its own entry again, with a higher version."""
        again: dict[int, Entry] = {}
        for partition, receiving in self.receiving.items():
            mine, theirs = before.entries[partition], after.entries[partition]
            if not self._is_mine(mine) or mine is theirs or theirs.term != mine.term:
                continue
            if theirs.by != self.node.identity.node_id and self._holds_all(receiving, before):
                again[partition] = msgspec.structs.replace(mine, version=theirs.version + 1)
                self.node.counters["moves_written_again"] += 1
        return after.with_entries(again)

    def _is_mine(self, entry: Entry) -> bool:
        me = self.node.identity
        return entry.move is not None and entry.move[1] == me.name and entry.by == me.node_id

    def learned(self, taken: Taken) -> None:
        """The ring is taken: moves that are no longer ours end."""
        for partition in [p for p in self.receiving if not self._is_mine(taken.ring.entries[p])]:
            del self.receiving[partition]
        self.wake_at = min(self.wake_at, self.node.now + self.node.settings.moves_s / 4)

    # ------------------------------------------------------------ receiving

    def _begin(self) -> None:
        """Continue this node's moves in the entries, and begin those that the target wants."""
        node = self.node
        ring, me = node.ring, node.identity
        self.waiting_for = ""
        if ring is self._settled:
            return
        moving = 0
        for partition, entry in enumerate(ring.entries):
            if entry.move is None:
                continue
            moving += 1
            line = ring.members.get(entry.move[1])
            if line is not None and line.state == LEFT:
                # Removed by force, and the move heard of later (S-MOVE-4).
                self.rings.write(partition, without_receiver(entry))
            if entry.move[1] != me.name or partition in self.receiving:
                continue
            if entry.by != me.node_id:  # of an earlier life of this name: copy again
                again = msgspec.structs.replace(entry, version=entry.version + 1, by=me.node_id)
                self.rings.write(partition, again)
                node.counters["moves_taken_over"] += 1
            if self._is_mine(node.ring.entries[partition]):
                self._receive(partition)
        leaving = ring.members[me.name].state == LEAVING
        lacking = [] if leaving else _missing(ring, me.name)
        if not moving and not lacking:
            self._settled = ring
        for partition in lacking:
            entry, owners = ring.entries[partition], ring.target.owners[partition]
            new = self.node.ring.live(tuple(n for n in owners if n not in entry.owners))
            if new[0] != me.name or entry.move is not None or entry.old is not None:
                continue
            # A move that waits for an owner that is down does not block other moves.
            at_work = sum(not receiving.reason for receiving in self.receiving.values())
            slots = node.throttle.share(node.settings.moves_max) - at_work
            if slots <= 0 or moving >= node.settings.moves_ring_max:
                return
            if down := [n for n in self.node.ring.live(entry.owners) if not node.up(n)]:
                self.waiting_for = f"partition {partition} waits for its owner {down[0]}: down"
                continue
            moving += 1
            out = self._goes_out(entry, owners)
            move = Entry(
                entry.term, entry.version + 1, entry.owners, (out, me.name), None, me.node_id
            )
            self.rings.write(partition, move)
            node.counters["moves_begun"] += 1
            if self._is_mine(node.ring.entries[partition]):
                self._receive(partition)

    def _goes_out(self, entry: Entry, wanted: tuple[str, ...]) -> str:
        """The owner that this node replaces: first one that is LEFT, then the one whose place in
        the list this node has in the target."""
        leaving = [n for n in entry.owners if n not in wanted]
        members = self.node.ring.members
        gone = [n for n in leaving if members[n].state == LEFT]
        place = wanted.index(self.node.identity.name)
        same = [n for n in leaving if entry.owners.index(n) == place]
        return (gone or same or leaving)[0]

    def _receive(self, partition: int) -> None:
        self.receiving[partition] = Receiving(partition, self.replica.losses(partition))

    def _holds_all(self, receiving: Receiving, ring: Ring) -> bool:
        owners = ring.live(ring.entries[receiving.partition].owners)
        return not self._lacking(owners, receiving.promised, ring)

    @staticmethod
    def _lacking(owners: list[str], done: dict[str, int], ring: Ring) -> list[str]:
        """The owners that have not done it under their present id."""
        return [name for name in owners if done.get(name) != ring.members[name].id]

    def _drive(self, receiving: Receiving) -> None:
        """The next step that is possible now."""
        node, partition = self.node, receiving.partition
        if self.receiving.get(partition) is not receiving or not node.member:
            return
        ring = node.ring
        entry = ring.entries[partition]
        if not self._wanted(ring, partition, entry):
            self._undo(partition, entry)
            return
        if receiving.losses != self.replica.losses(partition):
            receiving.losses = self.replica.losses(partition)
            receiving.copied.clear()
        owners = self.node.ring.live(entry.owners)
        silent = self._lacking(owners, receiving.promised, ring)
        behind = self._lacking(owners, receiving.copied, ring)
        if silent:
            receiving.state = PROMISES
            receiving.reason = self._why(silent, "to promise")
            for name in silent:
                self._ask(receiving, name, entry)
        elif behind:
            receiving.state = COPYING
            receiving.reason = self._why(behind, "to be copied")
            # One owner at a time: the records of the first pass need not be fetched again. The
            # owner of the last pass, which has failed, is tried last.
            up = [name for name in behind if node.up(name)]
            up.sort(key=lambda name: name == receiving.tried)
            if not receiving.copied:
                up = [] if receiving.under_way else up[:1]
            for name in up:
                self._copy(receiving, name)
        elif not self.replica.provable(partition, set(ring.live(entry.after)) - {node.name}):
            # After the switch it would not be complete yet, and R = N could not be met.
            receiving.reason = "numbers are to be compared with another owner"
        else:
            self._switch(partition, entry)

    def _why(self, names: list[str], what: str) -> str:
        down = [n for n in names if not self.node.up(n)]
        return f"{down[0]} is down and has {what}" if down else ""

    @staticmethod
    def _wanted(ring: Ring, partition: int, entry: Entry) -> bool:
        assert entry.move is not None
        out, receiver = entry.move
        wanted = ring.target.owners[partition] if ring.target.owners else ()
        return not ring.target.owners or (receiver in wanted and out not in wanted)

    def _undo(self, partition: int, entry: Entry) -> None:
        """S-MOVE-4: an entry without the move, from the receiver, releases every promise."""
        node = self.node
        node.counters["moves_undone"] += 1
        undone = Entry(
            entry.term, entry.version + 1, entry.owners, None, None, node.identity.node_id
        )
        self.rings.write(partition, undone)
        self.news.tell(partition, entry.owners)

    def _ask(self, receiving: Receiving, name: str, entry: Entry) -> None:
        if name in receiving.under_way or not self.node.up(name):
            return
        receiving.under_way.add(name)
        node_id = self.node.ring.members[name].id

        def heard(reply: Message | None) -> None:
            receiving.under_way.discard(name)
            same = self.node.ring.entries[receiving.partition] == entry
            if isinstance(reply, Promised) and same:
                receiving.promised[name] = node_id
                self._drive(receiving)

        self.node.ask(name, Promise(0, receiving.partition, entry), heard)

    def _copy(self, receiving: Receiving, name: str) -> None:
        node = self.node
        if name in receiving.under_way:
            return
        receiving.under_way.add(name)
        receiving.tried = name
        if receiving.bytes_total is None:
            receiving.bytes_total = 0
            sized = partial(self._sized, receiving)
            node.later(partial(node.spawn, Sizing(node, [receiving.partition], (), sized)))

        def ended(exchange: Exchange, good: bool) -> None:
            receiving.ended(exchange)
            node.counters["moved_bytes"] += exchange.bytes
            # Others learn of the switch, and it outlives a power cut here: so must what was copied.
            self.replica.write_batch.then(None, lambda durable: copied(exchange, good and durable))

        def copied(exchange: Exchange, good: bool) -> None:
            receiving.under_way.discard(name)
            partition = receiving.partition
            same = exchange.entry_id == node.ring.entries[partition].id
            fresh = exchange.losses == receiving.losses == self.replica.losses(partition)
            if good and same and fresh and receiving.promised.get(name) == exchange.peer_id:
                receiving.copied[name] = exchange.peer_id
                node.later(partial(self._drive, receiving))

        def begin() -> None:
            partition = receiving.partition
            exchange = Exchange(node, self.replica, partition, name, "pass", ended)
            receiving.copying[name] = exchange
            node.spawn(exchange)

        node.later(begin)

    @staticmethod
    def _sized(receiving: Receiving, counts: Counts, free: dict[str, int]) -> None:
        receiving.bytes_total = counts.get(receiving.partition, (0, 0))[0]

    def _switch(self, partition: int, entry: Entry) -> None:
        """S-MOVE-3: write the new entry and the complete mark of this copy in one batch."""
        node = self.node
        switched = Entry(
            entry.term + 1,
            entry.version + 1,
            entry.after,
            None,
            entry.owners,
            node.identity.node_id,
        )
        self.rings.write(partition, switched)
        if node.ring.entries[partition] == switched:
            self.replica.mark_complete(partition)
            node.counters["switches"] += 1
            self.news.tell(partition, (*switched.owners, *entry.owners))

    def still(self, message: Still, reply: Callable[[Message], None]) -> None:
        """Answer whether this node still wants a promise. If its entry is older than the promised
        one, it has forgotten the move and will hear of it again; then the answer is yes."""
        entries = self.node.ring.entries
        if 0 <= message.partition < len(entries):
            entry = entries[message.partition]
            older = (entry.term, entry.version) < (message.term, message.version)
            mine = entry.term == message.term and self._is_mine(entry)
            reply(StillReply(message.id, older or mine, entry))

    # ------------------------------------------------------------ afterwards

    def _clean_up(self) -> None:
        """S-MOVE-5: hand over this node's data of partitions that only others own."""
        node = self.node
        at_once = node.throttle.share(node.settings.moves_max)
        for partition in self.replica.forest.held():
            if len(self._cleanups) >= at_once:
                return
            names = node.preference.writers(partition)
            if node.name in names or partition in self._cleanups:
                continue
            if self.replica.hints.any_of(partition, node.ring.partition_bits):
                continue
            self._cleanups.add(partition)
            ended = partial(self._cleanups.discard, partition)
            node.later(partial(node.spawn, Cleanup(node, self.replica, partition, ended)))

    # ------------------------------------------------------------ this node's own state

    def _change_state(self) -> None:
        node = self.node
        ring = node.ring
        line = ring.members[node.identity.name]
        name = line.name
        if line.state == JOINING:
            pairs = zip(ring.target.owners, ring.entries, strict=False)
            if all(name in entry.owners for wanted, entry in pairs if name in wanted):
                self._become(MEMBER)
            return
        self.departing = line.state == LEAVING and not any(
            name in (*entry.after, *entry.owners, *(entry.old or ())) for entry in ring.entries
        )
        if (
            self.departing
            and not self.admission.in_flight
            and not self.replica.write_batch.holds_data()
        ):
            # S-MEM-4: a node that has LEFT admits no node; it must not be the last that could.
            staying = [m.name for m in ring.members.values() if m.state in (JOINING, MEMBER)]
            if any(map(node.up, staying)):
                self._become(LEFT)

    def _become(self, state: Any) -> None:
        ring = self.node.ring
        line = ring.members[self.node.identity.name]
        self.node.counters["became_left" if state == LEFT else "became_member"] += 1
        later = line.changed(state=state)
        self.rings.take(ring.with_member(later))

    def transfers(self) -> list[dict[str, Any]]:
        """The moves to this node, in the form of docs/http-api.md."""
        return [
            one.document(self.node.ring.entries[partition].move)
            for partition, one in sorted(self.receiving.items())
        ]


def _missing(ring: Ring, name: str) -> list[int]:
    """The partitions of which the target wants this node as an owner, and it is none."""
    entries = ring.entries
    return [
        partition
        for partition, owners in enumerate(ring.target.owners)
        if name in owners and name not in entries[partition].owners
    ]
