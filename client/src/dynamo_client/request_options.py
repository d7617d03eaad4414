"""What a caller may say of one request, by operation (docs/http-api.md)."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from dynamo_client.expiry import Never

Key = bytes | str
Count = int | str
"""How many nodes: 1..N, `one`, `quorum` or `all`."""


class Deadline(TypedDict, total=False):
    """Options of every operation."""

    deadline_s: float | None
    """Seconds until the operation must end, with all attempts and pauses: with an answer or with a
    ClientError. None: the client's own."""
    traceparent: str | None
    """The trace of the operation (W3C Trace Context), as a request of your own users has it. A
    malformed one is not sent and is no error. None: the client's own."""


class ReadOptions(Deadline, total=False):
    """Options of a get. An option that is not given has the cluster's default."""

    r: Count | None
    """Nodes that must answer."""
    strict: bool | None
    """Only complete owners count (S-RW-4)."""


class WriteOptions(TypedDict, total=False):
    """Options of every write."""

    context: str | None
    """What to delete: the versions that a read saw. Without a context: those of a quorum now."""
    w: Count | None
    """Nodes that must have the write before it is acknowledged (S-RW-2)."""
    dw: Count | None
    """Nodes of these that must have it on disk (S-RW-3)."""
    strict: bool | None
    """Only complete owners count, hinted replicas do not."""
    request_id: str | None
    """Makes retries one event (S-REQ-1); the client makes an id if none is given."""


class DeleteOptions(WriteOptions, Deadline, total=False):
    """Options of a delete."""


class PutOptions(DeleteOptions, total=False):
    """Options of a put. Without a context it is concurrent with all present versions."""

    content_type: str
    content_encoding: str
    """The encoding of the data, such as "gzip": stored with it and returned. The client encodes and
    decodes nothing."""
    expires_in_s: int | None
    """Seconds until the value expires (S-TTL-1)."""
    expires_at: datetime | None
    """The time at which the value expires, with a zone, to the millisecond. Give one of the two."""
    return_values: bool
    """Whether `Stored.values` has the versions of the key after the put."""


class UpdateOptions(Deadline, total=False):
    """Options of an update."""

    attempts_max: int
    """Maximum number of its rounds and repeated writes, each with the attempts of the client."""
    strict: bool | None
    """For the read and the write."""
    content_type: str | None
    """None: that of the present value, else bytes without a type."""
    content_encoding: str | None
    """The encoding of the merge's result. None: that of the present values, which must be one."""
    w: Count | None
    """For the write, as in a put."""
    dw: Count | None
    """For the write, as in a put."""
    expires_in_s: int | Never | None
    """For the written value, as in a put. If neither this nor `expires_at` is given, the value
    expires when the longest-lived of its siblings would have expired, or never if one of them never
    expires (S-TTL-2). "never" removes the expiry."""
    expires_at: datetime | None
    """For the written value, as in a put."""
    always_write: bool
    """If too few nodes answer, go on with the value of one node, or with none, and write to one
    node [P 2.3]: as a sibling that a later update merges. For carts and sets; a counter would lose
    its count."""
