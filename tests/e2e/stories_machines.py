"""Machines that stop or are cut off, rings deleted and made again, rings side by side."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from tests.e2e.kubectl import Object, apply, find, get, kubectl, run, until
from tests.e2e.stage import (
    RINGS,
    ROOT,
    SYSTEM,
    Load,
    Ring,
    command,
    is_ready,
    no_failure,
    nothing_lost,
    operator_pod,
    since,
)

ring = Ring()


def _machine(pod: Object) -> str:
    return str(pod["spec"]["nodeName"])


def _victim() -> tuple[Object, str]:
    """A pod of the ring whose machine does not run the operator and, if possible, not the cluster's
    DNS; and a machine that stays."""
    busy = {_machine(pod) for pod in find("pods", SYSTEM) + find("pods", "kube-system", "k8s-app")}
    pods = sorted(ring.pods(), key=lambda pod: (_machine(pod) in busy, pod["metadata"]["name"]))
    other = next(pod for pod in pods if _machine(pod) != _machine(pods[0]))
    return pods[0], _machine(other)


def machine_stopped() -> str:
    """A machine loses its power under load, and returns."""
    pod, elsewhere = _victim()
    name, machine = pod["metadata"]["name"], _machine(pod)
    load = Load(ring, "stopped", {"seed": 21}, machine=elsewhere).start()
    began = time.monotonic()
    command("MACHINE_STOP", MACHINE=machine)
    try:
        until("the pod is not Ready", lambda: not is_ready(get("pod", RINGS, name)), 90)
        gone = since(began)
    finally:
        command("MACHINE_START", MACHINE=machine)
    began = time.monotonic()
    ring.arrive(3)
    return f"seen after {gone}, whole {since(began)} after the start; {nothing_lost(load.finish())}"


def machine_cut_off() -> str:
    """A machine is cut off from all others and from the API server: clients on it still write and
    read at W=1 and R=1, and all these writes exist when the cut heals."""
    pod, elsewhere = _victim()
    name, machine = pod["metadata"]["name"], _machine(pod)
    inside = Load(ring, "inside", {"seed": 22, "r": 1, "w": 1, "keys": 50}, machine, near=pod)
    outside = Load(ring, "outside", {"seed": 23}, elsewhere)
    inside.start()
    outside.start()
    began = time.monotonic()
    command("MACHINE_CUT", MACHINE=machine)
    try:
        until("the pod is not Ready", lambda: not is_ready(get("pod", RINGS, name)), 90)
        gone = since(began)
    finally:
        command("MACHINE_HEAL", MACHINE=machine)
    began = time.monotonic()
    ring.arrive(3)
    healed = since(began)
    within, without = inside.finish(), outside.finish()
    return (
        f"cut for {gone}, whole {healed} after it; on it: {no_failure(within)};"
        f" elsewhere: {nothing_lost(without)}"
    )


def shrunk_past_a_dead_machine() -> str:
    """The machine of a node that should leave dies. The resource names the way out; its two
    commands, as they are told, make the ring smaller, and no acked key is lost."""
    few = Ring("few")
    quorums = {"factor": 2, "readQuorum": 1, "writeQuorum": 2}
    few.create(size=3, replication=quorums, ring={"partitions": 16})
    few.settle(3)
    machine = _machine(get("pod", RINGS, few.pod(2)))
    _freed(machine)
    load = Load(few, "dead", {"seed": 26, "n": 2, "r": 1}, _machine(few.pods()[0])).start()
    command("MACHINE_STOP", MACHINE=machine)
    try:
        few.change(size=2)
        waited = until("the way out is told", lambda: len(_way_out(few)) == 2, 240)
        assert few.conditions()["Degraded"]["reason"] == "NodeDown", few.conditions()
        remove, delete = _way_out(few)
        assert delete == f"kubectl delete node {machine}", delete
        began = time.monotonic()
        for words in (remove, delete):
            path = f"{Path(sys.executable).parent}:$PATH"
            run("sh", "-c", f'PATH="{path}" exec {words}', given="y\n")  # a person is asked
        few.arrive(2)
        took = since(began)
        verdict = nothing_lost(load.finish(2))
    finally:
        command("MACHINE_START", MACHINE=machine)
    kubectl("delete", "dring", few.name, "-n", RINGS)
    kubectl("delete", "pvc", "-n", RINGS, "--wait=false", *few.claims())
    ring.settle(3)
    return f"told after {waited:.0f} s, smaller {took} after the commands; {verdict}"


def _freed(machine: str) -> None:
    """The operator and the cluster's DNS move to other machines."""
    kubectl("cordon", machine)
    for namespace, label in ((SYSTEM, ""), ("kube-system", "k8s-app=kube-dns")):
        for pod in find("pods", namespace, label):
            if pod["spec"].get("nodeName") == machine:
                kubectl("delete", "pod", pod["metadata"]["name"], "-n", namespace)
    until("the operator", lambda: is_ready(operator_pod()), 60)
    kubectl("uncordon", machine)


def _way_out(of: Ring) -> list[str]:
    """The commands that `Progressing` names for a machine that is dead."""
    told = of.conditions()["Progressing"]["message"]
    commands = told.partition("If its machine will never return: ")[2]
    return [words for words in commands.split(", then ") if words]


def made_again_on_kept_claims() -> str:
    """The resource is deleted and its objects are orphaned: a new one takes them over, under load.
    Then it is deleted with them, its claims stay, and a new one of its name has all keys."""
    load = Load(ring, "again", {"seed": 24, "keys": 800}).start()
    was = ring.resource()["status"]["clusterId"]
    adopted = _orphaned_and_adopted()
    load.touch("pause")
    kubectl("delete", "dring", ring.name, "-n", RINGS)
    until("no pods", lambda: not ring.pods() or None, 90)
    claims = ring.claims()
    assert f"data-{ring.pod(0)}" in claims, claims
    began = time.monotonic()
    ring.create()
    ring.settle(3, 180)
    took = since(began)
    assert ring.resource()["status"]["clusterId"] == was
    whole = f"whole after {took} with {len(claims)} claims"
    return f"orphans adopted in {adopted}; {whole}; {no_failure(load.finish())}"


def _orphaned_and_adopted() -> str:
    before = _uids()
    kubectl("delete", "dring", ring.name, "-n", RINGS, "--cascade=orphan")
    began = time.monotonic()
    ring.create()
    ring.arrive(3)
    uid = ring.resource()["metadata"]["uid"]
    for kind in ("statefulset", "svc", "pdb", "netpol"):
        owners = get(kind, RINGS, ring.name)["metadata"]["ownerReferences"]
        assert [owner["uid"] for owner in owners] == [uid], (kind, owners)
    assert _uids() == before, "pods changed"
    return since(began)


def rings_never_mix() -> str:
    """Two rings in one namespace and one of the same name in another."""
    one: Object = {
        "size": 2,
        "replication": {"factor": 2, "readQuorum": 1, "writeQuorum": 1},
        "ring": {"partitions": 16},
    }
    carts, twin = Ring("carts"), Ring(ring.name, "other")
    for each in (carts, twin):
        each.create(**one)
    for each in (carts, twin):
        each.settle(2, 120)
    rings = (ring, carts, twin)
    ids = {each.resource()["status"]["clusterId"] for each in rings}
    assert len(ids) == 3, ids
    for each in rings:
        addresses = {m["address"] for m in each.ask(0, "/v1/ring")["members"]}
        suffix = f".{each.name}-nodes.{each.namespace}.svc:8082"
        assert all(address.endswith(suffix) for address in addresses), addresses
        each.dynamo("put", "whose", f"of {each.namespace}/{each.name}")
    for each in rings:
        assert each.dynamo("get", "whose") == f"of {each.namespace}/{each.name}"
    for each in (carts, twin):
        kubectl("delete", "dring", each.name, "-n", each.namespace)
        kubectl(
            "delete",
            "pvc",
            "-n",
            each.namespace,
            "-l",
            f"app.kubernetes.io/instance={each.name}",
            "--wait=false",
        )
    ring.settle(3)
    return "3 rings, 3 ids, members and keys of their own"


def chart_upgraded_and_uninstalled() -> str:
    """Rings and resources outlive an upgrade of the chart, and its removal. The operator manages
    only some namespaces; one of them is deleted, and the operator still starts."""
    load = Load(ring, "uninstalled", {"seed": 25}).start()
    chart = str(ROOT / "charts/dynamo-ring")
    words = ("--namespace", SYSTEM, "--wait", "--timeout=90s")
    before = _uids()
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gone"}})
    some = f"--set=logLevel=warning,watchNamespaces={{{RINGS},gone}}"
    run("helm", "upgrade", "dynamo-ring", chart, *words, some)
    ring.arrive(3)
    kubectl("delete", "namespace", "gone")
    kubectl("delete", "pod", operator_pod()["metadata"]["name"], "-n", SYSTEM)
    until("the operator", lambda: is_ready(operator_pod()), 60)
    ring.change(update={"minReadySeconds": 3})
    ring.arrive(3)
    run("helm", "uninstall", "dynamo-ring", *words)
    assert _uids() == before, "pods changed"
    assert ring.resource()["spec"]["size"] == 3
    run("helm", "install", "dynamo-ring", chart, *words)
    ring.arrive(3)
    assert _uids() == before, "pods changed"
    return f"pods untouched; {no_failure(load.finish())}"


def _uids() -> dict[str, Any]:
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in ring.pods()}
