"""A node that learns that its id is gone hands over all its records (S-MEM-3)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dynamo_core.keys import DATA, META

if TYPE_CHECKING:
    from dynamo_core.node import Node

GONE_KEY = b"gone"
"""The only row left on the disk of an id that is gone for ever. At the next start the disk gets a
new id."""
NOBODY = ""
"""The target of the records that a replaced node offers. It names no member, so these hints are
delivered to all owners."""


class Retirement:
    """The disk of one node whose id is gone."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.told = False
        """Another node knows that this id is gone; gossip spreads it from there."""
        self._offered_to = b""

    def offer(self) -> None:
        """Turn the next slice of records into hints for all owners; empty the disk at the end."""
        node = self.node
        membership = node.membership
        if not membership.gone or membership.emptied or not node.writable:
            return
        rows, after = node.write_batch.page(DATA, self._offered_to, None, node.settings.rows_max)
        for stored, record in rows:
            node.replica.keep_hint(NOBODY, stored, record)
            node.write_batch.put(DATA, stored, None)
        if rows:
            node.write_batch.then(partial(self._offered, rows[-1][0]))
        elif after is not None:
            self._offered_to = after
        elif not node.hints.counts and self.told:
            for key, _ in node.write_batch.scan(META, b"", None, 1 << 16):
                node.write_batch.put(META, key, None)
            node.write_batch.put(META, GONE_KEY, b"1")
            membership.emptied = True
            node.counters["replaced_node_emptied"] += 1

    def _offered(self, last: bytes, stored: bool) -> None:
        """The slice is written: go on behind it. If the store refused it, the records are offered
        again."""
        if stored:
            self._offered_to = last
