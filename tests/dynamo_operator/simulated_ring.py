"""Nodes without sockets: the real ring documents and the real planning, moves in a few steps.

Each node has a disk (kept by its claim's uid) and its own copy of the ring document; `step` lets
copies merge with their neighbours, moves go on, and nodes join and leave. It implements
`ports.NodeApi`, so the operator's loop sees no difference. Values are numbers written to
partitions: some disk of the owners must always have each acked value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dynamo_core.errors import BadRequest
from dynamo_core.ring import planning
from dynamo_core.ring.change_request import parse_change_request, parse_members
from dynamo_core.ring.document import (
    JOINING,
    LEAVING,
    LEFT,
    MEMBER,
    Entry,
    Identity,
    Ring,
    RingParts,
    RingTarget,
    merge,
    merge_parts,
)
from dynamo_core.ring.json_form import to_document
from dynamo_core.ring.placement import first_ring
from dynamo_operator.ports import Failed, Way, failure
from tests.dynamo_operator.simulated_archive import SimulatedArchives, report
from tests.dynamo_operator.simulated_mounts import PLAIN, Mount, marks_in, strangers
from tests.dynamo_operator.simulated_node import Disk, SimNode, asked, start_repair, status

MOVES_PER_STEP = 6
RUNS = ("/v1/backups", "/v1/restores", "/v1/deletions")
_replace = msgspec.structs.replace


class SimulatedRing:
    """All nodes of all clusters, behind their admin listeners. They have their own time: a process
    answers `start_s` after its start, and a node that has left needs `emptying_s` in one run to
    learn it and to empty its disk; `older` nodes do not report when they have. The names in `first`
    are nodes of the first version, which do not report the protocol that they speak."""

    def __init__(self, point: Callable[[str], Any]) -> None:
        self.point = point
        self.disks: dict[str, Disk] = {}
        self.nodes: dict[str, SimNode] = {}
        self.acked: dict[str, dict[int, set[int]]] = {}
        self.born = 0
        self.written = 0
        self.archives = SimulatedArchives()
        self.wrong: list[str] = self.archives.wrong
        self.now = 0.0
        self.start_s = 0.0
        self.emptying_s = 0.0
        self.older = False
        self.first: set[str] = set()
        self._starting: dict[str, tuple[float, str, str]] = {}
        self._mounts: dict[str, Mount] = {}

    # ------------------------------------------------------------ the kubelet's side

    def start(self, name: str, address: str, disk_key: str) -> None:
        """A process on the disk of that claim; it answers after it has opened the disk."""
        self._starting[address] = self.now + self.start_s, name, disk_key
        self._begin()

    def _begin(self) -> None:
        for address, (due, name, disk_key) in list(self._starting.items()):
            if due <= self.now:
                del self._starting[address]
                self._answers(name, address, disk_key)

    def _answers(self, name: str, address: str, disk_key: str) -> None:
        """From now on it answers; the data of its disk must be compared first."""
        disk = self.disks.get(disk_key)
        if disk is None or disk.emptied:  # S-MEM-3: an emptied disk belongs to a new node
            self.born += 1
            disk = self.disks[disk_key] = Disk(self.born)
        disk.complete.clear()
        self.nodes[address] = SimNode(name, address, disk, self.now)
        self.nodes[address].mount = self._mounts.get(address, PLAIN)

    def mounted(self, address: str, mount: Mount) -> None:
        """What the pod of a node has from Secrets now."""
        self._mounts[address] = mount
        if address in self.nodes:
            self.nodes[address].mount = mount

    def stop(self, address: str) -> None:
        """The process is gone, its disk stays."""
        self._mounts.pop(address, None)
        self.nodes.pop(address, None)
        self._starting.pop(address, None)

    def wipe(self, disk_key: str) -> None:
        """The volume is gone."""
        self.disks.pop(disk_key, None)

    def ready(self, address: str) -> bool:
        """GET /readyz."""
        node = self.nodes.get(address)
        return node is not None and node.member

    # ------------------------------------------------------------ the operator's side

    async def get(self, way: Way, path: str) -> dict[str, Any]:
        """GET of a node."""
        await self.point(f"GET {path}")
        node = self._node(way)
        if path == "/v1/status":
            told = status(node, self.now)
            for word in ("emptied", "uptime_s", "tls", "access") if self.older else ():
                del told[word]
            if node.name in self.first:
                del told["speaks"]
            return told
        if path == "/v1/ring":
            if node.disk.ring is None:
                raise failure(503, "not-a-member")
            return to_document(node.disk.ring)
        name = path.rpartition("/")[2]
        run = node.repairs.get(name) or node.runs.get(name)
        if run is None:
            raise failure(404, "no such run")
        return report(run)

    async def post(self, way: Way, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST to a node."""
        await self.point(f"POST {path}")
        node = self._node(way)
        try:
            answer = self._posted(node, path, dict(body))
        except BadRequest as error:
            raise failure(400, str(error)) from None
        await self.point("done")
        return answer

    def _node(self, way: Way) -> SimNode:
        """As TLS has it: both sides speak it or neither, and the certificate is believed."""
        node = self.nodes.get(way.address)
        if node is None:
            raise Failed("refused to connect")
        plain = not way.believed
        if (plain and node.mount.tls == "require") or (not plain and node.mount.tls == "off"):
            raise Failed("the other side speaks otherwise")
        if not plain and (way.name != node.name or way.believed != node.mount.trust.believed):
            mine = marks_in(way.believed)
            if way.name != node.name or node.mount.trust.certificate.signer not in mine:
                raise Failed("certificate verify failed")
        return node

    def _posted(self, node: SimNode, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/v1/ring":
            return self._create(node, body)
        ring = node.disk.ring
        if ring is None or node.disk.left:
            raise failure(503, "not-a-member")
        if body.pop("cluster_id") != ring.identity.cluster_id:
            raise failure(409, "wrong-cluster")
        if path == "/v1/repairs":
            return start_repair(node, ring, body)
        if path in RUNS:
            acked = self.acked.get(ring.identity.cluster_id, {}).values()
            return self.archives.posted(node, path, body, set().union(*acked))
        if path == "/v1/ring/cancel":
            node.disk.ring = planning.cancelled(ring)
            return {}
        wishes = parse_change_request(body)
        if body.get("operation_id") in ring.target.operations:
            return {"operation_id": body["operation_id"], "epoch": ring.epoch}
        plan = planning.plan(ring, wishes)
        told = {"hash": plan.hash, "before": plan.before, "after": plan.after, "bytes": 0}
        told |= {"moves": list(plan.moves), "violations": list(plan.violations)}
        if path == "/v1/ring/plan":
            return told
        if body["hash"] != plan.hash:
            raise failure(409, "plan-changed", told)
        ids = {}
        for new in wishes.join:
            joiner = self._named(new.name)
            if joiner is None or joiner.disk.ring is not None:
                raise failure(400, f"{new.name} is not up, or not empty")
            ids[new.name] = joiner.disk.id, ""
        node.disk.ring = planning.applied(ring, plan, wishes, ids, body["operation_id"])
        return {"operation_id": body["operation_id"], "epoch": node.disk.ring.epoch}

    def _create(self, node: SimNode, body: dict[str, Any]) -> dict[str, Any]:
        if node.disk.ring is not None:
            if node.disk.ring.identity.cluster_id == body["cluster_id"]:
                return to_document(node.disk.ring)
            raise failure(409, "wrong-cluster")
        members = {}
        for line in parse_members("members", body["members"]):
            founder = self._named(line.name)
            if founder is None or founder.disk.ring is not None:
                raise failure(503, f"{line.name} is not up, or not empty")
            members[line.name] = _replace(line, id=founder.disk.id, state=MEMBER)
        if old := [d.id for d in self.disks.values() if d.ring and d.ring.members.get(node.name)]:
            self.wrong.append(f"founded while {old} have a ring of these names")
        n, quorums = body["n"], {name: body[name] for name in ("r", "w", "dw")}
        quorums["sloppy"] = body.get("sloppy", True)
        identity = Identity(body["cluster_id"], body["partitions"], n, body["conflicts"])
        ring = first_ring(identity, members, RingTarget(**quorums))
        for name in members:
            founder = self._named(name)
            assert founder is not None
            founder.disk.complete = set(range(identity.partitions))
        node.disk.ring = ring  # the others hear of it by gossip
        return to_document(ring)

    def _named(self, name: str) -> SimNode | None:
        return next((node for node in self.nodes.values() if node.name == name), None)

    # ------------------------------------------------------------ time passes

    def step(self) -> None:
        """Gossip, lost disks, moves, rebuilding, joins and leaves; then a client writes."""
        self.now += 1
        self._begin()
        names = sorted(self.nodes.values(), key=lambda node: node.name)
        self.wrong += strangers((node.name, node.mount) for node in names)
        for node, peer in zip(names, [*names[1:], *names[:1]], strict=True):
            self._gossip(node, peer)
        for node in names:
            self._admit(node)
        for node in names:
            if node.member:
                self._moves(node)
                self._rebuild(node)
                self._own_line(node)
            if node.disk.left:
                self._empty(node)
            for repair in node.repairs.values():
                repair["partitions_done"] = repair["partitions_total"]
                repair["state"] = "done"
        self.archives.step(names, self.disks.values(), self.newest, self.acked)
        self._write()
        self._audit()

    def _gossip(self, node: SimNode, peer: SimNode) -> None:
        for one, other in ((node, peer), (peer, node)):
            ring = other.disk.ring
            if one is other or ring is None or one.disk.left or other.disk.left:
                continue
            if one.disk.ring is not None:
                if one.disk.ring.identity == ring.identity:
                    one.disk.ring = merge(one.disk.ring, ring)
            elif (line := ring.members.get(one.name)) is not None and line.id == one.disk.id:
                one.disk.ring = ring

    def _admit(self, node: SimNode) -> None:
        """S-MEM-4: an empty disk under a live name takes its place."""
        for peer in self.nodes.values():
            ring = peer.disk.ring
            if node.disk.ring is not None or ring is None or peer.disk.left:
                continue
            line = ring.members.get(node.name)
            if line is not None and line.state != LEFT and line.id != node.disk.id:
                life = line.incarnation + 1
                new = _replace(line, incarnation=life, id=node.disk.id, version=0)
                peer.disk.ring = node.disk.ring = ring.with_member(new)

    def _moves(self, node: SimNode) -> None:
        begun = 0
        ring = node.disk.ring
        assert ring is not None
        for p, entry in enumerate(ring.entries):
            wanted = ring.target.owners[p] if ring.target.owners else entry.owners
            new = self._next(node, p, entry, wanted)
            if new is not None and begun < MOVES_PER_STEP:
                begun += 1
                ring = ring.with_entry(p, new)
        node.disk.ring = ring

    def _next(self, node: SimNode, p: int, entry: Entry, wanted: tuple[str, ...]) -> Entry | None:
        """This node's next step with one partition, if it has one."""
        if entry.old is not None:
            if node.name in entry.owners and self._promised(node, p, entry, entry.old):
                return _replace(entry, old=None, version=entry.version + 1)
        elif entry.move is not None and entry.move[1] == node.name:
            if node.name not in wanted:
                return _replace(entry, move=None, version=entry.version + 1)
            if self._promised(node, p, entry, entry.owners):
                out, into = entry.move
                self._copy(node, p, entry.owners)
                owners = tuple(into if o == out else o for o in entry.owners)
                return Entry(entry.term + 1, 0, owners, None, entry.owners)
        elif entry.move is None:
            ins = [name for name in wanted if name not in entry.owners]
            outs = [name for name in entry.owners if name not in wanted]
            if ins and ins[0] == node.name and self._promised(node, p, entry, entry.owners):
                return _replace(entry, move=(outs[0], node.name), version=entry.version + 1)
        return None

    def _promised(self, asks: SimNode, p: int, entry: Entry, names: tuple[str, ...]) -> bool:
        return all(self._knows(name, p, entry) for name in asked(asks, names))

    def _knows(self, name: str, p: int, entry: Entry) -> bool:
        """Whether that node is up, complete and has this entry: then it has promised."""
        node = self._named(name)
        if node is None or node.disk.ring is None or node.disk.ring.entries[p] != entry:
            return False
        return p in node.disk.complete or name not in entry.owners

    def _copy(self, node: SimNode, p: int, owners: tuple[str, ...]) -> None:
        held = node.disk.data.setdefault(p, set())
        for name in owners:
            owner = self._named(name)
            if owner is not None:
                held |= owner.disk.data.get(p, set())
        node.disk.complete.add(p)

    def _rebuild(self, node: SimNode) -> None:
        """An owner that may lack something compares with all others that are up."""
        ring = node.disk.ring
        assert ring is not None
        for p, entry in enumerate(ring.entries):
            if node.name in entry.owners:
                others = [self._named(name) for name in asked(node, entry.owners)]
                if p not in node.disk.complete and all(o is not None and o.member for o in others):
                    self._copy(node, p, entry.owners)
            elif entry.old is None and entry.move is None:
                owners = [self._named(name) for name in asked(node, entry.owners)]
                if all(o is not None and p in o.disk.complete for o in owners):
                    node.disk.data.pop(p, None)
                node.disk.complete.discard(p)

    def _own_line(self, node: SimNode) -> None:
        ring, line = node.disk.ring, node.line
        assert ring is not None and line is not None
        if line.state == LEFT or line.id != node.disk.id:
            node.disk.left = True
            return
        named = any(node.name in (*e.owners, *(e.old or ()), *(e.move or ())) for e in ring.entries)
        targeted = [p for p, owners in enumerate(ring.target.owners) if node.name in owners]
        here = all(node.name in ring.entries[p].owners for p in targeted)
        state = {JOINING: MEMBER if here else None, LEAVING: None if named else LEFT}
        if (new := state.get(line.state)) and not (new == LEFT and any(node.disk.data.values())):
            changed = {node.name: _replace(line, state=new, version=line.version + 1)}
            node.disk.ring = merge_parts(ring, RingParts(members=changed))
            node.disk.left = new == LEFT
            if node.disk.left:
                self._tell_others(node)

    def _empty(self, node: SimNode) -> None:
        """S-MEM-3: hands over what it still has, and is empty after a while."""
        node.left_at = self.now if node.left_at is None else node.left_at
        node.disk.emptied = self.now - node.left_at >= self.emptying_s

    def _tell_others(self, node: SimNode) -> None:
        """The last message of a leaving node: it is silent after others have it."""
        mine = node.disk.ring
        assert mine is not None
        for other in self.nodes.values():
            theirs = other.disk.ring
            if theirs is not None and other.member and theirs.identity == mine.identity:
                other.disk.ring = merge(theirs, mine)

    def newest(self) -> dict[str, Ring]:
        """The merge of all documents of each cluster, also of stopped nodes."""
        rings: dict[str, Ring] = {}
        for disk in self.disks.values():
            if disk.ring is not None:
                known = rings.get(disk.ring.identity.cluster_id)
                merged = merge(known, disk.ring) if known else disk.ring
                rings[disk.ring.identity.cluster_id] = merged
        return rings

    def _write(self) -> None:
        """A client writes to one partition of each cluster: acked by two owners (W = 2)."""
        for cluster, ring in self.newest().items():
            self.written += 1
            p = self.written % ring.identity.partitions
            entry = ring.entries[p]
            up = [n for name in entry.owners if (n := self._named(name)) is not None and n.member]
            if len(up) >= min(ring.target.w, ring.identity.n):
                for node in up:
                    node.disk.data.setdefault(p, set()).add(self.written)
                self.acked.setdefault(cluster, {}).setdefault(p, set()).add(self.written)

    def _audit(self) -> None:
        """For each acked value, some disk of the partition's owners has it."""
        for cluster, ring in self.newest().items():
            disks = [d for d in self.disks.values() if d.ring and not d.left]
            ids = {line.id: name for name, line in ring.members.items()}
            for p, values in self.acked.get(cluster, {}).items():
                owners = {*ring.entries[p].owners, *(ring.entries[p].old or ())}
                held: set[int] = set()
                for disk in disks:
                    if ids.get(disk.id) in owners:
                        held |= disk.data.get(p, set())
                if missing := values - held:
                    self.wrong.append(f"lost of partition {p}: {sorted(missing)[:3]}")
