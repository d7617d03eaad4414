"""Rounds: who agrees to what, what is deleted, and what the status shows (S-DEL-2, S-TTL-1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.causality.codec import decode_record, digest_in, encode_record
from dynamo_core.forgetting.coordinator import Round
from dynamo_core.keys import DATA, META, partition_of, store_key
from dynamo_core.protocol.messages import Message, Refused
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.protocol.round_messages import RoundAnswer, RoundAsk, RoundCommit, RoundDone
from dynamo_core.replica.round_numbers import RoundNumbers
from dynamo_core.replica.tombstones import Tombstones
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.ring.document import LEFT, Entry
from dynamo_core.testing.disk import Disk
from dynamo_core.testing.town import SETTINGS, Town, known

KEY = b"cart"
STORED = store_key(KEY)
QUICK = msgspec.structs.replace(SETTINGS, tombstone_age_min_s=12.0, collect_s=0.5)
NEVER = msgspec.structs.replace(QUICK, collect_s=1e9)
"""No round begins by itself."""


def deleted(settings: Any = QUICK, names: str = "a b c", n: int = 3) -> Town:
    town = Town(names, n=n, settings=settings)
    assert town.put("a", KEY, b"v", w=n).status == 204
    town.run(3.0)
    assert town.put("a", KEY, None, context=known(town.get("a", KEY)), w=n).status == 204
    return town


def data(town: Town) -> int:
    return sum(len(disk.rows[DATA]) for disk in town.disks.values())


def ask(town: Town, name: str, **fields: Any) -> RoundAnswer:
    """One round's question as any leader would send it, with other fields."""
    ring = town.nodes[name].ring
    here = partition_of(STORED, ring.partition_bits)
    _, members, target, _ = ring.digests()
    row = town.disks[name].rows[DATA].get(STORED)
    listed = [(STORED, digest_in(row))] if row is not None else []
    plain = RoundAsk(0, here, ring.entries[here].id, 7 << 32, members, target, listed)
    answer = call(town, name, msgspec.structs.replace(plain, **fields))
    assert isinstance(answer, RoundAnswer)
    return answer


def call(town: Town, name: str, request: Message) -> Message:
    answers: list[Message] = []
    town.nodes[name].local.answer(request, answers.append)
    town.deliver()
    (answer,) = answers
    return answer


def test_a_tombstone_goes_when_it_is_old_enough_and_all_agree() -> None:
    town = deleted()
    town.run(10.0)
    assert data(town) == 3
    assert town.nodes["a"].admin.status()["tombstones"]["waiting_for"] == (
        "its age: a tombstone stays at least 12 s"
    )
    town.until(lambda: data(town) == 0, 10.0)
    assert town.counters("tombstones_collected") == 3
    assert town.get("b", KEY).status == 404
    assert town.get("b", KEY).context is None, "nothing remembers that it ever was"
    status = town.nodes["a"].admin.status()["tombstones"]
    assert (status["oldest_s"], status["waiting_for"]) == (None, None)


def test_a_key_is_written_again_after_its_tombstone_went() -> None:
    """S-DOT-2: the same actor, which must not mint its old dots again."""
    town = deleted()
    at = town.owners(KEY)[0]
    town.put(at, KEY, b"between", w=3)
    (before,) = town.get(at, KEY).values
    town.put(at, KEY, None, context=known(town.get(at, KEY)), w=3)
    town.until(lambda: data(town) == 0)
    outcome = town.put(at, KEY, b"again", w=3)
    (after,) = town.get(at, KEY).values
    assert after.actor == before.actor
    assert after.counter > before.counter + 1, "above the tombstone's"
    record = decode_record(town.disks[at].rows[DATA][STORED])
    assert record.history.vector == {after.actor: after.counter}
    assert not record.history.dots, "histories stay short"
    town.put(at, KEY, b"once more", context=known(outcome), w=3)
    assert town.values("b", KEY) == [b"once more"]


def test_an_expired_value_is_a_tombstone() -> None:
    """S-TTL-1; the scrub finds it, because no write touches the key."""
    town = Town("a b c", settings=QUICK)
    town.put("a", KEY, b"v", w=3, expires_in_s=1)
    town.put("a", b"stays", b"v", w=3, expires_in_s=3600)
    town.wall_ms += 2000
    town.until(lambda: data(town) == 3)
    assert town.values("a", b"stays") == [b"v"]


def test_a_tombstone_that_is_written_over_stays_a_value() -> None:
    town = deleted()
    town.run(10.0)
    town.put("b", KEY, b"new", w=3)
    town.run(20.0)
    assert town.values("c", KEY) == [b"new"]
    assert town.counters("tombstones_collected") == 0


@pytest.mark.parametrize("down", ["an owner", "a stand-in"])
def test_every_member_must_be_up(down: str) -> None:
    town = deleted(names="a b c d")
    name = town.owners(KEY)[1] if down == "an owner" else town.others(KEY)[0]
    town.kill(name)
    town.run(30.0)
    assert data(town) == 3
    leader = next(n for n in town.owners(KEY) if n != name)
    assert town.nodes[leader].admin.status()["tombstones"]["waiting_for"] == f"{name} is down"
    town.start(name)
    town.until(lambda: data(town) == 0)


# ---------------------------------------------------------------- a member's answer


def test_an_owner_agrees_durably_and_names_what_it_has_held() -> None:
    town = deleted(NEVER)
    town.run(3.0)
    for node in town.nodes.values():
        node.round_coordinator.wake_at = 0.0  # one look at what was written
    town.run(13.0)
    name = town.owners(KEY)[1]
    here = partition_of(STORED, town.ring.partition_bits)
    answer = ask(town, name)
    row = town.disks[name].rows[DATA][STORED]
    assert (answer.refusal, answer.listed) == ("", [(STORED, digest_in(row))])
    key = b"seen/" + here.to_bytes(2, "big")
    assert town.disks[name].rows[META][key] == (7 << 32).to_bytes(8, "big")
    assert ask(town, name).refusal == f"{name} has seen a later round"
    assert ask(town, name, number=8 << 32, listed=[(STORED, b"other")]).listed == []


def test_what_is_too_young_is_not_named() -> None:
    town = deleted(NEVER)
    answer = ask(town, "a")
    assert (answer.refusal, answer.listed) == ("", [])


REFUSALS: list[tuple[str, str, Callable[[Town, str], Any]]] = [
    ("another ring", "{0} has another ring", lambda town, name: {"members": b"other"}),
    ("another target", "{0} has another ring", lambda town, name: {"target": b"other"}),
    ("a hint", "a hint for b lies at {0}", lambda town, name: hint(town, name)),
    ("not complete", "partition {1} is not complete at {0}", lambda town, name: doubt(town, name)),
    ("a move", "partition {1} moves from {0} to z", lambda town, name: move(town, name)),
    ("a switch", "partition {1} has moved and settles", lambda town, name: switch(town, name)),
]


def hint(town: Town, name: str) -> dict[str, Any]:
    town.nodes[name].replica.keep_hint("b", STORED, town.disks[name].rows[DATA][STORED])
    return {}


def doubt(town: Town, name: str) -> dict[str, Any]:
    town.nodes[name].replica.lose_complete(partition_of(STORED, 4))
    return {}


def move(town: Town, name: str) -> dict[str, Any]:
    return changed_entry(town, name, move=(name, "z"))


def switch(town: Town, name: str) -> dict[str, Any]:
    return changed_entry(town, name, old=("a", "b"))


def changed_entry(town: Town, name: str, **fields: Any) -> dict[str, Any]:
    node = town.nodes[name]
    here = partition_of(STORED, 4)
    later = Entry(0, 1, node.ring.entries[here].owners, **fields)
    node.ring_state.hold(node.ring.with_entry(here, later))
    return {"entry_id": node.ring.entries[here].id}


@pytest.mark.parametrize("why", REFUSALS, ids=[why for why, _, _ in REFUSALS])
def test_who_is_unsure_refuses(why: tuple[str, str, Callable[[Town, str], Any]]) -> None:
    town = deleted(NEVER)
    _, words, arrange = why
    answer = ask(town, "a", **arrange(town, "a"))
    assert answer.refusal == words.format("a", partition_of(STORED, 4))
    assert answer.listed == []


def test_who_holds_data_without_owning_it_refuses() -> None:
    town = deleted(NEVER, names="a b c d")
    name = town.others(KEY)[0]
    record = town.disks[town.owners(KEY)[0]].rows[DATA][STORED]
    town.nodes[name].replica.tree.write(STORED, None, record)
    here = partition_of(STORED, town.ring.partition_bits)
    words = f"{name} holds data of partition {here} without owning it"
    assert ask(town, name).refusal == words


def test_another_entry_is_refused_as_ever() -> None:
    town = deleted(NEVER)
    here = partition_of(STORED, 4)
    request = RoundAsk(0, here, (9, 9), 7 << 32, b"", b"", [])
    answer = call(town, "a", request)
    assert isinstance(answer, Refused)
    assert answer.reason is Refusal.ENTRY


# ---------------------------------------------------------------- the commit


def commit(town: Town, name: str, number: int) -> int:
    ring = town.ring
    here = partition_of(STORED, 4)
    listed = [(STORED, digest_in(town.disks[name].rows[DATA][STORED]))]
    request = RoundCommit(0, here, ring.entries[here].id, number, listed)
    answer = call(town, name, request)
    assert isinstance(answer, RoundDone)
    return answer.collected


def test_a_commit_deletes_and_raises_the_floor_in_one_batch() -> None:
    town = deleted(NEVER)
    ask(town, "a")
    assert commit(town, "a", 7 << 32) == 1
    disk = town.disks["a"]
    key = b"floor/" + partition_of(STORED, 4).to_bytes(2, "big")
    assert disk.rows[META][key] == (7 << 32).to_bytes(8, "big")
    assert STORED not in disk.rows[DATA]
    assert disk.durable == disk.written


@pytest.mark.parametrize("how", ["never agreed", "another number", "another life", "too late"])
def test_a_commit_of_a_round_that_is_not_agreed_to_does_nothing(how: str) -> None:
    town = deleted(NEVER)
    if how != "never agreed":
        ask(town, "a")
    if how == "another number":
        ask(town, "a", number=8 << 32)
    elif how == "another life":
        town.kill("a")
        town.start("a")
        town.run(3.0)
    elif how == "too late":
        town.run(3.0)
    assert commit(town, "a", 7 << 32) == 0
    assert town.nodes["a"].replica.numbers.floor(partition_of(STORED, 4)) == 0


# ---------------------------------------------------------------- numbers and the index


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 1 << 40)), max_size=20))
def test_numbers_only_grow_and_are_on_the_disk(acts: list[tuple[bool, int, int]]) -> None:
    disk = Disk(1)
    write_batch = WriteBatch(disk)
    numbers = RoundNumbers(write_batch)
    for commits, partition, number in acts:
        before = numbers.seen(partition), numbers.floor(partition)
        (numbers.commit if commits else numbers.see)(partition, number)
        assert (numbers.seen(partition), numbers.floor(partition)) >= before
        assert numbers.floor(partition) <= numbers.seen(partition)
    write_batch.flush()
    again = RoundNumbers(WriteBatch(disk))
    again.load()
    assert again.rows() == numbers.rows()


@given(st.integers(0, 1 << 60), st.integers(0, 1 << 60), st.integers(0, 1 << 64))
def test_a_new_number_is_above_all_that_is_known(seen: int, beyond: int, random: int) -> None:
    numbers = RoundNumbers(WriteBatch(Disk(1)))
    numbers.see(3, seen)
    number = numbers.next(3, beyond, random)
    assert number > max(seen, beyond)
    assert number >> 32 == (max(seen, beyond) >> 32) + 1


def test_the_index_knows_so_many_and_no_more() -> None:
    index = Tombstones(2)
    record = encode_record(KEY, decode_record(_tombstone()))
    for row in range(5):
        index.written(b"%d" % row, record)
    noticed = index.noticed(10)
    assert [stored for stored, _, _ in noticed] == [b"0", b"1"]
    for stored, digest, _ in noticed:
        index.track(0, stored, digest, 1.0)
    index.written(b"2", record)
    assert index.noticed(10) == []
    index.forget(0, b"0")
    index.written(b"2", record)
    assert [stored for stored, _, _ in index.noticed(10)] == [b"2"]
    assert index.oldest() == (0, 1.0)
    index.forget_all(0)
    assert index.oldest() is None


def _tombstone() -> bytes:
    town = deleted(NEVER)
    return town.disks["a"].rows[DATA][STORED]


def test_a_round_that_asks_no_one_ends() -> None:
    """Its node has LEFT between the choice of the partition and the first question."""
    town = Town("a b c")
    node = town.nodes["a"]
    line = node.ring.members["a"]
    gone = msgspec.structs.replace(line, state=LEFT, version=line.version + 1)
    assert not node.ring_state.take(node.ring.with_member(gone))
    ended: list[str] = []
    machine = Round(node, 0, 5, [], lambda _, why: ended.append(why))
    assert machine.start(node.now) == [] == machine.expired(machine.wake_at)
    assert ended == [f"{node.name} does not answer"]
