"""Plans, and the ways to change a ring: apply, cancel, remove (S-MOVE-4, 6, 7).

A change writes members and target into the ring document, durably and on every member that is up.
Then the administrator gets the answer. Nothing here moves data: receivers see the target and begin.
If two administrators write at one time, one target wins everywhere; the other administrator gets
`superseded` and may ask again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from dynamo_core.admin.change_calls import Announcing, Joining
from dynamo_core.errors import BadParameter, BadRequest
from dynamo_core.membership.ring_news import RingNews
from dynamo_core.membership.ring_state import RingState
from dynamo_core.moves.sizing import Counts, Sizing
from dynamo_core.protocol.ring_messages import Announce, Announced, Prepared
from dynamo_core.protocol.route import Route
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.ring.change_request import parse_change_request
from dynamo_core.ring.document import JOINING, LEAVING, Ring
from dynamo_core.ring.operation_ids import kept_operation
from dynamo_core.ring.planning import (
    Plan,
    applied,
    cancelled,
    moves_left,
    plan,
    removed,
)
from dynamo_core.runtime.host import Host
from dynamo_core.runtime.machine import fresh_id

MOVE_BYTES_PER_S = 10_000_000
"""Bytes that a receiver copies in a second, for estimates."""
MOVE_S = 0.1
"""Seconds of a move beside the copying: promises, the passes over old owners, the switch."""
Body = dict[str, Any]
Answered = Callable[[int, Body], None]


def refusal(slug: str, detail: str, **more: object) -> Body:
    """The body of an error."""
    return {"problem": slug, "detail": detail, **more}


class Planner:
    """The requests of administrators to one node for changes of the ring. The caller has checked
    the shape of each body. Each method calls `done` once, with a status and a document."""

    def __init__(
        self, node: Host, rings: RingState, news: RingNews, write_batch: WriteBatch
    ) -> None:
        self.node = node
        self.rings = rings
        self.news = news
        self.write_batch = write_batch

    def plan(self, body: Body, done: Answered) -> None:
        """The plan for the change request in the body; it changes nothing."""

        def begin() -> None:
            made = plan(self.node.ring, parse_change_request(body))
            self.measure(made, lambda counts, free: done(200, shown(made, counts, free)))

        self.guarded(begin, done)

    def apply(self, body: Body, done: Answered) -> None:
        """Carries out the plan whose hash is in the body. A second request with the same operation
        id only gets the answer again."""
        self.guarded(lambda: Application(self, body, done).begin(), done)

    def cancel(self, body: Body, done: Answered) -> None:
        """Cancels the moves that have not switched yet."""

        def begin() -> None:
            ring = self.node.ring
            changed = cancelled(ring)
            last = changed.target.operations[-1:]
            mark = last[0] if changed.target is not ring.target else ""
            told = kept_operation(last[0]).id if last else None
            said = {"operation_id": told, "undone": changed is not ring}
            self.write(changed, mark, said, done)

        self.guarded(begin, done)

    def remove(self, body: Body, done: Answered) -> None:
        """Without `force`: shows what the removal of the name would mean. With `force`: removes it.
        The caller ensures that the node never comes back, or is fenced before it starts again."""

        def begin() -> None:
            node, name, force = self.node, body["name"], body.get("force", False)
            if name == node.identity.name:
                raise BadParameter("name", f"{name} is this node, and it is alive; let it leave")
            operation = body.get("operation_id") or fresh_id(node.draw)
            if operation in node.ring.target.operations:
                return done(202, self.accepted(operation))
            accepted = not force or body.get("accept_loss", False)
            changed, lost, below = removed(node.ring, name, accepted, operation)
            said = {"may_be_lost": lost, "below_n": below, "w": node.ring.target.w}
            if not force:
                return done(200, said)
            return self.write(changed, operation, {"operation_id": operation, **said}, done)

        self.guarded(begin, done)

    def announced(self, route: Route, message: Announce) -> None:
        """An administrator has changed the ring at another node. If the change names members that
        this node does not know yet, this node asks for the missing parts, and the other node
        announces the change again."""
        node = self.node
        if not self.news.take(str(route), route, message, partial=True):
            return

        def told(durable: bool) -> None:
            if durable:
                node.send(route, Announced(message.id))

        self.write_batch.then(None, told)
        return

    def operation(self) -> Body:
        """The last operation, read from the target and the entries; `earlier` has those before."""
        ring = self.node.ring_or_none
        kept = [kept_operation(text) for text in ring.target.operations] if ring is not None else []
        if ring is None or not kept:
            none = {"id": None, "moves_total": 0, "moves_done": 0, "state": "none"}
            return {**none, "earlier": []}
        left = moves_left(ring)
        waiting = left or any(m.state in (JOINING, LEAVING) for m in ring.members.values())
        return {
            "id": kept[-1].id,
            "moves_total": ring.target.moves,
            "moves_done": max(0, ring.target.moves - left),
            "state": "cancelled" if kept[-1].cancelled else "running" if waiting else "done",
            "earlier": [one.id for one in kept[:-1] if not one.cancelled],
        }

    # ------------------------------------------------------------ steps

    def guarded(self, call: Callable[[], None], done: Answered) -> None:
        """Runs a step in the node's order of work; a BadRequest ends the request with an error."""
        node = self.node

        def run() -> None:
            try:
                call()
            except BadRequest as error:
                done(400, refusal(error.slug, str(error)))

        if not node.member:
            done(503, refusal("not-a-member", "this node is in no ring"))
        else:
            node.later(run)

    def measure(self, made: Plan, done: Callable[[Counts, dict[str, int]], None]) -> None:
        """Asks for the bytes and keys that move, and for the free space of their receivers."""
        partitions = (partition for partition, _, _ in made.moves)
        self.node.spawn(Sizing(self.node, partitions, _incoming(made, {}), done))

    def accepted(self, operation: str) -> Body:
        """The answer after a change was made."""
        return {"operation_id": operation, "epoch": self.node.ring.epoch}

    def write(self, ring: Ring, mark: str, said: Body, done: Answered) -> None:
        """Writes the document, durably here and on the members that are up; then answers. `mark` is
        the operation id in the target, "" if the target is unchanged."""
        node = self.node
        parts = ring.parts_differing(node.ring.digests())
        if not node.writable:
            return done(503, refusal("insufficient-owners", "this node's disk cannot be written"))

        def told_all() -> None:
            if mark and mark not in node.ring.target.operations:
                detail = "another change was applied at the same time: plan again"
                done(409, refusal("superseded", detail))
            else:
                done(202, {**said, "epoch": node.ring.epoch})

        def synced(durable: bool) -> None:
            if durable:
                node.spawn(Announcing(node, parts, told_all))
            else:
                done(503, refusal("insufficient-owners", "this node's disk cannot be written"))

        if why := self.rings.take(ring):
            return done(400, refusal("bad-parameter", f"ring: {why}"))
        node.counters["ring_changes"] += 1
        return self.write_batch.then(None, synced)


class Application:
    """One apply: compare the hash, measure, ask joining nodes for their ids, write."""

    def __init__(self, planner: Planner, body: Body, done: Answered) -> None:
        self._planner = planner
        self._node = planner.node
        self._asked = parse_change_request(body)
        self._hash = body["hash"]
        self._operation = body.get("operation_id") or fresh_id(planner.node.draw)
        self._done = done

    def begin(self) -> None:
        """Raises BadRequest."""
        made = self._quoted()
        if made is not None:
            self._planner.measure(made, partial(self._measured, made))

    def _quoted(self) -> Plan | None:
        """The plan, if it has the hash in the request. Else the request ends, with the new plan, or
        because the operation was applied before."""
        known = {kept_operation(text).id for text in self._node.ring.target.operations}
        if self._operation in known:
            self._done(202, self._planner.accepted(self._operation))
            return None
        made = plan(self._node.ring, self._asked)
        if made.hash == self._hash:
            return made

        def measured(counts: Counts, free: dict[str, int]) -> None:
            detail = "hash: the ring or the request has changed since the plan"
            self._done(409, refusal("plan-changed", detail, plan=shown(made, counts, free)))

        self._planner.measure(made, measured)
        return None

    def _measured(self, made: Plan, counts: Counts, free: dict[str, int]) -> None:
        heard = partial(self._heard, made, counts, free)
        self._node.spawn(Joining(self._node, self._asked.join, heard))

    def _heard(
        self, made: Plan, counts: Counts, free: dict[str, int], heard: dict[str, Prepared], no: str
    ) -> None:
        if no:
            status, slug = (400, "bad-parameter") if heard else (503, "insufficient-owners")
            return self._done(status, refusal(slug, f"join: {no}"))
        free |= {name: reply.free_bytes for name, reply in heard.items()}
        moves = self._asked.balances or self._asked.moves  # else no disk gets data
        if moves and (full := without_room(made, counts, free)):
            field = "leave" if self._asked.leave else "join" if self._asked.join else "moves"
            return self._done(400, refusal("bad-parameter", f"{field}: {full}"))
        ids = {name: (reply.node_id, reply.client) for name, reply in heard.items()}
        return self._planner.guarded(lambda: self._write(ids), self._done)

    def _write(self, ids: dict[str, tuple[int, str]]) -> None:
        """Plan again and write: the ring may have changed while other nodes were asked."""
        made = self._quoted()
        if made is not None:
            changed = applied(self._node.ring, made, self._asked, ids, self._operation)
            said = {"operation_id": self._operation}
            self._planner.write(changed, self._operation, said, self._done)


def shown(made: Plan, counts: Counts, free: dict[str, int]) -> Body:
    """The plan in the form of docs/http-api.md. Unknown figures are null, and so are their
    sums."""
    none = (None, None)
    rows = [
        {"partition": p, "out": out, "in": into, "bytes": size, "keys": keys}
        for p, out, into in made.moves
        for size, keys in [counts.get(p, none)]
    ]
    known = all(p in counts for p, _, _ in made.moves)
    incoming = _incoming(made, counts)
    moves = Counter(into for _, _, into in made.moves)
    slowest = max(
        (size / MOVE_BYTES_PER_S + moves[name] * MOVE_S for name, size in incoming.items()),
        default=0.0,
    )
    full = without_room(made, counts, free)
    return {
        "hash": made.hash,
        "moves": rows,
        "before": made.before,
        "after": made.after,
        "zones": {"before": made.zones_before, "after": made.zones_after},
        "violations": [*made.violations, *([full] if full else [])],
        "bytes": sum(incoming.values()) if known else None,
        "seconds_estimated": round(slowest, 1) if known else None,
        **({"defaults": made.defaults} if made.defaults else {}),
    }


def without_room(made: Plan, counts: Counts, free: dict[str, int]) -> str:
    """The node that would receive more than its disk has room for, "" if there is none. 0 free
    bytes means unknown."""
    for name, size in sorted(_incoming(made, counts).items()):
        if 0 < free.get(name, 0) < size:
            return f"{name} would receive {size:,} bytes and has room for {free[name]:,}"
    return ""


def _incoming(made: Plan, counts: Counts) -> Counter[str]:
    """Bytes by receiver."""
    incoming: Counter[str] = Counter()
    for partition, _, into in made.moves:
        incoming[into] += counts.get(partition, (0, 0))[0]
    return incoming
