"""Deliberate faults in the handling of addresses, and the histories that show them (S-MEM-5)."""

from __future__ import annotations

from typing import Any

from dynamo_core.membership.bootstrap import Founding
from dynamo_core.membership.membership import Membership
from dynamo_core.membership.whereabouts import Whereabouts
from dynamo_core.protocol.ring_messages import Parts
from dynamo_core.protocol.route import At
from dynamo_core.ring import document
from tests.simulation.address_ladders import ASKED_ELSEWHERE, CLONE, LEAVES, OLD, TWO_COMMANDS
from tests.simulation.mutants import LADDER_OF, MIX_OF, Patch, mutant

LADDER_OF |= {
    "a cloned disk takes the line": CLONE,
    "a first line is believed wherever it was asked": ASKED_ELSEWHERE,
    "a move undoes a leave": LEAVES,
    "two create commands go on side by side": TWO_COMMANDS,
    "address of a gone id learnt": OLD,
}
MIX_OF |= {"moved address not learnt": "addresses", "seeds not asked with a ring": "addresses"}


@mutant("moved address not learnt")
def _() -> list[Patch]:
    return [(Whereabouts, "_write", lambda self, line, address: None)]


@mutant("seeds not asked with a ring")
def _() -> list[Patch]:
    return [(Whereabouts, "_ask_seeds", lambda self, silent: None)]


@mutant("address of a gone id learnt")
def _() -> list[Patch]:
    def _line(self: Any) -> Any:
        ring = self.node.ring_or_none
        return ring.members.get(self.node.identity.name) if ring is not None else None

    def answer_unknown(self: Any, frame: Any, message: Any) -> None:
        if isinstance(message, Parts):
            self._parts(frame, At(frame.address), message)
        else:
            told(self, frame, message)

    told = Membership._answer_unknown
    return [(Whereabouts, "_line", _line), (Membership, "_answer_unknown", answer_unknown)]


@mutant("a cloned disk takes the line")
def _() -> list[Patch]:
    return [(Whereabouts, "met_itself", lambda self, frame: None)]


@mutant("a move undoes a leave")
def _() -> list[Patch]:
    return [(document, "CHANGED", 1)]


@mutant("two create commands go on side by side")
def _() -> list[Patch]:
    return [(Founding, "give_way", lambda self, later: None)]


@mutant("a first line is believed wherever it was asked")
def _() -> list[Patch]:
    adopted = Whereabouts.adopted
    return [(Whereabouts, "adopted", lambda self, by, at: adopted(self, by, ""))]
