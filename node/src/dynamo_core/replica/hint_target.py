"""For which node or nodes a hint is kept, and how the key of a hint in the store spells it.

node-3                        the node of this name
(nothing)                     all owners: a node whose id is gone offers the record (S-MEM-3)
=00f3a1b2c3d4e5f6             all owners, after the quarantine of that start (S-DEL-3)
=00f3a1b2c3d4e5f6:2f          the same, for a record of a store that had seen this number
"""

from __future__ import annotations

import msgspec


class AllOwners(msgspec.Struct, frozen=True):
    """A record that a removed node offers."""


class InQuarantine(msgspec.Struct, frozen=True):
    """A record that came while its partition was in quarantine. `start` is the boot of the node in
    hex; `seen` is the number of the store that the record was read from, None for a new record."""

    start: str
    seen: int | None = None

    def same_start(self, target: HintTarget) -> bool:
        """Whether the other target is of the quarantine of the same start."""
        return isinstance(target, InQuarantine) and target.start == self.start

    def read_at(self, seen: int) -> InQuarantine:
        """The target for a record that was read from a store with this number."""
        return InQuarantine(self.start, seen)


HintTarget = str | AllOwners | InQuarantine
"""A string is the name of a node."""
ALL_OWNERS = AllOwners()


def spelled(target: HintTarget) -> str:
    """The target as it stands in the key of a hint."""
    if isinstance(target, str):
        return target
    if isinstance(target, AllOwners):
        return ""
    return "=" + target.start + ("" if target.seen is None else f":{target.seen:x}")


def target_of(text: str) -> HintTarget:
    """The target that is spelled so. What a peer made up is kept as it is: `spelled` gives back the
    same text for every text."""
    if not text:
        return ALL_OWNERS
    if text[0] != "=":
        return text
    start, _, rest = text[1:].partition(":")
    try:
        target = InQuarantine(start, int(rest, 16))
    except ValueError:
        return InQuarantine(text[1:])
    return target if spelled(target) == text else InQuarantine(text[1:])


def shown(target: HintTarget) -> str:
    """The target as people see it."""
    return target if isinstance(target, str) else "(owners)"
