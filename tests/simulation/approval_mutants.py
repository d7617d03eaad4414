"""Deliberate faults in approvals, and the histories that show them (S-MEM-6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from dynamo_core.membership.replacement import Approval, Replacements
from dynamo_core.ring.document import Member
from dynamo_core.testing.town import SETTINGS, Town
from tests.simulation.ladders import ladder
from tests.simulation.mutants import LADDER_OF, Patch, mutant

ONCE, LATE, ALIVE = (
    "an approval lets one empty disk in",
    "an approval lapses",
    "who answers is not replaced",
)
LADDER_OF |= {
    "approval used twice": ONCE,
    "approval never lapses": LATE,
    "approved while the member answers": ALIVE,
}
BY_A_PERSON = msgspec.structs.replace(SETTINGS, replace_lost=False)


def replace(town: Town, at: str, name: str) -> tuple[int, dict[str, Any]]:
    """The node's answer to the administrator."""
    told: list[tuple[int, dict[str, Any]]] = []
    town.nodes[at].admin.replace(name, lambda status, body: told.append((status, body)))
    town.deliver()
    town.until(lambda: bool(told), 5.0)
    return told[0]


def lost(town: Town, name: str) -> None:
    """The name returns with an empty disk when no member hears its old life any more."""
    town.kill(name)
    town.wipe(name)
    town.run(3.0)
    town.start(name)
    town.run(3.0)


@ladder(ONCE)
def one_empty_disk() -> None:
    """The second disk that the same name loses waits for another approval, at every member."""
    town = Town("a b c", settings=BY_A_PERSON)
    lost(town, "c")
    assert not town.nodes["c"].member
    assert [replace(town, at, "c")[0] for at in "ab"] == [202, 202]
    town.until(lambda: town.nodes["c"].member, 10.0)
    town.run(3.0)
    assert [town.nodes[at].admin.status()["replacements"] for at in "ab"] == [{}, {}]
    lost(town, "c")
    town.run(10.0)
    assert not town.nodes["c"].member
    assert replace(town, "b", "c")[0] == 202
    town.until(lambda: town.nodes["c"].member, 10.0)


@ladder(LATE)
def ten_minutes() -> None:
    """A disk that comes too late waits; the status shows the remaining time."""
    town = Town("a b c", settings=BY_A_PERSON)
    town.kill("c")
    town.wipe("c")
    town.run(3.0)
    assert replace(town, "a", "c") == (202, {"name": "c", "lapses_s": 600.0})
    town.run(500.0)
    assert town.nodes["a"].admin.status()["replacements"] == {"c": {"lapses_s": 100.0}}
    town.run(100.0)
    assert town.nodes["a"].admin.status()["replacements"] == {}
    town.start("c")
    town.run(10.0)
    assert not town.nodes["c"].member and town.counters("replacements_lapsed") == 1


@ladder(ALIVE)
def who_answers_stays() -> None:
    """A member that hears it refuses, a member that knows such a member, and the node itself."""
    town = Town("a b c", settings=BY_A_PERSON)
    town.cut = {("a", "c"), ("c", "a")}
    town.run(4.0)
    for at in "abc":
        status, body = replace(town, at, "c")
        assert (status, body.get("problem")) == (409, "not-lost"), at
    town.cut = set()
    town.run(3.0)
    town.kill("c")
    town.wipe("c")
    town.run(3.0)
    town.start("c")
    town.run(10.0)
    assert not town.nodes["c"].member


def _bare(change: Callable[[Any, Member], bool]) -> list[Patch]:
    return [(Replacements, "approved", change)]


@mutant("approval used twice")
def _() -> list[Patch]:
    kept: dict[int, set[str]] = {}
    approve = Replacements.approve

    def approving(self: Any, name: str, done: Any) -> None:
        kept.setdefault(id(self), set()).add(name)
        approve(self, name, done)

    return [
        *_bare(lambda self, line: line.name in kept.get(id(self), ())),
        (Replacements, "approve", approving),
    ]


@mutant("approval never lapses")
def _() -> list[Patch]:
    def approved(self: Any, line: Member) -> bool:
        approval = self._approvals.get(line.name)
        return approval is not None and approval.lost == line.id

    return _bare(approved)


@mutant("approved while the member answers")
def _() -> list[Patch]:
    def approve(self: Any, name: str, done: Any) -> None:
        line = self.node.ring.members[name]
        until = self.node.now + self.node.settings.approval_s
        self._approvals[name] = Approval(line.id, until)
        done("")

    return [(Replacements, "approve", approve)]
