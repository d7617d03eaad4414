"""Samples of one-way delays between this node and each other node (Bailis et al. 2012, WARS).

A sampled call carries the time at which it was sent, by the clock of its sender. The replica puts
its own clock in that place when it handles the call, and its answer carries that time. So each
sampled call gives two differences, in µs: *forth* (handled - sent) and *back* (answered - handled).

The clocks of two nodes differ by an unknown offset o, so forth is W + o (R + o for a read) and back
is A - o (S - o). No delay is below 0, so -back <= o <= forth holds for every call. This node takes
the middle between the largest lower and the smallest upper bound of the last `KEPT_S` seconds: the
quickest way there and the quickest way back count as equal. Each sum forth + back is exact,
because o falls out of it. decisions/0019 says what an error of o means for the prediction.

A sample whose bounds contradict the earlier ones is of another clock: the peer has started again.
Then the earlier samples are forgotten. The delays of an older node, which sends no time, are halves
of the round trip.

Cost: one comparison for each call of a machine while no sample is due, and one for each answer.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from dynamo_core.protocol.messages import SYNCED, Fetch, Fetched, Message, Store, Stored
from dynamo_core.protocol.route import Route
from dynamo_core.runtime.machine import NEVER, Coordinate, Coordinated, Effects

KEPT_S = 120.0
"""A sample counts for this long. Longer: more samples of a quiet ring, and more drift of clocks:
two clocks that differ by 20 µs a second make an error of at most 1.2 ms."""
SAMPLES_MAX = 256
"""Samples of one kind for one pair of nodes."""
PEERS_MAX = 64
"""Nodes of which samples are kept; calls to further nodes are not sampled."""
TRIES_MAX, REST_S = 4, 0.05
"""When so many machines in a row made no call that a sample is due for, look at no further one for
this time."""
SLACK_US = 20_000
"""Bounds that differ by more than this are of two clocks."""
SECOND_US = 1_000_000


class Sample(NamedTuple):
    """One sampled call: when it was answered (s), its two differences (µs), and whether the replica
    has told its clock."""

    at: float
    forth: int
    back: int
    told: bool


class Pair:
    """The samples of the calls to one other node."""

    __slots__ = ("last", "lost", "reads", "writes")

    def __init__(self) -> None:
        self.last: Sample | None = None
        """The last one that has told the clock of the replica."""
        self.writes: deque[Sample] = deque(maxlen=SAMPLES_MAX)
        self.reads: deque[Sample] = deque(maxlen=SAMPLES_MAX)
        self.lost: deque[tuple[float, bool]] = deque(maxlen=SAMPLES_MAX)
        """Calls without an answer: when they were given up, and whether they were writes."""

    def add(self, sample: Sample, write: bool) -> None:
        """Keep a sample, and forget all that are too old or of another clock."""
        if sample.told:
            last, self.last = self.last, sample
            if last is not None and (
                -sample.back > last.forth + SLACK_US or sample.forth < -last.back - SLACK_US
            ):
                self.writes.clear()
                self.reads.clear()
        (self.writes if write else self.reads).append(sample)
        self.expire(sample.at)

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        for kept in (self.writes, self.reads):
            while kept and kept[0].at < now - KEPT_S:
                kept.popleft()
        while self.lost and self.lost[0][0] < now - KEPT_S:
            self.lost.popleft()

    def _bounds(self) -> tuple[int, int] | None:
        told = [s for kept in (self.writes, self.reads) for s in kept if s.told]
        if not told:
            return None
        return -min([s.back for s in told]), min([s.forth for s in told])

    def offset_us(self) -> int | None:
        """How far the clock of the peer is ahead of this one's; None while that is not known."""
        bounds = self._bounds()
        return (bounds[0] + bounds[1]) // 2 if bounds is not None else None

    def ways(self, write: bool) -> list[tuple[int, int]]:
        """The one-way delays (there, back) of each sample, in µs. No delay is below 0."""
        offset = self.offset_us() or 0
        found = []
        for sample in self.writes if write else self.reads:
            both = max(sample.forth + sample.back, 0)
            there = sample.forth - offset if sample.told else both // 2
            there = min(max(there, 0), both)
            found.append((there, both - there))
        return found


class DelaySampler:
    """Chooses the calls of one node that are sampled, and keeps what they tell. `due_at` is when
    the next call may be sampled; infinity when sampling is off."""

    def __init__(self, per_minute: int) -> None:
        self.pairs: dict[Route, Pair] = {}
        self.own: deque[tuple[float, int]] = deque(maxlen=SAMPLES_MAX)
        """When, and after how many µs this node had persisted a put that it coordinates, fsynced if
        the put wants fsyncs."""
        self.due_at = NEVER
        self.coordinating: Message | None = None
        """The request to the local replica that is sampled now."""
        self._begun = self._interval_s = 0.0
        self._next_write = self._next_read = self._next_own = 0.0
        self._tries = 0
        self.retune(per_minute)

    def retune(self, per_minute: int) -> None:
        """Sample so many writes and so many reads a minute; 0 ends it and forgets all."""
        self.per_minute = per_minute
        if per_minute:
            self._interval_s = 60.0 / per_minute
            self.due_at = min(self.due_at, 0.0)
        else:
            self.due_at, self.coordinating = NEVER, None
            self.pairs.clear()
            self.own.clear()

    # ------------------------------------------------------------ calls

    def mark(self, effects: Effects, here: str, now: float) -> None:
        """A sample is due: mark the calls that one machine makes now, if they are of the kind."""
        read_due, write_due = self._next_read <= now, self._next_write <= now
        self._tries += 1
        for to, request in effects:
            if type(request) is Coordinate:
                if self._next_own <= now and (self.coordinating is None or self._stuck(now)):
                    self.coordinating, self._begun = request, now
                    self._next_own = now + self._interval_s
                    self._tries = 0
            elif isinstance(request, Fetch | Store):
                if to == here or not self._room(to):
                    continue
                if isinstance(request, Fetch) and read_due:
                    request.timed = stamp(now)
                    self._next_read = now + self._interval_s
                    self._tries = 0
                elif isinstance(request, Store) and write_due and _of_a_put(request):
                    request.timed = stamp(now)
                    self._next_write = now + self._interval_s
                    self._tries = 0
        rest_s = 0.0
        if self._tries >= TRIES_MAX:  # fewer would always miss a put that follows a local get
            rest_s, self._tries = REST_S, 0
        self.due_at = max(now + rest_s, min(self._next_write, self._next_read, self._next_own))

    def _stuck(self, now: float) -> bool:
        """The sampled request to the local replica never got its last answer."""
        return now - self._begun > KEPT_S

    def _room(self, to: Route) -> bool:
        return to in self.pairs or len(self.pairs) < PEERS_MAX

    # ------------------------------------------------------------ what they tell

    def answered(self, to: Route, request: Fetch | Store, reply: Message, now: float) -> None:
        """A sampled call has its answer. An older node does not tell when it handled the call."""
        if not (self.per_minute and isinstance(reply, Fetched | Stored)):
            return
        at = reply.at
        both = stamp(now) - request.timed
        forth, back = at - request.timed, stamp(now) - at
        sample = Sample(now, forth, back, True) if at else Sample(now, both // 2, both // 2, False)
        self.pairs.setdefault(to, Pair()).add(sample, type(request) is Store)

    def unanswered(self, to: Route, request: Message, now: float) -> None:
        """A call has no answer and will get none; it counts if it is a sampled one."""
        if isinstance(request, Fetch | Store) and request.timed and self._room(to):
            pair = self.pairs.setdefault(to, Pair())
            pair.lost.append((now, type(request) is Store))

    def coordinated(self, reply: Message, now: float) -> None:
        """The local replica has answered the sampled request; with fsyncs it answers twice."""
        request = self.coordinating
        if not isinstance(reply, Coordinated) or not isinstance(request, Coordinate):
            self.coordinating = None
        elif reply.flags & SYNCED or not request.sync:
            self.own.append((now, stamp(now - self._begun)))
            self.coordinating = None

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        for pair in self.pairs.values():
            pair.expire(now)
        while self.own and self.own[0][0] < now - KEPT_S:
            self.own.popleft()
        gone = [to for to, pair in self.pairs.items() if not (pair.writes or pair.reads)]
        for to in gone:
            if not self.pairs[to].lost:
                del self.pairs[to]


def _of_a_put(request: Store) -> bool:
    return request.cause == "put" and not request.target


def stamp(now: float) -> int:
    """A monotonic time in µs."""
    return int(now * SECOND_US)
