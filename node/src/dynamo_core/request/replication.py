"""The calls of one put for its copies: which nodes to ask, and which more when one is silent.

The record goes to every writer that is up. A stand-in takes a hinted replica for each writer that
is down, fails or stays silent for the hedge delay [P 4.6]. `dw` copies in every owner list must be
fsynced, on any of the nodes (S-RW-8). If the fsync of one node stalls (this node included), the put
does not wait for it while another node can fsync. `put` decides what follows from the answers.
"""

from __future__ import annotations

from collections.abc import Collection

from dynamo_core.protocol.messages import SYNCED, Message, Store
from dynamo_core.protocol.operations import Put
from dynamo_core.request.copies import PROVEN, Copies
from dynamo_core.ring.preference import Place
from dynamo_core.runtime.machine import Effects, Explained


class Replication(Explained):
    """The part of a put after its event is made: the record is known."""

    __slots__ = (
        "copies", "dw", "entry_id", "me", "missed", "place", "put", "record", "seen", "spare",
        "stored", "strict", "syncs", "target", "w",
    )  # fmt: skip
    copies: Copies
    dw: int
    entry_id: tuple[int, int]
    me: str
    missed: Collection[str]
    place: Place
    put: Put
    record: bytes
    seen: int
    spare: list[str] | None
    """Stand-ins that are up and not asked yet; None until the put needs them."""
    stored: bytes
    strict: bool
    syncs: int
    target: str
    w: int

    def _hedge_at(self, now: float) -> float:
        """When to ask another node for what has not come: a silent owner, to which the put was
        forwarded, may have used up half of the time."""
        return now + self.view.hedging.after_s(self.started + self.put.timeout_s - now)

    def _replicate(self) -> Effects:
        """Send the record to the writers that are up; send hinted replicas for the others to
        stand-ins."""
        effects = self._cover()
        copies, strict, place = self.copies, self.strict, self.place
        aside = self.missed or copies.aside_or_none is not None
        if aside and any(copies.reached(owners, strict) < self.w for owners in place.lists):
            # Also ask owners that this node takes for down, and the last stand-ins.
            self._spare()
            for node in self.view.preference.list(self.partition):
                role = "" if node in place.writers else self._unserved()
                if node != self.me and not copies.asks(node) and (role or node in place.writers):
                    effects.append(self._store(node, role))
        return effects

    def _cover(self) -> Effects:
        """A call for every writer whose copy is neither acked nor under way."""
        up, copies, bits = self.view.up, self.copies, self.copies.bits
        served, sync = copies.served(), self.syncs > 0
        effects: Effects = []
        down: list[str] = []
        for writer in self.place.writers:
            if served & bits[writer]:
                continue
            if up(writer):
                copies.asked |= bits[writer]
                effects.append(self._request(writer, "", sync))
            else:
                down.append(writer)
        for writer in down:
            effects += self._stand_in(writer)
        return effects

    def _unserved(self) -> str:
        """A writer that is not asked and has no stand-in yet; "" for none."""
        bits, served = self.copies.bits, self.copies.served()
        return next((name for name in self.place.writers if not bits[name] & served), "")

    def _store(self, node: str, target: str) -> tuple[str, Message]:
        self.copies.ask(node, target)
        return self._request(node, target, self.syncs > 0)

    def _request(self, node: str, target: str, sync: bool) -> tuple[str, Message]:
        cause = "double" if target and node == self.me else "put"
        return node, Store(
            0,
            self.partition,
            self.entry_id,
            self.stored,
            self.record,
            target,
            sync,
            cause,
            self.seen,
            self.put.trace,
        )

    def _spare(self) -> list[str]:
        if self.spare is None:
            others = self.view.preference.stand_ins(self.partition)
            self.spare = [n for n in others if n != self.me and self.view.up(n)]
        return self.spare

    def _stand_in(self, owner: str) -> Effects:
        """Send a hinted replica for `owner` to the next node of the list, if one is left."""
        if spare := self._spare():
            node, *self.spare = spare
            return [self._store(node, owner)]
        effects = self._double(owner)
        if not effects:
            self.missed = {*self.missed, owner}
        return effects

    def _double(self, owner: str) -> Effects:
        """Store a second copy, for `owner`, on a node that has no copy in any owner list with
        `owner`. This is done during a move, or once this node is no writer."""
        near = [self.me, *(n for n in self.place.writers if n != self.me and self.view.up(n))]
        own = (self.me, self.target or self.me)
        node = self.copies.second_at(near, owner, self.place.quorums, own)
        if not node:
            return []
        self.copies.aside.tried.add((node, owner))
        return [self._store(node, owner)]

    def _worth(self, node: str, target: str, flags: int) -> int:
        """The flags of an ack as this put counts them. A VOLATILE node keeps nothing over a
        restart, so its fsync does not count, unless this node is volatile too (S-RW-3)."""
        if self.view.settings.volatile:
            return flags
        self.copies.volatile((node, target))
        return flags & ~SYNCED

    def _own_syncs(self, flags: int) -> bool:
        """Whether this node's own fsync counts in every owner list (S-RW-8)."""
        if self.strict and flags & PROVEN != PROVEN:
            return False
        return self.copies.bits[self.target or self.me] & self.place.shared != 0

    # ------------------------------------------------------------ when a node is silent

    def _hedge(self, now: float) -> Effects:
        """The hedge delay is over: ask stand-ins for silent writers, and other holders for missing
        fsyncs."""
        effects: Effects = []
        copies = self.copies
        there = copies.counted(False)[0]
        for node, target in copies.under_way():
            own = target == "" and node in self.place.writers
            if own and self._spare() and not copies.elsewhere(node, node):
                effects += self._stand_in(node)
            if not there & copies.bits[target or node]:
                effects += self._double(target or node)
        if self.record and not copies.durable(self.place.lists, self.dw, self.strict):
            effects += self._fsync_elsewhere()
            self.wake_at = min(self.wake_at, self._hedge_at(now))
        if self.syncs > 0:
            effects += self._without_fsync()
        return effects

    def _fsync_elsewhere(self) -> Effects:
        """S-RW-8: the copies are there but an fsync is missing. Ask another holder for it, and one
        more after each further hedge delay."""
        calls = self.copies.unsynced(self.place.quorums, self.dw, self.strict, self.me)
        if calls:
            self.view.counters["fsyncs_asked_elsewhere"] += len(calls)
            self.copies.aside.fsyncs.update(calls)
        return [self._request(*call, True) for call in calls]

    def _without_fsync(self) -> Effects:
        """A silent holder was asked to fsync before its ack. Ask it for the copy without the fsync:
        any `dw` of the W copies may be the fsynced ones."""
        asked = self.copies.aside.fsyncs
        silent = [call for call in self.copies.under_way() if call not in asked]
        asked.update(silent)
        return [self._request(*call, False) for call in silent]
