"""The seam between deciding and doing: an operation is a generator of steps, and knows no sockets.

It yields what it wants, an `Ask` or a `Pause`, and gets the result, a `Reply` or a `Failure`. The
code that runs it decides nothing. So the sync and the async client decide alike, and tests drive
every decision without a network.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Ask(NamedTuple):
    """Send this request; without an answer after `timeout_s`, the last byte of it included, it has
    failed."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes = b""
    timeout_s: float = 2.0


class Pause(NamedTuple):
    """Wait for `seconds`."""

    seconds: float


class Reply(NamedTuple):
    """What a server answered; names of headers in lower case. `doubt`: an attempt before this one
    may have had an effect."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    doubt: bool = False


class Failure(NamedTuple):
    """No answer came; `sent` unless it is certain that the server saw nothing of the request."""

    sent: bool
    reason: str


Steps = Generator[Ask | Pause, Reply | Failure | None, T]
