"""Versions: the paper's Figure 3, the laws of sync, request ids, and canonical bytes (S-DOT-1)."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.causality.codec import (
    HEAD_BYTES,
    body_of,
    checked,
    decode_record,
    digest_in,
    encode_record,
    merge_bytes,
)
from dynamo_core.causality.records import (
    EMPTY,
    SUPERSEDED_WRITES_MAX,
    History,
    Record,
    Sibling,
    decode_history,
    in_order,
    last_writer,
    sync,
    update,
)
from dynamo_core.errors import Corrupt

KEY = b"cart"
X, Y, Z = 1, 2, 3
"""The actors of the three servers Sx, Sy, Sz of Figure 3."""


@dataclass
class Server:
    """One replica, as S-DOT-2 has it mint: 1 + the actor's highest dot in the record."""

    actor: int
    record: Record = EMPTY
    dots: list[tuple[int, int]] = field(default_factory=list)

    def put(self, value: bytes, context: History | None = None, request_id: str = "") -> History:
        """The context of a bare put: the sent one, this write's single dot, its id (S-CTX-2)."""
        covered = context or History()
        sibling = Sibling(
            self.actor, 1 + self.record.history.top(self.actor), value, "", request_id
        )
        self.dots.append(sibling.dot)
        self.record = update(self.record, covered, sibling)
        return covered.with_dot(sibling.dot).naming((sibling,))

    def take(self, other: Server) -> None:
        self.record = sync(self.record, other.record)

    @property
    def values(self) -> list[bytes | None]:
        return [s.value for s in self.record.siblings]


# ---------------------------------------------------------------- the paper


def test_figure_3_of_the_paper() -> None:
    """[P 4.4]: D1..D5 with the clocks that the paper draws."""
    sx, sy, sz = Server(X), Server(Y), Server(Z)
    sx.put(b"D1")
    assert sx.record.history.vector == {X: 1}
    sx.put(b"D2", sx.record.context())
    assert (sx.values, sx.record.history.vector) == ([b"D2"], {X: 2})
    sy.take(sx)
    sz.take(sx)
    d2 = sx.record.context()
    sy.put(b"D3", d2)
    sz.put(b"D4", d2)
    assert (sy.values, sy.record.history.vector) == ([b"D3"], {X: 2, Y: 1})
    assert (sz.values, sz.record.history.vector) == ([b"D4"], {X: 2, Z: 1})
    sx.take(sy)
    sx.take(sz)
    assert (sx.values, sx.record.history.vector) == ([b"D3", b"D4"], {X: 2, Y: 1, Z: 1})
    sx.put(b"D5", sx.record.context())
    assert (sx.values, sx.record.history.vector) == ([b"D5"], {X: 3, Y: 1, Z: 1})
    assert sx.record.history.dots == frozenset()


def test_a_hundred_puts_without_context_make_a_hundred_dots() -> None:
    """S-DOT-1, S-DOT-3; and the history of them is one number."""
    server = Server(X)
    for index in range(100):
        server.put(str(index).encode())
    assert [s.dot for s in server.record.siblings] == [(X, n) for n in range(1, 101)]
    assert (server.record.history.vector, server.record.history.dots) == ({X: 100}, frozenset())


def test_siblings_number_at_most_the_concurrent_writers() -> None:
    """Plain version vectors explode here (riak_kv PR 746): each writer replaces its own."""
    server = Server(X)
    covered = [History(), History()]
    for turn in range(20):
        for writer in (0, 1):
            context = server.put(f"{writer} {turn}".encode(), covered[writer])
            covered[writer] = covered[writer].joined(context)
    assert server.values == [b"0 19", b"1 19"]


# ---------------------------------------------------------------- dots beyond the vector


def test_single_dots_compact_when_they_become_adjacent() -> None:
    far = History().with_dot((X, 3))
    assert (far.vector, far.dots) == ({}, {(X, 3)})
    nearer = far.with_dot((X, 1))
    assert (nearer.vector, nearer.dots) == ({X: 1}, {(X, 3)})
    closed = nearer.with_dot((X, 2))
    assert (closed.vector, closed.dots) == ({X: 3}, frozenset())
    assert closed.top(X) == 3
    assert (far.top(X), far.top(Y)) == (3, 0)


def test_a_single_dot_covers_itself_and_nothing_below() -> None:
    history = History({Y: 2}).with_dot((X, 3))
    assert [history.covers_dot(dot) for dot in [(X, 3), (X, 2), (Y, 2), (Y, 3)]] == [
        True,
        False,
        True,
        False,
    ]


def test_a_bare_puts_context_covers_what_was_sent_and_its_own_dot_alone() -> None:
    """S-CTX-2: as a vector it would cover (X, 1), which this client never saw, and erase it."""
    server = Server(X)
    server.put(b"other client's")
    mine = server.put(b"mine")
    assert (mine.vector, mine.dots) == ({}, {(X, 2)})
    server.put(b"mine again", mine)
    assert server.values == [b"other client's", b"mine again"]


# ---------------------------------------------------------------- random histories


@st.composite
def worlds(draw: st.DrawFn) -> list[Server]:
    """Four servers after a random history of puts, with and without contexts, and syncs; a reset
    server has forgotten its record and been born again (S-DOT-2)."""
    servers = [Server(actor) for actor in (10, 20, 30, 40)]
    contexts = [History()]
    ids = st.sampled_from(["", "", "r1", "r2", "r3"])
    born = 100
    for index in range(draw(st.integers(0, 12))):
        server = draw(st.sampled_from(servers))
        action = draw(st.sampled_from(["put", "put", "read", "take", "take", "forget"]))
        if action == "put":
            name = draw(ids)
            if not name or server.record.event_of(name) is None:
                context = draw(st.sampled_from(contexts))
                if name not in context.ids:
                    contexts.append(server.put(b"%d" % index, context, name))
        elif action == "read":
            contexts.append(server.record.context())
        elif action == "take":
            server.take(draw(st.sampled_from(servers)))
        else:
            born += 1
            server.record, server.actor = EMPTY, born
    return servers


def body(record: Record) -> bytes:
    return body_of(encode_record(KEY, record))


@given(worlds())
def test_sync_is_commutative_associative_and_idempotent_in_bytes(servers: list[Server]) -> None:
    """S-DOT-1. Ids need not agree (S-REQ-1)."""
    a, b, c = (s.record for s in servers[:3])
    assert body(sync(a, b)) == body(sync(b, a))
    assert body(sync(sync(a, b), c)) == body(sync(a, sync(b, c)))
    assert encode_record(KEY, sync(a, a)) == encode_record(KEY, a)
    ab = sync(a, b)
    assert body(sync(ab, a)) == body(ab)


@given(worlds())
def test_sync_never_mints_and_its_history_is_the_union(servers: list[Server]) -> None:
    a, b = servers[0].record, servers[1].record
    merged = sync(a, b)
    known = {s.dot for s in (*a.siblings, *b.siblings)}
    assert {s.dot for s in merged.siblings} <= known
    assert merged.history.descends(a.history)
    assert merged.history.descends(b.history)
    tops = {x: max(a.history.top(x), b.history.top(x)) for x in merged.history.vector}
    assert all(merged.history.top(x) == top for x, top in tops.items())


@given(worlds())
def test_no_two_events_ever_share_a_dot(servers: list[Server]) -> None:
    """C5: through forgetting and being born again."""
    dots = [dot for server in servers for dot in server.dots]
    assert len(set(dots)) == len(dots)


@given(worlds())
def test_records_read_back_from_their_canonical_bytes(servers: list[Server]) -> None:
    for record in (server.record for server in servers):
        data = encode_record(KEY, record)
        again = decode_record(checked(KEY, data))
        assert encode_record(KEY, again) == data
        assert (again.siblings, again.history) == (record.siblings, record.history)
        context = record.context()
        assert decode_history(context.encode()) == context
        shuffled = Record(
            in_order(tuple(reversed(record.siblings))),
            History(
                dict(reversed(record.history.vector.items())),
                record.history.dots,
                dict(reversed(record.history.ids.items())),
            ),
        )
        assert encode_record(KEY, shuffled) == data


@given(worlds())
def test_a_context_removes_what_it_covers_and_nothing_else(servers: list[Server]) -> None:
    """C6: on whatever server it is used."""
    context = servers[0].record.context()
    before = servers[1].record
    after = update(before, context, Sibling(999, 1, b"new"))
    kept = [s for s in before.siblings if not context.covers(s)]
    assert after.siblings == in_order((*kept, Sibling(999, 1, b"new")))


# ---------------------------------------------------------------- request ids (S-REQ-1)


def test_of_a_retrys_twins_the_smaller_dot_stays() -> None:
    a, b = Server(X), Server(Y)
    a.put(b"v", request_id="r")
    b.put(b"v", request_id="r")
    for merged in (sync(a.record, b.record), sync(b.record, a.record)):
        assert [s.dot for s in merged.siblings] == [(X, 1)]
        assert merged.history.vector == {X: 1, Y: 1}
        assert merged.event_of("r") == (X, 1)


def test_what_was_superseded_under_one_dot_does_not_come_back_under_its_twins() -> None:
    """The accident behind the rule: the retry is read and superseded, its twin arrives later."""
    a, b, late = Server(X), Server(Y), Server(Z)
    late.put(b"v", request_id="r")
    a.put(b"v", request_id="r")
    a.put(b"w", a.record.context())
    b.take(a)
    b.take(late)
    assert b.values == [b"w"]
    late.take(a)
    assert late.values == [b"w"]
    late2 = Server(40)
    late2.put(b"v", request_id="r")
    late2.put(b"other", a.record.context())
    assert late2.values == [b"other"], "a context names the ids that its record has superseded"


def test_a_sync_names_the_ids_of_the_siblings_that_it_drops() -> None:
    a, b, twin = Server(X), Server(Y), Server(Z)
    a.put(b"v", request_id="r")
    b.take(a)
    # A writer that saw the dot but no id: as an old node's context would be.
    b.put(b"w", History({X: 1}))
    b.record = Record(b.record.siblings, History(b.record.history.vector))
    a.take(b)
    assert (a.values, a.record.event_of("r")) == ([b"w"], None)
    merged = sync(Record(a.record.siblings, b.record.history), b.record)
    assert merged.siblings == b.record.siblings
    early = Server(X)
    early.put(b"v", request_id="r")
    early.put(b"beside")
    merged = sync(early.record, b.record)
    assert merged.event_of("r") == (X, 1)
    twin.put(b"v", request_id="r")
    assert b"v" not in [s.value for s in sync(merged, twin.record).siblings]


def test_a_superseded_id_outlives_sixteen_later_writes() -> None:
    server = Server(X)
    server.put(b"v", request_id="r")
    for index in range(SUPERSEDED_WRITES_MAX):
        server.put(b"%d" % index, server.record.context())
        assert server.record.event_of("r") == (X, 1), index
    server.put(b"last", server.record.context())
    assert server.record.event_of("r") is None


def test_ids_are_not_part_of_the_hash_and_are_ordered_by_dot() -> None:
    """Two replicas that know different ids agree all the same."""
    siblings, vector = (Sibling(X, 3, b"v"),), {X: 3}
    plain = Record(siblings, History(vector))
    old = (Sibling(X, 2, b"", request_id="a"), Sibling(X, 1, b"", request_id="b"))
    named = Record(siblings, History(vector).naming(old))
    plain_bytes, named_bytes = encode_record(KEY, plain), encode_record(KEY, named)
    assert plain_bytes != named_bytes
    assert body_of(named_bytes) == plain_bytes
    assert digest_in(named_bytes) == digest_in(plain_bytes)
    assert [row[2] for row in msgspec.msgpack.decode(named_bytes[len(plain_bytes) :])] == [
        "b",
        "a",
    ]


# ---------------------------------------------------------------- last writer wins, tombstones


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=6))
def test_the_last_writer_is_the_highest_stamp_then_dot(stamps: list[tuple[int, int]]) -> None:
    """S-LWW-1: one value stays, the same whatever the order of the merges."""
    records = [
        Record((Sibling(actor, n, b"", stamp=stamp),), History({actor: n}))
        for n, (actor, stamp) in enumerate(stamps, 1)
    ]
    newest = max((r.siblings[0] for r in records), key=lambda s: (s.stamp, s.actor, s.counter))
    for order in (records, list(reversed(records))):
        data: bytes | None = None
        for record in order:
            data = merge_bytes(KEY, data, encode_record(KEY, record), lww=True)
        assert data is not None
        merged = decode_record(data)
        covered = merged.history.covers(newest)
        assert covered
        assert len(last_writer(merged).siblings) == 1


@pytest.mark.parametrize(
    ("sibling", "live"),
    [
        (Sibling(X, 1, b""), True),
        (Sibling(X, 1, None), False),
        (Sibling(X, 1, b"v", expires_ms=1001), True),
        (Sibling(X, 1, b"v", expires_ms=1000), False),
    ],
)
def test_tombstones_and_expired_values_are_not_shown(sibling: Sibling, live: bool) -> None:
    """S-DEL-1, S-TTL-1; the record keeps them: they are versions like any other."""
    record = Record((sibling,), History({X: 1}))
    assert sibling.live(1000) is live
    assert record.values(1000) == ([sibling] if live else [])
    assert decode_record(encode_record(KEY, record)).siblings == (sibling,)


def test_an_expiry_is_part_of_the_hash() -> None:
    records = [Record((Sibling(X, 1, b"v", expires_ms=e),), History({X: 1})) for e in (0, 5)]
    first, second = (digest_in(encode_record(KEY, r)) for r in records)
    assert first != second


# ---------------------------------------------------------------- damaged bytes

WHOLE = encode_record(KEY, Record((Sibling(X, 1, b"value"),), History({X: 1})))


@given(at=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(at: int, bit: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[at] ^= 1 << bit
    with pytest.raises(Corrupt):
        checked(KEY, bytes(damaged))


@given(data=st.binary(max_size=80) | st.integers(0, len(WHOLE) - 1).map(lambda n: WHOLE[:n]))
def test_bytes_that_are_no_record_are_corrupt_and_nothing_else(data: bytes) -> None:
    with pytest.raises(Corrupt):
        checked(KEY, data)
    try:
        decode_record(data)
    except Corrupt:
        return
    assert data[HEAD_BYTES:], "only a whole body decodes"


def test_a_record_is_bound_to_its_key() -> None:
    """C14: a row that was filed under another key is damage."""
    assert checked(KEY, WHOLE) is WHOLE
    with pytest.raises(Corrupt):
        checked(KEY + b"x", WHOLE)
