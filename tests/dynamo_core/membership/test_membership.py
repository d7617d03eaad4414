"""How a ring begins, who may send in it, and how a lost node returns (S-RING-4..6, S-MEM-3, 4,
S-NET-1, S-DISK-2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dynamo_core.errors import BadRequest
from dynamo_core.keys import DATA, HINTS, partition_of, store_key
from dynamo_core.membership.bootstrap import Admission, parse_creation
from dynamo_core.protocol.frames import Frame, decode_frame, encode_frame
from dynamo_core.protocol.messages import Fetch, Refused, Roots, Store
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.protocol.ring_messages import FirstRing
from dynamo_core.protocol.route import At
from dynamo_core.ring.planning import removed
from dynamo_core.runtime.failure_detector import LIVES_MAX, Peer
from dynamo_core.testing.town import PARTITIONS, SETTINGS, Town

KEY = b"cart"


def body(town: Town, **fields: Any) -> dict[str, Any]:
    members = [{"name": name, "address": name + ":1"} for name in town.names]
    return {"cluster_id": "town", "partitions": PARTITIONS, "n": 2, "members": members, **fields}


def create(town: Town, at: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    answers: list[tuple[int, dict[str, Any]]] = []
    town.nodes[at].admin.create_ring(body(town, **fields), lambda *answer: answers.append(answer))
    town.deliver()
    town.until(lambda: bool(answers), 15.0)
    return answers[0]


def rebuilt(town: Town, name: str) -> bool:
    """Whether the node is complete everywhere."""
    node = town.nodes[name]
    owned = node.replica.owned()
    return node.member and bool(owned) and all(node.replica.complete(p) for p in owned)


# ---------------------------------------------------------------- founding (S-RING-5, S-RING-6)


def test_one_command_founds_a_ring_of_complete_owners() -> None:
    town = Town("a b c", founded=False)
    assert town.put("a", KEY, b"v").problem == "not-a-member"
    status, ring = create(town, "b")
    assert (status, ring["cluster_id"]) == (201, "town")
    assert {node.ring.digest for node in town.nodes.values()} == {bytes.fromhex(ring["digest"])}
    assert all(len(node.replica.marks) == len(node.replica.owned()) for node in town.nodes.values())
    town.run(1.0)
    assert town.put("a", KEY, b"v").status == 204


def test_the_command_again_is_answered_with_the_ring_that_is() -> None:
    town = Town("a b c", founded=False)
    _, ring = create(town, "a")
    assert create(town, "b") == (200, ring)
    status, answer = create(town, "c", cluster_id="other")
    assert (status, answer["problem"]) == (409, "wrong-cluster")


@pytest.mark.parametrize("sloppy", [True, False])
def test_the_command_gives_the_defaults(sloppy: bool) -> None:
    town = Town("a b c", founded=False)
    _, ring = create(town, "a", r=1, w=2, dw=2, sloppy=sloppy)
    assert [ring[word] for word in ("r", "w", "dw", "sloppy")] == [1, 2, 2, sloppy]
    assert town.ring.target.sloppy is sloppy


def test_a_founder_that_has_only_just_started_is_asked_again() -> None:
    """A dial before the founder listened fails just after the command has come."""
    town = Town("a b c", founded=False)
    answers: list[tuple[int, dict[str, Any]]] = []
    town.nodes["a"].admin.create_ring(body(town), lambda *answer: answers.append(answer))
    town.nodes["a"].link_lost("b")
    town.deliver()
    town.until(lambda: bool(answers), 15.0)
    assert answers[0][0] == 201


def test_every_founder_must_answer_with_an_empty_disk() -> None:
    town = Town("a b c", founded=False)
    town.disks["c"].write([(DATA, store_key(KEY), b"something")])
    status, answer = create(town, "a")
    assert (status, answer["problem"]) == (409, "wrong-cluster")
    assert "c: its disk is not empty" in answer["detail"]
    town.wipe("c")
    town.kill("c")
    status, answer = create(town, "a")
    assert (status, answer["problem"]) == (503, "insufficient-owners")
    assert not any(node.member for node in town.nodes.values())


def test_a_later_command_with_another_address_takes_the_place_of_the_earlier() -> None:
    """Otherwise the earlier command asks the founder at the later command's address, and the ring
    gets the earlier command's address (seed 14726)."""
    town = Town("a b c", founded=False)
    answers: list[tuple[int, dict[str, Any]]] = []
    town.kill("c")
    town.nodes["a"].admin.create_ring(body(town), lambda *answer: answers.append(answer))
    town.run(1.5)
    town.start("c", address="c:9")
    members = [{"name": x, "address": y} for x, y in (("a", "a:1"), ("b", "b:1"), ("c", "c:9"))]
    status, _ = create(town, "a", members=members)
    town.until(lambda: len(answers) == 1)
    assert (status, answers[0][0]) == (201, 503)
    assert "later command" in answers[0][1]["detail"]
    town.run(1.0)
    assert {node.ring.members["c"].address for node in town.nodes.values()} == {"c:9"}


def test_a_founder_that_missed_the_document_hears_of_it_and_is_not_complete() -> None:
    town = Town("a b c", founded=False)
    town.lost = lambda sender, receiver, frame: (
        receiver == "c" and any(isinstance(message, FirstRing) for message in frame.messages)
    )
    create(town, "a")
    town.until(lambda: town.nodes["c"].member)
    town.until(lambda: rebuilt(town, "c"))


def test_a_founder_without_its_disk_is_never_founded_again() -> None:
    """Founded again, it would call itself complete, without the writes that it had acked."""
    waiting = msgspec.structs.replace(SETTINGS, replace_lost=False)
    town = Town("a b c", founded=False, settings=waiting)
    create(town, "a")
    town.run(1.0)
    town.put("a", KEY, b"v")
    town.kill("c")
    town.wipe("c")
    town.start("c")
    status, answer = create(town, "c")
    assert (status, answer["problem"]) == (503, "insufficient-owners")
    assert not town.nodes["c"].member
    town.nodes["a"].admin.replace("c", lambda status, _: None)
    town.until(lambda: rebuilt(town, "c"))
    assert town.ring.members["c"].incarnation == 2


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("partitions", 8, "partitions"),
        ("partitions", 24, "partitions"),
        ("partitions", 8192, "partitions"),
        ("n", 4, "n"),
        ("r", 3, "r"),
        ("dw", 0, "dw"),
        ("dw", 3, "dw"),  # of w=2
        ("conflicts", "None", "conflicts"),
        ("members", [{"name": "~a", "address": "a:1"}], "members"),
        ("members", [{"name": "@a", "address": "a:1"}], "members"),
        ("members", [{"name": "é" * 128, "address": "a:1"}], "members"),
        ("members", [{"name": x, "address": "a:1"} for x in "ab"], "members"),
    ],
)
def test_a_command_that_makes_no_ring_is_refused_by_field(
    field: str, value: Any, named: str
) -> None:
    town = Town("a b c", founded=False)
    fields = {"n": 1, field: value} if field == "members" else {field: value}
    with pytest.raises(BadRequest, match=f"^{named}: "):
        parse_creation(body(town, **fields), "town")


# ---------------------------------------------------------------- coming back (S-MEM-3, S-MEM-4)


def test_a_lost_disk_comes_back_through_seeds_under_other_addresses() -> None:
    """In Kubernetes one name means the addresses of all pods; they advertise names."""
    town = Town("a b c")
    town.kill("b")
    town.wipe("b")
    node = town.start("b")
    node.seek(("a:9", "c:9"))
    town.until(lambda: rebuilt(town, "b"))


def test_a_lost_disk_comes_back_as_the_names_next_life_and_is_rebuilt() -> None:
    town = Town("a b c d", n=3)
    for index in range(30):
        town.put("a", b"%d" % index, b"v")
    old = town.ring.members["b"]
    town.kill("b")
    town.wipe("b")
    town.start("b")
    town.until(lambda: rebuilt(town, "b"))
    line = town.ring.members["b"]
    assert (line.incarnation, line.id) == (old.incarnation + 1, town.disks["b"].node_id)
    assert all((entry.term, entry.version) == (0, 0) for entry in town.ring.entries)
    for index in range(30):
        if "b" in town.owners(b"%d" % index):
            assert store_key(b"%d" % index) in town.disks["b"].rows[DATA]


def test_no_member_is_replaced_while_another_hears_its_old_life_or_is_silent() -> None:
    town = Town("a b c")
    town.cut |= {("a", "b"), ("b", "a")}
    town.run(3.0)
    assert (town.nodes["a"].up("b"), town.nodes["c"].up("b")) == (False, True)
    told: list[bool] = []
    town.nodes["a"].spawn(Admission(town.nodes["a"], town.ring.members["b"], told.append))
    town.deliver()
    assert told == [False], "c hears it"
    town.kill("b")
    town.cut = {("c", "a")}
    town.nodes["a"].spawn(Admission(town.nodes["a"], town.ring.members["b"], told.append))
    town.run(2.0)
    assert told == [False, False], "c is silent, and may hear it"


def test_an_old_disk_that_returns_hands_over_what_it_holds_and_is_emptied() -> None:
    """S-MEM-3: its id never comes back."""
    town = Town("a b c d", n=3)
    key = next(k for k in (b"%d" % n for n in range(99)) if "b" in town.owners(k))
    others = [name for name in town.names if name != "b"]
    town.cut |= {pair for name in others for pair in ((name, "b"), ("b", name))}
    town.put("b", key, b"only here", w=1)
    old = town.disks["b"]
    town.kill("b")
    town.cut.clear()
    town.wipe("b")
    town.start("b")
    town.until(lambda: rebuilt(town, "b"))
    assert town.values("a", key) == []
    town.kill("b")
    new, town.disks["b"] = town.disks["b"], old
    town.start("b")
    town.until(lambda: not old.rows[DATA] and not old.rows[HINTS])
    assert not town.nodes["b"].member
    town.kill("b")
    town.disks["b"] = new
    town.start("b")
    town.run(3.0)
    assert town.values("a", key) == [b"only here"]
    assert town.ring.members["b"].id == new.node_id
    town.kill("b")
    town.disks["b"] = old
    town.start("b")
    town.run(5.0)
    assert town.nodes["b"].ring_state.emptied and not town.nodes["b"].member


def test_a_rolled_back_disk_is_found_by_the_numbers_that_peers_remember() -> None:
    """S-DISK-2: complete nowhere until its passes."""
    town = Town("a b c")
    backup = town.disks["a"].copy()
    town.put("b", KEY, b"v", w=3)
    town.run(2.0)
    town.kill("a")
    town.disks["a"] = backup
    node = town.start("a", trusted=True)
    town.until(lambda: node.replica.distrusted, 5.0)
    town.until(lambda: rebuilt(town, "a"))
    assert store_key(KEY) in backup.rows[DATA]


def test_late_frames_of_an_earlier_life_do_not_make_a_disk_look_rolled_back() -> None:
    """A node that was frozen receives frames of two lives of a peer in any order. A number from the
    present life is not one that its disk has lost (S-DISK-2)."""
    peer = Peer(7)
    for boot, sequence in ((1, 61), (2, 61), (2, 71), (1, 60), (2, 75)):
        peer.boot = boot
        peer.told(boot, sequence)
    assert peer.remembered() == 61
    peer.boot = 3
    assert peer.remembered() == 75, "a third life that begins below it has lost something"
    for boot in range(4, 4 + 2 * LIVES_MAX):
        peer.told(boot, boot)
    assert len(peer.sequences) == LIVES_MAX and peer.remembered() == 75


# ---------------------------------------------------------------- peers (S-RING-4, S-NET-1)


def test_a_request_with_another_entry_is_refused_with_the_one_that_stands() -> None:
    town = Town("a b c")
    partition = partition_of(store_key(KEY), 4)
    answers: list[Any] = []
    for entry_id in ((0, 1), town.ring.entries[partition].id):
        town.nodes["b"].local.answer(Fetch(1, partition, entry_id, store_key(KEY)), answers.append)
        store = Store(1, partition, entry_id, store_key(KEY), b"no record")
        town.nodes["b"].local.stores((store,), answers.append, lambda: None)
    wrong_fetch, wrong_store, fetched, refused = answers
    assert (
        wrong_fetch
        == wrong_store
        == Refused(1, Refusal.ENTRY, partition, town.ring.entries[partition])
    )
    assert (fetched.record, refused) == (b"", Refused(1, Refusal.CORRUPT, partition))


def test_a_store_for_no_owner_is_refused() -> None:
    town = Town("a b c d")
    name = town.others(KEY)[0]
    partition = partition_of(store_key(KEY), 4)
    answers: list[Any] = []
    entry_id = town.ring.entries[partition].id
    town.nodes[name].local.answer(
        Store(1, partition, entry_id, store_key(KEY), b""), answers.append
    )
    assert [(a.reason, a.partition) for a in answers] == [(Refusal.ENTRY, partition)]


def test_what_a_stalled_link_held_back_is_refused() -> None:
    """S-NET-1: the frame's echo is older than the receiver's own clock allows."""
    town = Town("a b c")
    late: list[bytes] = []

    def hold(sender: str, receiver: str, frame: Frame) -> bool:
        if receiver == "b" and any(isinstance(message, Store) for message in frame.messages):
            late.append(encode_frame(frame))
            return True
        return False

    town.lost = hold
    town.put("a", KEY, b"v", w=2)
    node = town.nodes["b"]
    town.now += SETTINGS.frame_age_max_s + 1
    node.tick(town.now, town.wall_ms)
    node.receive(late[0])
    node.flush()
    assert store_key(KEY) not in town.disks["b"].rows[DATA]
    assert node.counters["frames_refused"] >= 1


def test_an_answer_to_a_former_life_does_not_take_the_place_of_one_to_the_present() -> None:
    """Both have one address; both messages of one tick arrive."""
    town = Town("a b c")
    node = town.nodes["a"]
    first, second = Roots(0, [(1, 0, 0)]), Roots(0, [(2, 0, 0)])
    node.send("b", first)
    node.send(At("b:1"), second)
    said = [message for _, frame in node.flush() for message in decode_frame(frame).messages]
    assert said == [first, second]


def test_what_a_full_disk_kept_from_being_offered_is_offered_later() -> None:
    """S-MEM-3: a removed node empties its disk only after it has handed over everything."""
    town = Town("a b c", n=1)
    keys = [key for key in (b"%d" % index for index in range(40)) if town.owners(key) == ("c",)]
    assert len(keys) > 2
    for key in keys:
        assert town.put("c", key, b"v", w=1).status == 204
    town.cut = {(one, other) for one in "abc" for other in "abc" if "c" in one + other}
    town.nodes["a"].ring_state.take(removed(town.nodes["a"].ring, "c", True, "fenced")[0])
    town.run(1.0)
    town.disks["c"].full = True
    town.cut.clear()
    town.lost = lambda sender, to, frame: any(isinstance(m, Store) for m in frame.messages)
    town.run(5.0)
    town.lost = lambda sender, to, frame: False
    town.disks["c"].full = False
    town.nodes["c"].reopened()
    town.until(lambda: town.nodes["c"].ring_state.emptied)
    assert [town.values("a", key, r=1) for key in keys] == [[b"v"]] * len(keys)
