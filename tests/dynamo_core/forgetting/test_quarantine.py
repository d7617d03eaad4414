"""Disks that missed a round: how they are found, what they lose, what they keep (S-DEL-3).

The ladders of tests/simulation are whole histories; these tests check single judgements.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dynamo_core.causality.codec import decode_record, encode_record
from dynamo_core.causality.records import History, Record, Sibling
from dynamo_core.keys import DATA, HINTS, partition_of, store_key
from dynamo_core.node import Node
from dynamo_core.protocol.messages import Message, Refused, Store, Stored
from dynamo_core.protocol.refusal import Reason, Refusal
from dynamo_core.protocol.round_messages import Numbers, NumbersTold
from dynamo_core.replica.hint_target import HintTarget, InQuarantine, spelled, target_of
from dynamo_core.replica.hints import split_hint_key
from dynamo_core.ring.planning import removed
from dynamo_core.runtime.machine import Effects, Machine
from dynamo_core.testing.town import SETTINGS, Town

KEY = b"cart 19"
"""Of a, b and c, in a ring of a to d."""
STORED = store_key(KEY)
HERE = partition_of(STORED, 4)
ROUND = 1 << 32
QUICK = msgspec.structs.replace(SETTINGS, collect_s=1e9)


def record(counter: int, key: bytes = KEY) -> bytes:
    dot = (1, counter)
    return encode_record(key, Record((Sibling(*dot, b"%d" % counter),), History().with_dot(dot)))


def started(name: str, *seen: int) -> Town:
    """Owners a, b and c and a stand-in; a value on every owner; numbers by owner, "" for 0; `name`
    has just started again and has heard no node yet."""
    town = Town("a b c d", settings=QUICK)
    town.put("a", KEY, b"v", w=3)
    for owner, number in zip(town.owners(KEY), seen, strict=False):
        town.nodes[owner].replica.numbers.see(HERE, number)
    town.deliver()
    town.kill(name)
    town.cut |= {(name, other) for other in town.names} | {(other, name) for other in town.names}
    town.start(name)
    return town


def apart(node: Node) -> bool:
    return HERE in node.replica.quarantined


def store(town: Town, node: Node, cause: str, seen: int = 0, **fields: Any) -> Message:
    answers: list[Message] = []
    entry_id = town.ring.entries[HERE].id
    request = Store(0, HERE, entry_id, STORED, record(1), sync=True, cause=cause, seen=seen)
    node.local.answer(msgspec.structs.replace(request, **fields), answers.append)
    town.deliver()
    (answer,) = answers
    return answer


def hints(town: Town, name: str) -> set[HintTarget]:
    return {split_hint_key(key)[0] for key in town.disks[name].rows[HINTS]}


def test_a_start_compares_and_all_is_as_ever() -> None:
    town = started("a")
    node = town.nodes["a"]
    assert apart(node) and not node.replica.complete(HERE)
    town.cut.clear()
    town.run(2.0)
    assert not node.replica.quarantined
    assert node.replica.complete(HERE)


def test_the_only_owner_of_a_partition_has_no_node_to_ask() -> None:
    town = Town("a", n=1, settings=QUICK)
    town.kill("a")
    assert not town.start("a").replica.quarantined


def test_earlier_writes_stay_in_quarantine_and_go_to_all_owners() -> None:
    town = started("a")
    node = town.nodes["a"]
    assert town.put("a", KEY, b"new", w=1).status == 204
    answer = store(town, node, "put")
    assert isinstance(answer, Stored) and not answer.flags & 2, "an ack, of no complete owner"
    assert hints(town, "a") == {node.replica.quarantine_target}
    assert set(town.values("a", KEY, r=1)) == {b"v", b"new", b"1"}, "reads see all of it"
    town.cut.clear()
    town.until(lambda: not hints(town, "a"))
    for name in town.names:
        assert set(town.values(name, KEY)) == {b"v", b"new", b"1"}


def test_a_put_in_quarantine_builds_only_on_the_quarantine() -> None:
    """All others may have forgotten what is in the copy; no new version may build on it."""
    town = started("a")
    town.put("a", KEY, b"one", w=1)
    town.put("a", KEY, b"two", w=1)
    (row,) = town.disks["a"].rows[HINTS].values()
    assert {sibling.value for sibling in decode_record(row).siblings} == {b"one", b"two"}


@pytest.mark.parametrize("cause", ["repair", "exchange", "offer"])
def test_what_its_sender_keeps_anyway_is_refused_until_then(cause: str) -> None:
    town = started("a")
    answer = store(town, town.nodes["a"], cause)
    assert isinstance(answer, Refused) and answer.reason is Refusal.APART


def test_a_hint_that_is_delivered_meanwhile_keeps_its_number() -> None:
    town = started("a", 9, 9, 9)
    node = town.nodes["a"]
    assert isinstance(store(town, node, "hint", seen=5), Stored)
    (target,) = hints(town, "a")
    assert target == InQuarantine(node.replica.quarantine_target.start, 5)
    sent: set[int] = set()

    def listen(sender: str, receiver: str, frame: Any) -> bool:
        sent.update(m.seen for m in frame.messages if isinstance(m, Store) and m.cause == "hint")
        return False

    town.lost = listen
    town.cut.clear()
    town.until(lambda: not hints(town, "a"))
    assert sent == {5}


def test_the_bytes_before_a_key_that_lies_apart() -> None:
    """They are on disks: the number of this start, and behind it that of the sender's store."""
    town = started("a")
    node = town.nodes["a"]
    for cause in ("put", "hint"):
        store(town, node, cause, seen=0x2F)
    there = {key.removesuffix(STORED) for key in town.disks["a"].rows[HINTS]}
    boot = b"=%016x" % node.boot
    assert there == {b"\x11" + boot, b"\x14" + boot + b":2f"}


@pytest.mark.parametrize("target", ["a", "", "a:5", "=12", "=12:zz", "=12:", "=12:05"])
def test_a_target_without_a_number(target: str) -> None:
    """Also one that a peer made up: the bytes of its key are found again."""
    parsed = target_of(target)
    assert spelled(parsed) == target
    assert not isinstance(parsed, InQuarantine) or parsed.seen is None


def test_a_hint_from_before_a_round_is_dropped_in_the_end() -> None:
    """Its holder was stale, otherwise it would have a higher number."""
    town = started("a", 9, 9, 9)
    node = town.nodes["a"]
    store(town, node, "hint", seen=5)
    for owner in "bc":
        town.nodes[owner].replica.numbers.commit(HERE, 9)
    town.cut.clear()
    town.until(lambda: not hints(town, "a"))
    assert town.counters("stale_hints_dropped") == 1
    assert town.values("b", KEY) == [b"v"]


def tell(town: Town, node: Node, name: str, seen: int, floor: int, ahead_ms: int = 0) -> None:
    """An owner's numbers, asked for now, or by a life whose clock was ahead of this one's."""
    asked_ms = node.detector.now_ms + ahead_ms
    node.quarantine.told(name, NumbersTold(asked_ms, [(HERE, seen, floor)]))
    town.deliver()


def test_an_owner_that_knows_no_more_rounds_settles_it() -> None:
    town = started("a", ROUND)
    node = town.nodes["a"]
    tell(town, node, "b", ROUND, ROUND)
    assert not apart(node)
    assert node.replica.numbers.floor(HERE) == ROUND, "a floor is true whoever says it"


def test_a_stand_in_s_numbers_settle_nothing() -> None:
    town = started("a", ROUND)
    node = town.nodes["a"]
    tell(town, node, town.others(KEY)[0], 0, 0)
    assert apart(node)


def test_a_round_that_passed_by_is_abandoned_when_all_owners_say_so_late_enough() -> None:
    """Otherwise its commit may still be under way, or may have reached the silent owner."""
    town = started("a", ROUND)
    node = town.nodes["a"]
    one, two = (name for name in town.owners(KEY) if name != "a")
    for ahead_ms in (0, int(3000 * QUICK.call_s)):
        tell(town, node, one, 2 * ROUND, 0, ahead_ms)
        tell(town, node, two, 2 * ROUND, 0, ahead_ms)
        assert apart(node), "too early, or asked by an earlier life"
    town.run(3 * QUICK.call_s)
    tell(town, node, one, 2 * ROUND, 0)
    assert apart(node), "one of two"
    tell(town, node, two, 2 * ROUND, 0)
    assert not apart(node)
    assert town.counters("rounds_known_to_be_abandoned") == 1
    assert town.values("a", KEY, r=1) == [b"v"]


def test_a_disk_without_old_data_has_nothing_to_doubt() -> None:
    town = started("d")
    node = town.nodes["d"]
    assert town.put("d", KEY, b"new", w=1).status == 204
    tell(town, node, "b", 5 * ROUND, 4 * ROUND)
    numbers = node.replica.numbers
    assert not apart(node)
    assert (numbers.seen(HERE), numbers.floor(HERE)) == (5 * ROUND, 4 * ROUND)
    assert hints(town, "d") == {node.replica.quarantine_target}


def test_below_a_floor_the_copy_goes_slice_by_slice_and_the_quarantine_stays() -> None:
    """The hints of earlier lives go with it; other partitions do not change."""
    keys = [b"%d" % n for n in range(3000)]
    there = [key for key in keys if partition_of(store_key(key), 4) == HERE]
    other = next(key for key in keys if partition_of(store_key(key), 4) != HERE)
    settings = msgspec.structs.replace(QUICK, rows_max=3)
    town = Town("a b c", settings=settings)
    for key in (*there[:10], other):
        town.put("a", key, b"v", w=3)
    node = town.nodes["a"]
    for name in "bc":
        town.nodes[name].replica.numbers.commit(HERE, ROUND)
        town.nodes[name].replica.numbers.see(HERE, 2 * ROUND)
    node.replica.keep_hint("b", store_key(there[10]), record(1, there[10]))
    town.deliver()
    town.kill("a")
    town.cut |= {(a, b) for a in "abc" for b in "abc" if "a" in (a, b)}
    node = town.start("a")
    town.put("a", there[11], b"new", w=1)
    assert node.replica.complete(HERE) is False
    tell(town, node, "b", 2 * ROUND, ROUND)
    assert HERE in node.quarantine.dropping
    town.put("a", there[12], b"meanwhile", w=1)
    town.until(lambda: not node.quarantine.dropping)
    disk = town.disks["a"]
    assert list(disk.rows[DATA]) == [store_key(other)]
    assert hints(town, "a") == {node.replica.quarantine_target}
    assert node.replica.forest.root(HERE) == bytes(16)
    numbers = node.replica.numbers
    assert (numbers.seen(HERE), numbers.floor(HERE)) == (2 * ROUND, ROUND)
    assert HERE not in node.replica.marks
    assert town.counters("kept_apart_over_a_drop") == 1
    town.cut.clear()
    town.until(lambda: node.replica.complete(HERE))
    assert town.values("a", there[0]) == [b"v"]
    assert town.values("b", there[11]) == [b"new"]
    assert town.values("c", there[12]) == [b"meanwhile"]


def test_a_hint_that_an_earlier_life_took_from_a_store_that_knew_the_round_stays() -> None:
    """Its sender has dropped it after this node's fsynced ack, so there is no other copy."""
    town = Town("a b c d", settings=QUICK)
    stale, *others = town.owners(KEY)
    (stand_in,) = town.others(KEY)
    town.put(stale, KEY, b"v", w=3)
    for name in others:
        town.nodes[name].replica.numbers.commit(HERE, ROUND)
    town.nodes[stand_in].replica.numbers.see(HERE, ROUND)
    town.deliver()
    town.kill(stale)
    apart_from = {(x, y) for x in (stale, stand_in) for y in others}
    town.cut |= apart_from | {(y, x) for x, y in apart_from}
    town.run(5.0)
    assert town.put(stand_in, KEY, b"new", w=1).status == 204
    town.start(stale)
    town.until(lambda: not hints(town, stand_in))
    town.kill(stale)
    town.start(stale)
    town.cut.clear()
    town.until(lambda: not town.nodes[stale].replica.quarantined and not hints(town, stale))
    assert town.counters("stale_copies_dropped") == 1
    for name in town.names:
        assert set(town.values(name, KEY)) == {b"v", b"new"}


def test_a_copy_that_is_dropped_after_the_disk_was_full_is_not_complete() -> None:
    """The full disk refuses the batch that takes the mark of the copy; the records go later. With
    the mark, the empty copy would prove that its keys are absent."""
    town = Town("a b c", settings=QUICK)
    town.put("a", KEY, b"v", w=3)
    for name in "bc":
        town.nodes[name].replica.numbers.commit(HERE, ROUND)
    town.deliver()
    town.kill("a")
    town.cut |= {(a, b) for a in "abc" for b in "abc" if "a" in (a, b)}
    node, disk = town.start("a"), town.disks["a"]
    disk.full = True
    tell(town, node, "b", ROUND, ROUND)
    assert HERE in node.quarantine.dropping and not node.writable
    disk.full = False
    node.reopened()
    town.until(lambda: not node.quarantine.dropping)
    assert STORED not in disk.rows[DATA]
    assert HERE not in node.replica.marks and not node.replica.complete(HERE)
    assert town.get("a", KEY, r=1).problem == "insufficient-owners"
    town.cut.clear()
    town.until(lambda: node.replica.complete(HERE))
    assert town.values("a", KEY, r=1) == [b"v"]


def test_a_running_node_learns_that_it_is_stale_when_it_is_refused() -> None:
    town = Town("a b c", settings=QUICK)
    town.put("a", KEY, b"v", w=3)
    for owner in "bc":
        town.nodes[owner].replica.numbers.commit(HERE, ROUND)
    town.deliver()
    outcome = town.put("a", KEY, b"new", w=1)
    assert outcome.status == 204
    town.until(lambda: town.nodes["a"].replica.complete(HERE))
    assert town.counters("stale_records_refused") >= 1
    assert town.counters("stale_copies_dropped") == 1
    assert town.nodes["a"].replica.numbers.floor(HERE) == ROUND


def test_a_live_sender_reads_again_what_was_refused_as_stale() -> None:
    """The sender agreed to a round between reading and sending: the put succeeds all the same."""
    town = Town("a b c", settings=QUICK)
    at = town.owners(KEY)[0]
    others = [name for name in "abc" if name != at]

    def meanwhile(sender: str, receiver: str, frame: Any) -> bool:
        if sender == at and any(isinstance(m, Store) for m in frame.messages):
            for name in (at, *others):
                town.nodes[name].replica.numbers.commit(HERE, ROUND)
        return False

    town.lost = meanwhile
    outcome = town.put(at, KEY, b"v", w=3)
    assert outcome.status == 204
    assert outcome.acks is not None and outcome.acks.owners == 3
    assert town.counters("stale_records_refused") == 2
    assert town.counters("stale_copies_dropped") == 0


class Stores(Machine):
    """Sends one record that was read at number 0 to some nodes, and keeps why each refused."""

    def __init__(self, town: Town, names: list[str]) -> None:
        super().__init__()
        self.reasons: dict[str, Reason] = {}
        self._names, self._entry_id = names, town.ring.entries[HERE].id

    def start(self, now: float) -> Effects:
        place = (HERE, self._entry_id, STORED, record(1))
        return [(name, Store(0, *place)) for name in self._names]

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        self.reasons[node] = reason
        return []


def test_a_refusal_is_spelt_alike_near_and_far() -> None:
    """The code compares with one spelling and must find both: a put reads its record again if its
    own copy refuses it as stale, and also if another owner does (S-DEL-3)."""
    town = Town("a b c", settings=QUICK)
    for name in "abc":
        town.nodes[name].replica.numbers.commit(HERE, ROUND)
    town.deliver()
    stores = Stores(town, ["a", "b", "c"])
    town.nodes["a"].later(lambda: town.nodes["a"].spawn(stores))
    town.deliver()
    assert stores.reasons == dict.fromkeys("abc", Refusal.STALE)


def test_numbers_are_told_of_what_is_owned() -> None:
    town = Town("a b c d", n=2, settings=QUICK)
    node = town.nodes["a"]
    said: list[Message] = []
    node.outbox.send = lambda route, message: said.append(message)  # type: ignore[method-assign]
    node.quarantine.asked("b", Numbers(77))
    (told,) = said
    assert isinstance(told, NumbersTold)
    assert told.id == 77
    assert {row[0] for row in told.rows} == set(node.replica.owned())


def test_without_owners_there_is_no_node_to_compare_with() -> None:
    """Nodes that started after the owners died take their places: removed with the loss accepted,
    the partition must not stay without an owner for ever (S-MOVE-4)."""
    town = Town("a b c d e", n=2)
    dead = town.owners(KEY)
    alive = [name for name in town.names if name not in dead]
    town.kill(*town.names)
    for name in alive:
        town.start(name)
    town.run(5.0)
    node = town.nodes[alive[0]]
    one = removed(node.ring, dead[0], True, "one")[0]
    node.ring_state.take(removed(one, dead[1], True, "and the other")[0])
    town.until(town.moved)
    assert town.put(alive[0], KEY, b"v", w=2).status == 204
