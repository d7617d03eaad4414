"""A put succeeds while W nodes can keep it and one of each list can fsync it (S-NET-2, S-RW-8)."""

from __future__ import annotations

import msgspec
import pytest

from dynamo_core.keys import store_key
from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.messages import Fetch, Forward, Leaves, Roots, Store
from dynamo_core.protocol.operations import Acks, Get, Operation, Outcome, Put
from dynamo_core.replica.durability import Durability
from dynamo_core.runtime.throttle import READS_MIN
from dynamo_core.testing.town import SETTINGS, Town

KEY = b"cart"


def submit(town: Town, at: str, operation: Operation) -> list[Outcome]:
    """The answers until now; no time has passed."""
    answers: list[Outcome] = []
    town.nodes[at].submit(operation, answers.append)
    town.deliver()
    return answers


def owner_and_others(town: Town) -> tuple[str, list[str]]:
    first, *others = town.owners(KEY)
    return first, others


# ---------------------------------------------------------------- refused frames (S-NET-2)


def test_a_node_that_has_just_started_puts_at_once() -> None:
    """Its calls are refused, because no peer has heard this life; it sends them again with their
    numbers when the first echo comes, and no time passes."""
    town = Town("a b c")
    town.kill("c")
    town.run(3.0)
    town.start("c")
    (put,) = submit(town, "c", Put(key=KEY, value=b"v", w=2))
    assert put.status == 204
    assert town.nodes["c"].counters["calls_said_again"] > 0
    town.kill("c")
    town.start("c")
    (get,) = submit(town, "c", Get(key=KEY, r=2))
    assert [sibling.value for sibling in get.values] == [b"v"]


def test_the_first_call_of_a_peer_that_has_started_again_is_said_again() -> None:
    """The peer cannot know the new life when its frame is refused."""
    town = Town("a b c")
    first, others = owner_and_others(town)
    for other in others:
        del town.nodes[other]  # no link breaks: the new process has the same address at once
        disk = town.disks[other]
        town.disks[other] = disk
        town.start(other)
        town.frames.clear()  # what it says at its start is late
    (put,) = submit(town, first, Put(key=KEY, value=b"v", w=3))
    assert (put.status, put.acks) == (204, Acks(3, 3, 0, 1))


def test_an_answer_that_comes_twice_matches_nothing_the_second_time() -> None:
    town = Town("a b c", settings=msgspec.structs.replace(SETTINGS, anti_entropy=False))
    first, (second, third) = owner_and_others(town)
    town.cut |= {(third, other) for other in town.names} | {(o, third) for o in town.names}
    answers = submit(town, first, Put(key=KEY, value=b"v", w=3))
    town.nodes[first].dispatcher.send_again(second, True)
    town.deliver()
    assert not answers, "two acks of one node are one"
    town.until(lambda: bool(answers))
    assert answers[0].acks == Acks(2, 2, 0, 1)


def test_a_walk_is_said_again_only_to_the_process_that_heard_its_beginning() -> None:
    """Otherwise the answers would come from two disks; a call with an effect is never repeated."""
    town = Town("a b c")
    first, (second, _) = owner_and_others(town)
    said: list[type] = []
    node = town.nodes[first]
    town.cut.add((first, second))
    for request in (
        Roots(0, []),
        Leaves(0, 0, (0, 0)),
        Fetch(0, 0, (0, 0), store_key(KEY)),
        Store(0, 0, (0, 0), store_key(KEY), b""),
        Forward(0, Put(key=KEY, value=b"v", request_id="r")),
    ):
        node.ask(second, request, lambda reply: None)
    town.deliver()

    def heard(sender: str, receiver: str, frame: Frame) -> bool:
        said.extend(type(m) for m in frame.messages)
        return (sender, receiver) == (first, second)

    town.cut.clear()
    town.lost = heard
    node.dispatcher.send_again(second, False)
    town.deliver()
    assert set(said) == {Fetch, Store, Forward}
    said.clear()
    node.dispatcher.send_again(second, True)
    town.deliver()
    assert set(said) == {Roots, Leaves, Fetch, Store, Forward}


def test_a_forwarded_put_that_is_coordinated_here_by_now_is_not_said_again() -> None:
    """Otherwise the silent node would make a twin of it."""
    town = Town("a b c d")
    first, second, third = town.owners(KEY)
    (outsider,) = town.others(KEY)
    town.lost = lambda sender, to, frame: (
        sender == outsider and any(isinstance(m, Forward | Store) for m in frame.messages)
    )
    answers = submit(town, outsider, Put(key=KEY, value=b"v", w=3))
    node = town.nodes[outsider]
    node.dispatcher.send_again(first, True)
    assert node.counters["calls_said_again"] == 1, "the forwarded put"
    town.run(0.06)
    node.dispatcher.send_again(first, True)
    assert node.counters["calls_said_again"] == 1, "it stands in for this owner"
    town.lost = lambda sender, to, frame: False
    for other in (second, third):
        node.dispatcher.send_again(other, True)
    town.deliver()
    assert [answer.status for answer in answers] == [204]
    assert town.counters("request_id_seen_again") == 0


# ---------------------------------------------------------------- lost links (S-NET-2)


@pytest.mark.parametrize("operation", [Put(key=KEY, value=b"v", w=2), Get(key=KEY, r=2)])
def test_a_lost_link_is_waited_for_while_the_deadline_is_further_away(operation) -> None:
    town = Town("a b c")
    for name in town.names:
        town.put(name, KEY, b"before", w=3)
    first, others = owner_and_others(town)
    node = town.nodes[first]
    town.lost = lambda sender, to, frame: any(isinstance(m, Store | Fetch) for m in frame.messages)
    answers = submit(town, first, msgspec.structs.replace(operation))
    for other in others:
        node.link_lost(other, 0.3)
    town.deliver()
    assert not answers, "a link that backs off is not impossible"
    town.lost = lambda sender, to, frame: False
    town.run(0.5)
    assert [answer.status for answer in answers] == [204 if isinstance(operation, Put) else 200]


def test_a_lost_link_that_is_dialled_after_the_deadline_is_not_waited_for() -> None:
    town = Town("a b c")
    first, others = owner_and_others(town)
    town.lost = lambda sender, to, frame: any(isinstance(m, Store) for m in frame.messages)
    answers = submit(town, first, Put(key=KEY, value=b"v", w=2, timeout_s=1.0))
    for other in others:
        town.nodes[first].link_lost(other, 1.5)
    town.deliver()
    assert [(answer.status, answer.applied) for answer in answers] == [(503, "unknown")]


def test_an_operation_whose_links_stay_lost_ends_at_its_deadline() -> None:
    """A read may have seen the copy here, so the put says unknown."""
    town = Town("a b c")
    first, others = owner_and_others(town)
    town.lost = lambda sender, to, frame: any(isinstance(m, Store | Fetch) for m in frame.messages)
    began = town.now
    put = submit(town, first, Put(key=KEY, value=b"v", w=2, timeout_s=1.0))
    get = submit(town, first, Get(key=KEY, r=2, timeout_s=1.0))
    while town.now < began + 0.9:
        for other in others:
            town.nodes[first].link_lost(other, 0.05)
        town.run(0.1)
    town.until(lambda: bool(put and get))
    assert town.now < began + 1.2
    assert [(answer.status, answer.applied) for answer in put] == [(503, "unknown")]
    assert [(answer.status, answer.problem) for answer in get] == [(503, "quorum-not-met")]


def test_a_stand_in_takes_a_copy_while_a_link_is_waited_for() -> None:
    town = Town("a b c d")
    first, (second, third) = owner_and_others(town)
    town.lost = lambda sender, to, frame: (
        to in (second, third) and any(isinstance(m, Store) for m in frame.messages)
    )
    answers = submit(town, first, Put(key=KEY, value=b"v", w=2))
    town.nodes[first].link_lost(second, 0.3)
    town.deliver()
    assert [answer.acks for answer in answers] == [Acks(2, 1, 1, 1)]


# ---------------------------------------------------------------- stalled fsyncs (S-RW-8)


def test_a_missing_fsync_is_asked_of_another_holder() -> None:
    town = Town("a b c")
    first, others = owner_and_others(town)
    town.stalled.add(first)
    answers = submit(town, first, Put(key=KEY, value=b"v", w=2, dw=1))
    assert not answers
    town.run(0.06)
    assert [answer.status for answer in answers] == [204]
    acks = answers[0].acks
    assert acks is not None and acks.durable == 1
    stored = store_key(KEY)
    assert any(town.disks[o].records(stored, durable=True) for o in others)
    assert town.nodes[first].counters["fsyncs_asked_elsewhere"] == 1


def test_one_holder_more_is_asked_when_the_next_one_stalls_as_well() -> None:
    town = Town("a b c")
    first, others = owner_and_others(town)
    town.stalled |= {first, others[0]}
    answers = submit(town, first, Put(key=KEY, value=b"v", w=3, dw=1))
    town.run(0.3)
    assert [answer.status for answer in answers] == [204]


def test_a_holder_that_was_to_fsync_first_is_asked_for_the_copy_alone() -> None:
    """w=3, dw=2: three hold it, two durably, no matter which two."""
    town = Town("a b c")
    first, others = owner_and_others(town)
    town.stalled.add(others[1])
    answers = submit(town, first, Put(key=KEY, value=b"v", w=3, dw=2))
    town.run(0.3)
    assert [answer.acks for answer in answers] == [Acks(3, 3, 0, 2)]


def test_a_silent_owner_leaves_time_to_ask_for_the_fsync_elsewhere() -> None:
    """Where puts usually take long, the put waits for the owner to which it was forwarded, and for
    its own fsync: both together must leave time for another holder's."""
    town = Town("a b c d")
    (outsider,) = town.others(KEY)
    town.stalled.add(outsider)
    for _ in range(READS_MIN):
        town.nodes[outsider].throttle.read(5.0, town.now)
    town.run(1.1)
    assert town.nodes[outsider].hedging.after_s(1.0) == 0.5
    town.lost = lambda sender, to, frame: any(isinstance(m, Forward) for m in frame.messages)
    answers = submit(town, outsider, Put(key=KEY, value=b"v", w=1, dw=1, timeout_s=1.0))
    town.until(lambda: bool(answers))
    assert [(put.status, put.node) for put in answers] == [(204, outsider)]


def test_without_dw_disks_the_answer_is_an_honest_503() -> None:
    town = Town("a b c")
    first, others = owner_and_others(town)
    town.stalled |= {first, *others}
    answers = submit(town, first, Put(key=KEY, value=b"v", w=2, dw=1))
    town.until(lambda: bool(answers))
    assert (answers[0].status, answers[0].applied) == (503, "unknown")
    assert all(town.nodes[first].up(other) for other in others), "they have acked"


def test_others_coordinate_for_a_node_whose_fsyncs_stall() -> None:
    """Nodes that forward also prefer owners whose fsyncs do not stall."""
    town = Town("a b c d")
    first, (second, _) = owner_and_others(town)
    (outsider,) = town.others(KEY)
    town.stalled.add(first)
    submit(town, first, Put(key=KEY, value=b"v"))
    assert not town.nodes[first].stalled
    town.run(1.5)
    assert town.nodes[first].stalled and town.nodes[second].stalls(first)
    for at in (first, outsider):
        (put,) = submit(town, at, Put(key=KEY, value=b"v"))
        assert (put.status, put.node) == (204, second), "at once"
    town.kill(*(name for name in town.names if name != first))
    answers = submit(town, first, Put(key=KEY, value=b"alone", w=1))
    town.stalled.clear()
    town.run(0.1)
    assert [answer.status for answer in answers] == [204], "nobody else is there"
    town.run(2.0)
    assert not town.nodes[first].stalled


def test_a_stall_is_reported_from_its_beginning_until_an_fsync_is_fast() -> None:
    durability = Durability(0.5)
    assert not durability.wanted(10.0, 1000)
    assert not durability.wanted(10.4, 1400)
    assert durability.wake_at == 10.5
    assert durability.wanted(10.6, 1600)
    assert (durability.stalled, durability.since_ms) == (True, 1000)
    assert not durability.wanted(11.0, 2000), "told once"
    durability.synced(13.0)
    assert durability.stalled, "the last one was slow"
    durability.wanted(13.1, 4100)
    durability.synced(13.2)
    assert not durability.stalled
