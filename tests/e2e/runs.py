"""Backups and restores of the stories: made, begun, ended; and the operator killed meanwhile."""

from __future__ import annotations

from typing import Any

from tests.e2e.kubectl import Object, apply, find, get, kubectl, until
from tests.e2e.stage import SYSTEM, Ring, operator_pod


def make(ring: Ring, kind: str, name: str, **spec: Any) -> None:
    """Applies a DynamoBackup or DynamoRestore of a ring."""
    meta = {"name": name, "namespace": ring.namespace}
    spec = {"clusterName": ring.name} | spec
    version = "dynamo-ring.dev/v1alpha1"
    apply({"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec})


def all_of(ring: Ring, kind: str) -> dict[str, Object]:
    """All of a kind in the ring's namespace, by name."""
    return {each["metadata"]["name"]: each for each in find(kind, ring.namespace)}


def state(ring: Ring, kind: str, name: str) -> str:
    """As its status says; "" before it has one."""
    return str(get(kind, ring.namespace, name).get("status", {}).get("state", ""))


def begun(ring: Ring, kind: str, name: str) -> bool:
    """Whether it runs, or is complete already."""
    return state(ring, kind, name) in ("Running", "Complete")


def ended(ring: Ring, kind: str, name: str, seconds: float = 120, how: str = "Complete") -> Object:
    """Its status at the end. Raises AssertionError if it ended in another way, and Slow."""
    ends = ("Complete", "Failed")
    until(f"{kind} {name}", lambda: state(ring, kind, name) in ends, seconds)
    status: Object = get(kind, ring.namespace, name)["status"]
    assert status["state"] == how, status
    return status


def kill_operator() -> None:
    """Its pod ends at once; the Deployment makes another one."""
    name = operator_pod()["metadata"]["name"]
    kubectl("delete", "pod", name, "-n", SYSTEM, "--force", "--grace-period=0")
