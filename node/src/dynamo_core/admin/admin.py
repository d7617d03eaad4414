"""Requests of administrators, and the documents that answer them (docs/http-api.md).

Any member takes any request. `done` gets the answer (status, body), at once or later. The body of
an error has `problem` (a slug) and `detail`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any, Protocol

from dynamo_core.admin.key_listing import KeyListing
from dynamo_core.admin.planner import Answered, Planner, refusal
from dynamo_core.errors import BadRequest
from dynamo_core.forgetting.coordinator import RoundCoordinator
from dynamo_core.keys import partition_of, store_key
from dynamo_core.membership.membership import Membership
from dynamo_core.membership.replacement import Replacements
from dynamo_core.membership.ring_state import RingState
from dynamo_core.membership.whereabouts import Whereabouts
from dynamo_core.moves.receiver import Moves
from dynamo_core.protocol.messages import Message, Order, Progress
from dynamo_core.repair.cluster_repair import ClusterRepair
from dynamo_core.repair.scheduler import Repairs
from dynamo_core.replica.replica import Replica
from dynamo_core.ring.document import LEFT
from dynamo_core.ring.json_form import to_document
from dynamo_core.runtime.failure_detector import FailureDetector
from dynamo_core.runtime.host import Host

REPAIRS_KEPT_MAX = 64
KEYS_PAGE_MAX = 1000


class Office(Host, Protocol):
    """The parts whose state an administrator may see, or that do what one asks."""

    @property
    def detector(self) -> FailureDetector: ...
    @property
    def replica(self) -> Replica: ...
    @property
    def ring_state(self) -> RingState: ...
    @property
    def membership(self) -> Membership: ...
    @property
    def replacements(self) -> Replacements: ...
    @property
    def whereabouts(self) -> Whereabouts: ...
    @property
    def repairs(self) -> Repairs: ...
    @property
    def round_coordinator(self) -> RoundCoordinator: ...
    @property
    def moves(self) -> Moves: ...


class Administration:
    """The requests of a person or of the operator to one node."""

    def __init__(self, node: Office, planner: Planner) -> None:
        self.node = node
        self.planner = planner
        self._repairs: dict[str, ClusterRepair] = {}

    def create_ring(self, body: dict[str, Any], done: Answered) -> None:
        """S-RING-5: create a ring. The caller has checked the shape of the body; this method checks
        the values."""

        def ended(status: int, problem: str, detail: str) -> None:
            if problem:
                done(status, refusal(problem, detail))
            else:
                done(status, self.ring_document())

        def begin() -> None:
            try:
                self.node.membership.create(body, ended)
            except BadRequest as error:
                done(400, refusal(error.slug, str(error)))

        self.node.later(begin)

    def ring_document(self) -> dict[str, Any]:
        """The ring, with the admin addresses of the members that this node has heard."""
        node, ring = self.node, self.node.ring
        admins = {m.name: node.detector.admin_of(m.name, m.id) for m in ring.members.values()}
        me = ring.members.get(node.identity.name)
        if me is not None and me.id == node.identity.node_id:
            admins[me.name] = node.identity.admin or None
        return to_document(ring, admins)

    def replace(self, name: str, done: Answered) -> None:
        """S-MEM-6: a person allows one empty disk to take the member's place, for a limited
        time."""
        node = self.node
        if not node.member or name not in node.ring.members:
            done(400, refusal("bad-parameter", f"name: no member {name!r}"))
            return

        def decided(why_not: str) -> None:
            if why_not:
                done(409, refusal("not-lost", f"name: {name}: {why_not}"))
            else:
                done(202, {"name": name, "lapses_s": node.settings.approval_s})

        node.later(lambda: node.replacements.approve(name, decided))

    def repair(
        self, repair_id: str, partitions: list[int], nodes: list[str], full: bool, done: Answered
    ) -> None:
        """Start anti-entropy over partitions (empty: all, or all partitions of `nodes`). A second
        request with the same id is the same repair. Without an id the repair gets a new one."""
        node = self.node
        if not node.member:
            done(503, refusal("not-a-member", "this node is in no ring"))
            return None
        entries = node.ring.entries
        for partition in partitions:
            if not 0 <= partition < len(entries):
                detail = f"partitions: {partition} is not 0 to {len(entries) - 1}"
                return done(400, refusal("bad-parameter", detail))
        for name in nodes:
            if name not in node.ring.members:
                return done(400, refusal("bad-parameter", f"nodes: no member {name!r}"))
        chosen = partitions or list(range(len(entries)))
        if nodes:
            chosen = [p for p in chosen if set(nodes) & set(entries[p].owners)]
        if repair_id in self._repairs:
            state = self._repairs[repair_id].report()["state"]
            return done(202, {"id": repair_id, "state": state})
        repair_id = repair_id or f"{node.draw() & (1 << 64) - 1:016x}"
        machine = ClusterRepair(node, repair_id, chosen, full)
        self._repairs[machine.name] = machine
        while len(self._repairs) > REPAIRS_KEPT_MAX:
            del self._repairs[next(iter(self._repairs))]
        node.later(lambda: node.spawn(machine))
        return done(202, {"id": machine.name, "state": "running"})

    def repair_status(self, name: str) -> dict[str, Any] | None:
        """Progress and result of a repair that this node was asked for, None if unknown."""
        machine = self._repairs.get(name)
        return machine.report() if machine is not None else None

    def order(self, order: Order, reply: Callable[[Message], None]) -> None:
        """This node's part of a repair. The first order starts it; each further order is answered
        with the progress."""
        repairs = self.node.repairs
        job = repairs.jobs.get(order.repair)
        if job is None:
            while len(repairs.jobs) >= REPAIRS_KEPT_MAX:
                del repairs.jobs[next(iter(repairs.jobs))]
            job = repairs.start_job(order.repair, order.partitions, order.full)
        reply(Progress(order.id, job.done, job.total, job.repaired, len(job.failed)))

    def list_keys(self, partition: int | None, after: str, limit: int, done: Answered) -> None:
        """A page of live keys of the whole cluster."""
        node = self.node
        if not node.member:
            return done(503, refusal("not-a-member", "this node is in no ring"))
        if partition is not None and not 0 <= partition < len(node.ring.entries):
            return done(400, refusal("bad-parameter", "partition: out of range"))
        if not 1 <= limit <= KEYS_PAGE_MAX:
            return done(400, refusal("bad-parameter", f"limit: 1 to {KEYS_PAGE_MAX}"))

        def listed(keys: list[bytes], after: str | None, problem: str) -> None:
            if problem:
                return done(503, refusal(problem, "no owner of a partition answers"))
            return done(200, {"keys": [b64encode(k).decode() for k in keys], "next": after})

        try:
            machine = KeyListing(node, partition, after, limit, listed)
        except BadRequest as error:
            return done(400, refusal(error.slug, str(error)))
        return node.later(lambda: node.spawn(machine))

    def preference_list(self, key: bytes) -> dict[str, Any]:
        """The key's partition, owners and stand-ins, and which of them this node takes for up."""
        node = self.node
        partition = partition_of(store_key(key), node.ring.partition_bits)
        owners = node.preference.owners(partition)
        stand_ins = node.preference.stand_ins(partition)
        return {
            "key": b64encode(key).decode(),
            "partition": partition,
            "owners": list(owners),
            "stand_ins": list(stand_ins),
            "up": {name: node.up(name) for name in (*owners, *stand_ins)},
        }

    def status(self) -> dict[str, Any]:
        """The status of this node, as docs/http-api.md has it; the shell adds disk_bytes, version,
        uptime_s. `emptied`: the id is gone for ever and its disk is empty now (S-MEM-3)."""
        node = self.node
        ring = node.ring_or_none
        rings = node.ring_state
        disk = "left" if rings.gone else "member"
        if ring is None and not rings.gone:
            # Data, and no ring that it is of; or a ring that makes no sense.
            foreign = node.replica.write_batch.holds_data() or rings.lost_ring
            disk = "foreign" if foreign else "empty"
        line = ring.members.get(node.identity.name) if ring is not None else None
        owned = node.replica.owned()
        compared_s = node.repairs.oldest_comparison_s(node.now)
        exchanged_s = node.repairs.oldest_exchange_s(node.now)
        names = node.preference.names if ring is not None else ()
        oldest_s, waiting_for = node.round_coordinator.oldest()
        p99_ms = node.throttle.p99_ms
        return {
            "name": node.identity.name,
            "id": f"{node.identity.node_id:016x}",
            "cluster_id": ring.identity.cluster_id if ring is not None else None,
            "disk": disk,
            "state": LEFT if rings.gone else line.state if line is not None else None,
            "epoch": ring.epoch if ring is not None else 0,
            "digest": ring.digest.hex() if ring is not None else "",
            "ring_fsynced": rings.fsynced,
            "partitions": {
                "held": len(owned),
                "owned": len(owned),
                "complete": sum(bool(node.replica.complete(p)) for p in owned),
            },
            "operation": self.planner.operation(),
            "transfers": node.moves.transfers(),
            "replacements": node.replacements.waiting(),
            "hints": {
                name: {"count": count, "bytes": size}
                for name, (count, size) in node.replica.hints.by_name().items()
            },
            "tree": {"state": "settling" if node.replica.tree.unsure else "built"},
            "oldest_comparison_s": round(compared_s, 3) if compared_s is not None else None,
            "oldest_exchange_s": round(exchanged_s, 3) if exchanged_s is not None else None,
            "tombstones": {
                "count": node.repairs.scrub.tombstones,
                "oldest_s": round(oldest_s, 3) if oldest_s is not None else None,
                "waiting_for": waiting_for,
            },
            "background": {
                "budget": round(node.throttle.budget, 3),
                "latency_p99_ms": p99_ms and round(p99_ms, 3),
            },
            "peers": {n: "up" if node.up(n) else "down" for n in names if n != node.name},
            "address_trouble": node.whereabouts.trouble(),
            "emptied": rings.emptied,
        }
