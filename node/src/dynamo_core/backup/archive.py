"""Backups and restores at one node: those that it leads, and its part of those that others lead.

If an order comes twice, because its answer was lost, the node does the work once and answers both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from dynamo_core.admin.planner import Answered, refusal
from dynamo_core.backup.archive_calls import (
    ArchiveFailed,
    Bring,
    Brought,
    Measure,
    Pack,
    Put,
    Unpack,
)
from dynamo_core.backup.cluster_backup import ClusterBackup
from dynamo_core.backup.manifest import manifest_name
from dynamo_core.backup.merging import Merging
from dynamo_core.backup.restore import ClusterRestore
from dynamo_core.backup.saving import Reply, SavingPartition
from dynamo_core.backup.saving_hints import SavingHints
from dynamo_core.protocol.backup_messages import Load, Loaded, Save, SaveHints, backup_id_fault
from dynamo_core.protocol.messages import Message, Refused
from dynamo_core.replica.replica import Replica
from dynamo_core.runtime.host import Host
from dynamo_core.runtime.machine import copied

RUNS_KEPT_MAX = 16
SAVED_KEPT_MAX = 64
"""Answers that are kept for an order that comes again."""
Run = ClusterBackup | ClusterRestore


def nothing(request: Message, reply: Reply) -> None:
    """The archive of a node whose shell has none."""
    reply(ArchiveFailed(request.id, "this node has no way to archives"))


class ArchiveHost(Host, Protocol):
    """What backups and restores use of their node."""

    replica: Replica


class Archive:
    """What the node does for backups. `carry` gives a call to the shell, which reads and writes
    archives and replies in a later turn. `archive_fault` says why the node refuses the URL of an
    archive, "" if it does not."""

    def __init__(self, node: ArchiveHost) -> None:
        self.node = node
        self.carry: Callable[[Message, Reply], None] = nothing
        self.archive_fault: Callable[[str], str] = lambda archive: ""
        self._runs: dict[str, Run] = {}
        self._savings: dict[tuple[object, ...], SavingPartition | SavingHints] = {}
        self._merging: dict[tuple[str, str], list[tuple[int, Reply]]] = {}
        self.orders: dict[type, Callable[..., None]] = {
            Save: self._save,
            SaveHints: self._save,
            Load: self._load,
            **dict.fromkeys((Put, Bring, Measure, Pack, Unpack), self._carry),
        }
        """What the local copy hands on to here."""

    def attach(
        self,
        carry: Callable[[Message, Reply], None],
        archive_fault: Callable[[str], str] = lambda archive: "",
    ) -> None:
        """The shell gives its way to archives, and its check of their URLs."""
        self.carry, self.archive_fault = carry, archive_fault

    def _carry(self, request: Message, reply: Reply) -> None:
        self.carry(request, reply)

    # ------------------------------------------------------------ orders

    def _save(self, order: Save | SaveHints, reply: Reply) -> None:
        key: tuple[object, ...] = (order.backup, order.archive, order.again)
        if isinstance(order, Save):
            key = (*key, order.partition, order.entry_id, order.alone, order.root)
        saving = self._savings.get(key)
        if saving is not None:
            return saving.tell(order.id, reply)
        saving = self._new(order, lambda: self._saved(key))
        self._savings[key] = saving
        saving.tell(order.id, reply)
        return saving.begin()

    def _new(
        self, order: Save | SaveHints, done: Callable[[], None]
    ) -> SavingPartition | SavingHints:
        if isinstance(order, Save):
            return SavingPartition(self.node, order, done)
        return SavingHints(self.node, order, done)

    def _saved(self, key: tuple[object, ...]) -> None:
        """A failure is not kept, because the next attempt may succeed."""
        answer = self._savings[key].answer
        if isinstance(answer, Refused) or (answer is not None and answer.why):
            del self._savings[key]
        over = [k for k, one in self._savings.items() if one.answer is not None]
        for old in over[:-SAVED_KEPT_MAX]:
            del self._savings[old]

    def _load(self, order: Load, reply: Reply) -> None:
        key = (order.restore, order.part.name)
        waiting = self._merging.setdefault(key, [])
        waiting.append((order.id, reply))
        if len(waiting) > 1:
            return
        restores = self.node.replica.restores
        restores.add(key)

        def done(loaded: Loaded) -> None:
            restores.discard(key)
            for call_id, tell in self._merging.pop(key):
                tell(copied(loaded, id=call_id))

        self.node.spawn(Merging(self.node, order, done))

    # ------------------------------------------------------------ administrators

    def back_up(self, body: dict[str, Any], done: Answered) -> None:
        """Begins a backup, or goes on with the one of this id. The same id again, while it runs or
        while it is in the archive, is the same backup."""
        self._begin(
            body, done,
            lambda: ClusterBackup(
                self.node, body["id"], body["archive"], body.get("base", ""),
                body.get("version", ""),
            ),
        )  # fmt: skip

    def restore(self, body: dict[str, Any], done: Answered) -> None:
        """Begins a restore of a whole backup, or of keys with a prefix."""
        self._begin(
            body, done,
            lambda: ClusterRestore(
                self.node, body["id"], body["backup"], body["archive"],
                body.get("prefix", b""),
            ),
        )  # fmt: skip

    def _begin(
        self, body: dict[str, Any], done: Answered, make: Callable[[], Run], looked: bool = False
    ) -> None:
        node, name = self.node, body["id"]
        if not node.member:
            return done(503, refusal("not-a-member", "this node is in no ring"))
        if fault := backup_id_fault(name):
            return done(400, refusal("bad-parameter", f"id: {fault}"))
        if fault := self.archive_fault(body["archive"]):
            return done(400, refusal("bad-parameter", f"archive: {fault}"))
        run, asked = self._runs.get(name), make()
        over = isinstance(run, ClusterBackup) and run.state == "done" and run.what == asked.what
        if run is not None and over and not looked:
            return self._look(run, body["archive"], lambda: self._begin(body, done, make, True))
        if run is None or run.state == "failed":
            run = asked
            self._runs.pop(name, None)
            self._runs[name] = run
            self._forget()
            node.later(lambda: node.spawn(asked))
        elif run.what != asked.what:
            detail = f"id: {name} is {run.what}, not {asked.what}"
            return done(409, refusal("request-id-reused", detail))
        return done(202, {"id": name, "state": run.state})

    def _look(self, run: Run, archive: str, then: Callable[[], None]) -> None:
        """A backup that is done may have been deleted from the archive since: then its id is free
        again."""

        def brought(answer: Message) -> None:
            there = isinstance(answer, Brought) and answer.data is not None
            if not there and self._runs.get(run.id) is run:
                del self._runs[run.id]
            then()

        self.carry(Bring(0, archive, manifest_name(run.id)), brought)

    def _forget(self) -> None:
        over = [name for name, run in self._runs.items() if run.state != "running"]
        for name in over[: max(0, len(self._runs) - RUNS_KEPT_MAX)]:
            del self._runs[name]

    def knows(self, name: str) -> bool:
        """Whether any run has this id."""
        return name in self._runs

    def status(self, name: str, kind: type[Run]) -> dict[str, Any] | None:
        """Progress and result of a run that was asked of this node, None when unknown."""
        run = self._runs.get(name)
        return run.report() if isinstance(run, kind) else None
