"""What is done by the clock: `spec.repair.schedule`, `spec.backup.schedule`, cron in UTC.

The name of a scheduled object is made from its due time. So it is made once, also with two
operators. The operator does not remember the last one: a time is due for one hour, and its object
exists for longer than that hour. An operator that was away for longer skips the time; it is never
done twice.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cronsim import CronSim, CronSimError

from dynamo_operator.archive_runs import SCHEDULED
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.spec import API_VERSION

DUE_S = 3600.0
KEPT_S = 7 * 86_400


def last_due(schedule: str, now: float) -> float | None:
    """The last time at or before `now` that the schedule names; None: none in years. Raises
    ValueError on a schedule that cron would not take."""
    try:
        times = CronSim(schedule, datetime.fromtimestamp(int(now) + 1, UTC), reverse=True)
    except CronSimError as error:
        raise ValueError(f"schedule: {schedule!r}: {error}") from None
    found = next(times, None)
    return found.timestamp() if found is not None else None


def rest_s(o: Snapshot, most: float) -> float:
    """Seconds until there is something to look for at rest: at most `most`, and not past a due."""
    for wish in (o.spec.repair, o.spec.backup):
        if wish.schedule is None or wish.suspend:
            continue
        try:
            following = next(CronSim(wish.schedule, datetime.fromtimestamp(o.now, UTC)), None)
        except CronSimError:
            continue
        if following is not None:
            most = min(most, 1.0 + following.timestamp() - o.now)
    return most


def due_at(o: Snapshot, schedule: str) -> float | None:
    """The time that is due now: within the last hour, and since the resource was made."""
    due = last_due(schedule, o.now)
    return None if due is None or due <= o.created or o.now - due > DUE_S else due


def due_repair(o: Snapshot) -> dict[str, Any] | None:
    """The DynamoRepair that is to be made now."""
    if o.spec.repair.schedule is None or o.spec.repair.suspend:
        return None
    due = due_at(o, o.spec.repair.schedule)
    if due is None:
        return None
    name = f"{o.name}-{int(due) // 60}"
    if any(repair.name == name for repair in o.repairs):
        return None
    return {
        "apiVersion": API_VERSION,
        "kind": "DynamoRepair",
        "metadata": {
            "name": name,
            "namespace": o.namespace,
            "labels": {SCHEDULED: o.name},
            "ownerReferences": [o.owner.reference()],
        },
        "spec": {"clusterName": o.name, "ttlSecondsAfterFinished": KEPT_S},
    }
