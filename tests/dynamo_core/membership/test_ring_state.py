"""The ring document of one node, alone: what it accepts, which subscribers it calls, in order."""

from __future__ import annotations

from collections import Counter
from itertools import count

import msgspec

from dynamo_core.keys import META
from dynamo_core.membership.ring_state import RingState, Taken
from dynamo_core.membership.stored_ring import GONE_KEY, RING_KEY
from dynamo_core.replica.hints import HintBook
from dynamo_core.replica.replica import Replica
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.ring.document import LEFT, Entry, Ring
from dynamo_core.runtime.host import NodeIdentity
from dynamo_core.settings import Settings
from dynamo_core.testing.disk import Disk
from tests.dynamo_core.rings import a_ring, with_line

RING = a_ring()
NEXT = RING.with_entry(0, Entry(0, 1, RING.entries[0].owners))


class Small:
    """All that the ring needs of its node."""

    def __init__(self) -> None:
        self.identity = NodeIdentity("a", 1, "a:1")
        self.name = "a"
        self.counters: Counter[str] = Counter()
        self.durable_sequence = 0


class Told:
    """A ring over a disk, and the calls of its subscribers."""

    def __init__(self, disk: Disk | None = None) -> None:
        self.disk = disk or Disk(1)
        self.write_batch = WriteBatch(self.disk)
        hints, draws = HintBook(self.write_batch, 1 << 20, 64), count(1)
        replica = Replica("a", self.write_batch, hints, Settings(), lambda: next(draws))
        self.node = Small()
        self.rings = RingState(self.node, replica)
        self.said: list[str] = []
        self.held: list[Ring] = []
        self.taken: list[Taken] = []
        self.rings.connect(
            filters=(self.keep, self.keep_again),
            subscribers={
                "first": lambda taken: self.said.append("first"),
                "life": self.rings.judge_life,
                "last": self.last,
            },
            on_held=lambda: self.held.append(self.rings.ring),
            on_gone=lambda: self.said.append("gone"),
        )
        self.rings.load()

    def keep(self, before: Ring, after: Ring) -> Ring:
        self.said.append("filter")
        return after

    def keep_again(self, before: Ring, after: Ring) -> Ring:
        self.said.append("later filter")
        return after

    def last(self, taken: Taken) -> None:
        assert self.held[-1] is self.rings.ring, "who reads the node's ring is told before"
        self.said.append("last")
        self.taken.append(taken)

    def says(self) -> list[str]:
        said, self.said = self.said, []
        return said


def test_a_ring_is_filtered_then_written_then_told_in_the_stated_order() -> None:
    told = Told()
    assert told.rings.ring_or_none is None and not told.rings.member
    assert told.rings.take(RING) == ""
    assert told.says() == ["first", "last"], "nothing stands yet that a filter could keep"
    assert told.taken[0].first and told.rings.member
    assert told.write_batch.get(META, RING_KEY) == RING.encode()
    assert told.rings.addresses == {name: f"{name}:1" for name in "abc"}
    assert told.rings.take(NEXT) == ""
    assert told.says() == ["filter", "later filter", "first", "last"]
    assert told.taken[1].before is RING and not told.taken[1].first
    assert told.rings.ring is NEXT


def test_the_same_ring_is_told_once() -> None:
    told = Told()
    told.rings.take(RING)
    told.says()
    assert told.rings.take(RING) == told.rings.take(msgspec.structs.replace(RING)) == ""
    assert set(told.says()) <= {"filter", "later filter"}


def test_no_subscriber_hears_of_a_ring_without_sense() -> None:
    told = Told()
    told.rings.take(RING)
    preference = told.rings.preference
    told.says()
    assert told.rings.take(RING.with_entry(0, Entry(0, 1, ("a", "nobody", "c"))))
    assert told.says() == ["filter", "later filter"]
    assert told.rings.ring is RING and told.rings.preference is preference
    assert told.node.counters["rings_refused"] == 1


def test_who_is_gone_learns_it_once_in_its_place_and_filters_nothing_more() -> None:
    told = Told()
    told.rings.take(RING)
    told.says()
    gone = with_line(RING, "a", state=LEFT, version=1)
    assert told.rings.take(gone) == ""
    assert told.says()[2:] == ["first", "gone", "last"]
    assert told.rings.gone and not told.rings.member
    told.rings.take(gone.with_entry(1, Entry(0, 1, gone.entries[1].owners)))
    assert told.says() == ["first", "last"]


def test_a_disk_that_was_emptied_says_only_that_its_id_is_gone() -> None:
    told = Told()
    told.rings.take(RING)
    told.rings.empty()
    assert told.write_batch.flush()
    assert told.disk.rows[META] == {GONE_KEY: b"1"}
    again = Told(told.disk)
    assert again.says() == ["gone"]
    assert again.rings.emptied and again.rings.gone and again.rings.ring_or_none is None


def test_the_ring_of_the_disk_is_told_as_stored() -> None:
    told = Told()
    told.rings.take(RING)
    assert told.write_batch.flush()
    again = Told(told.disk)
    assert again.says() == ["first", "last"]
    assert again.taken[0].from_disk and not again.taken[0].first
    assert again.rings.ring.digests() == RING.digests()


def test_a_copy_of_the_disk_has_the_document_only_after_an_fsync() -> None:
    """S-BAK-4: a node says so, and no snapshot is asked for before."""
    told = Told()
    assert told.rings.fsynced, "there is none"
    for ring in (RING, NEXT):
        told.rings.take(ring)
        assert not told.rings.fsynced, "it is not written"
        told.write_batch.flush()
        assert not told.rings.fsynced, "a power cut may take it"
        told.node.durable_sequence = told.write_batch.sequence
        assert told.rings.fsynced
    told.write_batch.put(META, b"later", b"1")
    told.write_batch.flush()
    assert told.rings.fsynced, "what is written later is not of it"
    assert Told(told.disk).rings.fsynced, "it is read from the disk"


def test_a_document_that_the_store_refused_is_not_fsynced() -> None:
    told = Told()
    told.disk.full = True
    told.rings.take(RING)
    told.write_batch.flush()
    told.node.durable_sequence = told.write_batch.sequence
    assert not told.rings.fsynced
    told.disk.full = False
    told.write_batch.reopened()
    told.rings.keep()
    told.write_batch.flush()
    told.node.durable_sequence = told.write_batch.sequence
    assert told.rings.fsynced
