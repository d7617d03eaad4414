"""Records of other nodes are verified before this node uses them (T-1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dynamo_core.causality.codec import HEAD_BYTES, digest_of, encode_record
from dynamo_core.causality.context import Context
from dynamo_core.causality.records import History, Record, Sibling
from dynamo_core.errors import PeerCorrupt, StoreError
from dynamo_core.keys import DATA, HINTS, partition_of, store_key
from dynamo_core.protocol.arrivals import (
    expiry_digest,
    outcome_digest,
    put_digest,
    verified_outcome,
    verified_put,
    verified_record,
)
from dynamo_core.protocol.frames import Frame, encode_frame
from dynamo_core.protocol.messages import (
    Fetched,
    FetchedMany,
    Forward,
    Forwarded,
    Message,
    Refused,
    Store,
)
from dynamo_core.protocol.operations import Acks, Explanation, Outcome, Put
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.protocol.route import At
from dynamo_core.testing.town import Town, known

KEY = b"price"
STORED = store_key(KEY)
RECORD = encode_record(
    KEY,
    Record(
        (Sibling(7, 2, b"100 euro", "text/plain", "r2"),),
        History({7: 2}).naming((Sibling(7, 1, b"", request_id="r1"),)),
    ),
)
PUT = Put(key=KEY, value=b"100 euro", context=Context(History({7: 1}).encode(), "a"))
OUTCOME = Outcome(
    status=200, values=[Sibling(7, 1, b"100 euro")], context=PUT.context, acks=Acks(2, 2), node="a"
)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# ---------------------------------------------------------------- the functions themselves


def test_a_whole_record_passes() -> None:
    assert verified_record(STORED, RECORD) is RECORD


def test_no_flipped_bit_of_digest_length_or_body_passes() -> None:
    end = HEAD_BYTES + int.from_bytes(RECORD[16:HEAD_BYTES], "big")
    assert len(RECORD) > end
    for bit in range(8 * end):
        with pytest.raises(PeerCorrupt):
            verified_record(STORED, flipped(RECORD, bit))


def test_no_flipped_bit_of_its_place_passes() -> None:
    for bit in range(8 * len(STORED)):
        with pytest.raises(PeerCorrupt):
            verified_record(flipped(STORED, bit), RECORD)


@pytest.mark.parametrize("data", [b"", b"\xc1", RECORD[:10], RECORD[:-1], RECORD + b"\xc1"])
def test_what_is_no_record_does_not_pass(data: bytes) -> None:
    with pytest.raises(PeerCorrupt):
        verified_record(STORED, data)


def test_a_body_that_does_not_decode_does_not_pass_under_a_digest_that_holds() -> None:
    body = b"\xc1" * 40
    with pytest.raises(PeerCorrupt):
        verified_record(STORED, digest_of(KEY, body) + len(body).to_bytes(4, "big") + body)


def test_the_peers_fault_is_not_the_disks() -> None:
    assert not issubclass(PeerCorrupt, StoreError)


@pytest.mark.parametrize(
    "fields",
    [
        {"key": b"prize"}, {"value": b"900 euro"}, {"value": None}, {"content_type": "text/html"},
        {"context": None}, {"context": Context(History({7: 3}).encode(), "a")},
        {"request_id": "r9"}, {"expires_in_s": 1}, {"w": 3}, {"dw": 3}, {"strict": True},
        {"explain": True}, {"answer_record": True},
    ],
)  # fmt: skip
def test_a_put_that_is_another_than_its_clients_does_not_pass(fields: dict[str, Any]) -> None:
    assert verified_put(PUT, put_digest(PUT)) is PUT
    with pytest.raises(PeerCorrupt):
        verified_put(msgspec.structs.replace(PUT, **fields), put_digest(PUT))


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 204}, {"values": []}, {"values": [Sibling(7, 1, b"900 euro")]},
        {"context": None}, {"context": Context(History({7: 2}).encode(), "a")},
        {"acks": Acks(3, 3)}, {"applied": "no"}, {"problem": "overloaded"},
        {"explanation": Explanation()},
    ],
)  # fmt: skip
def test_an_outcome_that_is_another_than_it_was_does_not_pass(fields: dict[str, Any]) -> None:
    assert verified_outcome(OUTCOME, outcome_digest(OUTCOME)) is OUTCOME
    with pytest.raises(PeerCorrupt):
        verified_outcome(msgspec.structs.replace(OUTCOME, **fields), outcome_digest(OUTCOME))


def test_an_expiry_that_is_another_than_its_clients_does_not_pass() -> None:
    """The expiry has a second digest, which older nodes neither make nor ask for (C17)."""
    put = msgspec.structs.replace(PUT, expires_ms=1_700_000_000_000)
    assert put_digest(put) == put_digest(PUT)
    assert verified_put(put, put_digest(put), expiry_digest(put)) is put
    for other, told in (
        (put, b""),
        (PUT, expiry_digest(put)),
        (msgspec.structs.replace(put, expires_ms=put.expires_ms ^ 1 << 40), expiry_digest(put)),
        (msgspec.structs.replace(put, key=b"prize"), expiry_digest(put)),
    ):
        with pytest.raises(PeerCorrupt):
            verified_put(other, b"", told)


def test_older_nodes_send_no_digest_and_their_contexts_must_decode() -> None:
    bare = Put(key=KEY, value=b"v", context=Context(b"\xc1", ""))
    assert verified_put(PUT, b"") is PUT
    with pytest.raises(PeerCorrupt):
        verified_put(bare, b"")
    with pytest.raises(PeerCorrupt):
        verified_outcome(Outcome(status=204, context=bare.context), b"")


# ---------------------------------------------------------------- every way in


class Liar:
    """The network of a town in which messages of one node are changed on their way."""

    def __init__(self, town: Town, name: str, change: Callable[[Message], bool]) -> None:
        self.town, self.name, self.change = town, name, change
        self.changed = 0
        town.lost = self.lost

    def lost(self, sender: str, receiver: str, frame: Frame) -> bool:
        if sender != self.name or not sum(self.change(message) for message in frame.messages):
            return False
        self.changed += 1
        self.town.nodes[receiver].receive(encode_frame(frame))
        return True


def spoil(record: bytes) -> bytes:
    """The same record with another value under the old digest."""
    assert b"100 euro" in record
    return record.replace(b"100 euro", b"900 euro")


def bad_answers(message: Message) -> bool:
    bad = isinstance(message, Fetched) and b"100 euro" in message.record
    if bad:
        message.record = spoil(message.record)
    return bad


def refused(town: Town, name: str) -> dict[str, int]:
    """What each node has refused from this one."""
    return {x: n for x, node in town.nodes.items() if (n := node.corrupt_from[name])}


def spread(town: Town) -> bool:
    """Whether any disk has the wrong value."""
    families = [disk.rows[family] for disk in town.disks.values() for family in (DATA, HINTS)]
    return any(b"900 euro" in row for rows in families for row in rows.values())


def test_a_get_asks_another_owner_and_sends_the_good_record_to_the_first() -> None:
    town = Town("a b c")
    town.put("a", KEY, b"100 euro", w=3)
    liar = Liar(town, "b", bad_answers)
    repairs: list[str] = []

    def watch(sender: str, receiver: str, frame: Frame) -> bool:
        if any(isinstance(m, Store) and m.cause == "repair" for m in frame.messages):
            repairs.append(receiver)
        return liar.lost(sender, receiver, frame)

    town.lost = watch
    assert town.values("a", KEY, r=2) == [b"100 euro"]
    assert town.get("a", KEY, r=3).problem == "quorum-not-met"
    assert liar.changed >= 1
    assert refused(town, "b") == {"a": liar.changed}
    assert set(repairs) == {"b"}
    assert not spread(town)


def test_bytes_that_do_not_decode_cost_neither_the_reader_nor_its_disk() -> None:
    town = Town("a b c")
    town.put("a", KEY, b"100 euro", w=3)

    def garbage(message: Message) -> bool:
        bad = isinstance(message, Fetched) and bool(message.record)
        if bad:
            message.record = message.record[:20] + b"\xc1" * (len(message.record) - 20)
        return bad

    liar = Liar(town, "b", garbage)
    assert town.values("a", KEY, r=2) == [b"100 euro"]
    assert liar.changed
    assert town.nodes["a"].counters["corrupt_records"] == 0
    assert not town.nodes["a"].replica.damaged


def test_a_record_of_this_node_that_is_wrong_gets_no_new_digest() -> None:
    """The node's own store may be corrupt too: a get finds it because the answers differ."""
    town = Town("a b c")
    town.put("a", KEY, b"100 euro", w=3)
    rows = town.disks["a"].rows[DATA]
    rows[STORED] = spoil(rows[STORED])
    assert town.values("a", KEY, r=2) == [b"100 euro"]
    town.run(1.0)
    assert not spread(town)
    assert town.nodes["a"].counters["corrupt_records"] == 1


@pytest.mark.parametrize("cause", ["put", "repair", "hint", "exchange", "offer", "double"])
def test_a_store_of_any_cause_is_refused_and_not_acked(cause: str) -> None:
    town = Town("a b c")
    town.put("a", KEY, b"100 euro", w=3)
    node, partition = town.nodes["b"], partition_of(STORED, town.ring.partition_bits)
    entry_id = town.ring.entries[partition].id
    record = town.disks["a"].rows[DATA][STORED]
    for stored, data in ((STORED, spoil(record)), (b"\x00" + STORED[1:], record)):
        answers: list[Message] = []
        store = Store(9, partition, entry_id, stored, data, "", False, cause, 1 << 30)
        node.local.stores((store,), answers.append, lambda: node.sent_corrupt("a"))
        assert [(type(a), getattr(a, "reason", "")) for a in answers] == [
            (Refused, Refusal.CORRUPT)
        ]
    assert refused(town, "a") == {"b": 2}
    assert not spread(town)


def test_a_hint_that_is_spoilt_on_its_way_holds_no_other_up() -> None:
    town = Town("a b c d")
    one, _, three = town.owners(KEY)
    (four,) = town.others(KEY)
    other = next(k for k in map(b"%d".__mod__, range(999)) if town.others(k) == [four])
    town.kill(three)
    for key in (KEY, other):
        assert town.put(one, key, b"100 euro", w=3).status == 204
    first, second = sorted((STORED, store_key(other)))

    def bad_hints(message: Message) -> bool:
        bad = isinstance(message, Store) and message.cause == "hint" and message.stored == first
        if bad:
            message.record = spoil(message.record)  # type: ignore[attr-defined]
        return bad

    liar = Liar(town, four, bad_hints)
    town.lost, lost = (lambda *frame: False), town.lost
    town.start(three)
    town.lost = lost
    town.until(lambda: bool(liar.changed))
    town.until(lambda: not any(key.endswith(second) for key in town.disks[four].rows[HINTS]))
    assert any(key.endswith(first) for key in town.disks[four].rows[HINTS])
    town.lost = lambda *frame: False
    town.until(lambda: not town.disks[four].rows[HINTS])
    assert town.values(three, KEY, r=1) == [b"100 euro"]
    assert refused(town, four).keys() == {three}


def test_an_exchange_goes_on_without_a_record_that_does_not_hold() -> None:
    town = Town("a b c")
    town.put("a", KEY, b"100 euro", w=3)
    town.put("a", b"other", b"100 euro", w=3)

    def bad_copies(message: Message) -> bool:
        bad = isinstance(message, FetchedMany) and any(message.records)
        if bad:
            message.records = [spoil(r) if r else r for r in message.records]  # type: ignore[attr-defined]
        return bad

    town.kill("c")
    town.wipe("c")
    liar = Liar(town, "a", bad_copies)
    town.start("c")
    town.until(lambda: town.nodes["c"].member and town.nodes["c"].corrupt_from["a"] > 0)
    partition = partition_of(STORED, town.ring.partition_bits)
    town.until(lambda: STORED in town.disks["c"].rows[DATA])  # from the other owner
    assert not town.nodes["c"].replica.complete(partition)  # its pass over `a` is not done
    assert not spread(town)
    town.lost = lambda *frame: False
    town.until(lambda: town.nodes["c"].replica.complete(partition))
    assert liar.changed
    assert town.nodes["c"].counters["corrupt_records"] == 0


def test_a_forwarded_put_that_is_not_its_clients_is_refused_and_coordinated_here() -> None:
    town = Town("a b c d")
    (four,) = town.others(KEY)

    def bad_puts(message: Message) -> bool:
        bad = isinstance(message, Forward)
        if bad:
            message.put.value = b"900 euro"
        return bad

    liar = Liar(town, four, bad_puts)
    outcome = town.put(four, KEY, b"100 euro", w=2)
    assert (outcome.status, outcome.node) == (204, four)
    assert liar.changed == 1
    assert sum(refused(town, four).values()) == 1
    assert not spread(town)
    assert town.values(four, KEY, r=3) == [b"100 euro"]


def test_an_outcome_that_is_not_its_coordinators_is_no_answer() -> None:
    """Its context would cover values that the client never saw; the put is repeated under its
    id."""
    town = Town("a b c d")
    (four,) = town.others(KEY)
    first = town.owners(KEY)[0]

    def bad_outcomes(message: Message) -> bool:
        bad = isinstance(message, Forwarded)
        if bad:
            message.outcome.values = [Sibling(1, 1, b"900 euro")]
            message.outcome.context = Context(History({1: 99}).encode(), "")
        return bad

    liar = Liar(town, first, bad_outcomes)
    outcome = town.put(four, KEY, b"100 euro", w=2, answer_record=True)
    assert [v.value for v in outcome.values] == [b"100 euro"]
    assert liar.changed == 1
    assert refused(town, first) == {four: 1}
    town.run(3.0)
    assert town.values(four, KEY, r=3) == [b"100 euro"]


def test_a_delete_without_a_context_reads_nothing_that_does_not_hold() -> None:
    town = Town("a b c")
    town.put("a", KEY, b"100 euro", w=3)
    liar = Liar(town, "b", bad_answers)
    town.put("a", KEY, None, w=1)
    assert town.get("a", KEY, r=1).status == 404
    assert liar.changed or town.counters("corrupt_records_refused") == 0
    assert not spread(town)


def test_a_stranger_is_counted_under_one_name() -> None:
    town = Town("a b c")
    for route in (At("10.0.0.9:1"), "mallory"):
        town.nodes["a"].sent_corrupt(route)
    assert town.nodes["a"].corrupt_from == {"(no member)": 2}
    assert known(town.put("a", KEY, b"v", w=1))
