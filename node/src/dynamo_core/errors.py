"""Every error of the core, as one tree. The type of an error says whose fault it is.

DynamoError
├── BadRequest            the client's: answered 4xx, nothing was stored
│   ├── BadContext        S-CTX-1: wrong key, wrong tag, unknown version, too large
│   ├── BadParameter
│   ├── RequestIdReused   S-REQ-2
│   └── TooManySiblings   S-SIB-1
├── RingRefused           the ring's: this node may not do that now (409, 503)
├── NotHere               S-REQ-1: another node may have it (503)
├── BadFrame              a peer's: the frame is dropped, the node lives on
├── PeerCorrupt           a peer's: what it sent is refused and counted, this disk is well (T-1)
└── StoreError            the disk's
    ├── Corrupt           one record or block: repaired from the other owners (S-DISK-7)
    ├── StoreFull         nothing was applied, reads go on (S-DISK-4)
    ├── StoreFailed       uncertain write: actors are born again, the store is reopened
    ├── SyncFailed        fsync failed: the process ends (S-DISK-5)
    ├── StoreLocked       another process has the directory (S-DISK-6)
    └── StoreDamaged      cannot be opened as it is: salvage and rebuild from peers
"""

from __future__ import annotations


class DynamoError(Exception):
    """Root of the tree."""


class BadRequest(DynamoError):
    """The client's fault; `slug` is the problem type of docs/http-api.md."""

    slug = "bad-parameter"


class BadContext(BadRequest):
    """S-CTX-1: a client with a forged context could erase values that it never saw."""

    slug = "bad-context"


class BadParameter(BadRequest):
    """`field` names the part of the request that is wrong."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field


class RequestIdReused(BadRequest):
    """S-REQ-2: a different request uses the id of a request whose sibling is stored here."""

    slug = "request-id-reused"


class TooManySiblings(BadRequest):
    """S-SIB-1: a put without a context at the cap."""

    slug = "too-many-siblings"


class RingRefused(DynamoError):
    """The ring says no for now; `slug` is the problem type."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug


class NotHere(DynamoError):
    """S-REQ-1: the context of a retry names its first attempt, but this node stores nothing of that
    attempt. A second event for it could undo the first one. An ack would count a copy that does
    not exist."""


class BadFrame(DynamoError):
    """Bytes from a peer that are not a valid frame. The node drops them and continues."""


class PeerCorrupt(DynamoError):
    """T-1: a peer sent a record, a put or an outcome with a wrong digest. The disk of this node is
    not at fault, so this node salvages nothing, notes no damage and gives no record up."""


class StoreError(DynamoError):
    """The disk's fault."""


class Corrupt(StoreError):
    """A record or block cannot be read back; `key` is a store key at or near the damage."""

    def __init__(self, family: int, key: bytes, detail: str = "") -> None:
        super().__init__(f"family {family} key {key.hex()}: {detail}")
        self.family = family
        self.key = key


class StoreFull(StoreError):
    """No space or a write stall; nothing was applied."""


class StoreFailed(StoreError):
    """A write whose outcome is not known."""


class SyncFailed(StoreError):
    """fsync failed. Written data may be lost, even if a later fsync reports success."""


class StoreLocked(StoreError):
    """Another process holds the directory."""


class StoreDamaged(StoreError):
    """The store refuses to open."""
