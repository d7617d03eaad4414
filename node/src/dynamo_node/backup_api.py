"""Backups, restores and deletions on the admin listener (docs/http-api.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec
from fastapi import Request, Response
from msgspec import UNSET

from dynamo_archive.objects import ArchiveError
from dynamo_archive.sealing import Sealing
from dynamo_core.backup.cluster_backup import ClusterBackup
from dynamo_core.backup.restore import ClusterRestore
from dynamo_core.errors import BadParameter
from dynamo_core.node import Node
from dynamo_node.admin_answers import answer
from dynamo_node.admin_document import Body, StartBackup, StartDeletion, StartRestore
from dynamo_node.archive_jobs import ArchiveJobs
from dynamo_node.driver import Driver
from dynamo_node.problems import Problem

B = TypeVar("B", bound=Body)
Route = tuple[str, str, Callable[..., Awaitable[Response]], int]


class Listener(Protocol):
    """What this needs of the admin listener."""

    driver: Driver
    node: Node
    version: str

    async def body_of(self, request: Request, kind: type[B], in_ring: bool = False) -> B:
        """The checked body of a request."""

    async def ask(self, call: Callable[..., None], *arguments: object) -> Response:
        """Asks the node and waits for its answer."""


class BackupApi:
    """The routes about archives."""

    def __init__(self, listener: Listener, sealing: Sealing) -> None:
        self.listener = listener
        self.archive = listener.node.archive
        self.jobs = ArchiveJobs(listener.driver, sealing)

    def routes(self) -> tuple[Route, ...]:
        """As `admin_app` adds them."""
        return (
            ("POST", "/v1/backups", self.start_backup, 202),
            ("GET", "/v1/backups/{run_id}", self.backup, 200),
            ("POST", "/v1/restores", self.start_restore, 202),
            ("GET", "/v1/restores/{run_id}", self.restore, 200),
            ("POST", "/v1/deletions", self.start_deletion, 202),
        )

    async def start_backup(self, request: Request) -> Response:
        """A backup of the ring into an archive; again under the same id it goes on."""
        body = await self.listener.body_of(request, StartBackup, in_ring=True)
        asked = {"version": self.listener.version, **msgspec.structs.asdict(body)}
        if body.base is UNSET:
            asked["base"] = ""
        return await self.listener.ask(self.archive.back_up, asked)

    async def backup(self, run_id: str) -> Response:
        """Progress and result of a backup that this node was asked for."""
        return self._run(run_id, self.archive.status(run_id, ClusterBackup))

    async def start_restore(self, request: Request) -> Response:
        """Merges a backup, or keys of it with a prefix, into the ring; or writes its values again.
        Without `backup`: the newest whole one of the archive."""
        body = await self.listener.body_of(request, StartRestore, in_ring=True)
        asked = msgspec.structs.asdict(body)
        known = self.archive.status(body.id, ClusterRestore) or self.jobs.report(body.id)
        if body.backup is UNSET and known is not None:
            asked["backup"] = known["backup"]
        elif body.backup is UNSET:
            self._check(body.archive)
            try:
                asked["backup"] = await self.jobs.newest(body.archive)
            except (ArchiveError, BadParameter) as error:
                raise Problem(503, "", f"archive: {error}") from None
        self._check_id(body, asked["backup"])
        if not body.into_past:
            return await self.listener.ask(self.archive.restore, asked)
        self._check(body.archive)
        begun = self.jobs.write_again(body.id, body.archive, asked["backup"], body.prefix)
        return answer(202, begun)

    async def restore(self, run_id: str) -> Response:
        """Progress and result of a restore that this node was asked for."""
        found = self.archive.status(run_id, ClusterRestore) or self.jobs.report(run_id)
        return self._run(run_id, found)

    async def start_deletion(self, request: Request) -> Response:
        """Deletes backups of an archive, and the parts that no other backup refers to. The same id
        again tells how far that is."""
        body = await self.listener.body_of(request, StartDeletion, in_ring=True)
        self._check(body.archive)
        return answer(202, self.jobs.delete(body.id, body.archive, body.backups))

    def _check(self, archive: str) -> None:
        if not self.listener.node.member:
            raise Problem(503, "not-a-member", "this node is in no ring")
        if fault := self.jobs.fault(archive):
            raise Problem(400, "bad-parameter", f"archive: {fault}")

    def _check_id(self, body: StartRestore, backup: str) -> None:
        """Raises Problem: the id is that of another run, which would be taken for this one."""
        if body.into_past:
            other = self.archive.knows(body.id) or self.jobs.is_another(
                body.id, body.archive, backup, body.prefix
            )
        else:
            other = self.jobs.report(body.id) is not None
        if other:
            raise Problem(409, "request-id-reused", f"id: {body.id} is that of another run")

    def _run(self, run_id: str, report: dict[str, Any] | None) -> Response:
        if report is None:
            raise Problem(404, "not-found", f"this node was not asked for {run_id!r}")
        return answer(200, report)
