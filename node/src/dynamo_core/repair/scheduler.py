"""Which partition this node exchanges with which owner, and when.

Each turn compares the tree roots of all partitions shared with one other owner. A partition that
differs gets an `Exchange`. For a partition that is not complete this node makes a full pass with
*each* other owner; after all these passes the partition is complete (S-RING-6, S-AE-3). Partitions
that a put or a full hint store has left dirty for a peer go first. A `Job` is a repair on demand.
"""

from __future__ import annotations

from collections.abc import Callable

from dynamo_core.protocol.messages import Message, Order, Progress, Roots, RootsReply
from dynamo_core.protocol.refusal import Reason
from dynamo_core.repair.exchange import Exchange
from dynamo_core.repair.scrub import Scrub
from dynamo_core.replica.hints import HintBook
from dynamo_core.replica.replica import Replica
from dynamo_core.runtime.machine import Effects, Machine, View, fresh_id

Spawn = Callable[[Machine], None]


class Job:
    """One repair on this node: pairs (partition, peer) still to do, and the results of the
    others."""

    def __init__(self, partitions: dict[int, tuple[str, ...]]) -> None:
        self.left = {(p, peer) for p, peers in partitions.items() for peer in peers}
        self.total = len(partitions)
        self.done = 0
        self.failed: set[int] = set()
        self.repaired = 0

    def ended(self, partition: int, peer: str, good: bool, repaired: int) -> None:
        """One exchange of the job is over."""
        if (partition, peer) not in self.left:
            return
        self.left.discard((partition, peer))
        self.repaired += repaired
        if not good:
            self.failed.add(partition)
        if not any(p == partition for p, _ in self.left):
            self.done += 1


class Comparison(Machine):
    """Tree roots with one peer."""

    def __init__(
        self,
        view: View,
        peer: str,
        partitions: list[int],
        on_end: Callable[[str, list[tuple[int, bytes]] | None], None],
    ) -> None:
        super().__init__()
        self.view = view
        self.peer = peer
        self.partitions = partitions
        self._on_end = on_end

    def start(self, now: float) -> Effects:
        self.wake_at = now + self.view.settings.call_s
        entries = self.view.ring.entries
        return [(self.peer, Roots(0, [(p, *entries[p].id) for p in self.partitions]))]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        assert isinstance(reply, RootsReply)
        self._end(reply.roots)
        return []

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        self._end(None)
        return []

    def _end(self, roots: list[tuple[int, bytes]] | None) -> None:
        self.finished = True
        self._on_end(self.peer, roots)


class RemoteRepair(Machine):
    """Tells an owner to repair, after a stand-in had no room for a hint for it (S-HINT-4)."""

    def __init__(
        self, view: View, partition: int, peer: str, on_end: Callable[[int, str, bool], None]
    ) -> None:
        super().__init__()
        self.view = view
        self.partition = partition
        self.peer = peer
        self._name = fresh_id(view.draw)
        self._on_end = on_end

    def start(self, now: float) -> Effects:
        self.wake_at = now + self.view.settings.call_s
        return [(self.peer, Order(0, self._name, [self.partition]))]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        assert isinstance(reply, Progress)
        if reply.done >= reply.total:
            self._end(reply.failed == 0)
        return []

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        self._end(False)
        return []

    def expired(self, now: float) -> Effects:
        return self.start(now)

    def _end(self, good: bool) -> None:
        self.finished = True
        self._on_end(self.partition, self.peer, good)


class Repairs:
    """The scheduler of one node: it decides, starts machines, and records the passes."""

    def __init__(self, view: View, replica: Replica, hints: HintBook, spawn: Spawn) -> None:
        self.view = view
        self.replica = replica
        self.hints = hints
        self._spawn = spawn
        self._next_turn = 0.0
        self.wake_at = 0.0
        """When `tick` has something to do."""
        self._turn = 0
        self._urgent: dict[tuple[int, str], str] = {}
        self._wanted: dict[tuple[int, str], str] = {}
        """The exchanges to make: (partition, peer) and the cause; the urgent ones first."""
        self._running: set[tuple[int, str]] = set()
        self._passes: dict[tuple[int, int], set[str]] = {}
        """Passes done, by partition and its number of losses: a new loss makes them void."""
        self._differed: dict[str, set[int]] = {}
        self._comparing: set[str] = set()
        self._errands: set[tuple[int, str]] = set()
        self.scrub = Scrub(replica)
        self.jobs: dict[str, Job] = {}
        self._of: dict[int, tuple[str, ...]] = {}
        """The owned partitions and their other owners, for which both tables of times have
        rows."""
        self._shared: dict[str, list[int]] = {}
        """The same by other owner, by name: the partitions that this node owns with it."""
        self._compared_at: dict[tuple[int, str], float] = {}
        self._agreed_at: dict[tuple[int, str], float] = {}
        self.repaired = 0

    def forget_peer(self, name: str) -> None:
        """The name has a new node id: the passes with it must be made again (S-MEM-4)."""
        for passed in self._passes.values():
            passed.discard(name)

    def tick(self, now: float) -> None:
        """Start the work that is due, within its limits."""
        if now >= self._next_turn:
            self._next_turn = now + self.view.settings.exchange_s
            self.replica.recompute_leaves()
            self._keep_books(now)
            self._plan_passes()
            self._plan_dirty()
            if self.view.settings.anti_entropy:
                self._compare()
                rows = self.view.throttle.share(self.view.settings.keys_max)
                self.scrub.turn(self.view.wall_ms, rows)
        self._fill(now)
        self.wake_at = self._next_turn

    def _keep_books(self, now: float) -> None:
        """Update the tables of times: a new pair counts from now, an old pair is removed."""
        owned = self.replica.owned()
        if owned is not self._of:
            pairs = [(p, peer) for p, others in owned.items() for peer in others]
            self._compared_at = {pair: self._compared_at.get(pair, now) for pair in pairs}
            self._agreed_at = {pair: self._agreed_at.get(pair, now) for pair in pairs}
            self._of = owned
            self._shared = {
                peer: [p for p, others in owned.items() if peer in others]
                for peer in sorted({peer for _, peer in pairs})
            }

    def oldest_comparison_s(self, now: float) -> float | None:
        """Seconds since the last comparison of tree roots, of the pair (partition, other owner)
        where that is longest ago. None if this node shares no partition."""
        return _oldest_s(self._compared_at, now)

    def oldest_exchange_s(self, now: float) -> float | None:
        """The same, since the last time that the pair was equal or an exchange of it began."""
        return _oldest_s(self._agreed_at, now)

    def _plan_passes(self) -> None:
        for partition, others in self.replica.owned().items():
            if partition in self.replica.marks or partition in self.replica.quarantined:
                continue
            passed = self._passed(partition)
            for peer in others:
                if peer not in passed:
                    self.want(partition, peer, "pass")
            if passed.issuperset(others) and self.view.writable:
                self._credit(partition, "")

    def _passed(self, partition: int) -> set[str]:
        return self._passes.setdefault((partition, self.replica.losses(partition)), set())

    def _credit(self, partition: int, peer: str) -> None:
        """A full pass over the peer is durable here; the last one makes the partition complete."""
        passed = self._passed(partition)
        passed.add(peer)
        others = self.replica.owned().get(partition)
        if others is not None and passed.issuperset(others):
            self._passes.pop((partition, self.replica.losses(partition)))
            self.replica.counters["completed"] += 1
            self.replica.mark_complete(partition)

    def _plan_dirty(self) -> None:
        for partition, peer in sorted(self.hints.dirty):
            writers = self.view.preference.writers(partition)
            if peer not in writers or peer not in self.view.preference.names:
                self.hints.clean(partition, peer)  # its present owners have copied from the others
            elif self.view.name in self.view.preference.owners(partition):
                self.want(partition, peer, "dirty")
            elif self.view.up(peer) and (partition, peer) not in self._errands:
                self._errands.add((partition, peer))
                self._spawn(RemoteRepair(self.view, partition, peer, self._run_errand))

    def _run_errand(self, partition: int, peer: str, good: bool) -> None:
        self._errands.discard((partition, peer))
        if good:
            self.hints.clean(partition, peer)

    def _compare(self) -> None:
        peers = [p for p in self._shared if self.view.up(p) and p not in self._comparing]
        if not peers:
            return
        self._turn += 1
        peer = peers[self._turn % len(peers)]
        self._comparing.add(peer)
        self._spawn(Comparison(self.view, peer, self._shared[peer], self._compared))

    def _compared(self, peer: str, roots: list[tuple[int, bytes]] | None) -> None:
        """Exchange the partitions whose roots differ twice in a row (S-AE-2)."""
        self._comparing.discard(peer)
        if roots is None:
            return
        now, differ, root_of = self.view.now, set(), self.replica.forest.root
        for partition, root in roots:
            pair = (partition, peer)
            if pair in self._compared_at:  # it may have moved before the answer came
                self._compared_at[pair] = now
                if root == root_of(partition):
                    self._agreed_at[pair] = now
                else:
                    differ.add(partition)
        confirmed = differ & self._differed.get(peer, set())
        self._differed[peer] = differ
        for partition in sorted(confirmed):
            self.want(partition, peer, "exchange")

    def want(self, partition: int, peer: str, cause: str) -> None:
        """Queue one exchange; dirty ones and jobs go first."""
        pair = (partition, peer)
        if pair not in self._running and pair not in self._urgent and pair not in self._wanted:
            queue = self._urgent if cause in ("dirty", "job", "full") else self._wanted
            queue[pair] = cause
            self.wake_at = 0.0

    def start_job(self, name: str, partitions: list[int], full: bool) -> Job:
        """S-AE-3: exchange those of these partitions that this node owns with all their other
        owners. `full`: first compare the tree with the records."""
        owned = self.replica.owned()
        job = self.jobs[name] = Job({p: owned[p] for p in partitions if owned.get(p)})
        for partition, peer in sorted(job.left):
            self.want(partition, peer, "full" if full else "job")
        return job

    def _fill(self, now: float) -> None:
        while queue := self._urgent or self._wanted:
            if len(self._running) >= self.view.throttle.share(self.view.settings.exchanges_max):
                return
            partition, peer = next(iter(queue))
            cause = queue.pop((partition, peer))
            if peer not in self.replica.owned().get(partition, ()) or not self.view.up(peer):
                self._tell_jobs(partition, peer, False, 0)
            else:
                if cause == "full":
                    self.scrub.partition(partition)
                self._running.add((partition, peer))
                self._agreed_at[partition, peer] = now
                self._spawn(Exchange(self.view, self.replica, partition, peer, cause, self._ended))

    def _ended(self, exchange: Exchange, good: bool) -> None:
        partition, peer = exchange.partition, exchange.peer
        self._running.discard((partition, peer))
        if self._urgent or self._wanted:
            self.wake_at = 0.0
        self.repaired += exchange.repaired
        self.replica.counters["exchange_differences"] += exchange.repaired
        good = good and exchange.peer_id == self.view.ring.members[peer].id
        if good:
            self.replica.counters["exchanges"] += 1
            self.hints.clean(partition, peer)
            self.replica.write_batch.then(
                lambda written: self._durable(exchange) if written else None
            )
        about = {"partition": partition, "peer": peer, "why": exchange.cause}
        about |= {"repaired": exchange.repaired, "whole": good}
        self.view.happened("exchange", "S-AE-2", about)
        self._tell_jobs(partition, peer, good, exchange.repaired)

    def _durable(self, exchange: Exchange) -> None:
        """S-AE-3: the records of the exchange are written. If the store refused some, it was
        reloaded meanwhile."""
        partition = exchange.partition
        fresh = exchange.losses == self.replica.losses(partition)
        if fresh and partition not in self.replica.marks:
            self._credit(partition, exchange.peer)

    def _tell_jobs(self, partition: int, peer: str, good: bool, repaired: int) -> None:
        for job in self.jobs.values():
            job.ended(partition, peer, good, repaired)


def _oldest_s(times: dict[tuple[int, str], float], now: float) -> float | None:
    return now - min(times.values()) if times else None
