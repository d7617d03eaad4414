"""The status of a DynamoCluster and of its DynamoRepairs: pure, from one look.

The operator writes the status and does not decide by it, with one exception: the end of a repair is
kept only there, like a Job's. It reads old values only to keep unchanged times, and for the epoch,
which never falls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from dynamo_operator import exposure
from dynamo_operator.act import Outcome
from dynamo_operator.actions import Step
from dynamo_operator.archive_runs import whole_backups
from dynamo_operator.children import selector_text
from dynamo_operator.conditions import Fact, facts
from dynamo_operator.plan.repairs import expired
from dynamo_operator.plan.running import version_of
from dynamo_operator.quantity import stamp
from dynamo_operator.snapshot import Repair, Snapshot
from dynamo_operator.status_fields import (
    AnyStatus,
    ClusterStatus,
    Condition,
    LastBackup,
    LastRepair,
    NodeStatus,
    OperationStatus,
    RepairStatus,
    RingStatus,
    StalenessStatus,
)

TYPES = {
    "Founding": "Found",
    "ScalingUp": "Join",
    "ScalingDown": "Leave",
    "ChangingDefaults": "Defaults",
    "MovingPartitions": "Move",
    "RollingUpdate": "Update",
    "ReplacingVolume": "Replace",
    "Repairing": "Repair",
    "Restoring": "Restore",
}
"""Reasons of a step, and the kind of operation for each."""


def cluster_status(o: Snapshot, step: Step, outcome: Outcome) -> ClusterStatus:
    """The whole status of the resource."""
    old = o.resource.get("status") or {}
    ring = o.ring
    up = sum(pod.ready for pod in o.pods.values())
    told = facts(o, step, outcome.said, outcome.refused)
    return ClusterStatus(
        observed_generation=o.generation,
        replicas=o.replicas,
        ready_replicas=up,
        members=sum(m.state == "MEMBER" for m in ring.members) if ring else 0,
        ready=f"{up}/{o.spec.size}",
        selector=selector_text(o.owner),
        cluster_id=ring.cluster_id if ring else next(iter(o.cluster_ids), ""),
        ring=_ring(o, old),
        nodes=tuple(_nodes(o)),
        rendered_by=version_of(o),
        plan=outcome.plan,
        operation=_operation(o, step, old.get("operation") or {}),
        last_repair=_last_repair(o),
        staleness=_staleness(o),
        last_backup=_last_backup(o),
        conditions=conditions_of(told, old.get("conditions") or (), o.now, o.generation),
    )


def _ring(o: Snapshot, old: Mapping[str, Any]) -> RingStatus | None:
    """The epoch never falls: while nodes learn of a change, one look may see nodes that know it,
    and the next look may see nodes that do not."""
    if o.ring is None:
        return None
    told = (old.get("ring") or {}).get("epoch", 0)
    told = told if old.get("clusterId") == o.ring.cluster_id else 0
    down = {name for name in o.ring.live if not o.is_up(name)}
    return RingStatus(
        epoch=max(o.ring.epoch, told),
        digest=o.ring.digest,
        agreed=o.unanimous,
        partitions=o.ring.partitions,
        moves_pending=o.ring.pending,
        under_replicated=sum(bool(down & set(entry.owners)) for entry in o.ring.entries),
    )


def _nodes(o: Snapshot) -> Iterable[NodeStatus]:
    live = o.ring.live if o.ring else {}
    names = live.keys() | {pod.name for pod in o.pods.values()}
    for name in sorted(names, key=lambda name: (o.ordinal(name) is None, o.ordinal(name), name)):
        ordinal = o.ordinal(name)
        line = o.ring.lines.get(name) if o.ring else None
        node = o.nodes.get(ordinal) if ordinal is not None else None
        pod = o.pods.get(ordinal) if ordinal is not None else None
        known = line.state if line else "UNJOINED" if node and node.unjoined else "UNKNOWN"
        yield NodeStatus(
            name=name,
            node_id=line.id if line else node.id if node else "",
            state=known,
            zone=line.zone if line else pod.zone if pod else "",
            tokens=o.ring.owned.get(name, 0) if o.ring else 0,
            outside=exposure.address(o, name),
        )


def _operation(o: Snapshot, step: Step, old: Mapping[str, Any]) -> OperationStatus | None:
    kind = TYPES.get(step.reason)
    if kind is None or not step.progressing:
        return None
    known = o.operation
    ring_change = kind in ("Join", "Leave", "Move") and known is not None
    id_ = known.id if ring_change and known and known.id else f"{kind.lower()}-{o.generation}"
    done, total = (known.moves_done, known.moves_total) if ring_change and known else (0, 0)
    started = old.get("startedAt") if old.get("id") == id_ else None
    return OperationStatus(
        id=id_,
        type=kind,
        target=", ".join(_passing(o)),
        started_at=started or stamp(o.now),
        progress_percent=min(100, 100 * done // total) if total else 0,
        message=step.message,
    )


def _passing(o: Snapshot) -> list[str]:
    members = o.ring.members if o.ring else ()
    return [m.name for m in members if m.state in ("JOINING", "LEAVING")]


def _last_repair(o: Snapshot) -> LastRepair | None:
    whole = [r for r in o.repairs if r.ended and not r.spec.partitions and not r.spec.nodes]
    if not whole:
        return None
    last = max(whole, key=lambda r: str(r.status.get("completionTime")))
    when = str(last.status.get("completionTime"))
    return LastRepair(name=last.name, completed_at=when, result=last.ended or "")


def _staleness(o: Snapshot) -> StalenessStatus | None:
    """The report in the middle. All nodes predict the same ring, each from its last samples."""
    said = [node.staleness for node in o.nodes.values() if node.staleness is not None]
    if not said:
        return None
    said.sort(key=lambda one: one.fresh_at_once)
    middle = said[(len(said) - 1) // 2]
    after, measured = middle.fresh_999_ms, middle.canary
    return StalenessStatus(
        fresh_at_once_percent=int(middle.fresh_at_once * 100),
        fresh_999_ms=None if after is None else _rounded_up(after),
        measured_percent=None if measured is None else int(measured * 100),
    )


def _rounded_up(ms: float) -> int:
    """The next of 0, 1, 2, 5, 10, 20, 50, ..."""
    if ms <= 0:
        return 0
    step = 1
    while step * 5 < ms:
        step *= 10
    return next(step * times for times in (1, 2, 5) if step * times >= ms)


def _last_backup(o: Snapshot) -> LastBackup | None:
    for run in whole_backups(o.runs)[-1:]:
        return LastBackup(
            name=run.name,
            backup_id="" if run.by_snapshots else run.id,
            target=run.archive,
            started_at=str(run.status.get("startTime")),
            completed_at=str(run.status.get("completionTime")),
            records=int(run.status.get("records", 0)),
            bytes=int(run.status.get("bytes", 0)),
            missed=tuple(run.status.get("missed", ())),
            damaged=int(run.status.get("damaged", 0)),
        )
    return None


def conditions_of(
    told: Iterable[Fact], old: Iterable[Mapping[str, Any]], now: float, generation: int
) -> tuple[Condition, ...]:
    """Facts as conditions; the time of one that has not changed stays."""
    before = {condition["type"]: condition for condition in old}
    made = []
    for fact in told:
        status = "Unknown" if fact.holds is None else str(fact.holds)
        last = before.get(fact.type, {})
        since = last.get("lastTransitionTime") if last.get("status") == status else None
        made.append(
            Condition(
                type=fact.type,
                status=status,  # type: ignore[arg-type]
                reason=fact.reason,
                message=fact.message,
                last_transition_time=since or stamp(now),
                observed_generation=generation,
            )
        )
    return tuple(made)


def repair_status(o: Snapshot, repair: Repair, outcome: Outcome) -> RepairStatus | None:
    """The progress of a repair; None: it has ended, and its status does not change."""
    if repair.ended:
        return None
    started = repair.status.get("startTime")
    if repair.state != "unknown":
        started = started or stamp(o.now)
    end: Fact | None = None
    if repair.state == "done":
        text = f"{repair.done} partitions compared, {repair.repaired} keys repaired"
        end = Fact("Complete", True, "Compared", text)
    elif repair.state == "failed":
        text = f"{repair.done} of {repair.total} partitions could be compared: is a node down?"
        end = Fact("Failed", True, "NotAllCompared", text)
    elif expired(repair, o.now):
        text = f"{repair.done} of {repair.total} partitions after {repair.spec.timeout}"
        end = Fact("Failed", True, "TimedOut", f"{text}: make another, with a longer timeout")
    elif f"StartRepair {repair.uid}" in outcome.settled:
        end = Fact("Failed", True, "Refused", f"the nodes refuse the repair: {outcome.refused}")
    return RepairStatus(
        start_time=started,
        completion_time=stamp(o.now) if end else None,
        partitions_total=repair.total or int(repair.status.get("partitionsTotal", 0)),
        partitions_done=repair.done or int(repair.status.get("partitionsDone", 0)),
        keys_repaired=repair.repaired or int(repair.status.get("keysRepaired", 0)),
        conditions=conditions_of([end], (), o.now, 0) if end else (),
    )


def changes(made: AnyStatus, old: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch from `old` to the wanted status; empty: nothing has changed."""
    wanted = msgspec.to_builtins(made)
    differs = {n: v for n, v in wanted.items() if old.get(n) != _plain(v)}
    return {name: _over(value, old.get(name)) for name, value in differs.items()}


def _over(wanted: Any, old: Any) -> Any:
    """A merge patch keeps fields that it does not name, so removed fields are null."""
    if not isinstance(wanted, dict) or not isinstance(old, dict):
        return wanted
    gone = {name: None for name in old if name not in wanted}
    return gone | {name: _over(value, old.get(name)) for name, value in wanted.items()}


def _plain(value: Any) -> Any:
    """The status as the API server returns it: without null fields."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
