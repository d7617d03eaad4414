"""Predicted and measured staleness in simulated rings with known delays, and the deliberate faults
of the prediction that this shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynamo_core.runtime import delays
from dynamo_core.staleness import prediction
from dynamo_core.testing.canaries import agreement
from tests.simulation.ladders import ladder
from tests.simulation.mutants import LADDER_OF, Patch, mutant

AGREES = 0.05
READS_MIN = 300


def agrees(rw: tuple[int, int]) -> None:
    canary = agreement(1, rw, 0.02, 10.0)["canary"]
    assert canary["reads"] >= READS_MIN
    assert abs(canary["measured"] - canary["predicted"]) <= AGREES, canary


@ladder("predicted as measured, R=1 W=1")
def one_and_one() -> None:
    agrees((1, 1))


@ladder("predicted as measured, R=2 W=1")
def two_and_one() -> None:
    agrees((2, 1))


@ladder("predicted as measured, R=1 W=2")
def one_and_two() -> None:
    agrees((1, 2))


LADDER_OF["prediction forgets the way of the read"] = "predicted as measured, R=2 W=1"
LADDER_OF["prediction forgets the way of the ack"] = "predicted as measured, R=1 W=2"
LADDER_OF["two clocks taken for one"] = "predicted as measured, R=1 W=1"


@mutant("prediction forgets the way of the read")
def _() -> list[Patch]:
    original = prediction.Trials._way

    def way(self: Any, caller: str, to: str, write: bool) -> tuple[float, float]:
        there, back = original(self, caller, to, write)
        return (there, back) if write else (0.0, there + back)

    return [(prediction.Trials, "_way", way)]


@mutant("prediction forgets the way of the ack")
def _() -> list[Patch]:
    original = prediction.Trials._write_once

    def write_once(self: Any, writer: str, place: Sequence[str]) -> Any:
        arrives, _ = original(self, writer, place)
        return arrives, sorted(arrives)

    return [(prediction.Trials, "_write_once", write_once)]


@mutant("two clocks taken for one")
def _() -> list[Patch]:
    def ways(self: Any, write: bool) -> list[tuple[int, int]]:
        found = []
        for sample in self.writes if write else self.reads:
            both = sample.forth + sample.back
            found.append((min(max(sample.forth, 0), both), both - min(max(sample.forth, 0), both)))
        return found

    return [(delays.Pair, "ways", ways)]
