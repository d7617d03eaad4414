"""A repair on demand: this node orders every owner to compare, and asks until all are done."""

from __future__ import annotations

from dynamo_core.protocol.messages import Message, Order, Progress
from dynamo_core.protocol.refusal import Reason
from dynamo_core.runtime.machine import Effects, Machine, View

POLL_S = 0.25


REPAIR_S = 3600.0


class ClusterRepair(Machine):
    """A repair on demand: it orders every member, and asks each until all are done."""

    def __init__(self, view: View, name: str, partitions: list[int], full: bool) -> None:
        super().__init__()
        self.view = view
        self.name = name
        self.partitions = partitions
        self.full = full
        self.failed_on: set[str] = set()
        self._progress: dict[str, Progress] = {}

    def start(self, now: float) -> Effects:
        self._until = now + REPAIR_S
        owners = {o for p in self.partitions for o in self.view.preference.owners(p)}
        self._progress = {name: Progress(0, 0, 1, 0) for name in sorted(owners)}
        self.failed_on = {name for name in self._progress if not self.view.up(name)}
        return self._poll(now)

    def _poll(self, now: float) -> Effects:
        self.wake_at = now + POLL_S
        return [(name, Order(0, self.name, self.partitions, self.full)) for name in self._left()]

    def _left(self) -> list[str]:
        return [
            name
            for name, progress in self._progress.items()
            if progress.done < progress.total and name not in self.failed_on
        ]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        assert isinstance(reply, Progress)
        self._progress[node] = reply
        if not self._left():
            self.finished = True
        return []

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        self.failed_on.add(node)
        return []

    def expired(self, now: float) -> Effects:
        if not self._left() or now >= self._until:
            self.finished = True
            return []
        return self._poll(now)

    def report(self) -> dict[str, object]:
        """The report in the form of docs/http-api.md."""
        progress = self._progress.values()
        bad = self.failed_on or any(p.failed for p in progress)
        state = "running" if not self.finished else "failed" if bad or self._left() else "done"
        share = sum(p.done / p.total if p.total else 1 for p in progress) / max(1, len(progress))
        return {
            "id": self.name,
            "state": state,
            "partitions_total": len(self.partitions),
            "partitions_done": int(share * len(self.partitions)),
            "keys_repaired": sum(p.repaired for p in progress),
        }
