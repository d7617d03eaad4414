"""Deliberate faults of the gate: senseless input is accepted, or accepted in part (S-IN-2)."""

from __future__ import annotations

from typing import Any

from dynamo_core.membership import ring_state
from dynamo_core.protocol import intake
from dynamo_core.protocol.round_messages import NumbersTold
from dynamo_core.ring.document import Ring
from tests.simulation.mutants import MIX_OF, Patch, mutant

SENSELESS = ("gate skipped", "half-taken ring", "numbers without sense are believed")
MIX_OF |= dict.fromkeys(SENSELESS, "senseless")


@mutant("gate skipped")
def _() -> list[Patch]:
    return [
        (ring_state, "step_fault", lambda before, after: ""),
        (ring_state, "ring_fault", lambda ring: ""),
    ]


@mutant("half-taken ring")
def _() -> list[Patch]:
    original = ring_state.RingState.take

    def take(self: Any, ring: Ring, founding: bool = False, from_disk: bool = False) -> str:
        why = original(self, ring, founding, from_disk)
        if why and self.ring_or_none is not None:
            self.hold(ring)
        return why

    return [(ring_state.RingState, "take", take)]


@mutant("numbers without sense are believed")
def _() -> list[Patch]:
    checks = {**intake.CHECKS, NumbersTold: lambda message, here: ""}
    return [(intake, "CHECKS", checks)]
