"""What one look proves about the volume of a pod."""

from __future__ import annotations

from dynamo_operator.snapshot import Snapshot


def volume_lost(o: Snapshot, ordinal: int) -> bool:
    """Proof that a pod's volume is gone: its claim is Lost or absent, and it does not run."""
    pod, claim = o.pods.get(ordinal), o.claims.get(ordinal)
    return pod is not None and not pod.running and (claim is None or claim.phase == "Lost")
