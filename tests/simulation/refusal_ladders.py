"""Histories that need a refusal (S-REQ-2)."""

from __future__ import annotations

from dynamo_core.protocol.operations import Put
from dynamo_core.replica import coordination
from dynamo_core.testing.town import Town
from tests.simulation.ladders import KEY, ladder
from tests.simulation.mutants import LADDER_OF, Patch, mutant


@ladder("an id that comes again with another value")
def an_id_that_comes_again_with_another_value() -> None:
    """It was not stored, so it is not acked (S-REQ-2)."""
    town = Town("a b c")
    first = Put(key=KEY, value=b"first", request_id="r", w=2)
    assert town.ask("a", first).status == 204
    other = town.put("b", KEY, b"second", request_id="r", w=2)
    assert (other.status, other.problem) == (409, "request-id-reused")
    assert town.values("c", KEY) == [b"first"]


# ---------------------------------------------------------------- the faults


@mutant("a reused id answered as done")
def _() -> list[Patch]:
    return [(coordination, "same_request", lambda put, first: True)]


LADDER_OF |= {"a reused id answered as done": "an id that comes again with another value"}
