"""What people see of keys, hints, trees and members, from any node (docs/console.md)."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest

from dynamo_core.keys import DATA, partition_of, store_key
from dynamo_core.keys import HINTS as HINT_ROWS
from dynamo_core.look import documents, inside, own_copy
from dynamo_core.look.documents import without_values
from dynamo_core.look.gathering import ASKED_AT_ONCE_MAX, GATHERED_BYTES_MAX, NO_ROOM, Gathering
from dynamo_core.look.inside import NODES_ASKED_MAX, NODES_OF_A_KEY_MAX
from dynamo_core.protocol.look_messages import (
    ACTORS_SHOWN_MAX,
    BODY_BYTES_MAX,
    HINTS,
    HISTORY,
    RECORD,
    RECORDS_SHOWN_MAX,
    SIBLINGS_SHOWN_MAX,
    STATUS,
    Change,
    HintsBody,
    HintsFor,
    HistoryBody,
    Look,
    Looked,
    RecordBody,
    RecordShown,
    SiblingShown,
    StatusBody,
    decode_body,
    encode_body,
    status_of,
)
from dynamo_core.replica.hints import hint_key
from dynamo_core.testing.town import SETTINGS, Town, known
from tests.dynamo_core.look.asked import WATCHING, asked


def test_copies_of_a_key_agree_after_a_put() -> None:
    town = Town("a b c d")
    town.put("a", b"k", b"v", w=3)
    town.run(1.0)
    for at in town.nodes:
        shown = asked(town, at, "records", b"k")
        assert shown["owners"] == list(town.owners(b"k")) and shown["owners_agree"]
        assert [c["node"] for c in shown["copies"]] == shown["owners"]
        assert len({c["digest"] for c in shown["copies"]}) == 1
        assert not any(c["lacks"] or c["superseded"] for c in shown["copies"])
        assert [c["siblings"][0]["value"] for c in shown["copies"]] == ["dg=="] * 3
    hidden = without_values(shown)
    assert [c["siblings"][0]["value"] for c in hidden["copies"]] == [""] * 3
    assert [c["siblings"][0]["bytes"] for c in hidden["copies"]] == [1] * 3


def test_a_copy_that_missed_a_put_says_what_it_lacks() -> None:
    town = Town("a b c d")
    first, second, third = town.owners(b"k")
    town.put(first, b"k", b"old", w=3)
    town.run(1.0)
    replica, stored = town.nodes[third].replica, store_key(b"k")
    old = replica.data(stored)
    assert old is not None
    town.put(first, b"k", b"new", w=3, context=known(town.get(first, b"k")))
    town.run(1.0)
    replica.replace(stored, replica.data(stored), old)
    town.nodes[third].write_batch.flush()
    shown = asked(town, second, "records", b"k")
    copies = {c["node"]: c for c in shown["copies"]}
    assert not shown["owners_agree"]
    assert copies[third]["lacks"] == [copies[first]["siblings"][0]["dot"]]
    assert copies[third]["superseded"] == [copies[third]["siblings"][0]["dot"]]
    assert not (copies[first]["lacks"] or copies[first]["superseded"])
    town.until(lambda: asked(town, second, "records", b"k")["owners_agree"])


def test_a_hint_is_shown_beside_the_copies_and_says_what_it_waits_for() -> None:
    town = Town("a b c d", settings=WATCHING)
    first, _, third = town.owners(b"k")
    (stand_in,) = town.others(b"k")
    town.kill(third)
    town.until(lambda: not town.nodes[first].up(third))
    town.put(first, b"k", b"v", w=3)
    shown = asked(town, first, "records", b"k")
    hint = next(c for c in shown["copies"] if c["target"])
    assert (hint["node"], hint["target"]) == (stand_in, third)
    assert shown["no_answer"] == {third: "down"}
    hints = asked(town, first, "hints", third, 10)
    (line,) = [t for h in hints["holders"] if h["node"] == stand_in for t in h["targets"]]
    assert (line["target"], line["count"], line["keys"]) == (third, 1, ["aw=="])
    assert line["waits_for"] == "the node, which is down"
    town.run(30.0)
    (line,) = [t for h in asked(town, first, "hints", "", 0)["holders"] for t in h["targets"]]
    assert 30.0 - town.settings.hint_scan_s <= line["oldest_s"] <= 31.0
    town.start(third)
    town.until(lambda: not town.nodes[stand_in].hints.counts)
    town.run(1.0)
    assert not town.nodes[stand_in].deliveries.since
    shown = asked(town, first, "records", b"k")
    assert shown["owners_agree"] and not any(c["target"] for c in shown["copies"])
    kinds = [line.kind for line in town.nodes[stand_in].events.since(0)]
    assert {"ring", "peer_down", "peer_up", "hints_kept", "hints_delivered"} <= set(kinds)
    (event,) = asked(town, first, "history", b"k")["events"]
    came = {(c["node"], c["way"], c["target"]) for c in event["came"]}
    assert {(stand_in, "replica", third), (third, "hint", None)} <= came


def test_the_cluster_is_seen_from_one_node() -> None:
    town = Town("a b c d")
    town.nodes["b"].inside.own.attach(lambda: {"disk_bytes": 7})
    town.kill("d")
    town.until(lambda: not town.nodes["a"].up("d"))
    town.run(2.0)
    shown = asked(town, "a", "cluster")
    lines = {m["name"]: m for m in shown["members"]}
    assert [n for n, m in lines.items() if m["answered"]] == ["a", "b", "c"]
    assert lines["d"]["seen_by"] == dict.fromkeys("abc", "down")
    assert lines["b"]["status"]["partitions"]["owned"] > 0
    assert lines["b"]["status"]["disk_bytes"] == 7
    assert shown["no_answer"] == {"d": "down"} and shown["ring"]["partitions"] == 16


def test_trees_of_owners_differ_in_the_leaf_of_the_key() -> None:
    town = Town("a b c")
    town.put("a", b"k", b"v", w=3)
    town.run(1.0)
    stored = store_key(b"k")
    partition = partition_of(stored, 4)
    shown = asked(town, "a", "trees", partition)
    assert not shown["differ"] and len({c["root"] for c in shown["copies"]}) == 1
    node = town.nodes["b"]
    record = node.replica.data(stored)
    assert record is not None
    node.replica.forget(stored, record)
    node.write_batch.flush()
    shown = asked(town, "a", "trees", partition)
    assert shown["differ"] == [node.replica.forest.slot_of(stored) & 3]


def test_figure_3_of_the_paper() -> None:
    """[P 4.4]: D1, D2 by Sx; D3 by Sy and D4 by Sz after D2; D5 reconciles both, by Sx."""
    town = Town("a b c", settings=WATCHING)
    x, y, z = town.owners(b"cart")
    town.put(x, b"cart", b"D1", w=3)
    town.put(x, b"cart", b"D2", w=3, context=known(town.get(x, b"cart", r=3)))
    d2 = known(town.get(x, b"cart", r=3))
    town.put(y, b"cart", b"D3", w=3, context=d2)
    town.put(z, b"cart", b"D4", w=3, context=d2)
    town.run(1.0)
    both = town.get(y, b"cart", r=3)
    assert len(both.values) == 2
    town.put(x, b"cart", b"D5", w=3, context=known(both))
    town.run(1.0)
    shown = asked(town, z, "history", b"cart")
    assert shown["watched"]
    events = {e["value"]: e for e in shown["events"]}
    d1, d2e, d3, d4, d5 = (events[v] for v in ("RDE=", "RDI=", "RDM=", "RDQ=", "RDU="))
    assert [e["coordinator"] for e in (d1, d2e, d3, d4, d5)] == [x, x, y, z, x]
    assert d1["parents"] == [] and d2e["parents"] == [d1["dot"]]
    assert d3["parents"] == d4["parents"] == [d2e["dot"]]
    assert sorted(d5["parents"]) == sorted([d3["dot"], d4["dot"]])
    assert sorted(d2e["superseded_by"]) == sorted([d3["dot"], d4["dot"]])
    counters = [int(e["dot"].rpartition(":")[2]) for e in (d1, d2e, d3, d4, d5)]
    assert counters == [1, 2, 1, 1, 3], "Sx,1 Sx,2 Sy,1 Sz,1 Sx,3"
    assert {c["way"] for e in (d1, d2e, d3, d4, d5) for c in e["came"]} == {"replica"}


def test_a_look_changes_nothing_and_shows_damage() -> None:
    town = Town("a b c")
    town.put("a", b"k", b"v", w=3)
    town.run(1.0)
    stored, node = store_key(b"k"), town.nodes["b"]
    town.disks["b"].corrupt.add((DATA, stored))
    sequence, damaged = node.write_batch.sequence, set(node.replica.damaged)
    for at in "abc":
        shown = asked(town, at, "records", b"k")
        (copy,) = [c for c in shown["without"] if c["node"] == "b"]
        assert copy["damaged"] and not shown["owners_agree"]
    assert (node.write_batch.sequence, node.replica.damaged) == (sequence, damaged)


def test_no_body_is_longer_than_its_bound() -> None:
    """A key with many large siblings and many hints, each for another node; a long status."""
    town = Town("a b c", settings=msgspec.structs.replace(SETTINGS, siblings_max=1000))
    node, stored = town.nodes["a"], store_key(b"k")
    for n in range(130):
        word = f"{n:04d}-" + "ä" * 500
        town.put("a", b"k", b"v" * 2000, content_type=word, request_id=word, w=1)
    data = node.replica.data(stored)
    assert data is not None
    for n in range(40):
        node.hints.keep(f"n{n}", stored, data, False)
    node.write_batch.flush()
    assert town.disks["a"].rows[HINT_ROWS][hint_key("n3", stored)] == data
    node.inside.own.attach(lambda: {"long": "x" * BODY_BYTES_MAX})
    partition = partition_of(stored, 4)
    said: list[Any] = []
    for what in own_copy.OwnCopy(node)._bodies:
        node.inside.own.answer(Look(0, what, partition, stored, "n3", 100), said.append)
    assert len(said) == 5 and all(isinstance(one, Looked) for one in said)
    assert max(len(one.body) for one in said) <= BODY_BYTES_MAX
    body = next(decode_body(RECORD, one.body) for one in said[1:2])
    assert 0 < len(body.records) <= RECORDS_SHOWN_MAX
    assert len(body.records) + body.left_out == 41
    assert body.records[0].siblings_count == 130
    assert decode_body(STATUS, said[0].body).status == own_copy.TOO_LONG


def test_a_silent_node_is_named_and_the_others_are_shown() -> None:
    town = Town("a b c d e f g h")
    town.lost = lambda sender, receiver, frame: sender in "bcdefg" and receiver == "a"
    began = town.now
    shown = asked(town, "a", "cluster")
    assert town.now - began <= town.settings.call_s + 0.2
    assert shown["no_answer"] == dict.fromkeys("bcdefg", "no answer")
    assert [m["name"] for m in shown["members"] if m["answered"]] == ["a", "h"]


def test_members_that_are_not_asked_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "NODES_ASKED_MAX", 2)
    shown = asked(Town("a b c d"), "a", "cluster")
    assert [m["name"] for m in shown["members"] if m["answered"]] == ["a", "b"]
    assert shown["no_answer"] == dict.fromkeys("cd", "not asked: one request asks 2 members")


def test_a_gathering_holds_bounded_bytes() -> None:
    body = encode_body(StatusBody(b'{"a":"' + b"x" * (BODY_BYTES_MAX - 20) + b'"}'))
    names = [f"n{n}" for n in range(40)]
    ended: list[tuple[dict[str, Any], dict[str, str]]] = []
    machine = Gathering(Look(0, STATUS), names, ["z"], 2.0, lambda *said: ended.append(said))
    asked_now = machine.start(0.0)
    held = 0
    while asked_now:
        assert len(machine._asked) <= ASKED_AT_ONCE_MAX
        name, request = asked_now.pop()
        asked_now += machine.replied(str(name), request, Looked(1, body), 0.1)
        held = max(held, machine._bytes)
    ((found, missing),) = ended
    assert held <= GATHERED_BYTES_MAX
    assert len(found) + len(missing) == 41 and len(found) == GATHERED_BYTES_MAX // BODY_BYTES_MAX
    assert set(missing.values()) == {NO_ROOM, "down"}


def worst_bodies(what: str) -> list[bytes]:
    """Bodies that take most memory for their bytes, as many as one gathering holds."""
    if what == HINTS:
        body: msgspec.Struct = HintsBody(1, [HintsFor("a", 1, 1, "x", [b"k"] * 100)] * 64)
    elif what == RECORD:
        sibling = SiblingShown((1, 2), "value", 1, b"", "", 0, "")
        one = RecordShown("", b"", 1, {}, [], [sibling] * SIBLINGS_SHOWN_MAX, 1, 1)
        body = RecordBody(3, 0, False, [one] * RECORDS_SHOWN_MAX)
    elif what == HISTORY:
        dots = [(n, 1) for n in range(ACTORS_SHOWN_MAX)]
        change = Change(1, "put", "", (1, 2), dict(dots), dots, dots, dots, "value", 1, b"v")
        count = (BODY_BYTES_MAX - 100) // len(encode_body(change))
        body = HistoryBody(True, 0, [change] * count)
    else:
        body = StatusBody(b'{"x":[' + b",".join([b"{}"] * (BODY_BYTES_MAX // 3 - 10)) + b"]}")
    data = encode_body(body)
    assert len(data) <= BODY_BYTES_MAX
    count = GATHERED_BYTES_MAX // len(data)
    of_key = what in (RECORD, HISTORY)
    return [data] * min(count, NODES_OF_A_KEY_MAX if of_key else NODES_ASKED_MAX)


@pytest.mark.parametrize("what", [HINTS, RECORD, HISTORY, STATUS])
def test_the_memory_of_the_worst_answers_is_bounded(what: str) -> None:
    """T-4: decoded, as a document and encoded, beside the answer of another request."""
    bodies = worst_bodies(what)
    make: Any = {
        HINTS: documents.hints_document,
        RECORD: documents.records_document,
        HISTORY: documents.history_document,
        STATUS: lambda found: {name: status_of(body) for name, body in found.items()},
    }[what]
    tracemalloc.start()
    try:
        found = {f"n{n}": decode_body(what, body) for n, body in enumerate(bodies)}
        data = msgspec.json.encode(make(found))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most + len(data) <= 2 * 16 * 1024 * 1024 - sum(map(len, bodies)), "GATHERING_BYTES"


@pytest.mark.parametrize("question", ["cluster", "records", "history", "trees", "hints"])
def test_a_node_in_no_ring_says_so(question: str) -> None:
    town = Town("a", n=1, founded=False)
    arguments = {"records": (b"k",), "history": (b"k",), "trees": (0,), "hints": ("", 0)}
    told: list[Any] = []
    inside = town.nodes["a"].inside
    getattr(inside, question)(*arguments.get(question, ()), lambda *answer: told.append(answer))
    assert [(s, b["problem"]) for s, b in told] == [(503, "not-a-member")]


def test_an_older_node_is_not_asked_and_is_named() -> None:
    """C17: it would drop a whole frame for a message that it does not know."""
    town = Town("a b c")
    town.nodes["a"].detector.peers["b"].knows = 1
    sent: list[Any] = []

    def lost(sender: str, receiver: str, frame: Any) -> bool:
        sent.extend((sender, receiver, type(message)) for message in frame.messages)
        return False

    town.lost = lost
    shown = asked(town, "a", "cluster")
    assert shown["no_answer"] == {"b": "its older version does not know this call"}
    assert ("a", "b", Look) not in sent and ("a", "c", Look) in sent
