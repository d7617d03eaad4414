"""Which ring may take the pod template of this version: one at a time, with a pause after it.

Kept in memory: a new process lets one ring go on and makes the others wait.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from dynamo_operator.plan.running import behind
from dynamo_operator.snapshot import Snapshot

PAUSE_S = 60.0
"""Pause between two rings, so that a person sees the effect of the template on the first one."""
Cluster = tuple[str, str]


class Turns:
    """One ring has the turn at a time."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._holder: Cluster | None = None
        self._free_at = float("-inf")

    def update(self, o: Snapshot) -> bool:
        """Whether this ring may take the template now. Its turn ends when all its pods run with it,
        or when it may not take it any more."""
        key, wants = (o.namespace, o.name), behind(o) and not o.spec.paused and not o.spec.stopped
        if self._holder == key:
            rolling = next(o.unrolled(), None) is not None or not (o.workload and _caught_up(o))
            if wants or (rolling and not o.spec.paused):
                return True
            self.gone(key)
            return False
        if wants and self._holder is None and self._clock() >= self._free_at:
            self._holder = key
            return True
        return False

    def gone(self, key: Cluster) -> None:
        """The ring with the turn is done, or its resource is deleted."""
        if self._holder == key:
            self._holder, self._free_at = None, self._clock() + PAUSE_S


def _caught_up(o: Snapshot) -> bool:
    ready = sum(pod.ready for pod in o.pods.values())
    return o.workload is not None and o.workload.caught_up and ready >= o.replicas
