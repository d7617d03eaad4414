"""The copies of a put, compared with a simple twin that keeps every event and recounts."""

from __future__ import annotations

from itertools import permutations, product

from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_core.protocol.messages import COMPLETE, HINTED, OWNER, SYNCED, WRITER
from dynamo_core.protocol.operations import Acks
from dynamo_core.request.copies import Copies
from dynamo_core.request.quorum import IMPOSSIBLE, MET, PENDING
from dynamo_core.ring.preference import Bits

NODES = ("a", "b", "c", "d", "e")
OLD, NEW = ("a", "b", "c"), ("a", "b", "d")
ROLES = (OWNER | COMPLETE, OWNER, WRITER)

calls = st.tuples(st.sampled_from(NODES), st.sampled_from(("", "a", "b", "c", "d"))).map(
    lambda call: (call[0], "" if call[0] == call[1] else call[1])
)
asks = st.lists(calls, max_size=4)
acks = st.lists(st.tuples(calls, st.sampled_from(ROLES), st.booleans()), max_size=6)


BITS = Bits()


def fresh() -> Copies:
    return Copies(BITS)


def masks(*lists: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(map(BITS.mask, lists))


def flags_of(target: str, role: int, synced: bool) -> int:
    return (HINTED if target else role) | (SYNCED if synced else 0)


class Twin:
    """Lists of events, read from the beginning for every question."""

    def __init__(self, under_way: list[tuple[str, str]]) -> None:
        self.under_way = under_way
        self.acks: list[tuple[str, str, int]] = []

    def copy(self, node: str, target: str) -> str:
        return target or node

    def on_nodes_of_their_own(self, wanted: set[str]) -> int:
        """The largest number of these copies on different nodes, found by trying every choice."""
        holders = {copy: [n for n, t, _ in self.acks if self.copy(n, t) == copy] for copy in wanted}
        chosen = product(*(set(nodes) for nodes in holders.values()))
        return max((len(set(choice)) for choice in chosen), default=0)

    def counts(self) -> Acks:
        told = {n: 0 for n, _, _ in self.acks}
        for node, _, flags in self.acks:
            told[node] |= flags
        return Acks(
            len(told),
            sum(flags & OWNER > 0 for flags in told.values()),
            sum(flags & HINTED > 0 for flags in told.values()),
            sum(flags & SYNCED > 0 for flags in told.values()),
        )


def both(given_asks, given_acks) -> tuple[Copies, Twin]:
    copies, twin = fresh(), Twin(list(given_asks))
    for call in given_asks:
        copies.ask(*call)
    for (node, target), role, synced in given_acks:
        flags = flags_of(target, role, synced)
        copies.acked(node, target, flags)
        twin.under_way = [call for call in twin.under_way if call != (node, target)]
        twin.acks.append((node, target, flags))
    return copies, twin


@given(given_asks=asks, given_acks=acks)
def test_acks_are_counted_by_node(given_asks, given_acks) -> None:
    """S-RW-2: two copies on one node are one ack."""
    copies, twin = both(given_asks, given_acks)
    assert copies.counts() == twin.counts()


@given(given_asks=asks, given_acks=acks)
def test_a_copy_is_missing_until_it_is_asked_for_or_acked(given_asks, given_acks) -> None:
    copies, twin = both(given_asks, given_acks)
    served = {twin.copy(n, t) for n, t in given_asks} | {twin.copy(n, t) for n, t, _ in twin.acks}
    assert BITS.names(copies.served()) == sorted(served)
    assert copies.under_way() == sorted(set(twin.under_way))
    assert copies.open == bool(twin.under_way)
    assert copies.acknowledged() == sorted({(n, t) for n, t, _ in twin.acks})
    assert copies.reached(BITS.mask(OLD), strict=False) == len(served & set(OLD))
    own = {n for n, t in given_asks if not t}
    own |= {n for n, t, flags in twin.acks if flags & (OWNER | WRITER) and not t}
    assert copies.reached(BITS.mask(OLD), strict=True) == len(own & set(OLD))


@settings(max_examples=300)
@given(given_asks=asks, given_acks=acks, w=st.integers(1, 3))
def test_w_copies_lie_on_nodes_of_their_own_in_each_list(given_asks, given_acks, w: int) -> None:
    """S-RW-2, S-MOVE-1: met only where every list has W copies on W different nodes."""
    copies, twin = both(given_asks, given_acks)
    done = {twin.copy(n, t) for n, t, _ in twin.acks}
    for lists in ((OLD,), (OLD, NEW)):
        enough = all(twin.on_nodes_of_their_own(done & set(owners)) >= w for owners in lists)
        verdict = copies.verdict(masks(*lists), (w, 0, False), 0)
        if verdict is MET:
            assert enough
        open_ = {twin.copy(n, t) for n, t in given_asks}
        if verdict is IMPOSSIBLE:
            assert any(len((done | open_) & set(owners)) < w for owners in lists) or twin.acks


def test_a_hint_and_its_owners_own_copy_are_one() -> None:
    copies = fresh()
    copies.acked("a", "", OWNER | COMPLETE)
    assert copies.aside_or_none is None, "nothing is kept aside while every owner keeps its own"
    copies.acked("d", "b", HINTED)
    copies.acked("b", "", OWNER)
    assert copies.counted(strict=False) == (BITS.mask("ab"), 0)
    assert copies.verdict(masks(OLD), (3, 0, False), 0) is IMPOSSIBLE
    assert copies.counts() == Acks(3, 2, 1, 0)


def test_what_may_still_come_keeps_the_verdict_open() -> None:
    copies = fresh()
    copies.acked("a", "", OWNER | COMPLETE | SYNCED)
    assert copies.verdict(masks(OLD), (2, 1, False), 0) is IMPOSSIBLE
    assert copies.verdict(masks(OLD), (2, 1, False), 1) is PENDING
    copies.ask("b", "")
    assert copies.verdict(masks(OLD), (2, 1, False), 0) is PENDING


def test_a_second_copy_goes_to_a_node_that_keeps_none_in_the_lists_of_its_writer() -> None:
    """S-MOVE-1: the leaving owner may keep a hint for the receiver; no node keeps two of one
    owner."""
    lists = (OLD, NEW)
    for order in permutations(("c", "a")):
        copies = fresh()
        assert copies.second_at(order, "d", lists, ("a", "a")) == "c"
        copies.aside.tried.add(("c", "d"))
        assert copies.second_at(order, "d", lists, ("a", "a")) == ""
        copies.forget(("c", "d"))
        assert copies.second_at(order, "d", lists, ("a", "a")) == "c"
    assert fresh().second_at(("e",), "d", lists, ("e", "c")) == "e"
    assert fresh().second_at(("e",), "d", lists, ("e", "a")) == ""


@settings(max_examples=300)
@given(given_acks=acks, dw=st.integers(1, 3), strict=st.booleans())
def test_fsyncs_are_asked_of_holders_that_have_not_been_asked(given_acks, dw, strict) -> None:
    """S-RW-8: as many as each list needs for `dw`, or all that exist."""
    copies, twin = both([], given_acks)
    for lists in ((OLD,), (OLD, NEW)):
        calls = copies.unsynced(lists, dw, strict, "a")
        held = {(n, t if t != n else "") for n, t, _ in twin.acks}
        have, durable = copies.counted(strict)
        counted = {name: name in BITS.names(durable) for name in BITS.names(have)}
        assert set(calls) <= held and all(node != "a" for node, _ in calls)
        assert not any(counted[target or node] for node, target in calls)
        for owners in lists:
            synced = {copy for copy in counted if counted[copy] and copy in owners}
            asked = {t or n for n, t in calls if (t or n) in owners}
            may = {t or n for n, t in held if n != "a" and counted.get(t or n) is False}
            assert len(synced | asked) >= min(dw, len(synced | (may & set(owners))))
        if not calls:
            assert copies.durable(masks(*lists), dw, strict) or all(
                copies.durable(masks(owners), dw, strict)
                or not [
                    c
                    for c in held
                    if c[0] != "a"
                    and counted.get(c[1] or c[0]) is False
                    and (c[1] or c[0]) in owners
                ]
                for owners in lists
            )
        copies.aside.fsyncs.update(calls)
        assert not set(calls) & set(copies.unsynced(lists, dw, strict, "a"))
        copies.aside.fsyncs.clear()


def test_dw_holds_in_each_list() -> None:
    """S-RW-8: one fsync counts for two lists only if its copy is in both."""
    copies = fresh()
    copies.acked("c", "", OWNER | SYNCED)
    copies.acked("d", "", WRITER)
    assert copies.verdict(masks(("c",), ("d",)), (1, 1, False), 0) is PENDING
    assert copies.unsynced((("c",), ("d",)), 1, False, "c") == [("d", "")]
    copies.no_fsync(("d", ""))
    assert copies.verdict(masks(("c",), ("d",)), (1, 1, False), 0) is IMPOSSIBLE
    copies.acked("d", "", WRITER | SYNCED)
    assert copies.verdict(masks(("c",), ("d",)), (1, 1, False), 0) is MET
