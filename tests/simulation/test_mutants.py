"""The test of the tests: deliberate faults that a few seeds must catch (`make mutants`: all)."""

from __future__ import annotations

import address_mutants
import approval_mutants
import background_mutants
import bounds_mutants
import edge_mutants
import expiry_mutants
import found_ladders
import gate_mutants
import ids_mutants
import level_mutants
import move_ladders
import move_mutants
import put_ladders
import pytest
import record_mutants
import refusal_ladders
import round_mutants
import secret_mutants
import share_mutants
import wire_mutants
import writeable_mutants
from disk_fault import blind_iterator, disk_rules_broken
from mutants import MUTANTS, planted, seeds_to_catch

from dynamo_core.testing.simulation import run
from dynamo_core.testing.workload import make_plan

SEEDS_MAX = 400


assert move_ladders.four and move_mutants.MIX_OF and round_mutants.LADDER_OF
assert (
    address_mutants.LADDER_OF
    and approval_mutants.LADDER_OF
    and level_mutants.LADDER_OF
    and background_mutants.BUSY
    and bounds_mutants.VALUE
    and edge_mutants.FULL
    and expiry_mutants.LOST
    and gate_mutants.SENSELESS
    and ids_mutants.FLIPPED
    and put_ladders.LADDER_OF
    and found_ladders.LADDER_OF
    and wire_mutants.TAG
    and record_mutants.COPIED
    and refusal_ladders.LADDER_OF
    and writeable_mutants.LADDER_OF
    and share_mutants.LADDER_OF
    and secret_mutants.TAKEN
)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_deliberate_fault_is_caught(name: str) -> None:
    seeds, claim = seeds_to_catch(name, SEEDS_MAX)
    assert seeds > 0 and claim


def test_a_fault_is_taken_out_again() -> None:
    with planted("no dots"):
        pass
    assert [run(make_plan(seed)).violations for seed in range(10)] == [[]] * 10


def test_an_iterator_that_is_believed_is_caught_by_the_disk_rules() -> None:
    assert disk_rules_broken() == 0
    with blind_iterator():
        assert disk_rules_broken() == 1
