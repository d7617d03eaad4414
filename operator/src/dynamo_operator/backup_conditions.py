"""The condition BackupUpToDate: whether the last backup that was due exists."""

from __future__ import annotations

from msgspec import Struct

from dynamo_operator.archive_runs import BACKUP, SCHEDULED, Run, lacks, whole_backups
from dynamo_operator.plan.schedule import DUE_S, last_due
from dynamo_operator.quantity import stamp
from dynamo_operator.snapshot import Snapshot


class Kept(Struct, frozen=True):
    """A condition without its type."""

    holds: bool | None
    reason: str
    message: str


def backed_up(o: Snapshot) -> Kept:
    """True: a complete backup began at or after the last time of the schedule. For an hour after
    such a time, and while its backup is under way, the time before it counts."""
    if o.runs_fault:
        text = f"the operator cannot list backups and restores: {o.runs_fault}; upgrade the chart"
        return Kept(None, "NotListed", text)
    wish, whole = o.spec.backup, whole_backups(o.runs)
    last = f"the last complete backup is {whole[-1].name}, {_when(whole[-1])}" if whole else ""
    if wish.schedule is None:
        text = last or "no backup is scheduled: a mistake that reaches all copies cannot be undone"
        return Kept(None, "NotScheduled", text)
    if wish.suspend:
        return Kept(None, "Suspended", f"spec.backup.suspend is true; {last or 'none is complete'}")
    runs = [run for run in o.runs if run.kind == BACKUP and run.labels.get(SCHEDULED) == o.name]
    runs.sort(key=lambda run: (run.created, run.name))
    if runs and runs[-1].ended == "Failed":
        return Kept(False, "Failed", f"DynamoBackup {runs[-1].name} failed: {runs[-1].why}")
    due = _due(o, wish.schedule, any(not run.ended for run in runs))
    if due is None or due <= o.created:
        return Kept(None, "NoneYet", last or "the first backup is not due yet, or under way")
    began = (whole[-1].started or whole[-1].created) if whole else 0.0
    if began >= due:
        return Kept(True, "Complete", last)
    text = (
        f"no backup since {stamp(due)}, when one was due, is complete; {last or 'nor an older one'}"
    )
    return Kept(False, "Late", f"{text}: look at the DynamoBackups and at the ring's conditions")


def _due(o: Snapshot, schedule: str, busy: bool) -> float | None:
    try:
        due = last_due(schedule, o.now)
        if due is not None and (busy or o.now - due < DUE_S):
            whole = whole_backups(o.runs)
            if whole and (whole[-1].started or whole[-1].created) >= due:
                return due
            return last_due(schedule, due - 1)
    except ValueError:
        return None
    return due


def _when(run: Run) -> str:
    began = f"which began at {run.status.get('startTime')}"
    lacking = lacks(run.status.get("missed", ()), int(run.status.get("damaged", 0)))
    return "; ".join((began, *lacking))
