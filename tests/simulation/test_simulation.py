"""Histories of the real core in the simulator: stored failures, many seeds, determinism."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dynamo_core.testing.beginning import begin
from dynamo_core.testing.history import Trouble, load, save
from dynamo_core.testing.plan import Plan, load_plan, save_plan
from dynamo_core.testing.runner import EXPECTED, run_seeds
from dynamo_core.testing.shrink import shrink
from dynamo_core.testing.simulation import run
from dynamo_core.testing.workload import make_plan
from dynamo_core.testing.world import World

STORED = sorted((Path(__file__).parent / "seeds").glob("*.json"))
SEEDS, CHUNK = 400, 50
RAREST = {
    "backup with hints from before a round",
    "backup_copies_too_old",
    "backup without a damaged key",
    "canaries_stale",
    "cancelled while a partition moves",
    "copies given up, because the ring changed",
    "damaged copy salvaged",
    "disk copied while its node is down",
    "disk of a removed node found stale",
    "full while it hands over",
    "full while it leaves",
    "full while it receives",
    "full while it surrenders",
    "flip in Store offer",
    "hedges_put_off",
    "emptied node joined under a new id",
    "hint damaged",
    "hints_handed_on",
    "kept_apart_over_a_drop",
    "learnt_it_is_replaced",
    "moved_lines_written_again",
    "rounds_known_to_be_abandoned",
    "moves_taken_over",
    "moves_undone",
    "old disk came back",
    "put coordinated by a stand-in after a refused forward",
    "removed during a move",
    "replaced_node_emptied",
    "rolled_back_disk_found",
    "stale_records_refused",
    "store salvaged",
    "stored_by_offer",
    "superseded plan made again",
    "stored_by_restore",
}


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_failures_stay_fixed(path: Path) -> None:
    assert run(load_plan(path)).violations == []


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_seeds(first: int) -> None:
    assert run_seeds((first, first + CHUNK)).failed == []


def test_a_history_reaches_the_hard_states() -> None:
    """All states that a long run must reach, except the rarest, within a few hundred seeds."""
    counters = run_seeds((1000, 1300)).counters
    assert {name for name in EXPECTED if not counters[name]} <= RAREST


@pytest.mark.parametrize("seed", [1, 7, 100])
def test_one_seed_is_one_history(seed: int) -> None:
    first, second = run(make_plan(seed)), run(make_plan(seed), draw=True)
    assert (first.trail, first.steps, first.events) == (second.trail, second.steps, second.events)


def test_quiet_seeds_have_neither_siblings_nor_repairs() -> None:
    quiet = [plan for plan in map(make_plan, range(300)) if plan.quiet]
    counters = [run(plan).counters for plan in quiet]
    assert len(quiet) > 15
    assert [c["siblings returned"] + c["stored_by_repair"] for c in counters] == [0] * len(quiet)


def test_a_late_frame_stays_at_the_address_to_which_it_was_sent() -> None:
    """A socket is bound to its address: a node that has moved does not get the frame."""
    world = World(make_plan(0))
    begin(world)
    sender, receiver = world.processes[:2]
    world.arrive(sender, receiver, "where it was:1", b"no frame")
    assert not [event for event in world.events if isinstance(event, Trouble)]
    assert world.counters["frame to an address that its receiver has left"] == 1
    world.arrive(sender, receiver, receiver.address, b"no frame")
    assert len([event for event in world.events if isinstance(event, Trouble)]) == 1


def test_plans_and_histories_survive_the_file(tmp_path: Path) -> None:
    plan = make_plan(3)
    save_plan(tmp_path / "plan.json", plan)
    result = run(load_plan(tmp_path / "plan.json"))
    save(tmp_path / "history.jsonl", result.events)
    assert load_plan(tmp_path / "plan.json") == plan
    assert load(tmp_path / "history.jsonl") == result.events == run(plan).events


def test_shrinking_keeps_the_failure_and_drops_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan in which three steps break a rule is cut down to these steps."""

    def claims(plan: Plan) -> set[str]:
        kinds = [step.kind for step in plan.steps]
        return {"C1"} if kinds.count("get") >= 2 and "put" in kinds else set()

    monkeypatch.setattr("dynamo_core.testing.shrink.claims_of", claims)
    plan = next(p for p in map(make_plan, range(100)) if p.faults and p.nodes > 3 and claims(p))
    small = shrink(plan)
    assert sorted(step.kind for step in small.steps) == ["get", "get", "put"]
    assert small.faults == []
    assert small.nodes == 3
    assert msgspec.structs.replace(small, steps=[], nodes=0) == msgspec.structs.replace(
        plan, steps=[], faults=[], nodes=0
    )
