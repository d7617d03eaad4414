"""Rows about DynamoRepairs, and the last row of all."""

from __future__ import annotations

from dynamo_operator.actions import Delete, MakeRepair, Note, StartRepair, Step
from dynamo_operator.plan.schedule import due_repair
from dynamo_operator.quantity import instant
from dynamo_operator.snapshot import Repair, Snapshot
from dynamo_operator.spec import seconds

KIND = "DynamoRepair"


def repairs(o: Snapshot) -> Step | None:
    """Delete old repairs, make due ones, and start the oldest waiting one while the ring is quiet.

    A repair's id is the uid of its object. The operator asks the nodes whether a repair runs, and
    remembers nothing itself. If a node has forgotten its repair, the repair starts from the
    beginning.
    """
    old = [r for r in o.repairs if _over(r, o.now)]
    if old:
        gone = tuple(
            Delete(kind=KIND, name=r.name, uid=r.uid, resource_version=r.resource_version)
            for r in old
        )
        return Step("TidyingRepairs", f"{len(old)} ended repairs are deleted", gone)
    due = due_repair(o)
    if due is not None:
        text = f"repair {due['metadata']['name']} is due"
        made = MakeRepair(object=due, note=Note("RepairScheduled", text))
        return Step("Repairing", text, (made,))
    waiting = sorted((r for r in o.repairs if not r.ended), key=lambda r: (r.created, r.name))
    for repair in waiting:
        if repair.state in ("done", "failed") or expired(repair, o.now):
            return Step("Repairing", f"{repair.name} has ended")  # only its status is left to write
        if repair.state == "running":
            text = f"{repair.name}: {repair.done} of {repair.total} partitions"
            return Step("Repairing", text)
        via = [i for i, n in sorted(o.nodes.items()) if n.disk == "member" and o.pods[i].ready]
        if o.unanimous and via:
            text = f"repair {repair.name} is started"
            note = Note("RepairStarted", text)
            act = StartRepair(via=via[0], id=repair.uid, body=_body(repair), note=note)
            if act.key in o.settled:
                continue  # the nodes refuse it; its status says so
            return Step("Repairing", text, (act,))
    return None


def _body(repair: Repair) -> dict[str, object]:
    spec = repair.spec
    chosen = {"partitions": spec.partitions, "nodes": spec.nodes}
    named = {name: list(values) for name, values in chosen.items() if values}
    return {**named, "mode": spec.mode.lower()}


def expired(repair: Repair, now: float) -> bool:
    """Whether it was started longer ago than it may take."""
    started = instant(repair.status.get("startTime"))
    return started is not None and now - started > seconds(repair.spec.timeout)


def _over(repair: Repair, now: float) -> bool:
    ended = instant(repair.status.get("completionTime"))
    kept_s = repair.spec.ttl_seconds_after_finished
    return bool(repair.ended) and ended is not None and now - ended > kept_s


def idle(o: Snapshot) -> Step | None:
    """The ring is as the spec says."""
    return Step("AsWanted", "the ring is as the spec says", progressing=False)
