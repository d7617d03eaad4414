"""What may happen to a ring on Kubernetes, each as a list of scenes (see `world`)."""

from __future__ import annotations

from typing import Any

from world import NAMESPACE, Scene, World

from dynamo_core.ring import planning
from dynamo_core.ring.change_request import parse_change_request


def make(after: int | None = None, **spec: Any) -> Scene:
    """A DynamoCluster is applied."""
    return Scene(lambda w: w.make(**spec), after)


def edit(after: int | None = None, **spec: Any) -> Scene:
    """Its spec is changed."""
    return Scene(lambda w: w.edit(**spec), after)


def _lose_volume(w: World) -> None:
    """The machine's disk breaks: the volume is gone, the claim Lost, the container restarts."""
    claim, pod = w.found("PersistentVolumeClaim")["data-cart-1"], w.found("Pod")["cart-1"]
    w.ring.stop(pod["status"]["podIP"])
    w.ring.wipe(claim["metadata"]["uid"])
    w.kube.change("PersistentVolumeClaim", NAMESPACE, "data-cart-1", status={"phase": "Lost"})
    waiting = [{"name": "node", "state": {"waiting": {"reason": "CreateContainerError"}}}]
    gone = {"podIP": None, "containerStatuses": waiting, "conditions": []}
    w.kube.change("Pod", NAMESPACE, "cart-1", status=gone)


def _delete_claim_and_pod(w: World) -> None:
    w.kube.remove("PersistentVolumeClaim", NAMESPACE, "data-cart-2")
    w.kube.remove("Pod", NAMESPACE, "cart-2")


def _delete(w: World) -> None:
    w.kube.remove("DynamoCluster", NAMESPACE, "cart")


def _orphan(w: World) -> None:
    w.kube.orphan("DynamoCluster", NAMESPACE, "cart")


def _annotate_pod(w: World) -> None:
    notes = {"annotations": {"dynamo-ring.dev/weight": "2"}}
    w.kube.change("Pod", NAMESPACE, "cart-1", metadata=notes)


def _forget_status(w: World) -> None:
    w.kube.objects["DynamoCluster", NAMESPACE, "cart"].pop("status")


def _scale(replicas: int) -> Scene:
    """kubectl scale statefulset, by somebody else."""

    def change(w: World) -> None:
        w.kube.change("StatefulSet", NAMESPACE, "cart", spec={"replicas": replicas})

    return Scene(change)


def _edit_service(w: World) -> None:
    w.kube.change("Service", NAMESPACE, "cart", spec={"type": "NodePort"})
    w.kube.change("Service", NAMESPACE, "cart-nodes", spec={"publishNotReadyAddresses": False})


ONE_MORE = {"x": "y"}
SELECTORS: dict[tuple[str, str], dict[str, Any]] = {
    ("Service", "cart"): {"selector": ONE_MORE},
    ("Service", "cart-nodes"): {"selector": ONE_MORE},
    ("PodDisruptionBudget", "cart"): {"selector": {"matchLabels": ONE_MORE}},
    ("NetworkPolicy", "cart"): {"podSelector": {"matchLabels": ONE_MORE}},
}
"""One key more in each map that selects: it selects nothing then."""


def _edit_selectors(w: World) -> None:
    for (kind, name), spec in SELECTORS.items():
        w.kube.change(kind, NAMESPACE, name, spec=spec)


def _delete_set(w: World) -> None:
    for name in list(w.found("Pod")):
        w.kube.remove("Pod", NAMESPACE, name)
    w.kube.remove("StatefulSet", NAMESPACE, "cart")


def _plan(w: World) -> str:
    plan = w.found("DynamoCluster")["cart"].get("status", {}).get("plan")
    return str(plan["hash"]) if plan else ""


def _approve() -> Scene:
    """A person who sees a plan in the status, and wants it."""
    return Scene(lambda w: w.edit(ring={"approvedPlan": _plan(w)}), sees=lambda w: bool(_plan(w)))


def _leave_by_hand(w: World) -> None:
    """Somebody asks a node to leave that is to stay."""
    node = next(n for n in w.ring.nodes.values() if n.name == "cart-0")
    ring, wishes = node.disk.ring, parse_change_request({"leave": ["cart-3"]})
    assert ring is not None
    node.disk.ring = planning.applied(ring, planning.plan(ring, wishes), wishes, {}, "by-hand")


def _break_image(w: World) -> None:
    w.kube.broken_images.add("broken")
    w.edit(image="broken")


HOMELESS = {"cart-3", "cart-4"}


def _make_without_room(w: World) -> None:
    """For two of five there is no machine."""
    w.kube.homeless |= HOMELESS
    w.make(size=5)


DELETES: dict[str, Any] = {"retention": {"whenScaled": "Delete"}}
MOVES = [{"partitions": [3, 7], "from": "cart-0", "to": "cart-3"}]
TOKENS = [{"tokens": 2, "from": "cart-1", "to": "cart-3"}]
STRICT = {"writeQuorum": 3, "durableWrites": 2, "sloppyQuorum": False}
SLOW = {"minReadySeconds": 3}

STORIES: dict[str, list[Scene]] = {
    "found": [make()],
    "found with five": [make(size=5)],
    "founded without the last two": [
        Scene(_make_without_room),
        Scene(lambda w: w.kube.homeless.clear(), sees=lambda w: bool(w.ring.newest())),
    ],
    "scale up": [make(), edit(size=5)],
    "scale down": [make(size=5), edit(size=3)],
    "scale down and delete claims": [make(size=5, storage=DELETES), edit(size=3)],
    "up, down midway": [make(), edit(size=5), edit(5, size=3)],
    "down, up midway": [make(size=5), edit(size=3), edit(5, size=5)],
    "up, down and up again midway": [make(), edit(size=5), edit(4, size=3), edit(6, size=5)],
    "down and up again": [make(size=4, storage=DELETES), edit(size=3), edit(size=4)],
    "update": [make(update=SLOW), edit(image="node:2")],
    "update and scale at once": [make(update=SLOW), edit(image="node:2", size=5)],
    "update and shrink at once": [make(size=5, update=SLOW), edit(image="node:2", size=3)],
    "update midway of a scale up": [make(update=SLOW), edit(size=5), edit(3, image="node:2")],
    "bad image mended": [make(update=SLOW), Scene(_break_image), edit(20, image="node:3")],
    "canary": [
        make(update={"canary": 1} | SLOW),
        edit(image="node:2"),
        edit(30, update={"canary": None}),
    ],
    "lost volume": [make(), Scene(_lose_volume)],
    "claim and pod deleted": [make(), Scene(_delete_claim_and_pod)],
    "moves by hand": [make(size=4), edit(ring={"moves": MOVES})],
    "moves of tokens": [make(size=4), edit(ring={"moves": TOKENS})],
    "weights": [make(), Scene(_annotate_pod)],
    "other defaults": [
        make(),
        edit(replication=STRICT),
        edit(size=4, replication={"writeQuorum": 2, "durableWrites": 1}),
    ],
    "other defaults midway": [make(), edit(size=5), edit(4, replication=STRICT)],
    "founded strict": [make(replication=STRICT)],
    "other defaults, approved": [
        make(ring={"partitions": 16, "policy": "Preview"}),
        edit(replication=STRICT),
        _approve(),
    ],
    "preview": [
        make(size=4, ring={"partitions": 16, "policy": "Preview"}),
        _approve(),
        edit(size=5),
        _approve(),
    ],
    "deleted, then restored": [make(size=4), Scene(_delete), make(size=4)],
    "deleted and made again at once": [make(size=4), Scene(_delete), make(0, size=4)],
    "orphaned, then made again": [make(size=4), Scene(_orphan), make(5, size=4)],
    "orphaned midway, made again": [make(), edit(size=5), Scene(_orphan, 4), make(3, size=4)],
    "update, scaled up by somebody else": [
        make(update=SLOW),
        _scale(5),
        edit(2, image="node:2"),
    ],
    "deleted, restored smaller": [make(size=5), Scene(_delete), make(size=3)],
    "deleted midway, restored": [make(size=5), edit(size=3), Scene(_delete, 4), make(size=3)],
    "deleted with its claims": [
        make(storage={"retention": {"whenDeleted": "Delete"}}),
        Scene(_delete),
        make(),
    ],
    "status forgotten": [make(), Scene(_forget_status)],
    "scaled down by somebody else": [make(size=4), _scale(1)],
    "scaled up by somebody else": [make(), _scale(6)],
    "services edited": [make(), Scene(_edit_service)],
    "selectors edited": [make(), Scene(_edit_selectors)],
    "set deleted": [make(), Scene(_delete_set)],
    "storage grown": [make(), edit(storage={"size": "2Gi"}), edit(size=4)],
    "stopped and started": [make(size=4), edit(stopped=True), edit(stopped=False)],
    "stopped midway": [make(size=5), edit(size=3), edit(4, stopped=True), edit(stopped=False)],
    "paused midway": [make(), edit(size=5), edit(4, paused=True), edit(10, paused=False)],
    "repair": [make(), Scene(World.repair)],
    "leave by hand": [make(size=4), Scene(_leave_by_hand)],
    "left by hand": [
        make(size=4),
        edit(paused=True),
        Scene(_leave_by_hand, 2),
        edit(15, paused=False),
    ],
    "one copy": [
        make(size=2, replication={"factor": 1, "readQuorum": 1, "writeQuorum": 1}, update=SLOW),
        edit(image="node:2"),
        edit(size=3),
    ],
}
