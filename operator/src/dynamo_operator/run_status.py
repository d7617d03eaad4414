"""The status of a DynamoBackup or DynamoRestore: pure, from one look and what the pass did."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from dynamo_operator.act import Outcome
from dynamo_operator.archive_runs import BACKUP, Run, lacks
from dynamo_operator.conditions import Fact
from dynamo_operator.plan.backups import base
from dynamo_operator.quantity import instant, stamp
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.snapshot_status import snapshot_status
from dynamo_operator.status import conditions_of
from dynamo_operator.status_fields import BackupStatus, RestoreStatus, RunStatus

REST_S = 60.0
"""Seconds until the nodes are asked again, after they have given a run up."""
MESSAGE_CHARS_MAX = 4000
KEYS_LOST = "KeysLost"
"""Reason of a complete backup that lacks keys whose records were damaged on all nodes."""


def run_status(o: Snapshot, run: Run, outcome: Outcome) -> RunStatus | None:
    """The progress of a run; None: it has ended, and its status does not change."""
    if run.ended:
        return None
    if run.by_snapshots:
        return snapshot_status(o, run, outcome)
    told = outcome.runs.get(f"StartRun {run.id}")
    begun = told is not None and not told[0]
    end = _end(o, run, told)
    old, now = run.status, stamp(o.now)
    started = old.get("startTime") or (now if run.state != "unknown" or begun else None)
    again = begun and run.state == "failed"
    made = _counted(o, run)
    made = structs.replace(
        made,
        state=end.type if end else "Running" if run.state == "running" or begun else "Waiting",
        message=(end.message if end else _message(run, told))[:MESSAGE_CHARS_MAX],
        target=run.archive,
        start_time=started,
        failures=run.failures + again,
        retry_time=stamp(o.now + REST_S) if again else old.get("retryTime"),
    )
    if end is None:
        return made
    took = o.now - (instant(started) or o.now)
    return structs.replace(
        made,
        completion_time=now,
        duration_seconds=round(took),
        conditions=conditions_of([end], (), o.now, 0),
    )


def _counted(o: Snapshot, run: Run) -> RunStatus:
    """With the counts of the node's report, or the last ones."""
    old, report = run.status, run.report

    def last(name: str, field: str) -> int:
        return int(report.get(name) or old.get(field, 0))

    if run.kind == BACKUP:
        return BackupStatus(
            backup_id=run.id,
            base=old.get("base") or base(o, run),
            partitions_total=last("partitions_total", "partitionsTotal"),
            partitions_done=last("partitions_done", "partitionsDone"),
            records=last("records", "records"),
            bytes=last("bytes", "bytes"),
            stored_bytes=last("stored_bytes", "storedBytes"),
            new_bytes=last("new_bytes", "newBytes"),
            missed=tuple(report.get("missed", old.get("missed", ()))),
            damaged=last("damaged", "damaged"),
        )
    return RestoreStatus(
        backup_id=report.get("backup") or old.get("backupId") or run.backup,
        parts_total=last("parts_total", "partsTotal"),
        parts_done=last("parts_done", "partsDone"),
        records=last("records", "records"),
        skipped=last("skipped", "skipped"),
    )


def _end(o: Snapshot, run: Run, told: tuple[str, bool] | None) -> Fact | None:
    """A refusal is final only if every pod has its settings from the present spec."""
    if run.state == "done":
        reason = KEYS_LOST if run.report.get("damaged") else "Done"
        return Fact("Complete", True, reason, _progress(run))
    if run.hopeless:
        return Fact("Failed", True, "CannotBegin", run.hopeless)
    reason = run.report.get("reason") or run.missing or run.why
    if run.given_up():
        text = f"the nodes gave up: {reason}"
        return Fact("Failed", True, "GivenUp", text)
    if run.expired(o.now):
        text = f"not done after {run.spec.timeout}: {reason or 'the nodes did not begin'}"
        return Fact("Failed", True, "TimedOut", text)
    if told is not None and told[0] and told[1] and next(o.unrolled(), None) is None:
        return Fact("Failed", True, "Refused", f"the nodes refuse it: {told[0]}")
    return None


def _message(run: Run, told: tuple[str, bool] | None) -> str:
    if told is not None:
        return f"does not begin yet: {told[0]}" if told[0] else "the nodes begin"
    if run.state == "running":
        return _progress(run)
    if run.state == "failed":
        return f"the nodes gave up, and the operator asks them again: {run.report.get('reason')}"
    return run.missing or str(run.status.get("message") or "waits for its turn")


def _progress(run: Run) -> str:
    report: dict[str, Any] = run.report
    if run.kind != BACKUP:
        text = f"{report['parts_done']} of {report['parts_total']} parts"
        return f"{text}, {report['records']} records merged"
    text = f"{report['partitions_done']} of {report['partitions_total']} partitions"
    text += f", {report['records']} records, {report['bytes']} bytes"
    missed = report.get("missed") or ()
    return "; ".join((text, *lacks(missed, report.get("damaged", 0))))
