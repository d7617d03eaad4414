"""How long something has been missing, by the operator's own clock.

The API server has no time of a pod that never existed, and its other times come from other
machines, whose clocks may differ by a minute. So a look gets the time for which this process has
seen the thing missing. It is only for people: no decision uses it, and a new process starts at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic

from dynamo_operator.snapshot import RING, Snapshot

Cluster = tuple[str, str]


class Waits:
    """For every cluster: what is missing, and since when."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._since: dict[Cluster, dict[tuple[str, str], float]] = {}

    def update(self, o: Snapshot) -> dict[str, float]:
        """For how many seconds each missing thing of this look has been missing."""
        now = self._clock()
        before = self._since.get((o.namespace, o.name), {})
        since = {what: before.get(what, now) for what in _missing(o)}
        self._since[o.namespace, o.name] = since
        return {name: now - began for (name, _), began in since.items()}

    def forget(self, cluster: Cluster) -> None:
        """The resource is deleted."""
        self._since.pop(cluster, None)


def _missing(o: Snapshot) -> Iterable[tuple[str, str]]:
    """Names, and uids, so that the time of a new object starts at 0: pods that are absent or do not
    run, claims without a volume, the ring that claims are recorded for."""
    if o.spec.stopped:
        return
    for ordinal in range(o.replicas):
        pod, claim = o.pods.get(ordinal), o.claims.get(ordinal)
        if pod is None:
            yield o.pod_name(ordinal), ""
        elif not pod.running and pod.deleting_since is None:
            yield pod.name, pod.uid
        if claim is not None and claim.phase == "Pending":
            yield claim.name, claim.uid
    if o.ring is None and (o.recorded or o.unreadable):
        yield RING, o.uid
