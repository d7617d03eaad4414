"""Separates decisions from I/O: an operation is a generator of steps and uses no sockets.

It yields a step, an `Ask` or a `Pause`, and gets the result, a `Reply` or a `Failure`. The code
that runs it decides nothing. So the sync and the async client decide alike, and tests drive every
decision without a network.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Ask(NamedTuple):
    """Send this request; it has failed if the answer is not complete, to its last byte, after
    `timeout_s`. The wait for a connection comes before, and is no part of that time. All is over
    after `ends_s`, or after `timeout_s` if that is longer."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes = b""
    timeout_s: float = 2.0
    ends_s: float = 0.0

    @property
    def whole_s(self) -> float:
        """Seconds until all is over."""
        return max(self.timeout_s, self.ends_s)


class Pause(NamedTuple):
    """Wait for `seconds`."""

    seconds: float


class Reply(NamedTuple):
    """A server's answer; names of headers in lower case. `doubt`: an attempt before this one may
    have had an effect."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    doubt: bool = False


class Failure(NamedTuple):
    """No answer; `sent` is false only if the server certainly saw nothing of the request, `asked`
    only if the client did not even dial the server."""

    sent: bool
    reason: str
    asked: bool = True


Steps = Generator[Ask | Pause, Reply | Failure | None, T]
