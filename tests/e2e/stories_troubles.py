"""What is in the way is told, and what selects is put back."""

from __future__ import annotations

import time
from typing import Any

from tests.e2e.kubectl import apply, find, get, kubectl, patch, until
from tests.e2e.stage import RINGS, Ring, since

ring = Ring()
ONE_MORE = {"x": "y"}
TOLD_S_MAX = 150.0


def selectors_put_back() -> str:
    """One key more in each map that selects: it would select nothing."""
    edits: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("svc", ring.name, {"selector": ONE_MORE}),
        ("svc", f"{ring.name}-nodes", {"selector": ONE_MORE}),
        ("pdb", ring.name, {"selector": {"matchLabels": ONE_MORE}}),
        ("netpol", ring.name, {"podSelector": {"matchLabels": ONE_MORE}}),
    )
    began = time.monotonic()
    for kind, name, spec in edits:
        field = next(iter(spec))
        before = get(kind, RINGS, name)["spec"][field]
        patch(kind, RINGS, name, {"spec": spec})
        # Services are not watched: a change of the resource makes the operator look at once.
        looked = {"metadata": {"annotations": {"looked-at": f"{kind}/{name}"}}}
        patch("dring", RINGS, ring.name, looked)
        until(
            f"{kind} {name} as it was",
            lambda kind=kind, name=name, field=field, before=before: (  # type: ignore[misc]
                get(kind, RINGS, name)["spec"][field] == before
            ),
            60,
        )
    ring.settle(3)
    return f"{len(edits)} selectors put back in {since(began)}"


def quota_told() -> str:
    """A quota refuses the third pod: Degraded says so, with the command that shows why."""
    barred = Ring("barred", "quota")
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "quota"}})
    apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "few", "namespace": "quota"},
            "spec": {"hard": {"pods": "2"}},
        }
    )
    barred.create(ring={"partitions": 16})
    began = time.monotonic()
    until("the quota is told", lambda: _degraded(barred) == "PodNotMade", TOLD_S_MAX)
    took = since(began)
    message = barred.conditions()["Degraded"]["message"]
    assert "kubectl describe statefulset barred -n quota" in message, message
    kubectl("delete", "resourcequota", "few", "-n", "quota")
    # Kubernetes' own controller waits longer after each refusal; a change makes it try at once.
    patch("statefulset", "quota", "barred", {"metadata": {"annotations": {"quota": "gone"}}})
    barred.settle(3)
    assert _degraded(barred) == "AllWell", barred.conditions()
    kubectl("delete", "namespace", "quota", "--wait=false")
    return f"told after {took}, whole without the quota"


def class_taken_back() -> str:
    """A class that does not exist is told, and is corrected while no volume is there."""
    typo = Ring("typo", "other")
    typo.create(ring={"partitions": 16}, storage={"size": "64Mi", "className": "gp3-typo"})
    until(
        "the class is told",
        lambda: "gp3-typo" in typo.conditions().get("Degraded", {}).get("message", ""),
        TOLD_S_MAX,
    )
    patch("dring", "other", "typo", {"spec": {"storage": {"className": None}}})
    took = typo.settle(3)
    kubectl("delete", "dring", "typo", "-n", "other")
    claims = [claim["metadata"]["name"] for claim in find("pvc", "other")]
    kubectl("delete", "pvc", "-n", "other", "--wait=false", *claims)
    return f"whole {took:.0f} s after the correction"


def _degraded(of: Ring) -> str:
    return str(of.conditions().get("Degraded", {}).get("reason", ""))
