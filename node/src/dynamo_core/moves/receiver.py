"""Moves of partitions: the receiver drives, and is the only writer of the entry (S-MOVE-1..4, 7).

A node compares the target with the owners. Where it is the first in the target that is not an owner
it *begins*: writes the move into the entry and asks every owner for its promise. With all promises
it makes a full pass over every one of them; then, compared with another owner, it *switches*:
complete itself, new owners, the next term, and `old` beside them until every old owner has durably
learnt it. Nothing of this needs to survive but the entry: after a restart the receiver asks and
copies again. When the target no longer wants the move it is *undone* by an entry without it.

Who leaves has LEFT when no entry names it and nothing lies on its disk; who joins is a MEMBER when
all that was meant for it has switched.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from dynamo_core.moves.cleanup import Cleanup
from dynamo_core.moves.sizing import Counts, Sizing
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.move_messages import Promise, Promised, Still, StillReply
from dynamo_core.repair.exchange import Exchange
from dynamo_core.ring.document import JOINING, LEAVING, LEFT, MEMBER, Entry, Ring
from dynamo_core.ring.planning import without_receiver

if TYPE_CHECKING:
    from dynamo_core.node import Node

BEGINNING, PROMISES, COPYING = "beginning", "promises", "copying"


class Receiving:
    """One partition on its way to this node; nothing of it is durable but the entry."""

    def __init__(self, partition: int, losses: int) -> None:
        self.partition = partition
        self.losses = losses
        self.promised: dict[str, int] = {}
        """Node id by owner: a promise, and a copy, is of an id."""
        self.copied: dict[str, int] = {}
        self.under_way: set[str] = set()
        self.tried = ""
        """Whom the last pass was made with."""
        self.copying: dict[str, Exchange] = {}
        self.records = self.bytes = 0
        """Of the passes that are over."""
        self.bytes_total: int | None = None
        """What one owner holds; None before anybody was asked."""
        self.state = BEGINNING
        self.reason = ""

    def ended(self, exchange: Exchange) -> None:
        """A pass is over, whatever came of it."""
        del self.copying[exchange.peer]
        self.records += exchange.repaired
        self.bytes += exchange.bytes


class Moves:
    """Everything of a node that moves partitions."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.receiving: dict[int, Receiving] = {}
        self.wake_at = 0.0
        """When `tick` has something to do."""
        self._cleanups: set[int] = set()
        self.waiting_for = ""
        self.departing = False
        """Nothing is left to own: no operation is taken any more, and those under way end."""

    def tick(self, now: float) -> None:
        """Begin, go on, settle, clean up, change state: what is due."""
        node = self.node
        self.wake_at = now + node.settings.moves_s
        if not node.writable:
            return
        self._begin()
        for receiving in list(self.receiving.values()):
            self._drive(receiving)
        node.promises.ask()
        node.settling.turn(now)
        self._surrender()
        self._change_state()

    # ------------------------------------------------------------ what the ring says

    def admissible(self, before: Ring, after: Ring) -> Ring:
        """S-MOVE-4: a receiver that holds every promise does not give way to an entry of its term;
        it writes its own again, above."""
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

    def learned(self, ring: Ring) -> None:
        """The ring is taken: moves that are no longer ours end."""
        for partition in [p for p in self.receiving if not self._is_mine(ring.entries[p])]:
            del self.receiving[partition]
        self.wake_at = min(self.wake_at, self.node.now + self.node.settings.moves_s / 4)

    # ------------------------------------------------------------ receiving

    def _begin(self) -> None:
        """Take up moves of ours that are written down, and begin those that the target wants."""
        node = self.node
        ring, me = node.ring, node.identity
        self.waiting_for = ""
        for partition, entry in enumerate(ring.entries):
            line = ring.members.get(entry.move[1]) if entry.move is not None else None
            if line is not None and line.state == LEFT:
                # Removed by force, and the move heard of later (S-MOVE-4).
                node.membership.write(partition, without_receiver(entry))
            if entry.move is None or entry.move[1] != me.name or partition in self.receiving:
                continue
            if entry.by != me.node_id:  # of this name's life before: taken over, copied again
                again = msgspec.structs.replace(entry, version=entry.version + 1, by=me.node_id)
                self.node.membership.write(partition, again)
                node.counters["moves_taken_over"] += 1
            if self._is_mine(node.ring.entries[partition]):
                self._receive(partition)
        if ring.members[me.name].state == LEAVING:
            return
        moving = sum(entry.move is not None for entry in ring.entries)
        for partition, owners in enumerate(ring.target.owners):
            entry = ring.entries[partition]
            if me.name in entry.owners or me.name not in owners:
                continue
            new = self.node.ring.live(tuple(n for n in owners if n not in entry.owners))
            if new[0] != me.name or entry.move is not None or entry.old is not None:
                continue
            # Whoever waits for an owner that is down holds nobody else up.
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
            self.node.membership.write(partition, move)
            node.counters["moves_begun"] += 1
            if self._is_mine(node.ring.entries[partition]):
                self._receive(partition)

    def _goes_out(self, entry: Entry, wanted: tuple[str, ...]) -> str:
        """Whose place is taken: who is LEFT first, then whoever has our place in the target."""
        leaving = [n for n in entry.owners if n not in wanted]
        members = self.node.ring.members
        gone = [n for n in leaving if members[n].state == LEFT]
        place = wanted.index(self.node.identity.name)
        same = [n for n in leaving if entry.owners.index(n) == place]
        return (gone or same or leaving)[0]

    def _receive(self, partition: int) -> None:
        self.receiving[partition] = Receiving(partition, self.node.replica.losses(partition))

    def _holds_all(self, receiving: Receiving, ring: Ring) -> bool:
        owners = ring.live(ring.entries[receiving.partition].owners)
        return not self._lacking(owners, receiving.promised, ring)

    @staticmethod
    def _lacking(owners: list[str], done: dict[str, int], ring: Ring) -> list[str]:
        """The owners that have not done it, or under another id."""
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
        if receiving.losses != node.replica.losses(partition):
            receiving.losses = node.replica.losses(partition)
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
            # One first: what it has brought is not fetched from the others. Who failed just now is
            # tried last.
            up = [name for name in behind if node.up(name)]
            up.sort(key=lambda name: name == receiving.tried)
            if not receiving.copied:
                up = [] if receiving.under_way else up[:1]
            for name in up:
                self._copy(receiving, name)
        elif not node.replica.provable(partition, set(ring.live(entry.after)) - {node.name}):
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
        self.node.membership.write(partition, undone)
        self.node.membership.tell(partition, entry.owners)

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
            node.write_batch.then(None, lambda durable: copied(exchange, good and durable))

        def copied(exchange: Exchange, good: bool) -> None:
            receiving.under_way.discard(name)
            partition = receiving.partition
            same = exchange.entry == node.ring.entries[partition].number
            fresh = exchange.losses == receiving.losses == node.replica.losses(partition)
            if good and same and fresh and receiving.promised.get(name) == exchange.peer_id:
                receiving.copied[name] = exchange.peer_id
                node.later(partial(self._drive, receiving))

        def begin() -> None:
            partition = receiving.partition
            exchange = Exchange(node, node.replica, partition, name, "pass", ended)
            receiving.copying[name] = exchange
            node.spawn(exchange)

        node.later(begin)

    @staticmethod
    def _sized(receiving: Receiving, counts: Counts, free: dict[str, int]) -> None:
        receiving.bytes_total = counts.get(receiving.partition, (0, 0))[0]

    def _switch(self, partition: int, entry: Entry) -> None:
        """S-MOVE-3. One batch: the entry and the mark that this copy misses nothing."""
        node = self.node
        switched = Entry(
            entry.term + 1, entry.version + 1, entry.after, None, entry.owners,
            node.identity.node_id,
        )  # fmt: skip
        self.node.membership.write(partition, switched)
        if node.ring.entries[partition] == switched:
            node.replica.mark_complete(partition)
            node.counters["switches"] += 1
            self.node.membership.tell(partition, (*switched.owners, *entry.owners))

    def still(self, message: Still, reply: Callable[[Message], None]) -> None:
        """Whether a promise is still wanted. Who has an older entry than the one promised has
        forgotten it, and hears of it again: it is wanted as far as anybody can know."""
        entries = self.node.ring.entries
        if 0 <= message.partition < len(entries):
            entry = entries[message.partition]
            older = (entry.term, entry.version) < (message.term, message.version)
            mine = entry.term == message.term and self._is_mine(entry)
            reply(StillReply(message.id, older or mine, entry))

    # ------------------------------------------------------------ afterwards

    def _surrender(self) -> None:
        """S-MOVE-5: hand over what lies here of partitions that others own."""
        node = self.node
        for partition in node.replica.forest.held():
            if len(self._cleanups) >= node.throttle.share(node.settings.moves_max):
                return
            names = node.preference.writers(partition)
            if node.name in names or partition in self._cleanups:
                continue
            if node.hints.any_of(partition, node.ring.partition_bits):
                continue
            self._cleanups.add(partition)
            ended = partial(self._cleanups.discard, partition)
            node.later(partial(node.spawn, Cleanup(node, node.replica, partition, ended)))

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
        if self.departing and not node.admission_control.in_flight and not node.holds_data():
            # S-MEM-4: whoever is LEFT lets nobody in; it must not be the last who could.
            staying = [m.name for m in ring.members.values() if m.state in (JOINING, MEMBER)]
            if any(map(node.up, staying)):
                self._become(LEFT)

    def _become(self, state: Any) -> None:
        ring = self.node.ring
        line = ring.members[self.node.identity.name]
        self.node.counters["became_left" if state == LEFT else "became_member"] += 1
        later = line.changed(state=state)
        self.node.membership.take(ring.with_member(later))

    def transfers(self) -> list[dict[str, Any]]:
        """Moves towards this node, as docs/http-api.md shows them."""
        shown = []
        for partition, receiving in sorted(self.receiving.items()):
            move = self.node.ring.entries[partition].move
            assert move is not None
            now = receiving.copying.values()
            shown.append(
                {
                    "partition": partition, "out": move[0], "in": move[1],
                    "state": receiving.state, "reason": receiving.reason,
                    "records_done": receiving.records + sum(one.repaired for one in now),
                    "bytes_done": receiving.bytes + sum(one.bytes for one in now),
                    "bytes_total": receiving.bytes_total or 0,
                }
            )  # fmt: skip
        return shown
