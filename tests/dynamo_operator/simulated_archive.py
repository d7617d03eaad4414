"""Archives of the simulated nodes: what backups saved, and the runs that a node leads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from dynamo_core.ring.document import Ring
from dynamo_operator.ports import failure
from tests.dynamo_operator.simulated_node import Disk, SimNode

PARTITIONS_PER_STEP = 6
PARTS = 3
REFUSED = "file:///elsewhere"
"""No node may write there."""
Report = dict[str, Any]
Acked = dict[str, dict[int, set[int]]]


@dataclass
class Saved:
    """One backup: whose, its values, and its partitions so far."""

    cluster: str
    wanted: set[int]
    done: int = 0
    base: str = ""
    values: set[int] = field(default_factory=set)


class SimulatedArchives:
    """All archives by their URLs; those in `down` do not answer. `reached`: whether the network
    lets a node connect to one."""

    def __init__(self) -> None:
        self.whole: dict[str, dict[str, Saved]] = {}
        self.unfinished: dict[str, dict[str, Saved]] = {}
        self.down: set[str] = set()
        self.deletions: set[str] = set()
        self.wrong: list[str] = []
        self.reached: Callable[[SimNode, str], bool] = lambda node, archive: True
        self.damaged = 0
        """Keys whose records are damaged on all nodes."""
        self.missed: list[str] = []
        """Nodes whose data no backup has."""

    def posted(self, node: SimNode, path: str, body: Report, acked: set[int]) -> Report:
        """POST to a node: a backup, a restore, a deletion."""
        archive = body["archive"]
        if archive.startswith(REFUSED):
            raise failure(400, f"archive: {archive!r}: not among this node's backup_targets")
        if path == "/v1/deletions":
            return self._delete(body)
        self._check(node, archive)
        run = node.runs.get(body["id"])
        if run is None or run["state"] == "failed":
            made = {"id": body["id"], "state": "running", "reason": None, "records": 0}
            run = node.runs[body["id"]] = made | {"asked": body, "path": path}
            if path == "/v1/backups":
                self._begin(node, run, acked)
            else:
                run |= {"parts_total": PARTS, "parts_done": 0, "skipped": 0}
                run["backup"] = body.get("backup") or max(self.whole[archive])
        return {"id": body["id"], "state": run["state"]}

    def _check(self, node: SimNode, archive: str) -> None:
        if not self.reached(node, archive):
            self.wrong.append(f"{node.name} uses {archive}, and cannot reach it")

    def _begin(self, node: SimNode, run: Report, acked: set[int]) -> None:
        """Goes on with what is there; a later start may have less in it than is acked by then."""
        assert node.disk.ring is not None
        asked, identity = run["asked"], node.disk.ring.identity
        known = self.unfinished.setdefault(asked["archive"], {})
        saved = Saved(identity.cluster_id, set(acked), base=asked.get("base", ""))
        known.setdefault(asked["id"], saved)
        run |= {"partitions_total": identity.partitions, "partitions_done": 0}
        run |= {"missed": self.missed, "damaged": self.damaged}
        run |= {"bytes": 0, "stored_bytes": 0, "new_bytes": 0}

    def step(
        self,
        nodes: Sequence[SimNode],
        disks: Collection[Disk],
        newest: Callable[[], dict[str, Ring]],
        acked: Acked,
    ) -> None:
        """One second of all runs that nodes lead."""
        for node in nodes:
            for run in node.runs.values() if node.member else ():
                if run["state"] == "running":
                    assert node.disk.ring is not None
                    self._check(node, run["asked"]["archive"])
                    values = self._go_on(run, disks)
                    cluster = node.disk.ring.identity.cluster_id
                    if values:
                        spread(values, nodes, newest()[cluster])
                    for value in values:
                        p = value % node.disk.ring.identity.partitions
                        acked.setdefault(cluster, {}).setdefault(p, set()).add(value)

    def _go_on(self, run: Report, disks: Collection[Disk]) -> set[int]:
        """Returns the values that are in the ring again."""
        archive, name = run["asked"]["archive"], run["asked"]["id"]
        if archive in self.down:
            run |= {"state": "failed", "reason": f"{archive} does not answer"}
        elif run["path"] == "/v1/backups":
            self._save(run, archive, name, disks)
        else:
            run["parts_done"] += 1
            if run["parts_done"] == PARTS:
                values = self.whole[archive][run["backup"]].values
                run |= {"state": "done", "records": len(values)}
                return values
        return set()

    def _save(self, run: Report, archive: str, name: str, disks: Collection[Disk]) -> None:
        saved = self.unfinished[archive].get(name) or self.whole[archive][name]
        saved.done = min(run["partitions_total"], saved.done + PARTITIONS_PER_STEP)
        run["partitions_done"] = saved.done
        if saved.done < run["partitions_total"]:
            return
        if self.unfinished[archive].pop(name, None) is not None:
            saved.values = held(disks, saved.cluster)
            self.whole.setdefault(archive, {})[name] = saved
            if lost := saved.wanted - saved.values:
                self.wrong.append(f"{name} lacks {sorted(lost)[:3]}")
        run |= {"state": "done", "records": len(saved.values), "bytes": len(saved.values)}

    def _delete(self, body: Report) -> Report:
        """A second request hears of the end. A node refuses while a backup under way, or what one
        that has failed left in the archive, builds on one of them."""
        if body["id"] not in self.deletions:
            self.deletions.add(body["id"])
            return {"id": body["id"], "state": "running"}
        if body["archive"] in self.down:
            self.deletions.discard(body["id"])
            why = f"{body['archive']} does not answer"
            return {"id": body["id"], "state": "failed", "reason": why}
        for name, saved in self.unfinished.get(body["archive"], {}).items():
            if saved.base in body["backups"] and name not in body["backups"]:
                self.deletions.discard(body["id"])
                why = f"{saved.base}: {name}, which is under way, refers to it"
                return {"id": body["id"], "state": "failed", "reason": why}
        for name in body["backups"]:
            for known in (self.whole, self.unfinished):
                known.get(body["archive"], {}).pop(name, None)
        return {"id": body["id"], "state": "done"}

    def names(self) -> dict[str, list[str]]:
        """The whole backups by archive, without what their objects' uids add."""
        return {
            archive: sorted(name.rpartition("-uid")[0] for name in saved)
            for archive, saved in sorted(self.whole.items())
        }


def held(disks: Collection[Disk], cluster: str) -> set[int]:
    """What the disks of a ring have together."""
    ours = (d for d in disks if d.ring is not None and d.ring.identity.cluster_id == cluster)
    return set().union(*(values for disk in ours for values in disk.data.values()))


def spread(values: set[int], nodes: Sequence[SimNode], ring: Ring) -> None:
    """To all owners that are up, also those to be."""
    for value in values:
        p = value % ring.identity.partitions
        entry = ring.entries[p]
        names = (*entry.owners, *(entry.old or ()), *(entry.move or ()))
        for node in nodes:
            if node.name in names and node.member:
                node.disk.data.setdefault(p, set()).add(value)


def report(run: Report) -> Report:
    """GET of a run."""
    return {name: value for name, value in run.items() if name not in ("asked", "path")}
