"""The test of the tests: deliberate faults that a few seeds must catch (`make mutants`: all)."""

from __future__ import annotations

import pytest
from mutants import MUTANTS, planted, seeds_to_catch

from dynamo_core.testing.simulation import run
from dynamo_core.testing.workload import make_plan

SEEDS_MAX = 150
RARE = {
    "a hint and its owner's copy counted as two",
    "a wiped node is complete at once",
    "absence from an incomplete owner is proof",
    "membership by wall clock",
}
"""Need more seeds than a push should spend here."""


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in RARE])
def test_a_deliberate_fault_is_caught(name: str) -> None:
    seeds, claim = seeds_to_catch(name, SEEDS_MAX)
    assert seeds > 0 and claim


def test_a_fault_is_taken_out_again() -> None:
    with planted("no dots"):
        pass
    assert [run(make_plan(seed)).violations for seed in range(10)] == [[]] * 10
