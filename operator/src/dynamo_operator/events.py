"""Kubernetes Events, one for each thing that happened; the operator does not repeat an Event.

The name of an Event is made from its text. So a second operator, or this one after a restart,
increases the count of the first Event and does not write another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from time import time

from dynamo_operator.actions import Note
from dynamo_operator.ports import Conflict, Failed, KubeApi
from dynamo_operator.quantity import precise
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.spec import API_VERSION

MESSAGE_CHARS_MAX = 1000
REPEAT_S = 3600.0
TOLD_MAX = 4096
CONTROLLER = "dynamo-ring.dev/operator"


class EventRecorder:
    """Posts Events about DynamoClusters. A failure to post one changes nothing else."""

    def __init__(self, kube: KubeApi, instance: str, clock: Callable[[], float] = time) -> None:
        self.kube = kube
        self.instance = instance
        self.clock = clock
        self._told: dict[str, tuple[float, int]] = {}

    async def tell(self, o: Snapshot, note: Note) -> None:
        """Post the same text about the same resource once an hour; count it in between."""
        text = f"{o.uid}/{note.reason}/{note.message}"
        name = f"{o.name}.{sha256(text.encode()).hexdigest()[:16]}"
        now = self.clock()
        last, count = self._told.get(name, (-REPEAT_S, 1))
        if now - last < REPEAT_S:
            return
        self._told[name] = now, count + 1
        while len(self._told) > TOLD_MAX:
            del self._told[next(iter(self._told))]
        try:
            await self.kube.create(self._event(o, note, name, now))
        except Conflict:
            again = {"series": {"count": count + 1, "lastObservedTime": precise(now)}}
            await self._count(o, name, again)
        except Failed:
            self._told.pop(name, None)

    async def _count(self, o: Snapshot, name: str, body: Mapping[str, object]) -> None:
        try:
            await self.kube.patch("Event", o.namespace, name, body)
        except Failed:
            self._told.pop(name, None)

    def _event(self, o: Snapshot, note: Note, name: str, now: float) -> dict[str, object]:
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": o.namespace},
            "type": "Warning" if note.warning else "Normal",
            "reason": note.reason,
            "note": note.message[:MESSAGE_CHARS_MAX],
            "action": note.reason,
            "eventTime": precise(now),
            "reportingController": CONTROLLER,
            "reportingInstance": self.instance,
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": "DynamoCluster",
                "name": o.name,
                "namespace": o.namespace,
                "uid": o.uid,
            },
        }
