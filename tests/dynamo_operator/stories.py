"""Events in the life of a ring on Kubernetes, each as a list of scenes (see `world`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynamo_core.ring import planning
from dynamo_core.ring.change_request import parse_change_request
from tests.dynamo_operator.simulated_archive import REFUSED
from tests.dynamo_operator.story_scenes import (
    EXPOSED,
    FROM_MONDAY,
    HIDDEN,
    LABELLED,
    PORTS,
    RELABELLED,
    balance,
    make_on_local_disks,
    snapshots_alone,
)
from tests.dynamo_operator.world import NAMESPACE, Scene, World


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
    """kubectl scale statefulset, by another user."""

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
"""One more key in each map that selects: then it selects nothing."""


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
    """A person sees a plan in the status and approves it."""
    return Scene(lambda w: w.edit(ring={"approvedPlan": _plan(w)}), sees=lambda w: bool(_plan(w)))


def _leave_by_hand(w: World) -> None:
    """A person asks a node to leave although the spec needs it."""
    node = next(n for n in w.ring.nodes.values() if n.name == "cart-0")
    ring, wishes = node.disk.ring, parse_change_request({"leave": ["cart-3"]})
    assert ring is not None
    node.disk.ring = planning.applied(ring, planning.plan(ring, wishes), wishes, {}, "by-hand")


def _machine_dies(w: World) -> None:
    """Power and disk of the machine of cart-3 are gone for good."""
    w.kube.dead.add(MACHINE)


def _remove_by_force(w: World) -> None:
    """kubectl dynamo remove cart-3 --force: any living member does it."""
    node = next(n for n in w.ring.nodes.values() if n.member)
    assert node.disk.ring is not None
    node.disk.ring, lost, _ = planning.removed(node.disk.ring, "cart-3", False, "by-force")
    assert not lost


def _told(*commands: str) -> Callable[[World], bool]:
    """A person who reads `Progressing`, and sees these commands there and no other."""

    def sees(w: World) -> bool:
        message = {kind: text for kind, _, text in w.told()}.get("Progressing", "")
        _, _, way = message.partition("If its machine will never return: ")
        return way.split(", then ") == list(commands)

    return sees


def _break_image(w: World) -> None:
    w.kube.broken_images.add("broken")
    w.edit(image="broken")


MACHINE = "machine-3"
REMOVE = "kubectl dynamo -n shop --cluster cart remove cart-3 --force"
DELETE_MACHINE = f"kubectl delete node {MACHINE}"
OLD_NODE = "cart-1"


def _make_with_an_old_node(w: World) -> None:
    """One node is of the first version, while a person wants its protocol refused."""
    w.ring.first.add(OLD_NODE)
    w.make(update=SLOW | {"peerProtocolMin": 2})


def _told_of_the_old_node(w: World) -> bool:
    (message,) = [text for kind, _, text in w.told() if kind == "Degraded"] or [""]
    return "peerProtocolMin is 2" in message and OLD_NODE in message


HOMELESS = {"cart-3", "cart-4"}


def _make_without_room(w: World) -> None:
    """Two of five pods have no machine."""
    w.kube.homeless |= HOMELESS
    w.make(size=5)


def _ask_for_authority(w: World) -> None:
    notes = {"annotations": {"dynamo-ring.dev/rotate-authority": "now"}}
    w.kube.change("DynamoCluster", NAMESPACE, "cart", metadata=notes)


def _lose(name: str) -> Scene:
    """A person deletes a Secret of certificates."""
    return Scene(lambda w: w.kube.remove("Secret", NAMESPACE, name))


def _backup(name: str = "before", **spec: Any) -> Callable[[World], None]:
    return lambda w: w.run("DynamoBackup", name, **spec)


def _restore(name: str = "back", **spec: Any) -> Callable[[World], None]:
    return lambda w: w.run("DynamoRestore", name, **{"from": {"name": "before"}, **spec})


def night(w: World) -> None:
    """It is soon after three at night, when backups are due."""
    w.kube.now += 86_400 - (w.kube.now - THREE) % 86_400 + 5


def _leader_dies(w: World) -> None:
    """The pod whose node leads a run."""
    name = next(node.name for node in w.ring.nodes.values() if node.runs)
    w.kube.remove("Pod", NAMESPACE, name)


def archive_fails(w: World) -> None:
    """It does not answer from now on."""
    w.ring.archives.down.add(ARCHIVE)


def archive_heals(w: World) -> None:
    w.ring.archives.down.clear()


def _gave_up(w: World) -> bool:
    return any(r["state"] == "failed" for node in w.ring.nodes.values() for r in node.runs.values())


THREE = 3 * 3600
ARCHIVE = "s3://shop/carts"
KEPT = {"backup": {"target": ARCHIVE}}
NIGHTLY = {"backup": {"target": ARCHIVE, "schedule": "0 3 * * *", "retention": {"count": 1}}}
FROM = {"bootstrap": {"fromBackup": {"target": ARCHIVE}}}
LOST: dict[str, Any] = {"storage": {"retention": {"whenDeleted": "Delete"}}}
TLS = {"tls": {"mode": "Required", "overlap": "4s"}}
PLAIN = {"tls": {"mode": "Disabled"}}
UNSAID: dict[str, Any] = {"tls": {}, "access": {}}
"""As most people write it: the spec says nothing of TLS and rights."""
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
    "shrunk past a dead machine": [
        make(size=4),
        Scene(_machine_dies),
        edit(10, size=3),
        Scene(_remove_by_force, sees=_told(REMOVE, DELETE_MACHINE)),
        Scene(lambda w: w.kube.delete_machine(MACHINE), sees=_told(DELETE_MACHINE)),
    ],
    "update": [make(update=SLOW), edit(image="node:2")],
    "update and scale at once": [make(update=SLOW), edit(image="node:2", size=5)],
    "update and shrink at once": [make(size=5, update=SLOW), edit(image="node:2", size=3)],
    "update midway of a scale up": [make(update=SLOW), edit(size=5), edit(3, image="node:2")],
    "bad image mended": [make(update=SLOW), Scene(_break_image), edit(20, image="node:3")],
    "newer protocol": [
        Scene(_make_with_an_old_node),
        Scene(lambda w: w.ring.first.clear(), sees=_told_of_the_old_node),
    ],
    "canary": [
        make(update={"canary": 1} | SLOW),
        edit(image="node:2"),
        edit(30, update={"canary": None}),
    ],
    "lost volume": [make(), Scene(_lose_volume)],
    "machine gone with its disk": [
        Scene(make_on_local_disks),
        Scene(lambda w: w.kube.lose_machine("machine-1")),
    ],
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
    "exposed": [make(), edit(size=4, **PORTS), edit(size=3, **HIDDEN)],
    "exposed, secure": [make(**EXPOSED, **TLS), Scene(balance)],
    "begun with snapshots": [
        make(size=4),
        edit(stopped=True),
        Scene(snapshots_alone),
        make(size=4, storage=FROM_MONDAY),
    ],
    "claims labelled": [make(storage=LABELLED), edit(storage=RELABELLED), edit(size=4)],
    "storage grown": [make(), edit(storage={"size": "2Gi"}), edit(size=4)],
    "stopped and started": [make(size=4), edit(stopped=True), edit(stopped=False)],
    "stopped midway": [make(size=5), edit(size=3), edit(4, stopped=True), edit(stopped=False)],
    "paused midway": [make(), edit(size=5), edit(4, paused=True), edit(10, paused=False)],
    "repair": [make(), Scene(World.repair)],
    "backup": [make(**KEPT), Scene(_backup())],
    "backup while it grows": [make(), edit(size=5), Scene(_backup(target=ARCHIVE), 2)],
    "backup whose leader dies": [
        make(**KEPT),
        Scene(_backup()),
        Scene(_leader_dies, sees=lambda w: any(node.runs for node in w.ring.nodes.values())),
    ],
    "backup into an archive that fails": [
        make(**KEPT),
        Scene(archive_fails),
        Scene(_backup()),
        Scene(archive_heals, sees=_gave_up),
    ],
    "backup into an archive that never answers": [
        make(**KEPT),
        Scene(archive_fails),
        Scene(_backup(retries=1)),
    ],
    "backup to where no node may write": [make(), Scene(_backup(target=REFUSED))],
    "backups by the clock": [make(**NIGHTLY), Scene(night), Scene(night), Scene(night)],
    "restore": [make(**KEPT), Scene(_backup()), Scene(_restore()), Scene(_restore("again"))],
    "restore before its backup": [make(**KEPT), Scene(_restore()), Scene(_backup(), 5)],
    "begun from a backup": [
        make(**KEPT, **LOST),
        Scene(_backup()),
        Scene(_delete),
        make(size=5, ring={"partitions": 32}, **FROM),
    ],
    "leave by hand": [make(size=4), Scene(_leave_by_hand)],
    "left by hand": [
        make(size=4),
        edit(paused=True),
        Scene(_leave_by_hand, 2),
        edit(15, paused=False),
    ],
    "founded secure, as the spec says nothing": [make(**UNSAID)],
    "plain before, restored with a spec that says nothing": [
        make(),
        edit(tls={"mode": None}, access={"mode": None}),
        Scene(_delete),
        make(**UNSAID),
    ],
    "plain, then secure": [make(update=SLOW), edit(**TLS)],
    "secure, then plain": [make(update=SLOW, **TLS), edit(**PLAIN)],
    "plain, secure and plain midway": [make(update=SLOW), edit(**TLS), edit(30, **PLAIN)],
    "secure, plain and secure midway": [make(update=SLOW, **TLS), edit(**PLAIN), edit(25, **TLS)],
    "secure and larger at once": [make(update=SLOW), edit(size=5, **TLS)],
    "both for a while": [make(update=SLOW), edit(tls={"mode": "Allowed"}), edit(**TLS)],
    "another authority": [make(**TLS), Scene(_ask_for_authority)],
    "another authority midway": [make(update=SLOW), edit(**TLS), Scene(_ask_for_authority, 20)],
    "the authority is lost": [make(**TLS), _lose("cart-ca")],
    "the certificate is lost": [make(**TLS), _lose("cart-tls")],
    "secure, deleted, then restored": [make(**UNSAID), Scene(_delete), make(**UNSAID)],
    "secure, set deleted": [make(**UNSAID), Scene(_delete_set)],
    "secure, stopped, started plain": [
        make(**TLS),
        edit(stopped=True),
        edit(stopped=False, **PLAIN),
    ],
    "rights asked for": [
        make(update=SLOW),
        edit(access={"mode": "Required", "administrators": ["ops/on-call"]}),
    ],
    "one copy": [
        make(size=2, replication={"factor": 1, "readQuorum": 1, "writeQuorum": 1}, update=SLOW),
        edit(image="node:2"),
        edit(size=3),
    ],
}
