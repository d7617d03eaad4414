"""The ring document: merge laws, the order of lines and entries, exchange of parts, its forms."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.errors import BadFrame, BadParameter, Corrupt, RingRefused
from dynamo_core.ring.document import (
    JOINING,
    LAST_WRITE_WINS,
    LEAVING,
    LEFT,
    MEMBER,
    Entry,
    Identity,
    Member,
    Ring,
    RingParts,
    RingTarget,
    digest_of,
    merge,
    merge_parts,
)
from dynamo_core.ring.json_form import from_document, to_document

SIZE = 16
IDENTITY = Identity("carts", SIZE, 2)
NAMES = ("a", "b", "c")

member_lines = st.builds(
    Member,
    name=st.sampled_from(NAMES),
    incarnation=st.integers(1, 2),
    id=st.integers(1, 3),
    address=st.sampled_from(["one:1", "two:2"]),
    state=st.sampled_from([JOINING, MEMBER, LEAVING, LEFT]),
    version=st.integers(0, 2),
)
rows = st.sampled_from([("a", "b"), ("b", "c"), ("c", "a")])
entries = st.builds(
    Entry,
    term=st.integers(0, 1),
    version=st.integers(0, 1),
    owners=rows,
    move=st.none() | st.just(("a", "c")),
    old=st.none() | rows,
)
targets = st.builds(
    RingTarget,
    version=st.integers(0, 1),
    owners=st.just(()) | rows.map(lambda row: (row,) * SIZE),
    r=st.integers(1, 2),
    sloppy=st.booleans(),
)
rings = st.builds(
    Ring,
    identity=st.just(IDENTITY),
    members=st.lists(member_lines).map(lambda lines: {m.name: m for m in lines}),
    target=targets,
    entries=st.lists(entries, min_size=3, max_size=3).map(
        lambda some: tuple(some[i % 3] for i in range(SIZE))
    ),
)


def twin_merge(a: Ring, b: Ring) -> Ring:
    """The larger of each two, by the order that S-RING-3 writes down."""
    rank = [JOINING, MEMBER, LEAVING, LEFT]
    members: dict[str, Member] = {}
    for line in (*a.members.values(), *b.members.values()):
        rivals = [line, *([members[line.name]] if line.name in members else [])]
        members[line.name] = max(
            rivals,
            key=lambda m: (
                m.incarnation,
                m.state == LEFT,
                m.version,
                rank.index(m.state),
                digest_of(m),
            ),
        )
    target = max(a.target, b.target, key=lambda t: (t.version, digest_of(t)))
    pairs = zip(a.entries, b.entries, strict=True)
    later = tuple(max(pair, key=lambda e: (e.term, e.version, digest_of(e))) for pair in pairs)
    return Ring(IDENTITY, members, target, later)


def a_ring(**lines: Member) -> Ring:
    return Ring(IDENTITY, lines, RingTarget(), (Entry(0, 0, ("a", "b")),) * SIZE)


# ---------------------------------------------------------------- merge


@given(a=rings, b=rings)
def test_merge_takes_the_later_of_each_line(a: Ring, b: Ring) -> None:
    assert merge(a, b) == twin_merge(a, b)


@given(a=rings, b=rings, c=rings)
def test_merge_is_commutative_associative_and_idempotent(a: Ring, b: Ring, c: Ring) -> None:
    ab = merge(a, b)
    assert ab.encode() == merge(b, a).encode()
    assert merge(ab, c).encode() == merge(a, merge(b, c)).encode()
    assert merge(ab, a) is ab
    assert merge(ab, b) is ab


@given(a=rings, b=rings)
def test_the_ring_itself_comes_back_when_nothing_is_added(a: Ring, b: Ring) -> None:
    merged = merge(a, b)
    assert (merged is a) == (merged == a)
    assert merge(a, Ring.decode(a.encode())) is a


@given(a=rings, b=rings)
def test_numbers_only_grow_by_a_merge(a: Ring, b: Ring) -> None:
    later = merge(a, b)
    assert later.target.version >= max(a.target.version, b.target.version)
    for mine, then in zip(a.entries, later.entries, strict=True):
        assert then.id >= mine.id


def test_rings_of_two_clusters_never_mix() -> None:
    ring = a_ring()
    other = Ring(Identity("orders", SIZE, 2), {}, RingTarget(), ring.entries)
    with pytest.raises(RingRefused) as caught:
        merge(ring, other)
    assert caught.value.slug == "wrong-cluster"
    with pytest.raises(RingRefused):
        merge_parts(ring, RingParts(identity=Identity("carts", SIZE, 2, LAST_WRITE_WINS)))


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        pytest.param(
            Member("a", 1, 1, "", state=LEFT, version=9), Member("a", 2, 2, ""), id="next-life"
        ),
        pytest.param(
            Member("a", 1, 1, "", version=9), Member("a", 1, 1, "", state=LEFT), id="left-is-final"
        ),
        pytest.param(
            Member("a", 1, 1, "", state=LEAVING),
            Member("a", 1, 1, "", version=1),
            id="leaving-may-return",
        ),
        pytest.param(
            Member("a", 1, 1, ""), Member("a", 1, 1, "", state=LEAVING), id="state-breaks-ties"
        ),
    ],
)
def test_of_two_lines_of_one_name_one_stands(earlier: Member, later: Member) -> None:
    assert a_ring(a=earlier).with_member(later).members == {"a": later}
    assert a_ring(a=later).with_member(earlier).members == {"a": later}


def test_a_fork_that_never_switched_loses_whatever_its_version() -> None:
    switched, busy = Entry(1, 0, ("a", "c")), Entry(0, 70_000, ("a", "b"), ("a", "c"))
    ring = a_ring().with_entry(3, busy).with_entry(3, switched)
    assert ring.entries[3] is switched
    assert ring.with_entry(3, busy) is ring


# ---------------------------------------------------------------- parts


@given(a=rings, b=rings)
def test_exchanging_parts_that_differ_makes_both_the_merge(a: Ring, b: Ring) -> None:
    a_now = merge_parts(a, b.parts_differing(a.digests()))
    b_now = merge_parts(b, a_now.parts_differing(b.digests()))
    assert a_now == b_now == merge(a, b)
    assert a_now.digests() == b_now.digests()
    assert a_now.parts_differing(b_now.digests()) == RingParts()


def test_only_what_differs_travels() -> None:
    ring = a_ring(a=Member("a", 1, 1, ""))
    newer = ring.with_target(RingTarget(version=1, w=1))
    assert newer.parts_differing(ring.digests()) == RingParts(target=RingTarget(version=1, w=1))
    assert ring.parts_differing(()).ring() == ring


def test_digests_are_of_the_canonical_bytes_of_each_part() -> None:
    forth = {x: Member(x, 1, i, "") for i, x in enumerate(NAMES)}
    back = dict(reversed(forth.items()))
    a, b = a_ring(**forth), a_ring(**back)
    assert a.encode() == b.encode()
    assert a.digests() == b.digests()
    assert [len(digest) for digest in (*a.digests(), a.digest)] == [16] * 5
    changed = a.with_entry(0, Entry(0, 1, ("b", "a")))
    assert [x == y for x, y in zip(a.digests(), changed.digests(), strict=True)] == [
        True,
        True,
        True,
        False,
    ]
    assert a.digest != changed.digest


def test_parts_survive_the_wire() -> None:
    ring = a_ring(a=Member("a", 1, 2**64 - 1, "h:1", "h:2", "z", 3, LEAVING, 4))
    parts = ring.with_entry(1, Entry(2, 1, ("b", "c"), ("a", "c"), ("a", "b"))).parts_differing(())
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(parts), type=RingParts) == parts


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(RingParts(entries=(Entry(0, 0, ("a",)),)), id="too-few-entries"),
        pytest.param(RingParts(target=RingTarget(1, (("a",),))), id="short-target"),
        pytest.param(RingParts(members={"b": Member("a", 1, 1, "")}), id="name-of-another"),
    ],
)
def test_parts_that_do_not_fit_are_bad_frames(parts: RingParts) -> None:
    with pytest.raises(BadFrame):
        merge_parts(a_ring(), parts)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(RingParts(), id="nothing"),
        pytest.param(RingParts(IDENTITY, {}, RingTarget()), id="no-entries"),
        pytest.param(RingParts(IDENTITY, {}, RingTarget(), ()), id="empty-entries"),
    ],
)
def test_a_ring_is_made_of_all_parts_or_not_at_all(parts: RingParts) -> None:
    with pytest.raises(BadFrame):
        parts.ring()


# ---------------------------------------------------------------- questions


def test_ids_that_left_or_were_replaced_are_gone() -> None:
    lines = {
        "a": Member("a", 1, 11, ""),
        "b": Member("b", 1, 21, "", state=LEFT),
        "c": Member("c", 1, 31, "", state=LEAVING),
    }
    ring = a_ring(**lines).with_member(Member("a", 2, 12, ""))
    asked = [("a", 11), ("a", 12), ("b", 21), ("c", 31), ("stranger", 41)]
    assert [ring.is_gone(name, node_id) for name, node_id in asked] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert ring.live_names() == ("a", "c")


def test_epoch_sums_lives_versions_and_terms() -> None:
    ring = a_ring(a=Member("a", 2, 1, "", version=3))
    ring = ring.with_entry(0, Entry(4, 5, ("b",))).with_target(RingTarget(version=6))
    assert ring.epoch == 2 + 3 + 4 + 5 + 6


@pytest.mark.parametrize(("partitions", "bits"), [(16, 4), (256, 8), (4096, 12)])
def test_partition_bits(partitions: int, bits: int) -> None:
    ring = Ring(Identity("c", partitions, 1), {}, RingTarget(), (Entry(0, 0, ("a",)),) * partitions)
    assert ring.partition_bits == bits
    assert ring.fault() == ""


@pytest.mark.parametrize("partitions", [0, 8, 24, 8192])
def test_other_numbers_of_partitions_are_a_fault(partitions: int) -> None:
    entries_ = (Entry(0, 0, ("a",)),) * partitions
    assert Ring(Identity("c", partitions, 1), {}, RingTarget(), entries_).fault() != ""


# ---------------------------------------------------------------- forms


@given(ring=rings)
def test_a_ring_reads_back_from_its_bytes(ring: Ring) -> None:
    again = Ring.decode(ring.encode())
    assert again == ring
    assert (again.digest, again.encode()) == (ring.digest, ring.encode())


@given(data=st.binary(max_size=60), cut=st.integers(0, 400))
def test_other_bytes_are_corrupt(data: bytes, cut: int) -> None:
    good = a_ring(a=Member("a", 1, 1, "")).encode()
    for bad in (data, good[: cut % len(good)]):
        with pytest.raises(Corrupt):
            Ring.decode(bad)


def test_the_json_form_is_the_contracts() -> None:
    ring = Ring(
        Identity("carts", SIZE, 2),
        {
            "b": Member("b", 1, 22, "b:1", "b:2", "z2", 2, LEAVING, 7),
            "a": Member("a", 3, 11, "a:1", "a:2", "z1"),
        },
        RingTarget(5, (("b", "a"),) * SIZE, 1, 2, 2, False),
        (
            Entry(1, 2, ("a", "b"), ("a", "c"), ("b", "c")),
            *(Entry(0, 0, ("a", "b")),) * (SIZE - 1),
        ),
    )
    plain = {"owners": ["a", "b"], "move": None, "old": None, "term": 0, "version": 0}
    assert to_document(ring, {"a": "a:3"}) == {
        "cluster_id": "carts",
        "epoch": 4 + 7 + 5 + 3,
        "digest": ring.digest.hex(),
        "partitions": SIZE,
        "n": 2,
        "r": 1,
        "w": 2,
        "dw": 2,
        "sloppy": False,
        "conflicts": "Siblings",
        "members": [
            {
                "name": "a",
                "id": "000000000000000b",
                "incarnation": 3,
                "address": "a:1",
                "client": "a:2",
                "zone": "z1",
                "weight": 1,
                "state": "MEMBER",
                "admin": "a:3",
            },
            {
                "name": "b",
                "id": "0000000000000016",
                "incarnation": 1,
                "address": "b:1",
                "client": "b:2",
                "zone": "z2",
                "weight": 2,
                "state": "LEAVING",
                "admin": None,
            },
        ],
        "entries": [
            {
                "owners": ["a", "b"],
                "move": {"out": "a", "in": "c"},
                "old": ["b", "c"],
                "term": 1,
                "version": 2,
            },
            *[plain] * (SIZE - 1),
        ],
        "target": [["b", "a"]] * SIZE,
    }


@given(ring=rings)
def test_a_client_gets_the_same_ring_from_json_but_for_hidden_versions(ring: Ring) -> None:
    document = json.loads(json.dumps(to_document(ring)))
    document["of_a_newer_node"] = 1
    ours = from_document(document)
    assert ours.entries == ring.entries
    assert ours.identity == ring.identity
    assert ours.members == {
        name: msgspec.structs.replace(line, version=0) for name, line in ring.members.items()
    }
    assert ours.target == msgspec.structs.replace(ring.target, version=0)


def test_a_document_of_an_older_node_is_of_a_sloppy_ring() -> None:
    document = to_document(a_ring(a=Member("a", 1, 1, "")))
    del document["sloppy"]
    assert from_document(document).target.sloppy


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("entries", []),
        ("entries", None),
        ("members", [{"name": "a"}]),
        ("partitions", "16"),
        ("partitions", 17),
        ("target", [["a", 1]]),
        ("cluster_id", None),
    ],
)
def test_other_documents_are_refused(field: str, value: Any) -> None:
    document = to_document(a_ring(a=Member("a", 1, 1, ""))) | {field: value}
    with pytest.raises(BadParameter):
        from_document(document)
