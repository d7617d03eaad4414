"""A town of real nodes on simulated disks, with an archive that the test may hold back or fail."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from dynamo_core.backup.archive_calls import ArchiveFailed
from dynamo_core.backup.cluster_backup import ClusterBackup
from dynamo_core.backup.manifest import Manifest, decode_manifest, manifest_name
from dynamo_core.backup.restore import ClusterRestore
from dynamo_core.protocol.messages import Message
from dynamo_core.testing.archives import Objects
from dynamo_core.testing.town import SETTINGS, Town

KEYS = [b"key %d" % index for index in range(100)]


class Archived:
    """A town with an archive. `fails` says which requests the archive refuses, `late` which ones it
    does not answer yet; nor those of the nodes in `silent_to`."""

    def __init__(self, town: Town, objects: Objects) -> None:
        self.town = town
        self.objects = objects
        self.fails: Callable[[Message], bool] = lambda request: False
        self.late: Callable[[Message], bool] = lambda request: False
        self.silent_to: set[str] = set()
        self.asked: list[tuple[str, Message]] = []
        self._waiting: list[tuple[str, Message, Callable[[Message], None]]] = []
        self._deliver = town.deliver
        town.deliver = self.deliver  # type: ignore[method-assign]
        self.connect()

    def connect(self) -> None:
        for name, node in self.town.nodes.items():
            node.archive.carry = partial(self._carry, name)

    def _carry(self, name: str, request: Message, reply: Callable[[Message], None]) -> None:
        self.asked.append((name, request))
        self._waiting.append((name, request, reply))

    def _later(self, name: str, request: Message, reply: object) -> bool:
        return name in self.silent_to or self.late(request)

    def deliver(self) -> None:
        self._deliver()
        while waiting := [each for each in self._waiting if not self._later(*each)]:
            self._waiting = [each for each in self._waiting if self._later(*each)]
            for name, request, reply in waiting:
                if name not in self.town.nodes:
                    continue
                if self.fails(request):
                    reply(ArchiveFailed(0, "the archive says no"))
                else:
                    reply(self.objects.answer(request, self.town.disks[name]))
                self.town.nodes[name].dispatcher.drain()
            self._deliver()

    def back_up(self, at: str, name: str = "one", base: str = "") -> dict[str, Any]:
        self.begin_backup(at, name, base)
        return self.ended(at, name, ClusterBackup)

    def begin_backup(self, at: str, name: str = "one", base: str = "", **more: Any) -> None:
        body = {"id": name, "archive": "memory", "base": base, **more}
        self.town.nodes[at].archive.back_up(body, lambda status, document: None)
        self.town.deliver()

    def restore(self, at: str, name: str = "one", **more: Any) -> dict[str, Any]:
        return self.ended(at, self.begin_restore(at, name, **more), ClusterRestore)

    def begin_restore(self, at: str, name: str = "one", **more: Any) -> str:
        body = {"id": "r-" + name, "backup": name, "archive": "memory", **more}
        self.town.nodes[at].archive.restore(body, lambda status, document: None)
        self.town.deliver()
        return str(body["id"])

    def ended(self, at: str, name: str, kind: type[Any]) -> dict[str, Any]:
        def report() -> dict[str, Any]:
            said = self.town.nodes[at].archive.status(name, kind)
            assert said is not None
            return said

        self.town.until(lambda: report()["state"] != "running", 300.0)
        return report()

    def manifest(self, name: str = "one") -> Manifest:
        return decode_manifest(self.objects[manifest_name(name)])


def filled(names: str, n: int = 3, settings: dict[str, Any] | None = None) -> Archived:
    town = Town(names, n=n, settings=msgspec.structs.replace(SETTINGS, **(settings or {})))
    archived = Archived(town, Objects())
    for key in KEYS:
        assert town.put(town.names[0], key, b"v " + key).status == 204
    return archived


def with_a_hint_alone(archived: Archived) -> bytes:
    """A key whose value "hinted" is on node d alone, as a hint; its owners have started again."""
    town = archived.town
    key = next(k for k in KEYS if "d" not in town.owners(k))
    owners = town.owners(key)
    town.kill(*owners)
    assert town.put("d", key, b"hinted", w=1).status == 204
    town.cut = {("d", name) for name in owners} | {(name, "d") for name in owners}
    for name in owners:
        town.start(name)
    archived.connect()
    town.run(3.0)
    town.cut = set()
    archived.connect()
    return key


def all_there(town: Town, keys: list[bytes] = KEYS) -> None:
    for key in keys:
        assert town.values(town.names[-1], key, r=2 if len(town.names) > 1 else 1) == [b"v " + key]
