"""What a node tells the shell of requests that are part of a trace, where the shell exports spans.

Without spans (`Node.spans` is None, the usual case) nothing here is called. The core decides
nothing by it: it hands over what it sends and gets, and the shell may change the `trace` of a
message on its way, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.operations import Outcome, Put

Say = Callable[[Message], None]
Done = Callable[[Outcome], None]


class Spans(Protocol):
    """The spans of one node."""

    def serving(self, peer: str, messages: Sequence[Message], send: Say) -> Say:
        """Calls of a peer have come; what is returned takes the place of `send`."""

    def coordinating(self, peer: str, put: Put, done: Done) -> Done:
        """A put that a peer forwarded begins here; what is returned takes the place of `done`."""

    def calling(self, peer: str, messages: Sequence[Message]) -> None:
        """These go to a peer now, calls and answers."""

    def answered(self, replies: Sequence[Message]) -> None:
        """Answers of a peer."""

    def unanswered(self, number: int) -> None:
        """The call of this number has no answer, and is not waited for any more."""
