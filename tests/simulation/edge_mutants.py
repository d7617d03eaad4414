"""Deliberate faults at limits: frames and slices that are cut, full disks, rings of two, several
operations in one turn (S-MOVE-5, S-AE-3, S-RW-2, S-DOT-3)."""

from __future__ import annotations

from typing import Any

import msgspec

from dynamo_core.keys import DATA, partition_of, range_of, store_key
from dynamo_core.membership import retirement
from dynamo_core.moves import cleanup
from dynamo_core.protocol.move_messages import Shown
from dynamo_core.protocol.operations import Put
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.repair import exchange
from dynamo_core.replica import write_batch
from dynamo_core.request import admission_control, put
from dynamo_core.request.quorum import MET
from dynamo_core.runtime import outbox, shares
from dynamo_core.testing.town import SETTINGS, Town
from tests.simulation.ladders import ladder
from tests.simulation.mutants import LADDER_OF, MIX_OF, Patch, mutant


@mutant("cut frames lose their tail")
def _() -> list[Patch]:
    original = outbox.Outbox._cut

    def cut(self: Any, route: str, messages: Any, frame: bytes) -> list[bytes]:
        return original(self, route, messages, frame)[:1]

    return [(outbox.Outbox, "_cut", cut)]


@mutant("records that an answer had no room for count as settled")
def _() -> list[Patch]:
    original = exchange.Exchange._fetched

    def fetched(self: Any, request: Any, reply: Any, now: float) -> Any:
        left = len(request.keys) - len(reply.records)
        if reply.records and left:
            del self._keys[len(reply.records) : len(request.keys)]
            self._confirmed -= left
        return original(self, request, reply, now)

    return [(exchange.Exchange, "_fetched", fetched)]


@mutant("a slice is shown in part and deleted whole")
def _() -> list[Patch]:
    original = cleanup.Cleanup._delete

    def delete(self: Any, now: float) -> Any:
        start, end = range_of(self.partition, self.view.ring.partition_bits)
        self._rows = self.replica.rows(start, end, self.view.settings.rows_max)
        return original(self, now)

    return [(cleanup.Cleanup, "_delete", delete)]


@mutant("a refused slice counts as given")
def _() -> list[Patch]:
    original = cleanup.Cleanup.failed

    def failed(self: Any, node: str, request: Any, reason: Any, now: float) -> Any:
        if reason is not Refusal.FULL:
            return original(self, node, request, reason, now)
        return self.replied(node, request, Shown(0, cleanup.PROVEN, []), now)

    return [(cleanup.Cleanup, "failed", failed)]


@mutant("what a full disk refused counts as offered")
def _() -> list[Patch]:
    def offered(self: Any, last: bytes, written: bool) -> None:
        self._offered_to = last

    return [(retirement.Retirement, "_offered", offered)]


@mutant("in a ring of two one ack counts as both")
def _() -> list[Patch]:
    original = put.PutOperation._verdict

    def verdict(self: Any) -> Any:
        two = len(self.view.preference.names) == 2
        return MET if two and self.record else original(self)

    return [(put.PutOperation, "_verdict", verdict)]


@mutant("the second put of a key in one turn does not see the first")
def _() -> list[Patch]:
    original, get = admission_control.AdmissionControl.submit, write_batch.WriteBatch.get
    last: list[Any] = [None]
    blind: list[bool] = [False]

    def submit(self: Any, operation: Any, done: Any, *who: Any) -> None:
        this = (self.node, self.node.now, operation.key)
        blind[0] = isinstance(operation, Put) and this == last[0]
        last[0] = this
        original(self, operation, done, *who)
        self.node.dispatcher.drain()
        blind[0] = False

    def read(self: Any, family: int, key: bytes) -> bytes | None:
        found = self.store.get(family, key) if blind[0] and family == DATA else None
        return found if blind[0] and family == DATA else get(self, family, key)

    return [
        (admission_control.AdmissionControl, "submit", submit),
        (write_batch.WriteBatch, "get", read),
    ]


@mutant("the bound on operations is looked at once a turn")
def _() -> list[Patch]:
    original = admission_control.AdmissionControl.refusal
    known: dict[Any, tuple[float, str]] = {}

    def refusal(self: Any) -> str:
        at, why = known.get(self.node, (-1.0, ""))
        if at != self.node.now:
            at, why = known[self.node] = self.node.now, original(self)
        return why

    # Each operation checks the share of its client; this fault is another one.
    every = (shares.Shares, "refusal", lambda self, client, amount=1: 0)
    return [(admission_control.AdmissionControl, "refusal", refusal), every]


ONE_BY_ONE = msgspec.structs.replace(SETTINGS, fetch_bytes_max=1)
BITS = 4
FULL = "an owner is full while it is handed records"
SLICED = "records are handed over slice by slice"
LADDER_OF |= {
    "a refused slice counts as given": FULL,
    "a slice is shown in part and deleted whole": SLICED,
}
MIX_OF |= {
    "cut frames lose their tail": "narrow",
    "in a ring of two one ack counts as both": "small",
    "records that an answer had no room for count as settled": "narrow",
    "what a full disk refused counts as offered": "no room",
}


def _unowned(count: int) -> tuple[Town, dict[bytes, bytes]]:
    """Records of a partition of `c`'s that only `a` has, and that go one by one."""
    town, other = (Town("a b c", n=1, settings=ONE_BY_ONE) for _ in range(2))
    keys = [key for key in map(b"%d".__mod__, range(1000)) if other.owners(key) == ("c",)]
    first = partition_of(store_key(keys[0]), BITS)
    for key in [key for key in keys if partition_of(store_key(key), BITS) == first][:count]:
        assert other.put("c", key, b"milk", w=1).status == 204
    rows = dict(other.disks["c"].rows[DATA])
    for stored, record in rows.items():
        town.nodes["a"].replica.merge(stored, record)
    town.deliver()
    return town, rows


@ladder(FULL)
def an_owner_is_full() -> None:
    """Refused records stay where they are until they are accepted."""
    town, rows = _unowned(1)
    town.disks["c"].full = True
    town.run(3.0)
    assert town.disks["a"].rows[DATA] == rows
    town.disks["c"].full = False
    town.nodes["c"].reopened()
    town.until(lambda: town.disks["c"].rows[DATA] == rows and not town.disks["a"].rows[DATA])


@ladder(SLICED)
def slice_by_slice() -> None:
    """A record is deleted after it was shown, not with the slice before."""
    town, rows = _unowned(3)
    town.until(lambda: not town.disks["a"].rows[DATA])
    assert town.disks["c"].rows[DATA] == rows
