"""Every error of the client, one tree; the type says whose fault it is.

ClientError
├── BadRequest           fault of the caller: a 4xx, nothing was stored
│   ├── BadKey           not 1..1024 bytes (S-KEY-1)
│   ├── BadContext       not of this key, not of this cluster, too long (S-CTX-1)
│   ├── BadParameter     `field` names it
│   ├── ValueTooLarge    larger than the cluster's maximum, by default 1 MiB (S-VAL-1)
│   ├── RequestIdReused  the id belongs to another value, content type or expiry (S-REQ-2)
│   └── TooManySiblings  a put at the maximum needs a context; here in `context` (S-SIB-1)
├── NotFound             the one value or the repair that was asked for does not exist
├── SiblingsFound        the key has several versions, not one; `values` has them
├── Unauthorized         the node asks for a token and does not know this one
├── Forbidden            the name of the sender has no right to this
├── Conflict             state of the ring: wrong-cluster, plan-changed, superseded, not-lost
├── Unavailable          fault of the cluster: 429 or 5xx, after all attempts
│   ├── QuorumNotMet     fewer than R or W nodes answered (S-RW-5)
│   ├── InsufficientOwners  enough answered, but they cannot prove "not found" (S-RW-4)
│   ├── NotAMember       the node is in no ring
│   ├── Overloaded       the node has too many operations under way
│   └── Draining         the node is stopping
├── ConnectionFailed     no node answers at any endpoint
├── BadAnswer            the answer is not from a dynamo-ring node of a known version
├── NotMergeable         a merge cannot read a value, or cannot store its result
└── WrongUse             the client is closed, or belongs to another event loop
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from dynamo_client.versions import Acks, Version

Applied = Literal["no", "unknown"]


class ClientError(Exception):
    """Root of the tree: `status` (0: no answer), `slug` of the problem ("" for none), `detail`."""

    applied: Applied = "no"
    """For writes: `no` promises that no node stored anything; `unknown`: some node may have."""

    attempts: tuple[str, ...] = ()
    """The result of each attempt, in order: the address, and why the operation went on."""

    def __init__(self, detail: str, status: int = 0, slug: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.slug = slug


class BadRequest(ClientError):
    """A fault of the caller."""

    @property
    def field(self) -> str:
        """The wrong part of the request, "" if the detail does not begin with it."""
        word, colon, _ = self.detail.partition(": ")
        return word if colon and " " not in word else ""


class BadKey(BadRequest):
    """A key is 1..1024 bytes."""


class BadContext(BadRequest):
    """The context does not belong to this key and this cluster."""


class BadParameter(BadRequest):
    """`field` is out of range, unknown, or not understood."""


class ValueTooLarge(BadRequest):
    """The value is larger than the cluster's maximum."""


class TooManySiblings(BadRequest):
    """Read, merge, and put with a context; `context` is from the node's answer."""

    context: str | None = None


class RequestIdReused(BadRequest):
    """The request id belongs to another write of the key, which still exists; use a new id."""


class NotFound(ClientError):
    """The key has no value, or the repair does not exist."""


class SiblingsFound(ClientError):
    """`values` are the versions that your program must merge."""

    def __init__(self, values: tuple[Version, ...]) -> None:
        super().__init__(f"{len(values)} versions; merge them, see DynamoClient.update")
        self.values = values

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.values,), self.__dict__


class Unauthorized(ClientError):
    """No token, or one that no node knows, or one that has expired."""


class Forbidden(ClientError):
    """The name of the sender has no right to this."""


class Conflict(ClientError):
    """The ring is not as the request assumes; `slug` says why; `document` has the answer."""

    document: Mapping[str, Any] = {}


class Unavailable(ClientError):
    """The cluster cannot do this now. `acks` says which acks a write got; `retry_after_s` is the
    pause in seconds that the node asked for, None if it asked for none."""

    acks: Acks | None = None
    retry_after_s: float | None = None


class QuorumNotMet(Unavailable):
    """Fewer than R or W nodes answered within the deadline."""


class InsufficientOwners(Unavailable):
    """Not enough complete owners answered to prove that the key does not exist."""


class NotAMember(Unavailable):
    """The node is in no ring, or has left it."""


class Overloaded(Unavailable):
    """Refused before any effect (C16)."""


class Draining(Unavailable):
    """The node is stopping."""


class ConnectionFailed(ClientError):
    """No endpoint answers; `applied` is `unknown` if a write may have reached a node."""


class BadAnswer(ClientError):
    """The answer is not from a dynamo-ring node; what that server did with a write is unknown."""

    applied = "unknown"


class NotMergeable(ClientError):
    """The merge cannot read a stored value, or its own result; nothing was written."""


class WrongUse(ClientError):
    """The program uses the client at a wrong time or place; nothing was sent."""
