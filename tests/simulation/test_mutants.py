"""The test of the tests: one deliberate fault of each module of them (`make mutants`: all)."""

from __future__ import annotations

import pytest

from dynamo_core.testing.simulation import run
from dynamo_core.testing.workload import make_plan
from tests.simulation.all_mutants import MUTANTS
from tests.simulation.disk_fault import blind_iterator, disk_rules_broken
from tests.simulation.mutants import planted, seeds_to_catch

SEEDS_MAX = 400
FIRST_OF = {make.__module__: name for name, make in reversed(MUTANTS.items())}
"""By module of mutants: the first of them."""


@pytest.mark.parametrize("name", FIRST_OF.values())
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
