"""What people see of keys, hints, trees and members, from any node's door (docs/console.md)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from town import SETTINGS, Town, known

from dynamo_core.chronicle import EVENT_BYTES, Chronicle
from dynamo_core.happenings import KEPT_MAX, Happenings
from dynamo_core.ids import partition_of, store_key
from dynamo_core.versions import NOTHING, Sibling

WATCHING = msgspec.structs.replace(SETTINGS, history_bytes_max=1 << 20)


def asked(town: Town, at: str, question: str, *arguments: Any) -> dict[str, Any]:
    """The document that the node at that door answers."""
    told: list[tuple[int, dict[str, Any]]] = []
    getattr(town.nodes[at].inside, question)(*arguments, lambda *answer: told.append(answer))
    town.until(lambda: bool(told))
    assert told[0][0] == 200, told
    return told[0][1]


def test_copies_of_a_key_agree_after_a_put() -> None:
    town = Town("a b c d")
    town.put("a", b"k", b"v", w=3)
    town.run(1.0)
    for door in town.nodes:
        seen = asked(town, door, "records", b"k")
        assert seen["owners"] == list(town.owners(b"k")) and seen["owners_agree"]
        assert [c["node"] for c in seen["copies"]] == seen["owners"]
        assert len({c["digest"] for c in seen["copies"]}) == 1
        assert not any(c["lacks"] or c["superseded"] for c in seen["copies"])
        assert [c["siblings"][0]["value"] for c in seen["copies"]] == ["dg=="] * 3


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
    town.nodes[third].journal.flush()
    seen = asked(town, second, "records", b"k")
    copies = {c["node"]: c for c in seen["copies"]}
    assert not seen["owners_agree"]
    assert copies[third]["lacks"] == [copies[first]["siblings"][0]["dot"]]
    assert copies[third]["superseded"] == [copies[third]["siblings"][0]["dot"]]
    assert not (copies[first]["lacks"] or copies[first]["superseded"])
    town.until(lambda: asked(town, second, "records", b"k")["owners_agree"])


def test_a_hint_is_shown_beside_the_copies_and_says_what_it_waits_for() -> None:
    town = Town("a b c d")
    first, _, third = town.owners(b"k")
    (stand_in,) = town.others(b"k")
    town.kill(third)
    town.until(lambda: not town.nodes[first].up(third))
    town.put(first, b"k", b"v", w=3)
    seen = asked(town, first, "records", b"k")
    hint = next(c for c in seen["copies"] if c["target"])
    assert (hint["node"], hint["target"]) == (stand_in, third)
    assert seen["no_answer"] == {third: "down"}
    hints = asked(town, first, "hints", third, 10)
    (line,) = [t for h in hints["holders"] if h["node"] == stand_in for t in h["targets"]]
    assert (line["target"], line["count"], line["keys"]) == (third, 1, ["aw=="])
    assert line["waits_for"] == f"{third} is down"
    town.start(third)
    town.until(lambda: not town.nodes[stand_in].hints.counts)
    seen = asked(town, first, "records", b"k")
    assert seen["owners_agree"] and not any(c["target"] for c in seen["copies"])
    town.run(1.0)
    kinds = [line.kind for line in town.nodes[stand_in].happenings.since(0)]
    assert {"peer_down", "peer_up", "hints_kept", "hints_delivered"} <= set(kinds)


def test_the_cluster_is_seen_from_one_door() -> None:
    town = Town("a b c d")
    town.kill("d")
    town.until(lambda: not town.nodes["a"].up("d"))
    town.run(2.0)
    seen = asked(town, "a", "cluster")
    lines = {m["name"]: m for m in seen["members"]}
    assert [n for n, m in lines.items() if m["answered"]] == ["a", "b", "c"]
    assert lines["d"]["seen_by"] == dict.fromkeys("abc", "down")
    assert lines["b"]["status"]["partitions"]["owned"] > 0
    assert seen["no_answer"] == {"d": "down"} and seen["ring"]["partitions"] == 16


def test_trees_of_owners_differ_in_the_leaf_of_the_key() -> None:
    town = Town("a b c")
    town.put("a", b"k", b"v", w=3)
    town.run(1.0)
    partition = partition_of(store_key(b"k"), 4)
    seen = asked(town, "a", "trees", partition)
    assert not seen["differ"] and len({c["root"] for c in seen["copies"]}) == 1
    node = town.nodes["b"]
    stored = store_key(b"k")
    record = node.replica.data(stored)
    assert record is not None
    node.replica.forget(stored, record)
    node.journal.flush()
    seen = asked(town, "a", "trees", partition)
    assert seen["differ"] == [node.replica.forest.slot_of(stored) & 3]


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
    seen = asked(town, z, "history", b"cart")
    assert seen["watched"]
    events = {e["value"]: e for e in seen["events"]}
    d1, d2e, d3, d4, d5 = (events[v] for v in ("RDE=", "RDI=", "RDM=", "RDQ=", "RDU="))
    assert [e["coordinator"] for e in (d1, d2e, d3, d4, d5)] == [x, x, y, z, x]
    assert d1["parents"] == [] and d2e["parents"] == [d1["dot"]]
    assert d3["parents"] == d4["parents"] == [d2e["dot"]]
    assert sorted(d5["parents"]) == sorted([d3["dot"], d4["dot"]])
    assert sorted(d2e["superseded_by"]) == sorted([d3["dot"], d4["dot"]])
    counters = [int(e["dot"].rpartition(":")[2]) for e in (d1, d2e, d3, d4, d5)]
    assert counters == [1, 2, 1, 1, 3], "Sx,1 Sx,2 Sy,1 Sz,1 Sx,3"
    assert {c["way"] for e in (d1, d2e, d3, d4, d5) for c in e["came"]} == {"replica"}


def test_history_is_off_unless_asked_for_and_bounded() -> None:
    off = Chronicle(0)
    assert not off.watches(store_key(b"k"))
    some = Chronicle(1 << 20, (b"cart:",))
    assert some.watches(store_key(b"cart:1")) and not some.watches(store_key(b"x"))
    one_in_four = Chronicle(1 << 20, (), 4)
    watched = sum(one_in_four.watches(store_key(b"%d" % n)) for n in range(4000))
    assert 800 < watched < 1200
    small = Chronicle(20 * EVENT_BYTES)
    for n in range(10_000):
        made = Sibling(7, n + 1, b"v" * 100)
        small.made(store_key(b"k"), NOTHING, ((), made, (made,)), "")
        assert small.bytes <= small.bytes_max
    body = small.of(store_key(b"k"), 1 << 20)
    assert small.dropped + len(body.events) == 10_000 and len(body.events) > 10
    assert body.events[-1].made == (7, 10_000)


def test_happenings_keep_a_bounded_number_of_lines() -> None:
    lines, heard = Happenings(), []
    lines.heard = lambda: heard.append(1)
    for n in range(KEPT_MAX + 10):
        lines.add(n, "ring", "S-RING-3", epoch=n)
    assert len(heard) == KEPT_MAX + 10
    assert next(line.number for line in lines.since(0)) == 11
    assert [line.number for line in lines.since(KEPT_MAX + 8)] == [KEPT_MAX + 9, KEPT_MAX + 10]
    assert len(lines.since(1 << 40)) == KEPT_MAX, "a number of an earlier process"
    lines.beat(1, {"hints_kept": 3})
    lines.beat(2, {"hints_kept": 3})
    (last,) = lines.since(KEPT_MAX + 10)
    assert (last.kind, last.about) == ("hints_kept", {"count": 3})


@pytest.mark.parametrize("question", ["cluster", "records", "history", "trees", "hints"])
def test_a_node_in_no_ring_says_so(question: str) -> None:
    town = Town("a", n=1, founded=False)
    arguments = {"records": (b"k",), "history": (b"k",), "trees": (0,), "hints": ("", 0)}
    told: list[Any] = []
    inside = town.nodes["a"].inside
    getattr(inside, question)(*arguments.get(question, ()), lambda *answer: told.append(answer))
    assert [(s, b["problem"]) for s, b in told] == [(503, "not-a-member")]
