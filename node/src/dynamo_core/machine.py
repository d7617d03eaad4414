"""The contract of a machine, and what it may see of its node.

A machine has one way in: `start`, then one of `replied`, `failed`, `expired` per event, each with
`now` (monotonic seconds). It returns effects, calls of nodes, and never performs them. The local
replica is called like any other node, so a machine never knows which replica is near. Every failure
is an event. An answer that acknowledges a write can only follow the event that says *persisted*.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from dynamo_core.background import Background
from dynamo_core.hedging import Hedging
from dynamo_core.messages import Message
from dynamo_core.operations import Asked, Explanation, Outcome, Put
from dynamo_core.preference import Preference
from dynamo_core.ring import Ring
from dynamo_core.settings import Settings
from dynamo_core.shares import Shares

Effects = list[tuple[str, Message]]
"""Calls to make: (node name, request). The node fills in the request's id."""

NEVER = float("inf")
CORRUPT_ANSWER = "corrupt record"
"""Why a call has failed whose answer came with a record that does not hold (T-1)."""


class View(Protocol):
    """What machines see of the node that runs them; they change none of it."""

    name: str
    settings: Settings
    preference: Preference
    lww: bool
    now: float
    wall_ms: int
    background: Background
    counters: Counter[str]
    hedging: Hedging
    records: Shares
    draw: Callable[[], int]
    free_bytes: Callable[[], int]

    @property
    def ring(self) -> Ring:
        """The ring document."""

    @property
    def writable(self) -> bool:
        """Whether the local store takes writes."""

    @property
    def stalled(self) -> bool:
        """Whether this node's fsyncs stall (S-RW-8)."""

    def heard(self, name: str, partition: int, seen: int, floor: int) -> None:
        """A member's numbers of the partition (S-DEL-3)."""

    def up(self, name: str) -> bool:
        """Failure detector's word, local (S-MEM-2)."""

    def sent_corrupt(self, name: str) -> None:
        """T-1: what this peer sent does not hold; it is counted and refused."""

    def happened(self, kind: str, rule: str, **about: object) -> None:
        """Something that people may want to hear of."""

    def stalls(self, name: str) -> bool:
        """Whether the fsyncs of the node stall, as it says itself (S-RW-8)."""


class Coordinate(Message):
    """To the local replica only: make one event of the put, kept for `target` ("": as owner)."""

    put: Put
    stored: bytes
    target: str = ""
    known: bytes | None = None
    known_seen: int = 0
    sync: bool = True


class Coordinated(Message):
    """The event is persisted (SYNCED: fsynced) and may be replicated."""

    record: bytes
    context: bytes
    flags: int
    seen: int


class Rejected(Message):
    """The local replica could not: "too-many-siblings", "request-id-reused", "full", or
    "uncertain": it may be done."""

    reason: str
    detail: str = ""
    record: bytes = b""


class Machine:
    """Base of all machines; `wake_at` is when `expired` must be called next."""

    __slots__ = ("calls", "finished", "scheduled_at", "wake_at")
    merged: bytes | None = None
    """A record that a get has already: an answer of the same bytes needs no proof (T-1)."""

    def __init__(self) -> None:
        self.finished = False
        self.wake_at = NEVER
        self.scheduled_at = NEVER
        self.calls: set[int] = set()

    def start(self, now: float) -> Effects:
        """The first effects."""
        raise AssertionError("a machine defines start")

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        """An answer has come."""
        return []

    def failed(self, node: str, request: Message, reason: str, now: float) -> Effects:
        """No answer will come: "link", "refused …", `CORRUPT_ANSWER`, or the node could not."""
        return []

    def outdated(self, node: str, request: Message, now: float) -> Effects:
        """Refused, for the node had another entry of the partition than the request; by now the
        ring here is as new as the node's, and the node hears of it before the next call."""
        return self.failed(node, request, "refused entry", now)

    @property
    def waits_until(self) -> float:
        """How long this machine waits for a node whose link is lost; it is told `failed` at once
        where the link cannot be dialled again before (S-NET-2)."""
        return -NEVER

    def delayed(self, node: str, request: Message, now: float) -> Effects:
        """The link to the node is lost, and the request is said again when it is dialled."""
        return []

    def wants(self, request: Message) -> bool:
        """Whether the answer still matters; a request is not said again for one that does not."""
        return True

    def heard_from(self, node: str) -> bool:
        """Whether the node has answered another call of this machine: then one that is left
        without an answer does not count against it."""
        return False

    def rejected(self, reply: Rejected) -> Effects:
        """The local replica refused to coordinate."""
        raise AssertionError("only a put has an event made")

    def unserved(self) -> Iterable[tuple[int, str]]:
        """Finished: the partition and the owner of each copy that no hint keeps either, so that an
        exchange must bring it."""
        return ()

    def let_go(self) -> None:
        """Finished: its timer keeps it until that is due, but not its records (T-4)."""

    def expired(self, now: float) -> Effects:
        """`wake_at` has passed; for most machines as if the answer had failed."""
        return self.failed("", Message(0), "no answer", now)


class Explained(Machine):
    """An operation of a client that can say whom it asked and why (`explain=true`)."""

    __slots__ = ("explanation", "partition", "started", "view")
    explanation: Explanation | None
    partition: int
    started: float
    view: View

    def _explain(self, node: str, answer: str, now: float) -> None:
        if self.explanation is not None:
            owner = node in self.view.preference.owners(self.partition)
            took_ms = round((now - self.started) * 1000, 3)
            role = "owner" if owner else "stand-in"
            self.explanation.asked.append(Asked(node, role, answer, took_ms))

    def _conclude(self, outcome: Outcome, outstanding: Iterable[str]) -> None:
        """The explanation into the outcome; the node that coordinated a forwarded put has begun
        one already."""
        explanation = self.explanation
        if explanation is None:
            return
        if outcome.explanation is not None:
            outcome.explanation.asked[:0] = explanation.asked
            return
        explanation.decided = outcome.problem or str(outcome.status)
        asked = {line.node for line in explanation.asked}.union(outstanding)
        for node in self.view.preference.list(self.partition):
            if node not in asked:
                reason = "not needed" if self.view.up(node) else "down"
                explanation.skipped.append({"node": node, "reason": reason})
        outcome.explanation = explanation


class Question(Machine):
    """One call; `done` is told the answer, None when there is none."""

    def __init__(
        self, node: str, request: Message, wait_s: float, done: Callable[[Message | None], None]
    ) -> None:
        super().__init__()
        self._node = node
        self._request = request
        self._wait_s = wait_s
        self._done = done

    def start(self, now: float) -> Effects:
        self.wake_at = now + self._wait_s
        return [(self._node, self._request)]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        self.finished = True
        self._done(reply)
        return []

    def failed(self, node: str, request: Message, reason: str, now: float) -> Effects:
        self.finished = True
        self._done(None)
        return []


def leading(rows: list[tuple[bytes, bytes]], bytes_max: int) -> list[tuple[bytes, bytes]]:
    """The first of these rows, as many as go on their way at once: of no more bytes together, so
    that a frame never outgrows its link; at least one."""
    size = 0
    for count, (_, record) in enumerate(rows):
        size += len(record)
        if size > bytes_max:
            return rows[: max(count, 1)]
    return rows


def fresh_id(draw: Callable[[], int]) -> str:
    """A request id for whoever sent none (S-DOT-4)."""
    return f"{draw() & ((1 << 64) - 1):016x}"


def copied(message: Message, **fields: object) -> Message:
    """The message with other fields."""
    return msgspec.structs.replace(message, **fields)
