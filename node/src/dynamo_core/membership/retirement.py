"""A node that learns that its id is gone hands over all its records (S-MEM-3)."""

from __future__ import annotations

from functools import partial
from typing import NewType

from dynamo_core.keys import DATA
from dynamo_core.membership.ring_state import RingState
from dynamo_core.replica.hint_target import ALL_OWNERS
from dynamo_core.replica.replica import Replica
from dynamo_core.runtime.host import Host

FormerName = NewType("FormerName", str)
"""What a node is called once its id is gone."""


def former_name(member: str) -> FormerName:
    """No member has this name, so a node that is gone takes nothing that is for the later life of
    its name, and no other node takes it for that (S-MEM-3)."""
    return FormerName("~" + member)


class Retirement:
    """The disk of one node whose id is gone."""

    def __init__(self, node: Host, rings: RingState, replica: Replica) -> None:
        self.node = node
        self.rings = rings
        self.replica = replica
        self._told = False
        """Another node knows that this id is gone; gossip carries it on."""
        self._offered_to = b""

    def offer(self) -> None:
        """Turn the next unowned data into hints without a target; at the end empty the disk."""
        node, rings, replica = self.node, self.rings, self.replica
        if not rings.gone or rings.emptied or not node.writable:
            return
        write_batch = replica.write_batch
        rows, after = write_batch.page(DATA, self._offered_to, None, node.settings.rows_max)
        for stored, record in rows:
            replica.keep_hint(ALL_OWNERS, stored, record)
            write_batch.put(DATA, stored, None)
        if rows:
            write_batch.then(partial(self._offered, rows[-1][0]))
        elif after is not None:
            self._offered_to = after
        elif not replica.hints.counts and self._told:
            rings.empty()

    def confirmed(self) -> None:
        """Another node has shown that it knows that this id is gone."""
        self._told = True

    def _offered(self, last: bytes, written: bool) -> None:
        """The slice is written: go on behind it. If the store refused it, the records are offered
        again."""
        if written:
            self._offered_to = last
