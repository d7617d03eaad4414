"""What chaos concludes from a record: words, ladders, and what a lost disk excuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.cluster import at_rest
from benchmarks.stories import STORIES
from benchmarks.witnesses import MEANINGS, Record

from dynamo_core.testing.history import Attempt

KEY = b"1-0"


def write(value: int, at: float, w: int = 2, covered: tuple[int, ...] = ()) -> Attempt:
    return Attempt(
        kind="put",
        key=KEY,
        node="n0",
        value=value,
        sent=b"v%d " % value * 9,
        covered=list(covered),
        outcome="ok",
        status=204,
        began=at,
        ended=at + 1,
        w=w,
    )


def final(*values: int, at: float = 90.0) -> Attempt:
    shown = [b"v%d " % value * 9 for value in values]
    return Attempt(
        kind="get",
        key=KEY,
        node="n1",
        shown=shown,
        outcome="ok",
        status=200 if shown else 404,
        began=at,
        ended=at + 1,
        final=True,
    )


def record(*attempts: Attempt) -> Record:
    made = Record([KEY])
    made.events += attempts
    return made


@pytest.mark.parametrize(
    ("shown", "words"),
    [((2,), []), ((), ["lost"]), ((1, 2), ["resurrected"]), ((2, 9), ["invented"])],
)
def test_the_verdict_in_words(shown: tuple[int, ...], words: list[str]) -> None:
    history = record(write(1, 1.0), write(2, 3.0, covered=(1,)), final(*shown))
    assert [MEANINGS[violation.claim] for violation in history.verdict()] == words


def test_a_lost_disk_excuses_puts_at_w_1_of_before_and_no_others() -> None:
    history = record(write(1, 1.0, w=1), final())
    assert [violation.claim for violation in history.verdict()] == ["C1"]
    history.lost("n0")  # now, which is long after
    assert history.verdict() == []
    assert record(write(1, 1.0), final()).verdict()
    history = record(write(1, 1.0, w=1), final())
    history.lost("n0", since=50.0)  # a copy from after the put was put back
    assert [violation.claim for violation in history.verdict()] == ["C1"]


def test_a_ladder_has_the_steps_and_the_operations_of_the_keys_that_went_wrong(
    tmp_path: Path,
) -> None:
    other = Attempt(kind="get", key=b"1-1", node="n4", outcome="ok", status=404, began=2.0)
    history = record(write(1, 1.0), other, final())
    history.steps.append((5.0, "n3 leaves"))
    history.save(tmp_path / "1-story", history.verdict())
    first, *rungs = (tmp_path / "1-story" / "ladder.txt").read_text().splitlines()
    assert first.startswith("C1 b'1-0' final read at n1")
    assert [" ".join(rung.split()[1:4]) for rung in rungs] == [
        "n0 put 1-0",
        "-- n3 leaves",
        "n1 get 1-0",
    ]
    assert len((tmp_path / "1-story" / "history.jsonl").read_text().splitlines()) == 4


def test_a_ring_is_at_rest_when_nothing_is_left_to_do() -> None:
    entry = {"owners": ["a", "b"], "move": None, "old": None}
    ring = {"members": [{"state": "MEMBER"}, {"state": "LEFT"}], "entries": [entry], "target": None}
    assert at_rest(ring) and at_rest({**ring, "target": [["b", "a"]]})
    assert not at_rest({**ring, "target": [["a", "c"]]})
    assert not at_rest({**ring, "members": [{"state": "JOINING"}]})
    assert not at_rest({**ring, "entries": [{**entry, "old": ["a", "c"]}]})
    assert not at_rest({**ring, "entries": [{**entry, "move": {"out": "a", "in": "c"}}]})


def test_every_story_says_what_it_is() -> None:
    assert len({story.__name__ for story in STORIES}) == len(STORIES) == 11
    assert all(story.__doc__ for story in STORIES)
