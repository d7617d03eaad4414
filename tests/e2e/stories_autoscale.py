"""The autoscaler of docs/kubernetes/tasks.md on a real ring, where the cluster measures pods."""

from __future__ import annotations

import time
from typing import Any

import yaml

from tests.e2e.kubectl import Object, Refused, apply, get, kubectl, until
from tests.e2e.stage import RINGS, ROOT, Load, Ring, no_failure, since

ring = Ring("loaded")
REQUESTS = {"cpu": "40m", "memory": "128Mi"}
CALM, BUSY = {"seed": 61, "keys": 200, "rate": 10}, {"seed": 62, "clients": 48, "rate": 400}
WINDOW_S = 30
"""The page waits an hour before it shrinks a ring; a story waits this long."""
NOT_MEASURED = "not shown: this cluster has no metrics of pods (metrics.k8s.io)"


def autoscaled() -> str:
    """A HorizontalPodAutoscaler adds a node under load and takes it out again; nothing fails."""
    try:
        kubectl("get", "--raw", f"/apis/metrics.k8s.io/v1beta1/namespaces/{RINGS}/pods")
    except Refused:
        return NOT_MEASURED
    ring.create(resources={"requests": REQUESTS})
    ring.settle(3)
    calm = Load(ring, "calm", CALM).start()
    apply(_autoscaler())
    until("the autoscaler knows what pods use", lambda: _used() > 0, 180)
    figures = [f"{_used()} % of the request used"]
    busy, began = Load(ring, "busy", BUSY).start(), time.monotonic()
    until("a fourth node is wanted", lambda: _wanted() == 4, 300)
    figures.append(f"{_used()} % under load, a fourth node wanted after {since(began)}")
    ring.arrive(4)
    figures.append(f"it has joined after {since(began)}")
    figures.append(no_failure(busy.finish(4)))
    began = time.monotonic()
    until("three nodes are wanted", lambda: _wanted() == 3, 300)
    figures.append(f"three wanted {since(began)} after the load")
    ring.arrive(3)
    figures.append(f"it has left after {since(began)}")
    figures.append(no_failure(calm.finish()))
    kubectl("delete", "hpa", ring.name, "-n", RINGS)
    kubectl("delete", "dring", ring.name, "-n", RINGS)
    return "; ".join(figures)


def _autoscaler() -> Object:
    """The page's, for this ring, with at most four nodes and short windows."""
    page = (ROOT / "docs/kubernetes/tasks.md").read_text()
    blocks = [part.split("```")[0] for part in page.split("```yaml\n")[1:]]
    (made,) = [yaml.safe_load(text) for text in blocks if "HorizontalPodAutoscaler" in text]
    spec: dict[str, Any] = made["spec"]
    spec["scaleTargetRef"]["name"] = ring.name
    spec["maxReplicas"] = 4
    for behavior in spec["behavior"].values():
        behavior["stabilizationWindowSeconds"] = WINDOW_S
        for policy in behavior["policies"]:
            policy["periodSeconds"] = WINDOW_S
    return {**made, "metadata": {"name": ring.name, "namespace": RINGS}}


def _used() -> int:
    """Percent of the requested CPU that pods use, as the autoscaler last saw it; 0: not yet."""
    seen = get("hpa", RINGS, ring.name).get("status", {}).get("currentMetrics") or []
    return int(seen[0]["resource"]["current"].get("averageUtilization", 0)) if seen else 0


def _wanted() -> int:
    return int(ring.resource()["spec"]["size"])
