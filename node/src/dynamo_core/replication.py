"""The calls by which one put gets its copies: whom to ask, and whom besides when one is silent.

The record goes to every writer that is up. A stand-in takes a hinted replica for each that is down,
fails or stays silent for the hedge delay [P 4.6]. `dw` copies in every owner list must be fsynced,
by whichever nodes (S-RW-8): a holder whose fsync stalls, this node too, is not waited for while
another can do it. `put` decides what follows from the answers.
"""

from __future__ import annotations

from collections.abc import Collection

from dynamo_core.copies import PROVEN, Copies
from dynamo_core.machine import Effects, Explained
from dynamo_core.messages import SYNCED, VOLATILE, Message, Store
from dynamo_core.operations import Put


class Replication(Explained):
    """The part of a put that begins when its event is made and the record is known."""

    __slots__ = (
        "copies", "dw", "entry", "me", "missed", "owners", "put", "quorums", "record", "seen",
        "spare", "stored", "strict", "syncs", "target", "w", "writers",
    )  # fmt: skip
    copies: Copies
    dw: int
    entry: tuple[int, int]
    me: str
    missed: Collection[str]
    owners: tuple[str, ...]
    put: Put
    quorums: tuple[tuple[str, ...], ...]
    record: bytes
    seen: int
    spare: list[str]
    stored: bytes
    strict: bool
    syncs: int
    target: str
    w: int
    writers: tuple[str, ...]

    def _replicate(self) -> Effects:
        """The record to the writers that are up, hinted replicas for the others to stand-ins."""
        view = self.view
        others = view.preference.stand_ins(self.partition)
        if others:
            self.spare = [n for n in others if n != self.me and view.up(n)]
        effects = self._cover()
        copies, strict = self.copies, self.strict
        aside = self.target or self.missed or any(target for _, target in copies.under_way)
        if aside and any(copies.reached(owners, strict) < self.w for owners in self.quorums):
            # Owners that are only believed down are asked as well, the last stand-ins too.
            for node in view.preference.list(self.partition):
                role = "" if node in self.writers else self._unserved()
                if node != self.me and not copies.asked(node) and (role or node in self.writers):
                    effects.append(self._store(node, role))
        return effects

    def _cover(self) -> Effects:
        """A call for every writer whose copy is neither acked nor under way."""
        up = self.view.up
        effects: Effects = []
        down: list[str] = []
        for writer in self.copies.missing(self.writers):
            if up(writer):
                effects.append(self._store(writer, ""))
            else:
                down.append(writer)
        for writer in down:
            effects += self._stand_in(writer)
        return effects

    def _unserved(self) -> str:
        """A writer that nobody stands in for yet and that is not asked itself; "" for none."""
        return next(iter(self.copies.missing(self.writers)), "")

    def _store(self, node: str, target: str) -> tuple[str, Message]:
        self.copies.under_way.add((node, target))
        return self._request(node, target, self.syncs > 0)

    def _request(self, node: str, target: str, sync: bool) -> tuple[str, Message]:
        cause = "double" if target and node == self.me else "put"
        place = (self.partition, self.entry, self.stored, self.record, target)
        return node, Store(0, *place, sync, cause, self.seen, self.put.trace)

    def _stand_in(self, owner: str) -> Effects:
        """A hinted replica for `owner` to the next node of the list, if one is left."""
        if self.spare:
            node, *self.spare = self.spare
            return [self._store(node, owner)]
        effects = self._double(owner)
        if not effects:
            self.missed = {*self.missed, owner}
        return effects

    def _double(self, owner: str) -> Effects:
        """A second copy, for `owner`: during a move, or once this node is no writer, on a node that
        has none in any owner list with `owner`."""
        near = [self.me, *(n for n in self.writers if n != self.me and self.view.up(n))]
        own = (self.me, self.target or self.me)
        node = self.copies.second_at(near, owner, self.quorums, own)
        if not node:
            return []
        self.copies.try_second(node, owner)
        return [self._store(node, owner)]

    def _worth(self, node: str, target: str, flags: int) -> int:
        """The flags of an ack as this put counts them: a node that keeps nothing over a restart has
        fsynced nothing, unless this node is one of them itself (S-RW-3)."""
        if flags & VOLATILE and not self.view.settings.volatile:
            self.copies.volatile((node, target))
            return flags & ~SYNCED
        return flags

    def _own_syncs(self, flags: int) -> bool:
        """Whether this node's own fsync counts in every owner list (S-RW-8)."""
        if self.strict and flags & PROVEN != PROVEN:
            return False
        own = self.target or self.me
        return all(own in owners for owners in self.quorums)

    # ------------------------------------------------------------ when a node is silent

    def _hedge(self, now: float) -> Effects:
        """The hedge delay is over: stand-ins for the silent writers, fsyncs for the stalled."""
        effects: Effects = []
        copies = self.copies
        for node, target in sorted(copies.under_way):
            own = target == "" and node in self.writers
            if own and self.spare and not copies.elsewhere(node, node):
                effects += self._stand_in(node)
            if (target or node) not in copies.by_writer:
                effects += self._double(target or node)
        if self.record and not copies.durable(self.quorums, self.dw, self.strict):
            effects += self._fsync_elsewhere()
            self.wake_at = min(self.wake_at, now + self.view.hedging.after_s(self.put.timeout_s))
        if self.syncs > 0:
            effects += self._without_fsync()
        return effects

    def _fsync_elsewhere(self) -> Effects:
        """S-RW-8: copies are there and an fsync is missing: it is asked of another holder, and of
        one more after each further hedge delay."""
        calls = self.copies.unsynced(self.quorums, self.dw, self.strict, self.me)
        if calls:
            self.view.counters["fsyncs_asked_elsewhere"] += len(calls)
        for call in calls:
            self.copies.ask_fsync(call)
        return [self._request(*call, True) for call in calls]

    def _without_fsync(self) -> Effects:
        """Holders that were to fsync before their ack and are silent are asked for the copy alone:
        `dw` of W may be any of them."""
        copies = self.copies
        silent = [call for call in sorted(copies.under_way) if call not in copies.fsyncs]
        for call in silent:
            copies.ask_fsync(call)
        return [self._request(*call, False) for call in silent]
