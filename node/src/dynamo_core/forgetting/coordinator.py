"""Rounds that delete tombstones: which node leads them, and why the oldest tombstone is still here.

A round (S-DEL-2) is of one partition and has a number. *Ask*: the leader asks every member that has
not LEFT, itself first, so that after a restart it is never behind its own round. *Commit*: only
when all have agreed, the leader sends the owners the tombstones that all owners listed. The leader
abandons a round if a member refuses or does not answer; to keep a tombstone is always safe. Any
owner may lead. The first owner that is up does, so that two rounds do not refuse each other.
"""

from __future__ import annotations

from collections.abc import Callable

from dynamo_core.forgetting.participant import is_dead, obstacle
from dynamo_core.keys import partition_of
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.refusal import Reason
from dynamo_core.protocol.round_messages import (
    RoundAnswer,
    RoundAsk,
    RoundCommit,
    RoundDone,
    Versions,
)
from dynamo_core.replica.replica import Replica
from dynamo_core.runtime.host import Host
from dynamo_core.runtime.machine import Effects, Machine, View

NOTICED_MAX = 512
"""Records that may be tombstones and are checked in one turn; if there are more, the next turn
comes soon."""
LOOK_S = 0.05
PATIENCE = 2
"""A partition whose round was abandoned waits this many turns."""


class Round(Machine):
    """One round, run by its leader. `on_end` gets the reason why it was abandoned, or ""."""

    def __init__(
        self,
        view: View,
        partition: int,
        number: int,
        listed: Versions,
        on_end: Callable[[Round, str], None],
    ) -> None:
        super().__init__()
        self.view = view
        self.partition = partition
        self.number = number
        self.seen = number
        """The highest number that a member had seen: the next round needs a higher one."""
        self.entry = view.ring.entries[partition]
        self.listed = listed
        self._on_end = on_end
        self._waiting: set[str] = set()
        self._refusal = ""
        _, members, target, _ = view.ring.digests()
        about = (partition, self.entry.id, number, members, target, listed)
        self._asks: list[tuple[str, Message]] = [
            (name, RoundAsk(0, *about)) for name in view.ring.live_names()
        ]
        self._committing = False

    def start(self, now: float) -> Effects:
        mine = [ask for ask in self._asks if ask[0] == self.view.name]
        self._asks = [ask for ask in self._asks if ask[0] != self.view.name]
        return self._call(mine, now)

    def _call(self, calls: list[tuple[str, Message]], now: float) -> Effects:
        self._waiting = {name for name, _ in calls}
        self.wake_at = now + self.view.settings.call_s
        return [*calls]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        if isinstance(reply, RoundDone):
            return self._heard(node, "", now)
        assert isinstance(reply, RoundAnswer)
        self.seen = max(self.seen, reply.seen)
        if node in self.entry.owners and not reply.refusal:
            listed = set(reply.listed)
            self.listed = [version for version in self.listed if version in listed]
        return self._heard(node, reply.refusal, now)

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        return self._heard(node, f"{node} does not answer: {reason}", now)

    def _heard(self, node: str, refusal: str, now: float) -> Effects:
        """A member has answered. The round waits for all answers even after a refusal, because a
        call without an answer counts against its node."""
        self._waiting.discard(node)
        self._refusal = self._refusal or refusal
        if self._waiting:
            return []
        if self._asks and not self._refusal:
            others, self._asks = self._asks, []
            return self._call(others, now)
        if not (self._committing or self._refusal or self.listed):
            self._refusal = "its owners have not all held the same tombstones for long enough"
        if self._committing or self._refusal:
            return self._end()
        self._committing = True
        about = (self.partition, self.entry.id, self.number, self.listed)
        owners = self.view.ring.live(self.entry.owners)
        return self._call([(name, RoundCommit(0, *about)) for name in owners], now)

    def expired(self, now: float) -> Effects:
        # This node itself if it asks no other, for example when it has just LEFT.
        silent = min(self._waiting, default=self.view.name)
        self._refusal = self._refusal or f"{silent} does not answer"
        return self._end()

    def _end(self) -> Effects:
        self.finished = True
        self._on_end(self, "" if self._committing else self._refusal)
        return []


class RoundCoordinator:
    """The scheduler of one node."""

    def __init__(self, node: Host, replica: Replica) -> None:
        self.node = node
        self.replica = replica
        self.wake_at = 0.0
        """When `tick` has something to do."""
        self._queue: list[int] = []
        self._running: set[int] = set()
        self._seen: dict[int, int] = {}
        self._refused: dict[int, str] = {}
        """By partition, why its last round was abandoned."""
        self._not_before: dict[int, float] = {}

    def tick(self, now: float) -> None:
        """Check the noticed records, and begin the rounds that are due."""
        self.wake_at = now + LOOK_S
        if self.node.writable and self._look(now) == NOTICED_MAX:
            return
        self.wake_at = now + self.node.settings.collect_s
        if self.node.writable:
            tracked = self.replica.tombstones.partitions()
            self._queue = [p for p in self.replica.owned() if p in tracked and self._due(p, now)]
            self._begin()

    def _look(self, now: float) -> int:
        """Track those recently written or read records that are tombstones. Returns how many
        records were checked."""
        tombstones, bits = self.replica.tombstones, self.node.ring.partition_bits
        noticed = tombstones.noticed(NOTICED_MAX)
        for stored, digest, written in noticed:
            partition = partition_of(stored, bits)
            if not written and tombstones.tracks(partition, stored, digest):
                continue
            if is_dead(self.replica, stored, digest, self.node.wall_ms):
                tombstones.track(partition, stored, digest, now)
            else:
                tombstones.forget(partition, stored)
        return len(noticed)

    def _leader(self, partition: int) -> str:
        node = self.node
        owners = node.preference.owners(partition)
        return next((name for name in owners if node.up(name)), "")

    def _aged(self, partition: int, now: float) -> Versions:
        """Tombstones that are one turn older than required, because other owners may have noticed
        them one turn later."""
        before = now - self.node.settings.tombstone_age_min_s - self.node.settings.collect_s
        return self.replica.tombstones.aged(partition, before)

    def _due(self, partition: int, now: float) -> bool:
        """Whether this node should lead a round of the partition now, and knows no obstacle."""
        if partition in self._running or now < self._not_before.get(partition, 0.0):
            return False
        return (
            bool(self._aged(partition, now))
            and self._leader(partition) == self.node.name
            and not self._obstacle(partition)
        )

    def _obstacle(self, partition: int) -> str:
        node = self.node
        why = obstacle(self.replica, node.ring, partition)
        down = [name for name in node.preference.names if not node.up(name)]
        return why or (f"{down[0]} is down" if down else "")

    def _begin(self) -> None:
        node = self.node
        while self._queue and len(self._running) < node.throttle.share(node.settings.rounds_max):
            partition = self._queue.pop(0)
            aged = self._aged(partition, node.now)
            if not aged:
                continue
            beyond = self._seen.get(partition, 0)
            number = self.replica.numbers.next(partition, beyond, node.draw())
            # List another part each time: a tombstone that one owner lacks must not block others.
            first = number % max(1, len(aged) - node.settings.rows_max + 1)
            listed = aged[first : first + node.settings.rows_max]
            self._running.add(partition)
            node.later(
                lambda p=partition, n=number, v=listed: node.spawn(  # type: ignore[misc]
                    Round(node, p, n, v, self._ended)
                )
            )

    def _ended(self, ended: Round, refusal: str) -> None:
        partition, node = ended.partition, self.node
        self._running.discard(partition)
        self._seen[partition] = max(self._seen.get(partition, 0), ended.seen)
        self._refused.pop(partition, None)
        if refusal:
            node.counters["rounds_abandoned"] += 1
            self._refused[partition] = refusal
            self._not_before[partition] = node.now + PATIENCE * node.settings.collect_s
        else:
            node.counters["rounds_committed"] += 1
        self._begin()

    # ------------------------------------------------------------ for people

    def oldest(self) -> tuple[float | None, str | None]:
        """The age of the oldest tombstone here, in seconds, and what it waits for."""
        found = self.replica.tombstones.oldest()
        if found is None or self.node.ring_or_none is None:
            return None, None
        partition, since = found
        age = self.node.now - since
        return age, self._waits_for(partition, age)

    def _waits_for(self, partition: int, age: float) -> str:
        least = self.node.settings.tombstone_age_min_s
        if age < least:
            return f"its age: a tombstone stays at least {least:.0f} s"
        if not self.replica.flags(partition):
            return f"this node owns partition {partition} no longer"
        leader = self._leader(partition)
        if why := self._obstacle(partition):
            return why
        if leader != self.node.name:
            return f"the next round of partition {partition}, which {leader} leads"
        return self._refused.get(partition, f"the next round of partition {partition}")
