"""The contract of a machine, and what it may see of its node.

The node calls `start` of a machine, then one of `replied`, `failed`, `expired` per event, each with
`now` (monotonic seconds). The machine returns effects, which are calls of nodes; it never performs
them. The local replica is called like any other node, so a machine does not know which replica is
near. Every failure is an event. A machine can acknowledge a write only after the event that says
*persisted*.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.operations import Asked, Explanation, Outcome, Put
from dynamo_core.protocol.refusal import Failure, Reason, Refusal
from dynamo_core.protocol.route import Route
from dynamo_core.ring.document import Ring
from dynamo_core.ring.preference import Preference
from dynamo_core.runtime.hedging import Hedging
from dynamo_core.runtime.shares import Shares
from dynamo_core.runtime.slow import Slow, SlowBook
from dynamo_core.runtime.throttle import Throttle
from dynamo_core.settings import Settings

Effects = list[tuple[Route, Message]]
"""Calls to make: (node, request). The node fills in the request's id."""
To = TypeVar("To", bound=Route)

NEVER = float("inf")


class View(Protocol):
    """What machines see of the node that runs them; they only read it."""

    name: str
    settings: Settings
    now: float
    wall_ms: int
    throttle: Throttle
    counters: Counter[str]
    hedging: Hedging
    records: Shares
    slow: SlowBook
    draw: Callable[[], int]
    free_bytes: Callable[[], int]

    @property
    def ring(self) -> Ring:
        """The ring document."""

    @property
    def preference(self) -> Preference:
        """Its preference lists."""

    @property
    def lww(self) -> bool:
        """Whether the last write wins."""

    @property
    def writable(self) -> bool:
        """Whether the local store takes writes."""

    @property
    def stalled(self) -> bool:
        """Whether this node's fsyncs stall (S-RW-8)."""

    def heard(self, name: Route, partition: int, seen: int, floor: int) -> None:
        """A member's numbers of the partition (S-DEL-3)."""

    def up(self, name: str) -> bool:
        """Whether this node's failure detector takes the node for up (S-MEM-2)."""

    def sent_corrupt(self, name: Route) -> None:
        """T-1: this peer sent bytes with a wrong digest; they are counted and refused."""

    def happened(self, kind: str, rule: str, about: dict[str, Any]) -> None:
        """Note an event for people (`event_log`), with the rule by which it happened."""

    def stalls(self, name: str) -> bool:
        """Whether the node has said that its fsyncs stall (S-RW-8)."""


class Coordinate(Message):
    """Only for the local replica: make one event of the put, kept for `target` ("": as owner)."""

    put: Put
    partition: int
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
    """The local replica did not make the event; after UNCERTAIN it may have made it."""

    reason: Refusal
    detail: str = ""
    record: bytes = b""


class MachineTo(Generic[To]):
    """Base of all machines; `wake_at` is when `expired` must be called next. `To` is how the
    machine calls nodes: by name, or by address."""

    __slots__ = ("calls", "finished", "scheduled_at", "wake_at")
    merged: bytes | None = None
    """The record that a get has so far: an answer with the same bytes needs no check (T-1)."""

    def __init__(self) -> None:
        self.finished = False
        self.wake_at = NEVER
        self.scheduled_at = NEVER
        self.calls: set[int] = set()

    def start(self, now: float) -> Effects:
        """The first effects."""
        raise AssertionError("a machine defines start")

    def replied(self, node: To, request: Message, reply: Message, now: float) -> Effects:
        """An answer has come."""
        return []

    def failed(self, node: To, request: Message, reason: Reason, now: float) -> Effects:
        """No answer will come, or none that could be used."""
        return []

    def outdated(self, node: To, request: Message, now: float) -> Effects:
        """The node refused, because its entry of the partition differs from the request's. The
        ring here is now as new as the node's. The node gets it before the next call."""
        return self.failed(node, request, Refusal.ENTRY, now)

    @property
    def waits_until(self) -> float:
        """Until when this machine waits for a node whose link is lost. If the link cannot be
        dialled again before, the machine gets `failed` at once (S-NET-2)."""
        return -NEVER

    def delayed(self, node: To, request: Message, now: float) -> Effects:
        """The link to the node is lost; the request is sent again when the link is dialled."""
        return []

    def wants(self, request: Message) -> bool:
        """Whether the machine still needs the answer; only then the request is sent again."""
        return True

    def heard_from(self, node: To) -> bool:
        """Whether the node has answered another call of this machine. Then a call that is still
        without an answer does not count against the node."""
        return False

    def rejected(self, reply: Rejected) -> Effects:
        """The local replica refused to coordinate."""
        raise AssertionError("only a put has an event made")

    def unserved(self) -> Iterable[tuple[int, str]]:
        """After the end: the partition and the owner of each copy that neither the owner nor a hint
        has, so that an exchange must bring it."""
        return ()

    def let_go(self) -> None:
        """After the end: drop the records (T-4). The machine itself stays in memory until its timer
        is due."""

    def expired(self, now: float) -> Effects:
        """`wake_at` has passed."""
        raise AssertionError("a machine that waits for a time defines expired")


class Machine(MachineTo[str]):
    """A machine that calls members by name, as nearly all do."""

    __slots__ = ()

    def expired(self, now: float) -> Effects:
        """Most machines treat this like a failed answer."""
        return self.failed("", Message(0), Failure.NO_ANSWER, now)


AnyMachine = MachineTo[Any]


class Explained(Machine):
    """An operation of a client that can say which nodes it asked and why (`explain=true`)."""

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

    def _watch(self) -> None:
        """The hedge delay is over: from now on the operation notes which nodes answer."""
        if self.explanation is None:
            self.explanation = Explanation(self.partition, self.view.name)

    def _slow(self, took_s: float, outcome: Outcome, outstanding: Iterable[str]) -> None:
        """Note this operation as slow, for the log."""
        slow = self.view.slow
        if not slow.wants(self.view.now):
            return
        late = list(self.explanation.asked) if self.explanation is not None else []
        line = Slow(kind="", seconds=took_s, status=outcome.status, late=late)
        self._describe(line)
        waited = {*outstanding, line.forwarded_to} - {one.node for one in late} - {""}
        line.silent = sorted(waited)
        slow.untold.append(line)

    def _describe(self, line: Slow) -> None:
        """Add what this kind of operation knows to its log line."""
        raise AssertionError("an operation of a client describes itself")

    def _conclude(self, outcome: Outcome, outstanding: Iterable[str]) -> None:
        """Put the explanation into the outcome. After a forwarded put, the outcome already has the
        lines of the node that coordinated it."""
        explanation = self.explanation
        assert explanation is not None
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
    """One call; `done` gets the answer, or None without an answer."""

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

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        self.finished = True
        self._done(None)
        return []


def leading(rows: list[tuple[bytes, bytes]], bytes_max: int) -> list[tuple[bytes, bytes]]:
    """The first rows, as many as one frame may carry: at most `bytes_max` together, so that the
    frame fits its link, but at least one row."""
    size = 0
    for count, (_, record) in enumerate(rows):
        size += len(record)
        if size > bytes_max:
            return rows[: max(count, 1)]
    return rows


def fresh_id(draw: Callable[[], int]) -> str:
    """A request id for a client that sent none (S-DOT-4)."""
    return f"{draw() & ((1 << 64) - 1):016x}"


def copied(message: Message, **fields: object) -> Message:
    """The message with other fields."""
    return msgspec.structs.replace(message, **fields)
