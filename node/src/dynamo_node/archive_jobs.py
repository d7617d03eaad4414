"""What one node does alone with archives, for an administrator: it deletes backups, finds the
newest one, and writes the values of a backup again (S-BAK-2).

To write them again, the node reads each key in the ring and writes what the backup has of it, with
the context of what is there, as a client would. These are new events, so every node takes them for
the newest. A key that reads as in the backup is not written.

A job that was cut off begins again at any node, maybe hours later, and clients have written
meanwhile. So before a job writes some keys it puts their contexts into a mark in the archive, and a
later run writes these keys with those contexts: what clients have written since stays beside it.
When a job has ended, its mark says so, and a request that comes again does nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from hashlib import sha256
from itertools import islice
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import msgspec
import structlog

from dynamo_archive import backups
from dynamo_archive.contents import contents
from dynamo_archive.objects import Archive, ArchiveError
from dynamo_archive.sealing import PLAIN, Sealing
from dynamo_core.backup.manifest import Manifest
from dynamo_core.backup.marks import Mark, decode_mark, encode_mark, mark_name
from dynamo_core.bounds import one_line
from dynamo_core.causality.context import Context
from dynamo_core.causality.records import Record, Sibling
from dynamo_core.errors import BadParameter, PeerCorrupt
from dynamo_core.protocol.operations import Get, Operation, Outcome, Put
from dynamo_core.request.admission_control import BACKGROUND
from dynamo_node.clock import wall_ms
from dynamo_node.driver import Driver

KEYS_AT_ONCE = 32
"""Keys that are read from the archive together, and then read and written in the ring."""
CALL_S = 10.0
"""Seconds for one get or put."""
AGAIN_S = 1.0
PATIENCE_S = 120.0
"""A get or put that fails is tried again for this time; then the job ends."""
JOBS_KEPT_MAX = 16
ID_CHARS = 32
T = TypeVar("T")
Entry = tuple[bytes, Record]
Report = dict[str, Any]
log = structlog.get_logger()


class ArchiveJobs:
    """The jobs of one node, by their ids. Its thread does one thing at a time."""

    def __init__(self, driver: Driver, sealing: Sealing = PLAIN) -> None:
        self._driver = driver
        self._sealing = sealing
        self._queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: Thread | None = None
        self._deletions: dict[str, Report] = {}
        self._rewritings: dict[str, Report] = {}
        self._wanted: dict[str, tuple[str, str, bytes]] = {}
        """By job that writes values: the archive, the backup, what keys begin with."""
        self._tasks: set[asyncio.Task[None]] = set()

    def fault(self, archive: str) -> str:
        """Why this node refuses the URL of an archive, "" if it does not."""
        return self._driver.node.archive.archive_fault(archive)

    async def newest(self, archive: str) -> str:
        """The id of the newest complete backup of any ring. Raises ArchiveError."""
        found = await self._on_thread(lambda: backups.find(Archive(archive)))
        if not found.whole:
            raise ArchiveError(f"{archive}: has no complete backup")
        return max(found.whole.values(), key=lambda m: (m.started_ms, m.id)).id

    # ------------------------------------------------------------ deletions

    def delete(self, job: str, archive: str, names: Sequence[str]) -> Report:
        """Begins to delete backups, and the parts that no other one refers to; what is not there is
        no error. The same id again is the same job. A job that has failed says so once; then the id
        begins another one."""
        report = self._deletions.get(job)
        if report is None:
            report = {"id": job, "state": "running", "reason": None, "parts": 0}
            self._begin(self._deletions, report, self._delete(report, archive, names))
        elif report["state"] == "failed":
            del self._deletions[job]
        return dict(report)

    async def _delete(self, report: Report, archive: str, names: Sequence[str]) -> None:
        parts = await self._on_thread(lambda: backups.delete(Archive(archive), names))
        report |= {"state": "done", "parts": parts}

    # ------------------------------------------------------------ values written again

    def write_again(self, job: str, archive: str, backup: str, prefix: bytes) -> Report:
        """Begins to write the values of a backup; the same id again is the same job, until it has
        failed."""
        report = self._rewritings.get(job)
        if report is None or report["state"] == "failed":
            self._wanted[job] = (archive, backup, prefix)
            report = {
                "id": job, "backup": backup, "state": "running", "reason": None, "parts_total": 0,
                "parts_done": 0, "bytes_total": 0, "bytes_done": 0, "records": 0, "skipped": 0,
                "took_ms": 0,
            }  # fmt: skip
            self._begin(self._rewritings, report, self._write_again(report, archive, prefix))
        return {"id": job, "state": report["state"]}

    def is_another(self, job: str, archive: str, backup: str, prefix: bytes) -> bool:
        """Whether a job of this id is known, and wants other things."""
        report = self._rewritings.get(job)
        known = report is not None and report["state"] != "failed"
        return known and self._wanted[job] != (archive, backup, prefix)

    def report(self, job: str) -> Report | None:
        """Progress and result of a job that writes values; None: this node has none of that id."""
        return self._rewritings.get(job)

    async def _write_again(self, report: Report, url: str, prefix: bytes) -> None:
        archive, name = Archive(url), mark_name(report["id"])
        data = await self._on_thread(lambda: archive.get(name))
        begun = Mark(report["backup"], prefix, "running", {})
        if data is not None:
            begun = decode_mark(data, name, report["backup"], prefix, True)
        report |= begun.report
        if begun.state == "done":
            return
        manifest = await self._on_thread(lambda: backups.read(archive, report["backup"]))
        counts = manifest.counts()
        report |= {"parts_total": counts["parts"], "bytes_total": counts["bytes"]}
        found = contents(archive, manifest, prefix, self._sealing)
        for _ in range(0, begun.keys, KEYS_AT_ONCE):  # written by an earlier run
            await self._on_thread(lambda: list(islice(found, KEYS_AT_ONCE)))
        contexts, done = begun.contexts, begun.keys
        while some := await self._on_thread(lambda: list(islice(found, KEYS_AT_ONCE))):
            began = time.monotonic()
            throttle = self._driver.node.throttle
            if not contexts:
                contexts = [await self._context_of(key, record) for key, record in some]
                mark = Mark(report["backup"], prefix, "running", report, done, contexts, True)
                await self._on_thread(partial(archive.put, name, encode_mark(mark)))
            for (key, record), context in zip(some, contexts, strict=True):
                asked = time.monotonic()
                if context is not None:
                    await self._as_then(report["id"], key, record, context)
                    await asyncio.sleep(throttle.rest_s(time.monotonic() - asked, 1))  # S-BG-1
                report["skipped" if context is None else "records"] += 1
            contexts, done = [], done + len(some)
            _count(report, manifest)
            report["took_ms"] += round((time.monotonic() - began) * 1000)
        report |= {"parts_done": counts["parts"], "bytes_done": counts["bytes"]}
        said = {**report, "state": "done"}
        last = encode_mark(Mark(report["backup"], prefix, "done", said, done, [], True))
        await self._on_thread(lambda: archive.put(name, last))
        report["state"] = "done"

    async def _context_of(self, key: bytes, record: Record) -> bytes | None:
        """The history of what is there; None: it reads as in the backup, and is not written."""
        there = await self._asked(Get(key=key, timeout_s=CALL_S))
        if _values(record) == {_value(sibling) for sibling in there.values}:
            return None
        return there.context.history if there.context is not None else b""

    async def _as_then(self, job: str, key: bytes, record: Record, context: bytes) -> None:
        """Makes a key read as in the backup. All puts have the context of what was there before any
        of them: so they supersede that, and stand beside each other."""
        now = await self._context_of(key, record)
        if now is None or (self._driver.node.lww and now != context):  # S-LWW-1: a later write
            return
        nothing: tuple[bytes | None, str, int] = (None, "", 0)
        for value, kind, ends in sorted(_values(record)) or (nothing,):
            put = Put(
                key=key, value=value, content_type=kind, expires_ms=ends,
                context=Context(context) if context else None,
                request_id=_request_id(job, key, value, kind), timeout_s=CALL_S,
            )  # fmt: skip
            await self._asked(put)

    async def _asked(self, operation: Operation) -> Outcome:
        """The outcome of one operation, tried again while it fails."""
        until = time.monotonic() + PATIENCE_S
        while True:
            answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

            def done(outcome: Outcome, answered: asyncio.Future[Outcome] = answered) -> None:
                if not answered.done():
                    answered.set_result(outcome)

            self._driver.submit(msgspec.structs.replace(operation), done, BACKGROUND)
            outcome = await answered
            if outcome.status in (200, 204, 404):
                return outcome
            if outcome.status < 500 or time.monotonic() > until:
                raise ArchiveError(f"the ring answers {outcome.status}: {outcome.detail}")
            await asyncio.sleep(AGAIN_S)

    # ------------------------------------------------------------ tasks and the thread

    def _begin(
        self, jobs: dict[str, Report], report: Report, work: Coroutine[Any, Any, None]
    ) -> None:
        jobs.pop(report["id"], None)
        jobs[report["id"]] = report
        for old in [name for name, job in jobs.items() if job["state"] != "running"]:
            if len(jobs) > JOBS_KEPT_MAX:
                del jobs[old]
                self._wanted.pop(old, None)
        task = asyncio.get_running_loop().create_task(self._ended(report, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ended(self, report: Report, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (ArchiveError, BadParameter, PeerCorrupt) as error:
            log.warning("a request to an archive failed", why=str(error))
            report |= {"state": "failed", "reason": one_line(str(error))}
        except Exception as error:
            log.exception("an internal error with an archive")
            report |= {"state": "failed", "reason": one_line(repr(error))}

    async def _on_thread(self, work: Callable[[], T]) -> T:
        """The thread is no executor's: Python would wait for it at the end, and a node ends in
        time."""
        if self._thread is None:
            self._thread = Thread(target=self._run, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[T] = loop.create_future()

        def told(result: T | None, error: BaseException | None) -> None:
            if answered.done():
                return
            if error is not None:
                answered.set_exception(error)
            else:
                answered.set_result(result)  # type: ignore[arg-type]

        def carried() -> None:
            result, fault = None, None
            try:
                result = work()
            except Exception as error:  # noqa: BLE001
                fault = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(told, result, fault)

        self._queue.put(carried)
        return await answered

    def _run(self) -> None:
        while True:
            self._queue.get()()


def _values(record: Record) -> set[tuple[bytes, str, int]]:
    return {_value(sibling) for sibling in record.values(wall_ms())}


def _value(sibling: Sibling) -> tuple[bytes, str, int]:
    assert sibling.value is not None
    return sibling.value, sibling.content_type, sibling.expires_ms


def _request_id(job: str, key: bytes, value: bytes | None, kind: str) -> str:
    """The same for the same write of the same job, at every node: soon after the first, it is
    applied once (S-REQ-1)."""
    said = (job, key, value, kind)
    return sha256(msgspec.msgpack.encode(said)).hexdigest()[:ID_CHARS]


def _count(report: Report, manifest: Manifest) -> None:
    """Contents come key by key, so the parts that are done are a share of the records."""
    counts = manifest.counts()
    share = min(1.0, (report["records"] + report["skipped"]) / max(1, counts["records"]))
    report["parts_done"] = int(counts["parts"] * share)
    report["bytes_done"] = int(counts["bytes"] * share)
