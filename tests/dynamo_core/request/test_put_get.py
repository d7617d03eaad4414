"""Writing and reading among real nodes: forwarding, acks, proofs of absence, request ids
(S-DOT-4, S-RW-2..6, S-SIB-1, S-REQ-1, S-DEL-1, S-LWW-1)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dynamo_core.causality.codec import decode_record
from dynamo_core.causality.records import decode_history
from dynamo_core.keys import DATA, VALUE_BYTES_MAX, store_key
from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.messages import Forward, Forwarded, Message, Store
from dynamo_core.protocol.operations import Acks, Put
from dynamo_core.testing.town import SETTINGS, Town, known

KEY = b"cart"
A, B, C, D = ["a", "b", "c", "d"]


def outsider(town: Town) -> str:
    return town.others(KEY)[0]


def dots(town: Town) -> set[str]:
    """The events on any disk, by value."""
    rows = [r for disk in town.disks.values() for r in disk.records(store_key(KEY))]
    return {str((s.dot, s.value)) for row in rows for s in decode_record(row).siblings}


# ---------------------------------------------------------------- forwarding (S-DOT-4)


def test_a_node_that_does_not_keep_the_key_forwards_once_and_coordinates_nothing() -> None:
    town = Town("a b c d")
    outcome = town.put(outsider(town), KEY, b"v")
    assert (outcome.status, outcome.node) == (204, town.owners(KEY)[0])
    assert store_key(KEY) not in town.disks[outsider(town)].rows[DATA]
    assert len(dots(town)) == 1


def test_a_forwarded_put_is_explained_by_its_coordinator() -> None:
    town = Town("a b c d")
    at, owners = outsider(town), town.owners(KEY)
    told = town.put(at, KEY, b"v", explain=True).explanation
    assert told is not None
    assert (told.coordinator, told.decided) == (owners[0], "204")
    assert [(line.node, line.role) for line in told.asked][:2] == [(owners[0], "owner")] * 2
    assert [line.answer for line in told.asked] == ["forwarded", "coordinated", "stored"]
    assert told.skipped == [{"node": at, "reason": "not needed"}]


def test_twins_of_a_silent_forward_are_one_event() -> None:
    """The link is cut one way, silently: both coordinate, under one id that the first node made."""
    town = Town("a b c d")
    at, first = outsider(town), town.owners(KEY)[0]
    town.cut.add((first, at))
    outcome = town.put(at, KEY, b"v")
    assert (outcome.status, outcome.node) == (204, at)
    assert len(dots(town)) == 2
    town.cut.clear()
    town.run(10.0)
    assert len(dots(town)) == 1
    assert [town.values(name, KEY) for name in town.names] == [[b"v"]] * 4
    context = known(town.get(at, KEY))
    assert town.put(first, KEY, b"w", context=context).status == 204
    assert town.values(at, KEY) == [b"w"]


def test_a_forwarded_put_is_never_forwarded_again() -> None:
    town = Town("a b c d")
    forwards: list[tuple[str, str]] = []

    def listen(sender: str, receiver: str, frame: Frame) -> bool:
        forwards.extend((sender, receiver) for m in frame.messages if isinstance(m, Forward))
        return False

    town.lost = listen
    at, first = outsider(town), town.owners(KEY)[0]
    town.nodes[first].write_batch.writable = False  # it keeps the key but cannot coordinate
    assert town.put(at, KEY, b"v").status == 204
    assert forwards == [(at, first)]


def test_the_last_node_alive_takes_a_put() -> None:
    """C8: owner or not, W=1."""
    town = Town("a b c d")
    at = outsider(town)
    town.kill(*(name for name in town.names if name != at))
    outcome = town.put(at, KEY, b"v", w=1)
    assert (outcome.status, outcome.acks) == (204, Acks(1, 0, 1, 1))


def test_a_refusal_here_after_a_silent_forward_is_not_a_refusal() -> None:
    """S-RW-5, C2: 409 means that nothing was stored, but the twin may have been stored."""
    town = Town("a b c d", settings=msgspec.structs.replace(SETTINGS, siblings_max=1))
    at, first = outsider(town), town.owners(KEY)[0]
    town.kill(*town.owners(KEY))
    assert town.put(at, KEY, b"hinted", w=1).status == 204
    assert town.put(at, KEY, b"more", w=1).problem == "too-many-siblings"
    town.start(first)
    town.cut.add((at, first))
    town.run(1.0)
    town.cut.clear()
    town.lost = lambda sender, receiver, frame: any(
        isinstance(m, Forwarded | Store) for m in frame.messages
    )
    town.until(lambda: town.nodes[at].up(first))
    outcome = town.put(at, KEY, b"twin", w=1)
    assert (outcome.status, outcome.applied) == (503, "unknown")
    assert b"twin" in town.values(first, KEY, r=1)


# ---------------------------------------------------------------- acks (S-RW-2, 3, 5)


def test_hinted_replicas_count_and_are_told_apart() -> None:
    town = Town("a b c d")
    one, three = town.owners(KEY)[::2]
    town.kill(three)
    assert town.put(one, KEY, b"v", w=3).acks == Acks(total=3, owners=2, hinted=1, durable=1)
    refused = town.put(one, KEY, b"v", w=3, strict=True, timeout_s=0.3)
    assert (refused.status, refused.problem) == (503, "quorum-not-met")
    assert refused.applied == "unknown"


# ---------------------------------------------------------------- defaults (S-RING-3, S-RW-1, 2)


def with_defaults(town: Town, *names: str, **fields: Any) -> None:
    """These nodes, else all, have other defaults."""
    ring = town.ring
    target = msgspec.structs.replace(ring.target, version=ring.target.version + 1, **fields)
    for name in names or town.nodes:
        town.nodes[name].ring_state.take(ring.with_target(target))


def test_without_a_word_operations_are_as_strict_as_the_ring() -> None:
    town = Town("a b c d")
    one, two, three = town.owners(KEY)
    with_defaults(town, w=3, sloppy=False)
    assert town.put(one, KEY, b"v").status == 204
    town.kill(three)
    for word in (None, True):
        refused = town.put(one, KEY, b"w", strict=word, timeout_s=0.3)
        assert (refused.status, refused.problem) == (503, "quorum-not-met")
    assert town.put(one, KEY, b"w", strict=False).acks == Acks(3, 2, 1, 1)
    town.nodes[two].replica.distrust()
    assert town.get(one, KEY, timeout_s=0.3).problem == "quorum-not-met"
    assert town.get(one, KEY, strict=False).status == 200


def test_a_forwarded_put_means_what_it_meant_where_it_was_asked() -> None:
    """The message says so: a node that knows no `sloppy` could not read None (C17)."""
    town = Town("a b c d")
    at, three = outsider(town), town.owners(KEY)[2]
    forwarded: list[Put] = []

    def heard(sender: str, receiver: str, frame: Frame) -> bool:
        forwarded.extend(m.put for m in frame.messages if isinstance(m, Forward))
        return False

    town.lost = heard
    with_defaults(town, at, w=3, sloppy=False)
    town.kill(three)
    refused = town.put(at, KEY, b"v", timeout_s=0.3)
    assert (refused.status, refused.problem) == (503, "quorum-not-met")
    assert [(put.w, put.dw, put.strict) for put in forwarded] == [(3, 1, True)]


def test_a_forward_of_an_older_node_has_the_defaults_of_the_coordinator() -> None:
    town = Town("a b c d")
    one, at = town.owners(KEY)[0], outsider(town)
    with_defaults(town, one, w=3)
    answers: list[Message] = []
    town.nodes[one].send = lambda route, message: answers.append(message)  # type: ignore[method-assign]
    older = Put(key=KEY, value=b"v", request_id="r", strict=False)
    town.nodes[one].admission_control.forwarded(at, Forward(7, older))
    town.until(lambda: any(isinstance(m, Forwarded) for m in answers))
    (said,) = (m for m in answers if isinstance(m, Forwarded))
    assert said.outcome.acks is not None and said.outcome.acks.total == 3


def test_a_strict_delete_reads_strictly() -> None:
    """Otherwise it would not delete what a strict put has just written (C9)."""
    town = Town("a b c d")
    one, two, _ = town.owners(KEY)
    town.put(one, KEY, b"v", w=3)
    town.nodes[one].replica.distrust()
    town.nodes[two].replica.distrust()
    refused = town.put(one, KEY, None, strict=True, timeout_s=0.3)
    assert (refused.status, refused.applied) == (503, "no")
    assert town.put(one, KEY, None, strict=False).status == 204


@pytest.mark.parametrize("dw", [1, 2, 3])
def test_dw_copies_are_fsynced_before_the_answer(dw: int) -> None:
    town = Town("a b c")
    outcome = town.put(A, KEY, b"v", w=3, dw=dw)
    assert outcome.acks is not None
    assert outcome.acks.durable >= dw
    durable = [disk for disk in town.disks.values() if disk.records(store_key(KEY), durable=True)]
    assert len(durable) >= dw


def test_nothing_is_acked_before_the_own_part_is_persisted() -> None:
    town = Town("a b c")
    town.disks[A].full = True
    outcome = town.put(A, KEY, b"v", w=1)
    assert (outcome.status, outcome.applied) == (503, "unknown")
    again = town.put(A, KEY, b"v", w=1)
    assert again.status == 204, "known to be full: another owner coordinates"
    assert again.node != A


def test_a_strict_put_asks_an_owner_that_is_only_believed_down() -> None:
    """C8: W owners are reachable again, but this node does not know it yet."""
    town = Town("a b c d")
    at, away = town.owners(KEY)[0], town.owners(KEY)[2]
    town.cut |= {(away, other) for other in town.names if other != away}
    town.run(4.0)
    town.cut.clear()
    assert not town.nodes[at].up(away)
    assert town.put(at, KEY, b"v", w=3, strict=True).status == 204


def test_without_w_reachable_nodes_the_answer_is_an_honest_503() -> None:
    town = Town("a b c")
    town.kill(B, C)
    outcome = town.put(A, KEY, b"v", w=2)
    assert (outcome.problem, outcome.applied) == ("quorum-not-met", "unknown")
    assert outcome.acks == Acks(1, 1, 0, 1)


# ---------------------------------------------------------------- reading (S-RW-4, S-RW-6)


def test_absence_is_proven_only_by_r_complete_owners() -> None:
    town = Town("a b c d")
    one, two, three = town.owners(KEY)
    assert town.get(one, KEY).problem == "not-found"
    town.nodes[two].replica.distrust()
    town.nodes[three].replica.distrust()
    town.cut |= {(x, y) for x in town.names for y in town.names}
    town.cut -= {(x, y) for x in (one, two) for y in (one, two)}
    outcome = town.get(one, KEY, timeout_s=0.5)
    assert (outcome.status, outcome.problem) == (503, "insufficient-owners")
    assert town.get(one, KEY, r=1).problem == "not-found"
    assert town.get(one, KEY, r=2, strict=True, timeout_s=0.2).problem == "quorum-not-met"


def test_a_read_repairs_the_owners_that_lack_something() -> None:
    town = Town("a b c", settings=msgspec.structs.replace(SETTINGS, anti_entropy=False))
    town.kill(C)
    town.put(A, KEY, b"v")
    town.start(C)
    town.nodes[A].hints.dirty.clear()
    town.run(1.0)
    town.disks[C].rows[DATA].clear()
    assert town.values(C, KEY, r=3) == [b"v"]
    town.run(1.0)
    assert store_key(KEY) in town.disks[C].rows[DATA]
    assert town.nodes[C].counters["stored_by_repair"] <= 1


def test_a_404_that_hides_a_tombstone_returns_its_context() -> None:
    """S-CTX-2, S-DEL-1: so that the next write is causal."""
    town = Town("a b c")
    town.put(A, KEY, b"one")
    town.put(B, KEY, b"two")
    assert town.put(C, KEY, None).status == 204, "no context: it reads a quorum first"
    outcome = town.get(A, KEY)
    assert outcome.problem == "not-found"
    town.put(B, KEY, b"three", context=known(outcome))
    assert town.values(A, KEY) == [b"three"]
    assert dots(town) == {d for d in dots(town) if "three" in d}


def test_a_bare_puts_context_shows_its_own_dot_alone() -> None:
    """S-CTX-2: the other sibling was never shown to this client."""
    town = Town("a b c")
    town.put(A, KEY, b"theirs")
    mine = decode_history(known(town.put(A, KEY, b"mine")).history)
    assert (mine.vector, len(mine.dots)) == ({}, 1)
    shown = town.put(A, KEY, b"more", answer_record=True)
    assert [s.value for s in shown.values] == [b"theirs", b"mine", b"more"]
    town.put(A, KEY, b"all", context=known(shown))
    assert town.values(B, KEY) == [b"all"]


# ---------------------------------------------------------------- limits and marks


def test_a_put_without_context_is_refused_at_the_cap_and_one_with_it_never() -> None:
    """S-SIB-1; the cap stops no sync."""
    town = Town("a b c", settings=msgspec.structs.replace(SETTINGS, siblings_max=3))
    for index in range(3):
        assert town.put(A, KEY, b"%d" % index).status == 204
    refused = town.put(B, KEY, b"more")
    assert (refused.status, refused.problem) == (409, "too-many-siblings")
    assert town.put(B, KEY, b"all", context=known(refused)).status == 204
    assert town.values(C, KEY) == [b"all"]


def test_siblings_are_bounded_in_bytes_as_well() -> None:
    """S-SIB-1: otherwise a record outgrows every frame, and stays for ever where it was acked."""
    town = Town("a b c")
    value = bytes(VALUE_BYTES_MAX)
    statuses = [town.put(A, KEY, value).status for _ in range(18)]
    assert statuses == [204] * 16 + [409] * 2
    refused = town.put(A, KEY, value)
    assert town.put(B, KEY, b"all", context=known(refused)).status == 204
    assert town.values(C, KEY) == [b"all"]


def test_a_request_id_is_one_event_wherever_it_is_retried() -> None:
    """S-REQ-1."""
    town = Town("a b c d")
    for name in town.names:
        assert town.put(name, KEY, b"v", request_id="r", w=3).status == 204
    assert len(dots(town)) == 1
    town.put(A, KEY, b"w", context=known(town.get(A, KEY)), w=3)
    assert town.put(B, KEY, b"v", request_id="r").status == 204, "superseded, and done all the same"
    assert town.values(C, KEY) == [b"w"]


def test_a_retry_whose_context_names_it_is_acked_only_where_it_is() -> None:
    """S-REQ-1, C7: a node without the event cannot claim to hold a copy."""
    town = Town("a b c")
    town.lost = lambda sender, to, frame: any(isinstance(m, Store) for m in frame.messages)
    first = town.put(A, KEY, b"v", request_id="r", w=1)
    again = {"request_id": "r", "context": known(first)}
    refused = town.put(B, KEY, b"v", w=1, **again)
    assert (refused.status, refused.applied, refused.problem) == (503, "unknown", "quorum-not-met")
    assert not town.disks[B].records(store_key(KEY))
    town.lost = lambda sender, to, frame: False
    assert town.put(A, KEY, b"v", w=3, **again).status == 204
    assert town.put(B, KEY, b"v", w=3, **again).status == 204
    assert len(dots(town)) == 1
    for index in range(20):  # its id is forgotten by then, its event never
        town.put(A, KEY, b"%d" % index, context=known(town.get(A, KEY)), w=3)
    assert town.put(B, KEY, b"v", w=3, **again).status == 204
    assert town.values(C, KEY) == [b"19"]


def test_the_hybrid_clock_follows_others_within_the_bound_on_skew_only() -> None:
    """S-LWW-1: one value stays; a writer whose clock is behind still comes after what it saw."""
    town = Town("a b c", conflicts="LastWriteWins")
    town.put(A, KEY, b"one", w=3)
    (one,) = town.get(A, KEY).values
    assert one.stamp == town.wall_ms
    town.wall_ms -= SETTINGS.skew_max_ms - 1
    town.run(1.0)
    town.put(B, KEY, b"two", w=3)
    (two,) = town.get(C, KEY).values
    assert (two.value, two.stamp) == (b"two", one.stamp + 1)
    town.wall_ms -= SETTINGS.skew_max_ms
    town.run(1.0)
    town.put(B, KEY, b"three", w=3, context=known(town.get(B, KEY)))
    (three,) = town.get(C, KEY).values
    assert (three.value, three.stamp) == (b"three", town.wall_ms), "too far ahead to be followed"


def test_excess_is_refused_before_any_effect() -> None:
    """C16."""
    town = Town("a b c", settings=msgspec.structs.replace(SETTINGS, in_flight_max=0))
    outcome = town.put(A, KEY, b"v")
    assert (outcome.status, outcome.problem, outcome.applied) == (503, "overloaded", "no")
    assert dots(town) == set()
