"""Every error of the client, one tree; whose fault it is stands in the type.

ClientError
├── BadRequest           the caller's: a 4xx, nothing was stored
│   ├── BadKey           not 1..1024 bytes (S-KEY-1)
│   ├── BadContext       not of this key, not of this cluster, too long (S-CTX-1)
│   ├── BadParameter     `field` names it
│   ├── ValueTooLarge    over the cluster's cap, 1 MiB unless it was set (S-VAL-1)
│   ├── RequestIdReused  the id is of another value, content type or expiry (S-REQ-2)
│   └── TooManySiblings  a put without a context at the cap; `context` lets it be repeated (S-SIB-1)
├── NotFound             nothing is there, and somebody asked for one value or one repair
├── SiblingsFound        several versions are there, and somebody asked for one; `values` has them
├── Unauthorized         a token is wanted, and none is shown that a node knows
├── Forbidden            who asks is known and has no right to this
├── Conflict             the ring's: wrong-cluster, plan-changed, superseded, not-lost
├── Unavailable          the cluster's: 429 or 5xx, after all attempts
│   ├── QuorumNotMet     fewer than R or W nodes answered (S-RW-5)
│   ├── InsufficientOwners  enough answered, but they cannot prove "not found" (S-RW-4)
│   ├── NotAMember       the node is in no ring
│   ├── Overloaded       it has as much under way as it takes
│   └── Draining         it is stopping
├── ConnectionFailed     no node answers at any endpoint
├── BadAnswer            what answers is not a dynamo-ring node of a version that we know
├── NotMergeable         a value is not of the kind that a merge merges, or cannot be kept as one
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
    """For writes: `no` promises that no node stored anything; `unknown`: it cannot be known."""

    attempts: tuple[str, ...] = ()
    """What came of each attempt, in order: where, and why it did not end the operation."""

    def __init__(self, detail: str, status: int = 0, slug: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.slug = slug


class BadRequest(ClientError):
    """The caller's fault."""

    @property
    def field(self) -> str:
        """The part of the request that is wrong, "" where the detail does not begin with it."""
        word, colon, _ = self.detail.partition(": ")
        return word if colon and " " not in word else ""


class BadKey(BadRequest):
    """A key is 1..1024 bytes."""


class BadContext(BadRequest):
    """Not a context of this key and this cluster."""


class BadParameter(BadRequest):
    """`field` is out of range, unknown, or not understood."""


class ValueTooLarge(BadRequest):
    """The value is over the cap of the cluster."""


class TooManySiblings(BadRequest):
    """Read, merge, and put with a context; `context` is the one that the node answered with."""

    context: str | None = None


class RequestIdReused(BadRequest):
    """The request id is that of another write of the key, which is still there; take a new one."""


class NotFound(ClientError):
    """There is no such thing."""


class SiblingsFound(ClientError):
    """`values` are the versions that somebody must merge."""

    def __init__(self, values: tuple[Version, ...]) -> None:
        super().__init__(f"{len(values)} versions; merge them, see DynamoClient.update")
        self.values = values

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.values,), self.__dict__


class Unauthorized(ClientError):
    """No token, or one that no node knows, or that is over."""


class Forbidden(ClientError):
    """Who asks is known and has no right to this."""


class Conflict(ClientError):
    """The ring is not as the request assumes; `slug` says in what; `document` has the answer."""

    document: Mapping[str, Any] = {}


class Unavailable(ClientError):
    """The cluster cannot now. `acks` is how far a write came, `retry_after_s` what was asked for
    in seconds, None when nothing was."""

    acks: Acks | None = None
    retry_after_s: float | None = None


class QuorumNotMet(Unavailable):
    """Fewer nodes than R or W within the deadline."""


class InsufficientOwners(Unavailable):
    """Not enough complete owners answered to prove that the key does not exist."""


class NotAMember(Unavailable):
    """The node is in no ring, or has left it."""


class Overloaded(Unavailable):
    """Refused before any effect (C16)."""


class Draining(Unavailable):
    """The node is stopping."""


class ConnectionFailed(ClientError):
    """No endpoint answers; `applied` is `unknown` when a write may have reached a node."""


class BadAnswer(ClientError):
    """The answer is not from a dynamo-ring node; what that server did with a write is unknown."""

    applied = "unknown"


class NotMergeable(ClientError):
    """A stored value was written by something else, or the merged one could not be read again;
    nothing was written."""


class WrongUse(ClientError):
    """The program uses the client where or when it must not; nothing was sent."""
