"""One key, four owners and two stand-ins, any order of events, against a model that is a set.

The model of a copy is the set of events that it knows. An event is superseded by those whose
context covered it, so the live events are those that no known event supersedes. The real copies are
Replica and HintBook over a simulated disk: after every step, each must show exactly the model's
live values, whatever was replayed, forgotten, restarted, wiped, rolled back or refused before.
"""

from __future__ import annotations

from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dynamo_core.causality.codec import body_of, decode_record, encode_record
from dynamo_core.causality.context import Context
from dynamo_core.causality.records import SUPERSEDED_WRITES_MAX, sync
from dynamo_core.keys import partition_of, store_key
from dynamo_core.protocol.operations import Put
from dynamo_core.replica.coordination import Coordination
from dynamo_core.replica.hints import HintBook
from dynamo_core.replica.replica import Replica
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.ring.document import Entry, Identity, Member, Ring, RingTarget
from dynamo_core.ring.holdings import Holdings
from dynamo_core.runtime.machine import Coordinate
from dynamo_core.settings import Settings
from dynamo_core.testing.disk import Disk

KEY = b"cart"
STORED = store_key(KEY)
OWNERS, STAND_INS = ("a", "b", "c", "d"), ("x", "y")
NAMES = OWNERS + STAND_INS
RING = Ring(
    Identity("carts", 16, len(OWNERS)),
    {name: Member(name, 1, n, name) for n, name in enumerate(NAMES)},
    RingTarget(),
    (Entry(0, 0, OWNERS),) * 16,
)
PARTITION = partition_of(STORED, RING.partition_bits)
Known = frozenset[int]


class Copy:
    """One node's real parts, and the model: what it knows by place ("" its own, else a hint's)."""

    def __init__(self, name: str, draw: object) -> None:
        self.name = name
        self.draw = draw
        self.disk = Disk(0)
        self.known: dict[str, Known] = {}
        self.start()

    def start(self) -> None:
        """A process on the disk as it is: its actors are born now (S-DOT-2)."""
        self.write_batch = WriteBatch(self.disk)
        self.hints = HintBook(self.write_batch, 1 << 30, 64)
        self.replica = Replica(self.name, self.write_batch, self.hints, Settings(), self.draw)  # type: ignore[arg-type]
        self.replica.load()
        self.hints.load()
        self.replica.adopt(Holdings(RING, self.name))

    def flush(self) -> bool:
        if self.write_batch.flush():
            return True
        self.disk.full = False
        self.write_batch.writable = True
        self.replica.reload()
        return False

    def all_known(self) -> Known:
        return frozenset().union(*self.known.values())


copies = st.sampled_from(range(len(NAMES)))
owners = st.sampled_from(range(len(OWNERS)))
stand_ins = st.sampled_from(range(len(OWNERS), len(NAMES)))
some = st.integers(0, 1000)


class OneKey(RuleBasedStateMachine):
    """Events are numbers from 1; `supersedes` is the model's whole memory of causality."""

    def __init__(self) -> None:
        super().__init__()
        actors = count(1000)
        self.copies = [Copy(name, lambda: next(actors)) for name in NAMES]
        self.supersedes: dict[int, Known] = {}
        self.puts: list[tuple[Put, int]] = []
        self.contexts: list[tuple[Context | None, Known]] = [(None, frozenset())]
        self.flying: list[tuple[bytes, Known]] = []
        self.backups: list[tuple[int, Disk, dict[str, Known]]] = []
        self.minted: dict[tuple[int, int], bytes | None] = {}

    def live(self, known: Known) -> set[bytes]:
        gone = frozenset().union(*(self.supersedes[event] for event in known))
        return {b"%d" % event for event in known - gone}

    def put(self, copy: Copy, put: Put, event: int, covers: Known, refused: bool) -> None:
        target = "" if copy.name in OWNERS else OWNERS[event % len(OWNERS)]
        copy.disk.full = refused
        request = Coordinate(0, put, PARTITION, STORED, target)
        minted = Coordination(copy.replica).coordinate(request, 0)
        if not copy.flush():
            return
        known = copy.all_known()
        if event not in known | covers:
            known |= covers | {event}
        copy.known[target] = copy.known.get(target, frozenset()) | known
        self.flying.append((minted.record, known))
        self.contexts.append((Context(minted.context), covers | {event}))

    # ------------------------------------------------------------ what may happen

    @precondition(lambda self: len(self.puts) < SUPERSEDED_WRITES_MAX)
    @rule(at=copies, with_context=some, named=st.booleans(), refused=st.integers(0, 9))
    def a_put(self, at: int, with_context: int, named: bool, refused: int) -> None:
        context, covers = self.contexts[with_context % len(self.contexts)]
        event = len(self.puts) + 1
        request_id = f"r{event}" if named else ""
        put = Put(key=KEY, value=b"%d" % event, context=context, request_id=request_id)
        self.puts.append((put, event))
        self.supersedes[event] = covers
        self.put(self.copies[at], put, event, covers, refused == 0)

    @precondition(lambda self: any(put.request_id for put, _ in self.puts))
    @rule(at=copies, which=some)
    def a_retry_elsewhere(self, at: int, which: int) -> None:
        """S-REQ-1: one event, perhaps under another dot."""
        named = [(put, event) for put, event in self.puts if put.request_id]
        put, event = named[which % len(named)]
        self.put(self.copies[at], put, event, self.supersedes[event], False)

    @rule(at=copies)
    def a_read(self, at: int) -> None:
        copy = self.copies[at]
        held = copy.replica.held(STORED)
        if held is not None:
            context = Context(decode_record(held).context().encode())
            self.contexts.append((context, copy.all_known()))

    @rule(one=copies, two=copies)
    def a_read_of_two(self, one: int, two: int) -> None:
        records = [self.copies[at].replica.held(STORED) for at in (one, two)]
        if None not in records:
            merged = sync(*(decode_record(record) for record in records if record is not None))
            known = self.copies[one].all_known() | self.copies[two].all_known()
            self.contexts.append((Context(merged.context().encode()), known))
            self.flying.append((encode_record(KEY, merged), known))

    @precondition(lambda self: self.flying)
    @rule(to=owners, which=some)
    def a_record_arrives(self, to: int, which: int) -> None:
        """Replication, repair or exchange; late, twice, in any order."""
        record, known = self.flying[which % len(self.flying)]
        copy = self.copies[to]
        copy.replica.take(STORED, record, "")
        copy.flush()
        copy.known[""] = copy.known.get("", frozenset()) | known

    @precondition(lambda self: self.flying)
    @rule(to=stand_ins, owner=owners, which=some)
    def a_hint_is_kept(self, to: int, owner: int, which: int) -> None:
        record, known = self.flying[which % len(self.flying)]
        copy, name = self.copies[to], OWNERS[owner]
        copy.replica.take(STORED, record, name)
        copy.flush()
        copy.known[name] = copy.known.get(name, frozenset()) | known

    @rule(of=stand_ins, which=some)
    def a_hint_is_delivered_and_forgotten(self, of: int, which: int) -> None:
        """S-HINT-2, S-DOT-2: the stand-in forgets a record that other nodes have."""
        copy = self.copies[of]
        targets = copy.hints.targets(STORED)
        if not targets:
            return
        name = targets[which % len(targets)]
        record = copy.replica.hint(name, STORED)
        assert record is not None
        owner = self.copies[NAMES.index(name)]
        owner.replica.take(STORED, record, name)
        owner.flush()
        owner.known[""] = owner.known.get("", frozenset()) | copy.known[name]
        copy.hints.drop(name, STORED)
        copy.replica.born_again(PARTITION)
        copy.flush()
        del copy.known[name]

    @rule(at=copies)
    def a_process_starts_again(self, at: int) -> None:
        self.copies[at].start()

    @rule(at=copies)
    def a_disk_is_lost(self, at: int) -> None:
        copy = self.copies[at]
        copy.disk, copy.known = Disk(0), {}
        copy.start()

    @rule(at=copies)
    def a_backup(self, at: int) -> None:
        copy = self.copies[at]
        self.backups.append((at, copy.disk.copy(), dict(copy.known)))

    @precondition(lambda self: self.backups)
    @rule(which=some)
    def a_restore(self, which: int) -> None:
        at, disk, known = self.backups[which % len(self.backups)]
        copy = self.copies[at]
        copy.disk, copy.known = disk.copy(), dict(known)
        copy.start()

    @rule(at=owners)
    def a_record_is_damaged(self, at: int) -> None:
        """S-DISK-7: the record is given up, and the actor of that copy is born again."""
        copy = self.copies[at]
        if copy.disk.records(STORED):
            copy.disk.corrupt.add((0, STORED))
            assert copy.replica.data(STORED) is None
            copy.flush()
            copy.known.pop("", None)

    # ------------------------------------------------------------ what must hold

    @invariant()
    def every_copy_shows_what_the_model_shows(self) -> None:
        for copy in self.copies:
            held = copy.replica.held(STORED)
            shown = decode_record(held).siblings if held is not None else ()
            assert {s.value for s in shown} == self.live(copy.all_known())
            assert len({s.value for s in shown}) == len(shown)
            for sibling in shown:
                assert self.minted.setdefault(sibling.dot, sibling.value) == sibling.value

    def teardown(self) -> None:
        """C4: after everyone has heard everyone, all copies are equal, byte for byte."""
        records = [r for r in (copy.replica.held(STORED) for copy in self.copies) if r]
        known: Known = frozenset().union(*(copy.all_known() for copy in self.copies))
        bodies = set()
        for copy in self.copies[: len(OWNERS)]:
            for record in records:
                copy.replica.take(STORED, record, "")
            copy.flush()
            held = copy.replica.held(STORED)
            if held is not None:
                bodies.add(body_of(held))
                assert {s.value for s in decode_record(held).siblings} == self.live(known)
        assert len(bodies) <= 1


OneKey.TestCase.settings = settings(max_examples=1000, stateful_step_count=40, deadline=None)
TestOneKey = OneKey.TestCase
