"""One partition on its way to this node: how far it has come (S-MOVE-1..4)."""

from __future__ import annotations

from typing import Any

from dynamo_core.repair.exchange import Exchange

BEGINNING, PROMISES, COPYING = "beginning", "promises", "copying"


class Receiving:
    """One partition on its way to this node; only its entry is durable."""

    def __init__(self, partition: int, losses: int) -> None:
        self.partition = partition
        self.losses = losses
        self.promised: dict[str, int] = {}
        """Node id by owner: a promise and a copy belong to a node id."""
        self.copied: dict[str, int] = {}
        self.under_way: set[str] = set()
        self.tried = ""
        """The owner of the last pass."""
        self.copying: dict[str, Exchange] = {}
        self.records = self.bytes = 0
        """Copied by the passes that have ended."""
        self.bytes_total: int | None = None
        """The bytes that one owner holds; None until this node has asked."""
        self.state = BEGINNING
        self.reason = ""

    def ended(self, exchange: Exchange) -> None:
        """A pass has ended, with or without success."""
        del self.copying[exchange.peer]
        self.records += exchange.repaired
        self.bytes += exchange.bytes

    def document(self, move: tuple[str, str] | None) -> dict[str, Any]:
        """In the form of docs/http-api.md; `move` is what the entry says of it."""
        assert move is not None
        now = self.copying.values()
        return {
            "partition": self.partition,
            "out": move[0],
            "in": move[1],
            "state": self.state,
            "reason": self.reason,
            "records_done": self.records + sum(one.repaired for one in now),
            "bytes_done": self.bytes + sum(one.bytes for one in now),
            "bytes_total": self.bytes_total or 0,
        }
