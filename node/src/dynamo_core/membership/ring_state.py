"""The ring document of this node, what is derived from it, and who is told when it changes.

`take` is the only way in. It first builds all that can fail, then writes the document, then tells
the subscribers by their order in `parts.py`. Filters come before: a promise or a move of this node
may forbid single entries (S-MOVE-1, S-MOVE-4). A document passes the gate before it is taken,
and is taken whole or not at all (S-IN-2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from dynamo_core.keys import META
from dynamo_core.membership import stored_ring
from dynamo_core.membership.stored_ring import GONE_KEY, RING_KEY
from dynamo_core.replica.replica import Replica
from dynamo_core.ring.document import Entry, Member, Ring
from dynamo_core.ring.gate import ring_fault, step_fault
from dynamo_core.ring.holdings import Holdings
from dynamo_core.ring.preference import Bits, Preference
from dynamo_core.runtime.host import Named


class Taken(NamedTuple):
    """A document that has been taken."""

    ring: Ring
    before: Ring | None
    held: Holdings
    """What the node has to do with each partition of it."""
    founding: bool
    """The node is a founder: its copies are complete."""
    from_disk: bool
    """It was read from the disk."""

    @property
    def first(self) -> bool:
        """The node had no ring, neither in memory nor on its disk."""
        return self.before is None and not self.from_disk


class Durable(Named, Protocol):
    """Who the node is, and up to which write its disk is durable."""

    @property
    def durable_sequence(self) -> int:
        """The highest sequence number that is fsynced."""


Filter = Callable[[Ring, Ring], Ring]
"""Of the document that stands and the next one: the next one without what this node forbids."""
Subscriber = Callable[[Taken], None]


class RingState:
    """The document and what follows from it. Other parts read it; only `take` changes it."""

    def __init__(self, node: Durable, replica: Replica) -> None:
        self.node = node
        self.replica = replica
        self.ring: Ring
        """The document; only for code that runs on a member."""
        self.ring_or_none: Ring | None = None
        self.addresses: dict[str, str] = {}
        """Where each name is dialled."""
        self.bits = Bits()
        """The number of each name: it outlives the document."""
        self.preference: Preference
        self.lww = False
        """Whether the last write wins."""
        self.member = False
        """Whether this node serves keys."""
        self.gone = False
        """Whether the ring says that this id is LEFT or replaced (S-MEM-3)."""
        self.emptied = False
        """Whether nothing is left on the disk of an id that is gone."""
        self.lost_ring = ""
        """Why the document of this disk was refused at the start, until a peer's is taken."""
        self.remembered: tuple[str, ...] = ()
        """Addresses that are asked for it, beside the seeds."""
        self._sequence: int | None = 0
        """The sequence number of the write that has the document, None before it is written."""
        self._filters: Sequence[Filter] = ()
        self._subscribers: Mapping[str, Subscriber] = {}
        self._on_held: Callable[[], None] = lambda: None
        self._on_gone: Callable[[], None] = lambda: None

    def connect(
        self,
        filters: Sequence[Filter],
        subscribers: Mapping[str, Subscriber],
        on_held: Callable[[], None],
        on_gone: Callable[[], None],
    ) -> None:
        """The filters, and who is told of each new document, both in this order. `on_held` is
        called before them: the document is this one now. `on_gone` is called once, when the id of
        this node is gone."""
        self._filters, self._subscribers = filters, subscribers
        self._on_held, self._on_gone = on_held, on_gone

    # ------------------------------------------------------------ the disk

    def load(self) -> None:
        """The ring as this disk knows it."""
        write_batch = self.replica.write_batch
        self.emptied = write_batch.get(META, GONE_KEY) is not None
        if self.emptied:
            self._become_gone()
        if (data := write_batch.get(META, RING_KEY)) is not None:
            ring, why = stored_ring.decoded(data)
            if ring is not None:
                why = self.take(ring, from_disk=True)
            if why:
                self._lose(data, why)

    def _lose(self, data: bytes, why: str) -> None:
        """The disk has a ring that makes no sense: peers have another one (S-IN-2)."""
        address = self.node.identity.address
        self.lost_ring = stored_ring.lost(why)
        self.remembered = stored_ring.remembered(self.replica.write_batch, data, address)
        self.node.counters["ring_of_the_disk_refused"] += 1
        self.replica.distrust()

    def keep(self) -> None:
        """The document into this tick's batch; again after a store that refused it."""
        if self.ring_or_none is not None:
            self._put(self.ring.encode())

    def _put(self, row: bytes) -> None:
        self._sequence = None
        self.replica.write_batch.put(META, RING_KEY, row)
        self.replica.write_batch.then(self._written)

    def _written(self, written: bool) -> None:
        if written:
            self._sequence = self.replica.write_batch.sequence

    @property
    def fsynced(self) -> bool:
        """Whether a power cut, or a copy of the disk, leaves it as it is now (S-BAK-4)."""
        return self._sequence is not None and self._sequence <= self.node.durable_sequence

    def empty(self) -> None:
        """This id is gone and has handed over all: nothing but that stays on the disk (S-MEM-3)."""
        write_batch = self.replica.write_batch
        for key, _ in write_batch.scan(META, b"", None, 1 << 16):
            write_batch.put(META, key, None)
        write_batch.put(META, GONE_KEY, b"1")
        self.emptied = True
        self.node.counters["replaced_node_emptied"] += 1

    # ------------------------------------------------------------ changes

    def take(self, ring: Ring, founding: bool = False, from_disk: bool = False) -> str:
        """Make `ring` this node's document, durably; everything derived follows. One that makes no
        sense is not taken, nor is anything of it: the answer is why (S-IN-2)."""
        node, before = self.node, self.ring_or_none
        if before is not None and not self.gone:
            for admissible in self._filters:
                ring = admissible(before, ring)
        if ring is before or (before is not None and ring.digests() == before.digests()):
            return ""
        if why := ring_fault(ring) if before is None else step_fault(before, ring):
            node.counters["rings_refused"] += 1
            return why
        # All that can fail comes first: nothing of the node has changed up to here.
        row, addresses = ring.encode(), stored_ring.addresses_row(ring, node.identity.name)
        preference, held = Preference(ring, self.bits), Holdings(ring, node.name)
        self.preference, self.lww, self.lost_ring = preference, held.lww, ""
        self.hold(ring)
        if not from_disk:
            self._put(row)
            if before is None or before.members is not ring.members:
                self.replica.write_batch.put(META, stored_ring.ADDRESSES_KEY, addresses)
        self.dial(ring.members.values())
        taken = Taken(ring, before, held, founding, from_disk)
        for tell in self._subscribers.values():
            tell(taken)
        return ""

    def hold(self, ring: Ring) -> None:
        """Make it the document, without anything that follows from it."""
        self.ring = self.ring_or_none = ring
        self.member = not self.gone
        self._on_held()

    def dial(self, lines: Iterable[Member]) -> None:
        """These names are dialled where their lines have them."""
        self.addresses.update((line.name, line.address) for line in lines)

    def write(self, partition: int, entry: Entry) -> None:
        """Change one entry here; it spreads from here."""
        self.take(self.ring.with_entry(partition, entry))

    def judge_life(self, taken: Taken) -> None:
        """A subscriber: whether the new document says that this id is gone."""
        me = self.node.identity
        if taken.ring.is_gone(me.name, me.node_id):
            self._become_gone()

    def _become_gone(self) -> None:
        if not self.gone:
            self.gone, self.member = True, False
            self.node.counters["learnt_it_is_replaced"] += 1
            self._on_gone()
