"""Rows about the ring: founding, joins, leaves, moves, and the claims of nodes that have left.

The operator never changes a ring that it cannot read. A node plans every change, and the operator
sends the hash of the plan. So the nodes refuse a change that was decided on an older ring.
"""

from __future__ import annotations

from typing import Any

from msgspec import structs

from dynamo_operator.actions import Apply, Cancel, Change, Found, Note, Step
from dynamo_operator.node_answers import LEFT
from dynamo_operator.outages import way_out
from dynamo_operator.plan.anew import FIRST, anew, hands_over
from dynamo_operator.plan.moves import outstanding
from dynamo_operator.plan.objects import stateful_set
from dynamo_operator.plan.pods import delete, patch
from dynamo_operator.pod import PORTS
from dynamo_operator.snapshot import NODE_ID, NODE_STATE, Snapshot

PATIENCE_S = 60.0
"""Other pods join without a pod that cannot join yet and whose process has run, or that has waited
to run, for this time."""


def create(o: Snapshot) -> Step | None:
    """Theorem 3: a ring is founded at most once. The operator does not create it in three cases: a
    claim is recorded as a member's; a claim is older than the resource and its node has not said
    that its disk is empty; a node says that its disk is not empty.

    The founders are ordinals 0 to factor - 1. So the command is a function of fixed fields, and
    every founder owns every partition: two half-sent founding documents cannot lose a write. The
    other nodes may come later, if it is certain that their disks are empty (`_unanswered`).
    """
    if o.ring is not None or o.recorded:
        return None
    if any(node.disk != "empty" for node in o.nodes.values()):
        return None
    if _unanswered(o) or _old(o):
        return None
    wish = o.spec.replication
    body = {
        "cluster_id": o.uid,
        "partitions": o.spec.ring.partitions,
        "n": wish.factor,
        "r": wish.read_quorum,
        "w": wish.write_quorum,
        "dw": wish.durable_writes,
        **({} if wish.sloppy_quorum else {"sloppy": False}),  # older nodes do not know `sloppy`
        "conflicts": o.spec.conflicts,
        "members": [member(o, ordinal) for ordinal in range(wish.factor)],
    }
    text = f"making the ring of {wish.factor} nodes"
    note = Note("RingFounded", f"the ring {o.uid} was founded with {wish.factor} nodes")
    return Step("Founding", text, (Found(via=0, body=body, note=note),))


def _unanswered(o: Snapshot) -> list[int]:
    """Ordinals that must answer before a ring is founded: the founders, and each other node that
    may have data. A node that never ran has no data: its claim has no volume yet."""
    silent = (i for i in range(o.spec.size) if i not in o.nodes)
    return [i for i in silent if i < o.spec.replication.factor or not _never_ran(o, i)]


def _never_ran(o: Snapshot, ordinal: int) -> bool:
    pod, claim = o.pods.get(ordinal), o.claims.get(ordinal)
    return (pod is None or not pod.running) and (claim is None or claim.blank)


def _old(o: Snapshot) -> list[str]:
    """Claims that are older than the resource and have, or may have, data that no node has
    shown."""
    silent = (c for i, c in sorted(o.claims.items()) if i not in o.nodes)
    return [c.name for c in silent if c.created < o.created and not c.blank]


def member(o: Snapshot, ordinal: int) -> dict[str, Any]:
    """A pod in the form of the founding and join commands."""
    pod = o.pods[ordinal]
    address = f"{o.owner.host(pod.name)}:{PORTS['peer']}"
    return {"name": pod.name, "address": address, "zone": pod.zone, "weight": pod.weight}


def unreadable(o: Snapshot) -> Step | None:
    """No majority of the members shows one document, or there is no ring yet."""
    if o.ring is not None:
        return None
    unborn = o.nodes and all(node.disk == "empty" for node in o.nodes.values()) and not o.recorded
    if unborn and (old := _old(o)):
        text = f"{', '.join(old)}: older than this resource, and no node has shown its content:"
        return Step("Founding", f"{text} raise spec.size until its node runs, or delete it")
    every = range(max(o.spec.size, o.replicas))
    silent = [i for i in every if i not in o.nodes] if o.recorded else _unanswered(o)
    waiting = [o.pods[i].trouble for i in silent if i in o.pods and o.pods[i].trouble]
    foreign = [node.name for node in o.nodes.values() if node.disk == "foreign"]
    if foreign:
        text = f"{', '.join(foreign)} has data but no ring: look at its log"
        return Step("RingUnreadable", text)
    text = o.unreadable or f"waiting for {', '.join(map(o.pod_name, silent))} to answer"
    return Step("RingUnreadable", "; ".join([text, *waiting[:1]]))


def cancel(o: Snapshot) -> Step | None:
    """Scaling can be reversed midway: cancel the leave of a node that should stay, or the join of a
    node that should go. A node that has moved all its partitions cannot be cancelled any more. It
    will soon be LEFT or a member, and the next rows continue from there."""
    assert o.ring is not None
    for ordinal in o.live_ordinals:
        line = o.ring.lines[o.pod_name(ordinal)]
        stays = ordinal < o.spec.size
        if line.state == "LEAVING" and stays and o.ring.owned[line.name]:
            text = f"{line.name} is leaving but should stay: its leave is cancelled"
        elif line.state == "JOINING" and not stays and o.ring.pending:
            text = f"{line.name} is joining but should not: its join is cancelled"
        else:
            continue
        act = Cancel(via=_via(o), note=Note("ChangeCancelled", text))
        return None if act.key in o.settled else Step("Cancelling", text, (act,))
    return None


def _via(o: Snapshot) -> int:
    """The node to ask: the lowest member that answers with the ring's document; a Ready one if
    there is one."""
    digest = o.ring.digest if o.ring else ""
    able = [i for i, n in o.nodes.items() if n.disk == "member"]
    order = {i: (o.nodes[i].digest != digest, not o.pods[i].ready, i) for i in able}
    return min(able, key=order.__getitem__, default=0)


def changing(o: Snapshot) -> Step | None:
    """One change at a time."""
    assert o.ring is not None
    if not o.ring.changing and o.exact:
        return None
    passing = [m for m in o.ring.members if m.state in ("JOINING", "LEAVING")]
    who = ", ".join(f"{m.name} is {m.state.lower()}" for m in passing)
    who = who or ("partitions move" if o.ring.pending else "nodes are agreeing on the ring")
    down = [name for name in o.ring.live if not o.is_up(name)]
    wait = f"; waits for {', '.join(down)}" if down else ""
    wait += next(filter(None, (way_out(o, name) for name in down)), "")
    reasons = {"JOINING": "ScalingUp", "LEAVING": "ScalingDown"}
    reason = reasons[passing[0].state] if passing else "MovingPartitions"
    return Step(reason, f"{who}, {o.ring.pending} moves to go{wait}")


def leave(o: Snapshot) -> Step | None:
    """The highest member beyond size hands over its partitions. The nodes refuse if they have no
    room."""
    beyond = [i for i in o.live_ordinals if i >= o.spec.size]
    if not beyond:
        return None
    name = o.pod_name(beyond[-1])
    text = f"{name} hands over its partitions and leaves"
    note = Note("ScalingDown", text)
    act = Change(via=_via(o), what="leave", wishes={"leave": [name]}, note=note)
    return Step("ScalingDown", text, (act,))


def shrink(o: Snapshot) -> Step | None:
    """Theorem 1: the operator stops the highest pod only after the ring says that its node has LEFT
    or was never in it, and the node, if it runs, says so too. A node that was removed by force may
    have acknowledged writes that no other node has, so it hands them over first (S-MEM-3). The
    operator changes the StatefulSet only if it is unchanged since the snapshot."""
    assert o.ring is not None and o.workload is not None
    ordinal = o.replicas - 1
    if ordinal < o.spec.size or o.is_live(ordinal):
        return None
    pod, node = o.pods.get(ordinal), o.nodes.get(ordinal)
    if pod is not None and pod.running and (node is None or not node.unjoined):
        text = f"{pod.name} has not reported yet that it has left{way_out(o, pod.name)}"
        return Step("ScalingDown", text)
    if pod is not None and pod.running and node is not None and hands_over(node):
        text = f"{pod.name} has left the ring: {FIRST}{way_out(o, pod.name)}"
        return Step("ScalingDown", text)
    text = f"{o.pod_name(ordinal)} has left the ring; its pod stops"
    note = Note("PodRemoved", text)
    wanted = stateful_set(o, ordinal)
    act = Apply(object=wanted, resource_version=o.workload.resource_version, note=note)
    return Step("ScalingDown", text, (act,))


def forget(o: Snapshot) -> Step | None:
    """Claims beyond the replicas. Theorem 2: a claim is deleted only with `whenScaled: Delete`,
    when no pod of its name exists, and every live member answers with one digest in which the name
    has LEFT with the id on the claim. If the operator is unsure, it keeps the claim."""
    actions: list[Any] = []
    for ordinal, claim in sorted(o.claims.items()):
        line = o.line(ordinal)
        if ordinal < o.replicas or ordinal in o.pods or claim.deleting:
            continue
        if line is None or line.state != LEFT or claim.annotations.get(NODE_ID) != line.id:
            continue
        if claim.annotations.get(NODE_STATE) != LEFT:
            actions.append(patch(claim, {"metadata": {"annotations": {NODE_STATE: LEFT}}}))
        elif o.spec.storage.retention.when_scaled == "Delete" and o.unanimous:
            text = f"{line.name} has left for good; its claim {claim.name} is deleted"
            actions.append(delete(claim, Note("ClaimDeleted", text)))
    if not actions:
        return None
    return Step("RecordingClaims", "claims of nodes that have left", tuple(actions))


def join(o: Snapshot) -> Step | None:
    """All pods below size that are in no ring join in one change, with the fewest moves."""
    missing = [i for i in range(o.spec.size) if not o.is_live(i)]
    if not missing:
        return None
    able = [i for i in missing if i in o.nodes and o.nodes[i].disk == "empty"]
    for ordinal in missing:
        if ordinal in able:
            continue
        pod = o.pods.get(ordinal)
        fresh = pod is None or o.ran_s(pod) < PATIENCE_S
        if pod is not None and ordinal in o.nodes and o.nodes[ordinal].disk == "left":
            step = anew(o, pod)
            if step.actions or fresh or not able:
                return step
        elif fresh or not able:
            why = f": {pod.trouble}" if pod is not None and pod.trouble else ""
            return Step("ScalingUp", f"waiting for {o.pod_name(ordinal)} to answer{why}")
    names = ", ".join(map(o.pod_name, able))
    text = f"joining {names}"
    note = Note("ScalingUp", text)
    wishes = {"join": [member(o, ordinal) for ordinal in able]}
    act = Change(via=_via(o), what="join", wishes=wishes, note=note)
    return Step("ScalingUp", text, (act,))


def defaults(o: Snapshot) -> Step | None:
    """The quorums of requests that name none. Nothing moves, but it is a change of the ring like
    others: one at a time, and with `policy: Preview` its plan waits for approval."""
    assert o.ring is not None
    wish, ring = o.spec.replication, o.ring
    wanted = {"r": wish.read_quorum, "w": wish.write_quorum, "dw": wish.durable_writes,
              "sloppy": wish.sloppy_quorum}  # fmt: skip
    now = {word: getattr(ring, word) for word in wanted}
    asked = {word: value for word, value in wanted.items() if value != now[word]}
    if not asked:
        return None
    lines = (f"{word} from {now[word]} to {value}".lower() for word, value in asked.items())
    text = "the ring's defaults change: " + ", ".join(lines)
    note = Note("DefaultsChanged", text)
    act = Change(via=_via(o), what="defaults", wishes={"defaults": asked}, note=note)
    return None if act.key in o.settled else Step("ChangingDefaults", text, (act,))


def move(o: Snapshot) -> Step | None:
    """First weights from the pods' annotations, then moves by hand; without these, balance."""
    assert o.ring is not None
    weights = {
        pod.name: pod.weight
        for pod in o.pods.values()
        if pod.name in o.ring.live and o.ring.lines[pod.name].weight != pod.weight
    }
    moves, operation = outstanding(o)
    if weights:
        text = "weighing " + ", ".join(f"{name} {weight}" for name, weight in weights.items())
        act = _change(o, "weights", {"weights": weights}, text)
    elif moves:
        text = f"moving by hand: {len(moves)} lines of spec.ring.moves"
        act = structs.replace(_change(o, "moves", {"moves": moves}, text), id=operation)
    elif not o.spec.ring.moves and _uneven(o):
        text = "spreading partitions evenly"
        act = _change(o, "rebalance", {}, text)
    else:
        return None
    return None if act.key in o.settled else Step("MovingPartitions", text, (act,))


def _change(o: Snapshot, what: Any, wishes: dict[str, Any], text: str) -> Change:
    return Change(via=_via(o), what=what, wishes=wishes, note=Note("MovingPartitions", text))


def _uneven(o: Snapshot) -> bool:
    """Whether one node has so many more replicas than another that one could move. Zones may forbid
    the move; then the node's plan is empty and nothing is changed."""
    assert o.ring is not None
    loads = [count / o.ring.lines[name].weight for name, count in o.ring.owned.items()]
    return max(loads) - min(loads) > 1
