"""What a part of a node may see and ask of the node, in place of the node itself.

A part gets a protocol, and each other part that it needs by name. So the constructor of a part
lists all that it can reach, and a test can give it something small. A part reads a host and calls
it; it assigns none of its fields.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from dynamo_core.protocol.messages import Message, Store
from dynamo_core.protocol.route import Route
from dynamo_core.ring.document import Ring
from dynamo_core.runtime.machine import AnyMachine, Coordinate, View
from dynamo_core.runtime.traced import Spans

Reply = Callable[[Message], None]


class NodeIdentity(msgspec.Struct, frozen=True):
    """Who this process is. `node_id` was born with the disk, random, 64 bits; `address` is where
    peers dial, `client` where clients do, `admin` where administrators do, "" where only this
    machine can; `seeds` are addresses to knock at without a ring, or while members are not heard
    where the ring has them (S-MEM-5)."""

    name: str
    node_id: int
    address: str
    client: str = ""
    zone: str = ""
    weight: int = 1
    seeds: tuple[str, ...] = ()
    admin: str = ""


class Named(Protocol):
    """Who the node is, and where it counts."""

    @property
    def name(self) -> str:
        """The name of its identity; a former name once its id is gone (S-MEM-3)."""

    @property
    def identity(self) -> NodeIdentity:
        """Who this process is."""

    @property
    def counters(self) -> Counter[str]:
        """What has happened, by name."""


class Host(View, Named, Protocol):
    """What most parts need: what a machine sees, who the node is, and its calls."""

    @property
    def boot(self) -> int:
        """The random number of this start."""

    @property
    def ring_or_none(self) -> Ring | None:
        """The ring, None before the node has one."""

    @property
    def member(self) -> bool:
        """Whether the node serves keys."""

    @property
    def addresses(self) -> dict[str, str]:
        """Where each name is dialled."""

    def send(self, route: Route, message: Message) -> None:
        """Into the next frame to a node, or to an address."""

    def spawn(self, machine: AnyMachine) -> None:
        """Start a machine and carry out what it asks for."""

    def later(self, call: Callable[[], None]) -> None:
        """Run a call that starts machines, after what is running now."""

    def ask(self, name: str, request: Message, done: Callable[[Message | None], None]) -> None:
        """One call; `done` is told the answer, None when there is none."""

    def refuse(self, peer: str, message: Message, why: str) -> None:
        """S-IN-2: what a peer said makes no sense. It is counted and not done."""


class Traced(Host, Protocol):
    """A host whose shell may export spans."""

    @property
    def spans(self) -> Spans | None:
        """None, the usual case: no spans are exported."""


class Copy(Protocol):
    """The local copy, for those who hand it messages."""

    @property
    def kinds(self) -> dict[type, Callable[..., None]]:
        """The requests that it answers, each with its handler."""

    def answers(self, request: Message) -> bool:
        """Whether the request is one for the copy."""

    def answer(self, request: Message, reply: Reply) -> None:
        """Serve one request."""

    def stores(
        self, requests: Iterable[Store], reply: Reply, corrupt: Callable[[], None] | None = None
    ) -> None:
        """Those of one frame; `corrupt` is called for each record that does not hold (T-1)."""

    def coordinate(self, request: Coordinate, reply: Reply) -> None:
        """Make one event."""
