"""The contract of a machine, and what it may see of its node.

A machine has one way in: `start`, then one of `replied`, `failed`, `expired` per event, each with
`now` (monotonic seconds). It returns effects, calls of nodes, and never performs them. The local
replica is called like any other node, so a machine never knows which replica is near. Every failure
is an event. An answer that acknowledges a write can only follow the event that says *persisted*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from dynamo_core.messages import Message
from dynamo_core.operations import Put
from dynamo_core.preference import Preference
from dynamo_core.ring import Ring
from dynamo_core.settings import Settings

Effects = list[tuple[str, Message]]
"""Calls to make: (node name, request). The node fills in the request's id."""

NEVER = float("inf")


class View(Protocol):
    """What machines see of the node that runs them; they change none of it."""

    name: str
    settings: Settings
    preference: Preference
    lww: bool
    now: float
    wall_ms: int
    draw: Callable[[], int]
    free_bytes: Callable[[], int]

    @property
    def ring(self) -> Ring:
        """The ring document."""

    @property
    def writable(self) -> bool:
        """Whether the local store takes writes."""

    def up(self, name: str) -> bool:
        """Failure detector's word, local (S-MEM-2)."""


class Coordinate(Message):
    """To the local replica only: make one event of the put, kept for `target` ("": as owner)."""

    put: Put
    stored: bytes
    target: str = ""
    known: bytes | None = None
    sync: bool = True


class Coordinated(Message):
    """The event is persisted (SYNCED: fsynced) and may be replicated."""

    record: bytes
    context: bytes
    flags: int


class Rejected(Message):
    """The local replica could not: "too-many-siblings", "full", or "uncertain": perhaps it did."""

    reason: str
    detail: str = ""
    record: bytes = b""


class Machine:
    """Base of all machines; `wake_at` is when `expired` must be called next."""

    __slots__ = ("calls", "finished", "scheduled_at", "wake_at")

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
        """No answer will come: "link", "refused …", or the node could not."""
        return []

    def outdated(self, node: str, request: Message, now: float) -> Effects:
        """Refused, for the node had another entry of the partition than the request; by now the
        ring here is as new as the node's, and the node hears of it before the next call."""
        return self.failed(node, request, "refused entry", now)

    def expired(self, now: float) -> Effects:
        """`wake_at` has passed; for most machines as if the answer had failed."""
        return self.failed("", Message(0), "no answer", now)


def fresh_id(draw: Callable[[], int]) -> str:
    """A request id for whoever sent none (S-DOT-4)."""
    return f"{draw() & ((1 << 64) - 1):016x}"


def copied(message: Message, **fields: object) -> Message:
    """The message with other fields."""
    return msgspec.structs.replace(message, **fields)
