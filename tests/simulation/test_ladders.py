"""Every ladder holds on the real core, and each fails without its rule."""

from __future__ import annotations

import pytest

from tests.simulation import (
    address_mutants,
    approval_mutants,
    background_mutants,
    backup_ladders,
    bounds_mutants,
    edge_mutants,
    found_ladders,
    ids_mutants,
    level_mutants,
    move_ladders,
    move_mutants,
    put_ladders,
    record_mutants,
    refusal_ladders,
    round_mutants,
    share_mutants,
    staleness_ladders,
    writeable_mutants,
)
from tests.simulation.ladders import LADDERS
from tests.simulation.mutants import LADDER_OF, planted


@pytest.mark.parametrize("name", LADDERS)
def test_a_ladder_holds(name: str) -> None:
    LADDERS[name]()


@pytest.mark.parametrize("fault", LADDER_OF)
def test_a_ladder_does_not_hold_without_its_rule(fault: str) -> None:
    assert LADDER_OF[fault] in LADDERS
    with planted(fault), pytest.raises(AssertionError):
        LADDERS[LADDER_OF[fault]]()


def test_every_ladder_has_a_rule() -> None:
    assert set(LADDER_OF.values()) == set(LADDERS)
    assert move_ladders.four and move_mutants.MIX_OF and round_mutants.MIX_OF
    assert (
        address_mutants.MIX_OF
        and approval_mutants.LADDER_OF
        and level_mutants.LADDER_OF
        and staleness_ladders.LADDER_OF
        and background_mutants.BUSY
        and backup_ladders.LADDER_OF
        and bounds_mutants.VALUE
        and edge_mutants.FULL
        and put_ladders.LADDER_OF
        and found_ladders.LADDER_OF
        and ids_mutants.FLIPPED
        and record_mutants.COPIED
        and refusal_ladders.LADDER_OF
        and share_mutants.LADDER_OF
        and writeable_mutants.LADDER_OF
    )
