"""What a node tells the shell about requests of a trace, if the shell exports spans.

Without spans (`Node.spans` is None, the usual case) nothing here is called. No decision of the core
depends on it: the core shows the shell which messages it sends and gets. The shell may change only
the `trace` of a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.operations import Done, Put
from dynamo_core.protocol.route import Route

Say = Callable[[Message], None]


class Spans(Protocol):
    """The spans of one node."""

    def serving(self, peer: str, messages: Sequence[Message], send: Say) -> Say:
        """A peer's calls have come. The core uses the returned function in the place of `send`."""

    def coordinating(self, peer: Route, put: Put, done: Done) -> Done:
        """A put that a peer forwarded begins here. The core uses the returned function in the place
        of `done`."""

    def calling(self, peer: Route, messages: Sequence[Message]) -> None:
        """The node sends these calls and answers to a peer now."""

    def answered(self, replies: Sequence[Message]) -> None:
        """Answers of a peer have come."""

    def unanswered(self, call_id: int) -> None:
        """The call of this number has no answer, and no machine waits for it any more."""
