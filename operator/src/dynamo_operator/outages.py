"""Which pods are down, and what to do if the machine of one never returns."""

from __future__ import annotations

from dynamo_operator.snapshot import Pod, Snapshot

STARTING_S_MAX = 60.0
"""Seconds for a pod to start before a person should look."""


def down(o: Snapshot, pod: Pod) -> bool:
    """Whether the pod has not been Ready for longer than a start takes. A pod in no ring is never
    Ready: it is down if it does not answer."""
    since = max(pod.created, pod.unready_since or 0.0)
    if o.now - since < STARTING_S_MAX:
        return False
    expected = o.is_live(pod.ordinal) or (o.ring is None and bool(o.recorded))
    return pod.ordinal not in o.nodes or (expected and not pod.ready)


def way_out(o: Snapshot, name: str) -> str:
    """What to do if the machine of a node that is down will never return. "" while the node is up,
    or has been down only for a moment."""
    pod = o.pods.get(o.ordinal(name) or 0) if o.ordinal(name) is not None else None
    if pod is None or not (down(o, pod) or pod.deleting_since is not None):
        return ""
    there = f"kubectl dynamo -n {o.namespace} --cluster {o.name} remove {name} --force"
    there = there if o.is_live(pod.ordinal) else ""
    machine = f"kubectl delete node {pod.machine}" if pod.machine else ""
    steps = ", then ".join(filter(None, (there, machine)))
    return f". If its machine will never return: {steps}" if steps else ""
