"""Scaling, moves, repairs and updates under load; and the operator is killed during each."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.e2e.kubectl import Object, apply, find, get, kubectl, until
from tests.e2e.stage import (
    IMAGE,
    NEXT_IMAGE,
    RINGS,
    SYSTEM,
    Load,
    Ring,
    command,
    no_failure,
    nothing_lost,
    operator_pod,
    since,
)

ring = Ring()
CHANGED = "DefaultsChanged"


def scaled_up_and_down() -> str:
    """3 to 5 and back to 3 under load; both claims are kept, as the default asks."""
    load = Load(ring, "scaled", {"seed": 11, "keys": 500}).start()
    ring.change(size=5)
    up = ring.arrive(5)
    owned = _tokens()
    assert all(tokens >= 39 * 3 // 5 for tokens in owned.values()), owned
    ring.change(size=3)
    down = ring.arrive(3)
    assert ring.claims() == [f"data-{ring.pod(index)}" for index in range(5)]
    verdict = no_failure(load.finish())
    return f"up {up:.0f} s, down {down:.0f} s; {verdict}; quorums changed in {_quorums_changed()}"


def _quorums_changed() -> str:
    """W of 3 without stand-ins, and back: the ring shows both, and Events report them."""
    began = time.monotonic()
    for w, sloppy in ((3, False), (2, True)):
        ring.change(replication={"writeQuorum": w, "sloppyQuorum": sloppy})
        until(f"W={w}", lambda w=w, sloppy=sloppy: _defaults() == (w, sloppy), 60)  # type: ignore[misc]
        ring.arrive(3)
    told = [e["note"] for e in find("events.events.k8s.io", RINGS) if e["reason"] == CHANGED]
    for words in ("w from 2 to 3", "sloppy from true to false", "w from 3 to 2"):
        assert any(words in note for note in told), told
    return since(began)


def _defaults() -> tuple[int, bool]:
    document = ring.ask(0, "/v1/ring")
    return document["w"], document["sloppy"]


def _tokens() -> dict[str, int]:
    nodes = ring.resource()["status"]["nodes"]
    return {node["name"]: node["tokens"] for node in nodes}


def flipped_midway() -> str:
    """5 to 3, and back to 5 before both have left: no node leaves without need."""
    load = Load(ring, "flipped", {"seed": 12, "keys": 500}).start()
    ring.change(size=5)
    ring.arrive(5)
    ring.change(size=3)
    until("a node that leaves", lambda: "LEAVING" in _states(), 60)
    ring.change(size=5)
    back = ring.arrive(5)
    ring.change(size=3)
    ring.arrive(3)
    return f"5 again after {back:.0f} s; {no_failure(load.finish())}"


def _states() -> list[str]:
    return [node["state"] for node in ring.resource()["status"]["nodes"]]


def token_moves_approved() -> str:
    """A manual move waits as a plan in the status, and is made after its approval."""
    load = Load(ring, "moved", {"seed": 13}).start()
    ring.change(size=4)
    ring.arrive(4)
    number = next(
        p
        for p, entry in enumerate(ring.ask(0, "/v1/ring")["entries"])
        if ring.pod(0) in entry["owners"] and ring.pod(3) not in entry["owners"]
    )
    move = {"partitions": [number], "from": ring.pod(0), "to": ring.pod(3)}
    ring.change(ring={"policy": "Preview", "moves": [move]})
    until("a plan", lambda: ring.resource()["status"].get("plan"), 60)
    plan = ring.resource()["status"]["plan"]
    owners = ring.ask(0, "/v1/ring")["entries"][number]["owners"]
    assert ring.pod(0) in owners, "moved before it was approved"
    ring.change(ring={"approvedPlan": plan["hash"]})
    took = until("the move", lambda: _owns(3, number) and not _owns(0, number), 120)
    ring.change(ring={"policy": "Auto", "moves": [], "approvedPlan": None})
    ring.change(size=3)
    ring.arrive(3)
    return f"planned {plan['moves']}, made {took:.0f} s after approval; {no_failure(load.finish())}"


def _owns(ordinal: int, partition: int) -> bool:
    return ring.pod(ordinal) in ring.ask(0, "/v1/ring")["entries"][partition]["owners"]


def repair_heals() -> str:
    """Bytes of a store are damaged while the node does not look. A full repair reads them: the node
    ends, salvages the readable rows, and copies the rest back; the next repair finds everything
    complete."""
    load = Load(ring, "repaired", {"seed": 14, "keys": 1500}).start()
    load.touch("pause")
    name = ring.pod(1)
    _restart(name)  # the log of the store becomes files
    damaged = kubectl("exec", name, "-n", RINGS, "--", "python", "-c", DAMAGE).strip()
    began = time.monotonic()
    _repair("finds-damage")
    ring.settle(3, 240)
    healed = since(began)
    until("the damage was found", lambda: "salvaged" in kubectl("logs", name, "-n", RINGS), 10)
    status = _repair("finds-nothing")
    total = status["partitionsTotal"]
    assert (status["partitionsDone"], status["keysRepaired"]) == (total, 0), status
    assert _holds(status["conditions"], "Complete"), status
    return f"{damaged}, found and healed in {healed}; {no_failure(load.finish())}"


def _repair(name: str) -> Object:
    """The status of a full repair that has ended."""
    repair: Object = {
        "apiVersion": "dynamo-ring.dev/v1alpha1",
        "kind": "DynamoRepair",
        "metadata": {"name": name, "namespace": RINGS},
        "spec": {"clusterName": ring.name, "mode": "Full", "timeout": "10m"},
    }
    apply(repair)

    def status() -> Object:
        found: Object = get("drepair", RINGS, name).get("status", {})
        return found

    def ended() -> bool:
        facts = status().get("conditions", ())
        return _holds(facts, "Complete") or _holds(facts, "Failed")

    until(f"the end of {name}", ended, 240)
    last = status()
    kubectl("delete", "drepair", name, "-n", RINGS)
    return last


def _holds(conditions: list[Object], kind: str) -> bool:
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


DAMAGE = """
import pathlib
files = pathlib.Path('/var/lib/dynamo/node/store').glob('*.sst')
hurt = max(files, key=lambda file: file.stat().st_size)
size = hurt.stat().st_size
with hurt.open('r+b') as f:
    f.seek(size // 3)
    f.write(bytes(64))
print(f'64 of {size} bytes damaged')
"""


def _restart(name: str) -> None:
    before = get("pod", RINGS, name)["metadata"]["uid"]
    kubectl("delete", "pod", name, "-n", RINGS)
    until("the pod again", lambda: get("pod", RINGS, name)["metadata"]["uid"] != before, 60)
    ring.settle(3)


def updated_and_back() -> str:
    """A new image, then the old one again, then a restart, one pod at a time under load: nothing
    fails at W=2."""
    load = Load(ring, "updated", {"seed": 15}).start()
    ring.change(image=NEXT_IMAGE)
    there = until(
        "the new image", lambda: _all_run(NEXT_IMAGE) and ring.settled(3, whole=False), 240
    )
    ring.change(image=IMAGE)
    back = until("the old image", lambda: _all_run(IMAGE) and ring.settled(3, whole=False), 240)
    before = {pod["metadata"]["uid"] for pod in ring.pods()}
    kubectl("rollout", "restart", f"statefulset/{ring.name}", "-n", RINGS)
    again = until(
        "other pods",
        lambda: (
            not before & {pod["metadata"]["uid"] for pod in ring.pods()}
            and ring.settled(3, whole=False)
        ),
        240,
    )
    figures = f"there {there:.0f} s, back {back:.0f} s, restarted {again:.0f} s"
    return f"{figures}; {no_failure(load.finish())}"


def _all_run(image: str) -> bool:
    return all(pod["spec"]["containers"][0]["image"] == image for pod in ring.pods())


def operator_killed_midway() -> str:
    """The operator is deleted and the API server restarted while the ring grows, shrinks and
    updates."""
    load = Load(ring, "midway", {"seed": 16, "keys": 500}).start()
    figures, rings = [], _rings()
    for name, change, size, amid in (
        ("up", {"size": 5}, 5, lambda: "JOINING" in _states()),
        ("down", {"size": 3}, 3, lambda: "LEAVING" in _states()),
        ("update", {"image": NEXT_IMAGE}, 3, lambda: not _all_run(IMAGE)),
        ("back", {"image": IMAGE}, 3, lambda: not _all_run(NEXT_IMAGE)),
    ):
        began = time.monotonic()
        ring.change(**change)
        _amid(name, amid)
        uid = operator_pod()["metadata"]["uid"]
        kubectl("delete", "pod", operator_pod()["metadata"]["name"], "-n", SYSTEM, "--wait=false")
        command("API_RESTART")
        until("another operator", lambda uid=uid: operator_pod()["metadata"]["uid"] != uid, 120)
        wanted = change.get("image", IMAGE)
        until(
            name,
            lambda wanted=wanted, size=size: (
                _all_run(str(wanted)) and ring.settled(size, whole=False)
            ),
            300,
        )
        figures.append(f"{name} {since(began)}")
    assert _rings() == rings
    return f"{', '.join(figures)}; {nothing_lost(load.finish())}"


def _rings() -> list[str]:
    return [found["metadata"]["name"] for found in find("dring", RINGS)]


def _amid(what: str, met: Callable[[], bool]) -> None:
    until(f"{what} under way", met, 90)
