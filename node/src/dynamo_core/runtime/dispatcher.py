"""The machines of one node at work: their calls, the answers, the clock that wakes them.

Machines never touch each other. Their calls go to the local replica or into the next frame to a
peer. An answer finds its machine by the number of the call.

A call may be lost without an answer: the link broke, or the receiver refused the frame because one
of both nodes had just started (S-NET-1). If the call may happen twice, this node sends it again
under its number (S-NET-2): when the first echo of the peer arrives, or when a lost link may be
dialled again. A second answer to one call is ignored. Two kinds of calls are never sent again:
those that change a ring or a round, and those of a walk through the tree of a peer that has started
again, because the answers would come from two disks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from heapq import heappop, heappush

from dynamo_core.errors import PeerCorrupt
from dynamo_core.protocol.answers import answer_fault
from dynamo_core.protocol.arrivals import verified_outcome, verified_record
from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.messages import (
    Fetch,
    Fetched,
    FetchMany,
    Forward,
    Forwarded,
    Leaves,
    Listing,
    Message,
    Refused,
    Roots,
    Store,
    Stored,
)
from dynamo_core.protocol.refusal import Failure, Refusal
from dynamo_core.protocol.registry import SINCE
from dynamo_core.protocol.route import At, Route
from dynamo_core.runtime.delays import DelaySampler
from dynamo_core.runtime.failure_detector import FailureDetector
from dynamo_core.runtime.host import Copy, Traced
from dynamo_core.runtime.machine import NEVER, AnyMachine, Coordinate, Effects, Rejected
from dynamo_core.runtime.outbox import Outbox

PROVEN_FIRST = frozenset((Fetched, Forwarded))
"""Answers with a record or an outcome, verified here; FetchedMany is verified row by row."""
WAITED = frozenset((Fetch, Store))
"""An operation waits for these calls while the link to the node is lost."""
AGAIN = WAITED | {Forward}
WALKS = frozenset((Roots, Leaves, Listing, FetchMany))
"""Sent again too, but only to the same process as at the beginning of the walk."""
Answered = tuple[AnyMachine, Message, Message]
"""A machine, its request, the answer of the local replica."""
AGAIN_S_MIN = 0.05
"""Wait at least this long before a lost call is sent again: a full link may be dropping frames."""


class Dispatcher:
    """Every call under way, and the machines that wait for a time."""

    def __init__(
        self,
        node: Traced,
        detector: FailureDetector,
        outbox: Outbox,
        copy: Copy,
        *,
        replying: Mapping[type, Callable[..., None]],
        learn: Callable[[Route, Refused], None],
        mark_dirty: Callable[[int, str], None],
        sampler: DelaySampler,
    ) -> None:
        """`replying` are calls of this node that another part answers; `learn` is told of each
        refusal of a peer, `mark_dirty` of each copy that an exchange must bring."""
        self.node = node
        self.detector = detector
        self.outbox = outbox
        self.copy = copy
        self.replying = replying
        self.sampler = sampler
        self._learn = learn
        self._mark_dirty = mark_dirty
        self._pending: dict[int, tuple[AnyMachine, Route, Message]] = {}
        self._next_id = node.boot >> 16  # so that answers to an earlier life match nothing
        self._timers: list[tuple[float, int, AnyMachine]] = []
        self.work: deque[Answered | Callable[[], None]] = deque()
        """Answers of the local replica, each with its machine and request; calls of the shell."""
        self._working = False
        self._waiting: dict[Route, set[int]] = {}
        """By node: calls that were on a link when it was lost, until they are sent again."""
        self._again: dict[Route, float] = {}
        """By node: when these calls are sent again."""
        self.wake_at = NEVER
        """When the next machine must be woken, or lost calls must be sent again. Each turn asks
        for it, so it is kept ready."""

    def _reckon(self) -> None:
        """Something was taken from what `wake_at` is the least of."""
        due = self._timers[0][0] if self._timers else NEVER
        self.wake_at = min(due, *self._again.values()) if self._again else due

    def spawn(self, machine: AnyMachine) -> None:
        """Start a machine and carry out what it asks for."""
        self._run(machine, machine.start(self.node.now))

    def wake(self, now: float) -> None:
        """Call `expired` of each machine whose time has come."""
        timers = self._timers
        while timers and timers[0][0] <= now:
            _, _, machine = heappop(timers)
            machine.scheduled_at = NEVER
            if machine.finished:
                continue
            if machine.wake_at <= now:
                self._run(machine, machine.expired(now))
            else:
                self._schedule(machine)
        if self._again:
            for name in [name for name, at in self._again.items() if at <= now]:
                self.send_again(name, True)
        self._reckon()

    def send_again(self, name: Route, same_life: bool) -> None:
        """S-NET-2: send again the calls to `name` that are still wanted and may happen twice."""
        if self._again.pop(name, None) is not None:
            self._reckon()
        self._waiting.pop(name, None)
        node = self.node
        for machine, to, request in self._pending.values():
            kind = type(request)
            if to != name or machine.finished or not machine.wants(request):
                continue
            if kind in AGAIN or (same_life and kind in WALKS):
                self.outbox.send(name, request)
                node.counters["calls_said_again"] += 1

    def answered(self, frame: Frame, replies: Iterable[Message]) -> list[Message]:
        """Give a peer's replies to their machines; return those that no machine waits for. A reply
        that does not fit its request is refused, and the call has failed (S-IN-2)."""
        node, pending, answered = self.node, self._pending, self.detector.answered
        now = node.now
        names = (frame.name, At(frame.address))
        unexpected: list[Message] = []
        if node.spans is not None:
            replies = list(replies)
            node.spans.answered(replies)
        for reply in replies:
            call_id = reply.id
            call = pending.get(call_id)
            if call is None or call[1] not in names:
                unexpected.append(reply)
                continue
            del pending[call_id]
            machine, name, request = call
            machine.calls.discard(call_id)
            answered(name)
            kind = type(reply)
            if kind is Stored and type(request) is Store:  # most replies; has only flags to check
                if request.timed:
                    self.sampler.answered(name, request, reply, now)
                if machine.finished:
                    continue
                effects = machine.replied(name, request, reply, now)
            elif type(reply) is Refused:
                self._learn(name, reply)
                if machine.finished:
                    continue
                if reply.reason is Refusal.ENTRY:
                    effects = machine.outdated(name, request, now)
                else:
                    effects = machine.failed(name, request, reply.reason, now)
            elif fault := answer_fault(request, reply, node):
                node.refuse(str(name), reply, fault)
                if machine.finished:
                    continue
                effects = machine.failed(name, request, Failure.SENSELESS_ANSWER, now)
            elif machine.finished:
                continue
            elif kind in PROVEN_FIRST and not self._holds(machine, request, reply):
                node.sent_corrupt(name)
                effects = machine.failed(name, request, Failure.CORRUPT_ANSWER, now)
            else:
                if type(request) is Fetch and request.timed:
                    self.sampler.answered(name, request, reply, now)
                effects = machine.replied(name, request, reply, now)
            if effects or machine.finished or machine.wake_at < machine.scheduled_at:
                self._run(machine, effects)
        return unexpected

    @staticmethod
    def _holds(machine: AnyMachine, request: Message, reply: Message) -> bool:
        """T-1: whether the record or outcome in a peer's answer has the right digest."""
        try:
            if type(reply) is Fetched and type(request) is Fetch:
                if reply.record and reply.record != machine.merged:
                    verified_record(request.stored, reply.record)
            elif type(reply) is Forwarded:
                verified_outcome(reply.outcome, reply.digest)
        except PeerCorrupt:
            return False
        return True

    def lost(self, name: Route, redial_s: float) -> None:
        """The link to the node broke or was refused: calls under way on it get no answer. The link
        may be dialled again in `redial_s` seconds; operations with more time left wait for that."""
        now = self.node.now
        dial_at = now + max(redial_s, AGAIN_S_MIN)
        told = self._waiting.get(name, ())
        for call_id in [n for n, (_, node, _) in self._pending.items() if node == name]:
            if call_id not in self._pending or call_id in told:
                continue  # an earlier failure ended its machine
            machine, node, request = self._pending[call_id]
            if type(request) in WAITED and dial_at < machine.waits_until:
                self._waiting.setdefault(name, set()).add(call_id)
                self._again[name] = dial_at
                self._reckon()
                self._run(machine, machine.delayed(node, request, now))
                continue
            del self._pending[call_id]
            machine.calls.discard(call_id)
            self.sampler.unanswered(node, request, now)
            if not machine.finished:
                self._run(machine, machine.failed(node, request, Failure.LINK, now))

    def later(self, call: Callable[[], None]) -> None:
        """Run a call of the shell that starts machines, and what follows from it."""
        self.work.append(call)
        self.drain()

    def drain(self) -> None:
        """Handle all waiting answers and calls in order, and all that follow from them."""
        if self._working or not self.work:
            return
        self._working, waiting = True, self.work
        try:
            while waiting:
                work = waiting.popleft()
                if isinstance(work, tuple):
                    self._local_reply(work)
                else:
                    work()
        finally:
            self._working = False

    # ------------------------------------------------------------ inside

    def _run(self, machine: AnyMachine, effects: Effects) -> None:
        if effects:
            here, outbox = self.node.name, self.outbox.outbox
            if self.node.now >= self.sampler.due_at:
                self.sampler.mark(effects, here, self.node.now)
            for to, request in effects:
                if to == here:
                    self._call_local(machine, request)
                    continue
                if type(request) in SINCE and SINCE[type(request)] > self.detector.knows(to):
                    self.work.append(partial(self._not_known, machine, to, request))
                    continue
                self._next_id = request.id = call_id = self._next_id + 1
                if not machine.finished:
                    self._pending[call_id] = (machine, to, request)
                    machine.calls.add(call_id)
                outbox[to].append(request)
        if machine.finished:
            if machine.calls:
                self._forget(machine)
            for partition, owner in machine.unserved():
                self._mark_dirty(partition, owner)
            machine.let_go()
        elif machine.wake_at < machine.scheduled_at:
            self._schedule(machine)

    def _not_known(self, machine: AnyMachine, to: Route, request: Message) -> None:
        """C17: the peer runs an older version, which would drop a whole frame for this call."""
        if machine.finished:
            return
        self.node.counters["calls_not_known_there"] += 1
        self._run(machine, machine.failed(to, request, Failure.NOT_KNOWN, self.node.now))

    def _schedule(self, machine: AnyMachine) -> None:
        machine.scheduled_at = machine.wake_at
        self._next_id += 1
        heappush(self._timers, (machine.wake_at, self._next_id, machine))
        if machine.wake_at < self.wake_at:
            self.wake_at = machine.wake_at

    def _forget(self, machine: AnyMachine) -> None:
        """A finished machine's requests without an answer count against the nodes it asked."""
        for call_id in machine.calls:
            call = self._pending.pop(call_id, None)
            if call is None or call[0] is not machine:
                continue
            self.sampler.unanswered(call[1], call[2], self.node.now)
            if self.node.spans is not None:
                self.node.spans.unanswered(call_id)
            if not machine.heard_from(call[1]):
                self.detector.missed(call[1])
        machine.calls.clear()

    def _call_local(self, machine: AnyMachine, request: Message) -> None:
        work = self.work

        def reply(message: Message) -> None:
            work.append((machine, request, message))

        if type(request) is Coordinate:  # the most, and of no entry that could be another one
            self.copy.coordinate(request, reply)
        elif self.copy.answers(request):
            self.copy.answer(request, reply)
        elif type(request) in self.replying:
            self.replying[type(request)](request, reply)

    def _local_reply(self, work: Answered) -> None:
        machine, request, reply = work
        node = self.node
        if request is self.sampler.coordinating:
            self.sampler.coordinated(reply, node.now)
        if machine.finished:
            return
        if type(reply) is Rejected:
            effects = machine.rejected(reply)
        elif type(reply) is not Refused:
            effects = machine.replied(node.name, request, reply, node.now)
        elif reply.reason is Refusal.ENTRY:
            effects = machine.outdated(node.name, request, node.now)
        else:
            effects = machine.failed(node.name, request, reply.reason, node.now)
        if effects or machine.finished or machine.wake_at < machine.scheduled_at:
            self._run(machine, effects)
