"""Samples, reports and canaries of nodes in a town: whose delays are kept, and what is answered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dynamo_core.keys import DATA
from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.messages import Fetch, Refused, Store
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.protocol.staleness_messages import CANARY, Delays, Glance
from dynamo_core.runtime.delays import SAMPLES_MAX, DelaySampler, Pair, Sample
from dynamo_core.staleness.staleness import OLD_S
from dynamo_core.testing.town import SETTINGS, Town

ON = msgspec.structs.replace(SETTINGS, delay_samples_per_minute=6000)
CANARIES = msgspec.structs.replace(ON, canaries_per_minute=600)


def report(town: Town, at: str, n: int = 0) -> dict[str, Any]:
    answers: list[tuple[int, dict[str, Any]]] = []
    town.nodes[at].staleness.ask(15.0, n, lambda status, body: answers.append((status, body)))
    town.until(lambda: bool(answers))
    (answer,) = answers
    assert answer[0] == 200
    return answer[1]


def busy(town: Town) -> None:
    for index in range(12):
        key = b"k%d" % index
        for at in town.nodes:
            town.put(at, key, b"v")
            town.run(0.02)
            town.get(at, key)
            town.run(0.02)


def test_a_call_in_a_while_is_sampled_and_the_others_carry_nothing() -> None:
    town = Town("a b c", settings=msgspec.structs.replace(ON, delay_samples_per_minute=60))
    stamps: list[int] = []

    def note(sender: str, receiver: str, frame: Frame) -> bool:
        stamps.extend(m.timed for m in frame.messages if isinstance(m, Fetch | Store))
        return False

    town.lost = note
    owner = town.owners(b"k")[0]
    for _ in range(20):
        town.put(owner, b"k", b"v", context=town.get(owner, b"k").context)
        town.run(0.1)
    assert stamps.count(0) > 30 and 4 <= len(stamps) - stamps.count(0) <= 10


def test_without_sampling_nothing_is_kept_and_nothing_is_compared_but_a_time() -> None:
    town = Town("a b c")
    busy(town)
    assert all(not node.sampler.pairs and not node.sampler.own for node in town.nodes.values())
    assert report(town, "a")["settings"] == []


def test_offsets_of_clocks_cancel() -> None:
    """5 ms there, 3 ms back, and a clock that is 7 s ahead: the sum is exact, the middle is taken
    for the quickest sample, and the difference of two calls is exact."""
    pair = Pair()
    pair.add(Sample(1.0, 7_005_000, -6_997_000, True), True)
    pair.add(Sample(1.1, 7_025_000, -6_997_000, True), True)
    pair.add(Sample(1.2, 7_011_000, -6_997_000, True), False)
    assert pair.offset_us() == 7_001_000
    assert pair.ways(True) == [(4000, 4000), (24_000, 4000)]
    assert pair.ways(False) == [(10_000, 4000)]


def test_a_clock_that_begins_again_ends_what_was_known() -> None:
    pair = Pair()
    for at in range(5):
        pair.add(Sample(1.0 + at, 7_005_000, -6_997_000, True), True)
    pair.add(Sample(9.0, -400_000, 402_000, True), False)
    assert pair.ways(True) == [] and pair.ways(False) == [(1000, 1000)]


def test_an_older_node_tells_no_time_and_halves_are_taken() -> None:
    pair = Pair()
    pair.add(Sample(1.0, 3000, 3000, False), True)
    assert pair.ways(True) == [(3000, 3000)] and pair.offset_us() is None


def test_what_is_kept_has_a_bound_and_an_age() -> None:
    sampler = DelaySampler(600)
    for index in range(2 * SAMPLES_MAX):
        now = 1.0 + index / 10
        request = Store(1, 0, (0, 0), b"k" * 5, b"", timed=int(now * 1e6))
        sampler.answered("b", request, town_reply(now), now + 0.002)
    assert len(sampler.pairs["b"].writes) == SAMPLES_MAX
    sampler.unanswered("b", request, now)
    sampler.expire(now + 119.0)
    assert len(sampler.pairs["b"].writes) == 11 and len(sampler.pairs["b"].lost) == 1
    sampler.expire(now + 1000.0)
    assert not sampler.pairs


def town_reply(now: float) -> Any:
    from dynamo_core.protocol.messages import Stored

    return Stored(1, 3, int((now + 0.001) * 1e6))


def test_a_report_has_the_samples_of_all_members() -> None:
    town = Town("a b c", settings=ON)
    busy(town)
    body = report(town, "b")
    assert body["nodes"] == ["a", "b", "c"] and body["missing"] == [] and body["trials"] > 1000
    assert {(line["from"], line["to"]) for line in body["delays"]} == {
        (x, y) for x in "abc" for y in "abc" if x != y
    }
    assert [(s["r"], s["w"]) for s in body["settings"]] == [
        (r, w) for r in (1, 2, 3) for w in (1, 2, 3)
    ]
    present = next(s for s in body["settings"] if s["present"])
    assert present["overlap"] and present["fresh_at_once"] == 1.0 and body["advice"]
    assert town.nodes["b"].staleness.summary() is not None


def test_a_young_report_is_given_again_and_two_at_once_are_one() -> None:
    town = Town("a b c", settings=ON)
    busy(town)
    answers: list[int] = []
    for _ in range(3):
        town.nodes["a"].staleness.ask(15.0, 0, lambda status, body: answers.append(body["samples"]))
    town.until(lambda: len(answers) == 3)
    first = report(town, "a")
    assert first["samples"] == answers[0] and town.counters("staleness_reports") == 1


def test_a_node_that_is_down_is_named_and_its_stand_in_takes_part() -> None:
    town = Town("a b c d", settings=ON)
    busy(town)
    town.kill("d")
    town.run(3.0)
    busy(town)
    body = report(town, "a")
    assert body["down"] == ["d"] and body["missing"] == ["d"]
    assert all(s["possible"] for s in body["settings"])
    town.kill("c")
    town.run(20.0)
    body = report(town, "a")
    assert [s["possible"] for s in body["settings"]] == [
        r < 3 and w < 3 for r in (1, 2, 3) for w in (1, 2, 3)
    ]


def test_metrics_and_status_leave_out_an_old_report() -> None:
    town = Town("a b c", settings=ON)
    busy(town)
    report(town, "a")
    part = town.nodes["a"].staleness
    for node in town.nodes.values():
        node.retune(SETTINGS)
    assert part.summary() is not None and part.latest is not None
    part.latest.made_at -= OLD_S
    assert part.summary() is None


@pytest.mark.parametrize("n", [1, 2, 4, 5])
def test_a_report_of_another_n(n: int) -> None:
    """The copies of a ring with more are where stand-ins are now."""
    town = Town("a b c d e", settings=CANARIES)
    busy(town)
    now = report(town, "a")
    body = report(town, "a", n)
    assert (body["n"], body["ring_n"], now["n"], now["ring_n"]) == (n, 3, 3, 3)
    sizes = range(1, n + 1)
    assert [(s["r"], s["w"]) for s in body["settings"]] == [(r, w) for r in sizes for w in sizes]
    assert all(s["possible"] and not s["present"] for s in body["settings"])
    assert all(s["fresh_at_once"] == 1.0 for s in body["settings"] if s["overlap"])
    assert body["canary"]["reads"] == 0, "canaries measure the ring as it is"
    assert body["advice"][0].startswith(f"{n} {'copy' if n == 1 else 'copies'} of each key")
    assert report(town, "a") == now | {"age_s": report(town, "a")["age_s"]}, "its own is kept"


def test_reports_of_several_n_are_made_one_after_the_other() -> None:
    town = Town("a b c d e", settings=ON)
    busy(town)
    told: list[int] = []
    for n in (4, 0, 2, 4):
        town.nodes["a"].staleness.ask(15.0, n, lambda status, body: told.append(body["n"]))
    town.until(lambda: len(told) == 4)
    assert told == [4, 4, 3, 2] and town.counters("staleness_reports") == 3


@pytest.mark.parametrize("n", [-1, 6, 8])
def test_no_report_of_more_copies_than_nodes(n: int) -> None:
    town = Town("a b c d e", settings=ON)
    said: list[tuple[int, str]] = []
    town.nodes["a"].staleness.ask(
        15.0, n, lambda status, body: said.append((status, body["problem"]))
    )
    assert said == [(400, "bad-parameter")]


def test_an_older_node_is_not_asked() -> None:
    """C17: it would drop the whole frame."""
    town = Town("a b c", settings=CANARIES)
    town.nodes["c"].outbox.knows = 2
    town.run(1.0)
    for name in "ab":
        town.nodes[name].detector.peers["c"].knows = 2
    busy(town)
    body = report(town, "a")
    assert "c" in body["missing"] and body["assumed"]
    assert town.counters("calls_not_known_there") > 0


def test_canaries_are_written_and_read_elsewhere() -> None:
    town = Town("a b c", settings=CANARIES)
    town.run(20.0)
    assert town.counters("canaries_fresh") > 100 and town.counters("canaries_stale") == 0
    canary = report(town, "a")["canary"]
    assert canary["measured"] == canary["predicted"] == 1.0 and canary["points"]
    keys = {k[4:] for disk in town.disks.values() for k in disk.rows[DATA]}
    assert keys and all(key.startswith(CANARY) for key in keys)


def test_canaries_begin_and_end_with_their_setting() -> None:
    town = Town("a b c", settings=ON)
    town.run(5.0)
    assert town.counters("canaries_fresh") == 0
    for node in town.nodes.values():
        node.retune(CANARIES)
    town.run(5.0)
    made = town.counters("canaries_fresh")
    assert made > 0
    for node in town.nodes.values():
        node.retune(SETTINGS)
    town.run(2.0)
    made = town.counters("canaries_fresh")
    town.run(5.0)
    assert town.counters("canaries_fresh") == made
    assert not town.nodes["a"].sampler.pairs


@pytest.mark.parametrize("stored", [b"\x00\x00\x00\x00k", b"\x00\x00\x00\x00" + CANARY + b"a/1"])
def test_no_other_key_is_read_for_a_peer(stored: bytes) -> None:
    town = Town("a b c")
    answers: list[Any] = []
    town.nodes["a"].ask("b", Glance(0, stored, 0), answers.append)
    town.until(lambda: bool(answers))
    assert answers == [None]
    assert town.counters("senseless_input_refused") == 1


def test_a_member_tells_its_samples() -> None:
    town = Town("a b c", settings=ON)
    busy(town)
    answers: list[Any] = []
    town.nodes["a"].ask("b", Delays(0), answers.append)
    town.until(lambda: bool(answers))
    (told,) = answers
    assert not isinstance(told, Refused) or told.reason is not Refusal.SENSELESS
    assert {pair.to for pair in told.pairs} == {"a", "c"} and told.own
