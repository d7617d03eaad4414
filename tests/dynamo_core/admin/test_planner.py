"""Plans and changes that administrators ask real nodes for, joins until the line in the ring."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from dynamo_core.protocol.move_messages import Promise
from dynamo_core.protocol.ring_messages import Announce, Parts
from dynamo_core.replica import sizes
from dynamo_core.ring.document import JOINING, LEAVING, LEFT, MEMBER
from tests.dynamo_core.admin.office import JOIN_D, Answer, Office


@pytest.fixture
def office() -> Office:
    office = Office("a b c e")
    office.add("d")
    return office


def test_a_plan_is_the_same_on_every_node_and_has_sizes(office: Office) -> None:
    for index in range(200):
        office.put("a", b"key %d" % index, b"v" * 100)
    plans = [office.made(name, JOIN_D) for name in "abce"]
    assert plans.count(plans[0]) == 4
    plan = plans[0]
    assert {move["in"] for move in plan["moves"]} == {"d"}
    assert plan["bytes"] == sum(move["bytes"] for move in plan["moves"])
    keys = sum(move["keys"] for move in plan["moves"])
    assert 0 < keys < 200 and 100 * keys < plan["bytes"] < 300 * keys
    for move in plan["moves"]:
        held = [
            stored
            for stored, _ in office.nodes[move["out"]].write_batch.scan(0, b"", None, 1000)
            if stored[0] >> 4 == move["partition"]
        ]
        assert move["keys"] == len(held)
    assert plan["seconds_estimated"] == round(plan["bytes"] / 1e7 + len(plan["moves"]) / 10, 1)
    assert plan["violations"] == []
    assert office.ring.members.keys() == set("abce"), "a plan changes nothing"


def test_large_partitions_are_counted_over_many_turns(office: Office) -> None:
    for index in range(900):
        office.put("a", b"%d" % index, b"")
    plan = office.made("b", {"leave": ["a"]})
    assert len(plan["moves"]) == 12
    assert sum(move["keys"] for move in plan["moves"]) > 500
    assert office.made("c", {"leave": ["a"]}) == plan


@pytest.mark.parametrize("value", [b"", b"v" * 8000])
def test_what_is_larger_than_a_sample_is_estimated(
    office: Office, monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    """900 records in 16 partitions: about 56 in each."""
    for index in range(900):
        office.put("a", b"%d" % index, value)
    whole = office.made("a", {"leave": ["a"]})
    monkeypatch.setattr("dynamo_core.replica.sizes.SAMPLE_ROWS", 24)
    monkeypatch.setattr("dynamo_core.replica.sizes.SAMPLE_BYTES", 24 * 8000)
    office.run(sizes.KEPT_S + 1)
    estimated = office.made("a", {"leave": ["a"]})
    assert estimated["hash"] == whole["hash"], "sizes have no say in what moves"
    assert estimated["bytes"] != whole["bytes"]
    assert estimated["bytes"] == pytest.approx(whole["bytes"], rel=0.1)
    for exact, rough in zip(whole["moves"], estimated["moves"], strict=True):
        assert rough["keys"] == pytest.approx(exact["keys"], rel=0.7)
        assert rough["bytes"] == pytest.approx(exact["bytes"], rel=0.7)


def test_an_owner_that_is_down_is_counted_at_another(office: Office) -> None:
    office.put("a", b"k", b"v")
    office.kill("e")
    office.run(3.0)
    plan = office.made("a", {"leave": ["e"]})
    assert None not in [move["bytes"] for move in plan["moves"]]


def test_what_no_node_can_tell_is_null(office: Office) -> None:
    office.kill("b", "c", "e")
    office.run(3.0)
    lonely = [p for p, entry in enumerate(office.ring.entries) if "a" not in entry.owners]
    plan = office.made("a", {"moves": [{"partition": lonely[0], "from": "b", "to": "a"}]})
    assert plan["moves"][0]["bytes"] is None
    assert plan["bytes"] is None and plan["seconds_estimated"] is None


def test_the_sum_is_null_when_one_figure_is(office: Office) -> None:
    office.kill("b", "c", "e")
    office.run(3.0)
    known, lonely = (
        next(p for p, entry in enumerate(office.ring.entries) if ("a" in entry.owners) is held)
        for held in (True, False)
    )
    out = next(name for name in office.ring.entries[known].owners if name != "a")
    into = next(n for n in "bce" if n not in office.ring.entries[known].owners)
    moves = [
        {"partition": known, "from": out, "to": into},
        {"partition": lonely, "from": "b", "to": "a"},
    ]
    plan = office.made("a", {"moves": moves})
    assert sorted(move["bytes"] is None for move in plan["moves"]) == [False, True]
    assert plan["bytes"] is None and plan["seconds_estimated"] is None


def test_an_applied_join_is_a_line_and_a_target_on_every_node(office: Office) -> None:
    planned = len(office.made("a", JOIN_D)["moves"])
    status, said = office.apply("b", JOIN_D, "op-1")
    assert (status, said["operation_id"]) == (202, "op-1")
    line = office.nodes["b"].ring.members["d"]
    assert (line.state, line.id, line.incarnation) == (JOINING, office.disks["d"].node_id, 1)
    for name in "abce":
        assert office.nodes[name].ring.target == office.nodes["b"].ring.target
    office.until(lambda: office.nodes["d"].member, 10.0)
    assert office.nodes["d"].ring.target.operations == ("op-1",)
    running = office.operation("a")
    assert (running["id"], running["moves_total"]) == ("op-1", planned)
    assert office.told("c", "apply", {**JOIN_D, "hash": "", "operation_id": "op-1"}) == (
        202,
        {"operation_id": "op-1", "epoch": office.nodes["c"].ring.epoch},
    )
    again = office.apply("a", JOIN_D, "op-2")
    assert again[0] == 202, "the same one may join once more"
    assert office.nodes["a"].ring.members["d"] == line


def test_one_operation_that_is_asked_for_twice_at_once_is_one(office: Office) -> None:
    quoted = {**JOIN_D, "hash": office.made("a", JOIN_D)["hash"], "operation_id": "op"}
    answers: list[Answer] = []
    for name in ("a", "a", "c"):
        office.nodes[name].admin.planner.apply(quoted, lambda *answer: answers.append(answer))
    office.until(lambda: len(answers) == 3, 15.0)
    assert [status for status, _ in answers] == [202] * 3
    assert office.ring.target.operations == ("op",)


def test_a_quoted_hash_must_be_the_plan_of_now(office: Office) -> None:
    old = office.made("a", JOIN_D)["hash"]
    assert office.apply("b", {"weights": {"a": 2}}, "weights")[0] == 202
    status, said = office.told("c", "apply", {**JOIN_D, "hash": old, "operation_id": "late"})
    assert (status, said["problem"]) == (409, "plan-changed")
    assert said["plan"] == office.made("a", JOIN_D) and said["plan"]["hash"] != old
    body = {**JOIN_D, "hash": said["plan"]["hash"], "operation_id": "late"}
    assert office.told("c", "apply", body)[0] == 202


def test_who_joins_must_be_up_and_empty(office: Office) -> None:
    body = {"join": [{"name": "z", "address": "z:1"}]}
    status, said = office.apply("a", body, "silent")
    assert (status, said["problem"]) == (503, "insufficient-owners")
    assert said["detail"] == "join: no answer from z"
    body = {"join": [{"name": "z", "address": "d:1"}]}
    status, said = office.apply("a", body, "other")
    assert (status, said["problem"]) == (400, "bad-parameter")
    assert said["detail"] == "join: z: at this address is d"
    assert office.ring.target.operations == ()


def test_a_receiver_without_room_is_refused_first(office: Office) -> None:
    for index in range(100):
        office.put("a", b"%d" % index, b"v" * 50)
    office.nodes["d"].free_bytes = lambda: 1000
    status, said = office.apply("a", JOIN_D, "op")
    assert status == 400 and said["detail"].startswith("join: d would receive")
    office.nodes["e"].free_bytes = lambda: 1
    moves = {"moves": [{"tokens": 1, "to": "e"}]}
    assert "e would receive" in office.made("b", moves)["violations"][0]
    assert office.ring.target.operations == ()


def both(office: Office) -> tuple[list[Answer], list[Answer]]:
    """Two changes, at a and at c, before either node hears of the other's."""
    answers: tuple[list[Answer], list[Answer]] = ([], [])
    for (name, body), heard in zip(TWO.items(), answers, strict=True):
        quoted = {**body, "hash": office.made(name, body)["hash"], "operation_id": name}
        done = partial(lambda heard, *answer: heard.append(answer), heard)
        office.nodes[name].admin.planner.apply(quoted, done)
    return answers


TWO: dict[str, dict[str, Any]] = {"a": {"weights": {"b": 2}}, "c": {"weights": {"e": 3}}}


def test_two_administrators_end_in_one_target_and_one_is_told(office: Office) -> None:
    office.lost = lambda sender, receiver, frame: any(
        isinstance(message, Announce | Parts) for message in frame.messages
    )
    one, two = both(office)
    office.until(lambda: all(office.nodes[name].ring.target.operations for name in TWO))
    office.lost = lambda sender, receiver, frame: False
    office.until(lambda: bool(one and two), 15.0)
    (winner,) = office.ring.target.operations
    answers = {"a": one[0], "c": two[0]}
    assert answers.pop(winner)[0] == 202
    ((status, said),) = answers.values()
    assert (status, said["problem"]) == (409, "superseded")
    weights = {name: line.weight for name, line in office.ring.members.items()}
    assert weights == {"a": 1, "b": 2, "c": 1, "e": 3}
    assert office.made("b", {})["moves"] != [], "to be planned again"


def test_two_administrators_across_a_partition_end_in_one_target(office: Office) -> None:
    sides = {(x, y) for x in "abd" for y in "ce"}
    office.cut = sides | {(y, x) for x, y in sides}
    office.run(3.0)
    one, two = both(office)
    office.until(lambda: bool(one and two), 15.0)
    assert (one[0][0], two[0][0]) == (202, 202), "neither can know"
    office.cut = set()
    office.until(lambda: len({office.nodes[name].ring.digest for name in "abce"}) == 1)
    for name in "abce":
        state = office.operation(name)
        assert state["id"] in TWO and state["earlier"] == [], "the other sees that it lost"


def test_defaults_are_planned_applied_and_obeyed_and_one_of_two_is_told(office: Office) -> None:
    body = {"defaults": {"w": 3, "sloppy": False}}
    plan = office.made("a", body)
    assert (plan["moves"], plan["bytes"]) == ([], 0)
    assert plan["defaults"]["after"] == {"r": 2, "w": 3, "dw": 1, "sloppy": False}
    assert "defaults" not in office.made("a", {})
    assert office.apply("a", body, "op-1")[0] == 202
    assert {node.ring.target.w for name, node in office.nodes.items() if name != "d"} == {3}
    acks = office.put("b", b"k", b"v").acks
    assert acks is not None and acks.owners == 3
    stale = {**body, "hash": plan["hash"], "operation_id": "op-2"}
    assert office.told("b", "apply", stale)[1]["problem"] == "plan-changed"


def test_a_full_disk_is_no_reason_against_other_defaults(office: Office) -> None:
    for index in range(50):
        office.put("a", b"%d" % index, b"v" * 100)
    office.apply("a", JOIN_D, "op-1")
    office.nodes["d"].free_bytes = lambda: 10
    assert office.apply("a", {"defaults": {"w": 1}}, "op-2")[0] == 202


def test_a_cancelled_leave_stays_and_is_told(office: Office) -> None:
    assert office.apply("a", {"leave": ["e"]}, "op")[0] == 202
    assert office.ring.members["e"].state == LEAVING
    status, said = office.told("b", "cancel", {})
    assert (status, said["operation_id"], said["undone"]) == (202, "op", True)
    assert office.ring.members["e"].state == MEMBER
    assert [*office.ring.target.owners] == [entry.owners for entry in office.ring.entries]
    assert (office.operation("c")["id"], office.operation("c")["state"]) == ("op", "cancelled")
    status, said = office.told("c", "cancel", {})
    assert (status, said["operation_id"], said["undone"]) == (202, "op", False)


def test_a_removal_is_shown_then_done(office: Office) -> None:
    office.kill("e")
    office.run(3.0)
    held = [p for p, entry in enumerate(office.ring.entries) if "e" in entry.owners]
    shown = office.told("a", "remove", {"name": "e"})
    assert shown == (200, {"may_be_lost": [], "below_n": held, "w": 2})
    assert office.ring.members["e"].state == MEMBER
    status, said = office.told("a", "remove", {"name": "e", "force": True, "operation_id": "op"})
    assert (status, said["below_n"], said["may_be_lost"]) == (202, held, [])
    for name in "abc":
        assert office.nodes[name].ring.members["e"].state == LEFT
        assert not any("e" in row for row in office.nodes[name].ring.target.owners)
    again = {"name": "e", "force": True, "operation_id": "op"}
    assert office.told("b", "remove", again)[0] == 202
    for body, words in (({"name": "e", "force": True}, "no member"), ({"name": "a"}, "alive")):
        status, said = office.told("a", "remove", body)
        assert status == 400 and words in said["detail"]


def test_a_node_without_a_ring_plans_nothing(office: Office) -> None:
    for what in ("plan", "apply", "cancel", "remove"):
        status, said = office.told("d", what, {"name": "a", "hash": ""})
        assert (status, said["problem"]) == (503, "not-a-member")
    assert office.operation("d")["state"] == office.operation("a")["state"] == "none"


def test_a_node_without_a_ring_tells_its_status(office: Office) -> None:
    status = office.nodes["d"].admin.status()
    assert (status["name"], status["transfers"]) == ("d", [])


def test_a_node_that_cannot_write_changes_nothing(office: Office) -> None:
    office.nodes["a"].write_batch.writable = False
    status, said = office.apply("a", {"leave": ["e"]}, "op")
    assert (status, said["problem"]) == (503, "insufficient-owners")
    assert office.ring.target.operations == ()


def test_an_operation_is_followed_to_its_end(office: Office) -> None:
    for index in range(60):
        office.put("a", b"%d" % index, b"v")
    moves = len(office.made("a", JOIN_D)["moves"])
    assert office.apply("a", JOIN_D, "join")[0] == 202
    counts = set()

    def done() -> bool:
        operation = office.operation("b")
        counts.add(operation["moves_done"])
        return operation["state"] == "done"

    office.until(done)
    assert office.ring.members["d"].state == MEMBER
    assert max(counts) == moves and len(counts) > 2
    assert office.apply("d", {"leave": ["a", "b"]}, "leave")[0] == 202
    office.until(lambda: office.operation("c")["state"] == "done")
    states = {name: line.state for name, line in office.ring.members.items()}
    assert states == {"a": LEFT, "b": LEFT, "c": MEMBER, "d": MEMBER, "e": MEMBER}
    assert office.operation("d") == {
        "id": "leave",
        "moves_total": 20,
        "moves_done": 20,
        "state": "done",
        "earlier": ["join"],
    }
    for index in range(60):
        assert office.values("c", b"%d" % index) == [b"v"]


def test_a_join_cancelled_midway_keeps_what_has_switched(office: Office) -> None:
    before = [entry.owners for entry in office.ring.entries]
    office.kill("e")
    office.run(3.0)
    assert office.apply("a", JOIN_D, "join")[0] == 202
    office.until(lambda: office.operation("a")["moves_done"] == 3)
    office.run(3.0)
    kept = [p for p, entry in enumerate(office.ring.entries) if "d" in entry.owners]
    assert 0 < len(kept) < office.operation("a")["moves_total"], "where e is an owner it waits"
    assert office.told("b", "cancel", {})[0] == 202
    office.start("e")
    office.until(lambda: office.ring.members["d"].state == MEMBER)
    assert office.operation("c")["state"] == "cancelled"
    for partition, entry in enumerate(office.ring.entries):
        assert entry.move is None
        assert ("d" in entry.owners) is (partition in kept)
        assert partition in kept or entry.owners == before[partition]


def test_a_join_cancelled_before_its_first_switch_has_left(office: Office) -> None:
    before = [entry.owners for entry in office.ring.entries]
    office.lost = lambda sender, receiver, frame: (
        "d" in (sender, receiver)
        and any(isinstance(message, Promise) for message in frame.messages)
    )
    assert office.apply("a", JOIN_D, "join")[0] == 202
    office.until(lambda: any(entry.move for entry in office.nodes["c"].ring.entries))
    assert office.told("b", "cancel", {})[0] == 202
    office.until(lambda: office.ring.members["d"].state == LEFT)
    assert [entry.owners for entry in office.ring.entries] == before
    assert not any(entry.move for entry in office.ring.entries)


def test_a_join_that_removed_nodes_need_is_not_cancelled(office: Office) -> None:
    for name in "ce":
        office.kill(name)
    office.run(3.0)
    assert office.apply("a", JOIN_D, "join")[0] == 202
    for name in "ce":
        body = {"name": name, "force": True, "accept_loss": True}
        assert office.told("a", "remove", body)[0] == 202
    needed = office.ring.target
    status, said = office.told("b", "cancel", {})
    assert (status, said["problem"]) == (400, "bad-parameter")
    assert "without d 2 nodes would stay, n = 3" in said["detail"]
    assert "the places of c and e, removed by force" in said["detail"]
    assert office.ring.target == needed
    assert office.ring.members["d"].state in (JOINING, MEMBER)


def test_a_removed_node_is_replaced_and_its_name_joins_again(office: Office) -> None:
    for index in range(60):
        office.put("a", b"%d" % index, b"v")
    office.kill("e")
    office.run(3.0)
    assert office.told("a", "remove", {"name": "e", "force": True})[0] == 202
    office.wipe("e")
    office.start("e")
    office.until(lambda: not any("e" in entry.owners for entry in office.ring.entries))
    assert office.apply("a", {"join": [{"name": "e", "address": "e:1"}]}, "again")[0] == 202
    office.until(lambda: office.ring.members["e"].state == MEMBER)
    assert office.ring.members["e"].incarnation == 2
    for index in range(60):
        assert office.values("e", b"%d" % index) == [b"v"]
