"""What a client can do, as steps: requests are built here, and answers read (docs/http-api.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from math import inf
from typing import TypedDict, Unpack
from urllib.parse import quote
from uuid import uuid4

import msgspec

from dynamo_client.answers import Found, Stored
from dynamo_client.attempts import Attempts, Request, node_of
from dynamo_client.errors import (
    BadAnswer,
    BadKey,
    BadParameter,
    BadRequest,
    ClientError,
    ConnectionFailed,
    NotMergeable,
    TooManySiblings,
    Unavailable,
)
from dynamo_client.expiry import Expiry, Never, expiry_of, expiry_of_update, longest
from dynamo_client.merges import Merge
from dynamo_client.steps import Reply, Steps
from dynamo_client.versions import Acks, Version
from dynamo_core.errors import BadParameter as NotARing
from dynamo_core.keys import KEY_BYTES_MAX
from dynamo_core.protocol.traceparent import traceparent_of
from dynamo_core.ring.document import Ring
from dynamo_core.ring.json_form import from_document

Key = bytes | str
Count = int | str
"""How many nodes: 1..N, `one`, `quorum` or `all`."""
OCTETS = "application/octet-stream"
DEADLINE_S = 15.0
"""Of one operation with all its attempts and pauses."""
TRIES_MAX = 2
"""Attempts of a step that an update which must write can do without."""
TRY_SHARE = 4
"""Such a step may take one part in this many of the time until the deadline."""


class Deadline(TypedDict, total=False):
    """Of every operation."""

    deadline_s: float | None
    """Seconds after which it has been answered or has raised a ClientError, attempts and pauses
    included. None: the client's own."""
    traceparent: str | None
    """The trace that it is part of (W3C Trace Context), as a request of your own users brought it.
    A malformed one is not sent, for it is no fault of the caller. None: the client's own."""


class ReadOptions(Deadline, total=False):
    """Of a get. What is not given is the cluster's own."""

    r: Count | None
    """Nodes that must answer."""
    strict: bool | None
    """Only complete owners count (S-RW-4)."""


class WriteOptions(TypedDict, total=False):
    """Of every write."""

    context: str | None
    """What is deleted: what the read that gave it saw. Without one, what a quorum has now."""
    w: Count | None
    """Nodes that must have it before it is acknowledged (S-RW-2)."""
    dw: Count | None
    """Of these, nodes that must have it on the disk (S-RW-3)."""
    strict: bool | None
    """Only complete owners count, hinted replicas do not."""
    request_id: str | None
    """Makes retries one event (S-REQ-1); the client makes one when none is given."""


class DeleteOptions(WriteOptions, Deadline, total=False):
    """Of a delete."""


class PutOptions(DeleteOptions, total=False):
    """Of a put. Without a context it is concurrent with everything that is there."""

    content_type: str
    content_encoding: str
    """How the data is encoded, "gzip" for one: kept with it and given back, nothing is encoded or
    decoded."""
    expires_in_s: int | None
    """Seconds after which it reads as deleted (S-TTL-1)."""
    expires_at: datetime | None
    """The time from which it reads as deleted, with its zone, to the millisecond. One of both."""
    return_values: bool
    """Whether `Stored.values` has the versions that are there after it."""


class UpdateOptions(Deadline, total=False):
    """Of an update."""

    attempts_max: int
    """How often it is begun or its write repeated, each time with the attempts of the client."""
    strict: bool | None
    """Of the read and the write."""
    content_type: str | None
    """None: that of what is there, else bytes without a type."""
    content_encoding: str | None
    """Of what the merge returns. None: that of what is there, which must be one."""
    w: Count | None
    """Of the write, as of a put."""
    dw: Count | None
    """Of the write, as of a put."""
    expires_in_s: int | Never | None
    """Of the value that is written, as of a put. Where neither this nor `expires_at` is given, it
    expires when the longest-lived of the values that it is made of would have expired, or never
    where one of them never does (S-TTL-2). "never" takes the expiry away."""
    expires_at: datetime | None
    """Of the value that is written, as of a put."""
    always_write: bool
    """Where too few nodes answer, go on with what one node has, or with nothing, and write to one
    node [P 2.3]: as a sibling, for a later update to merge. For carts and sets; a counter would
    forget what it had counted."""


class _Record(msgspec.Struct):
    key: bytes
    context: str
    values: tuple[Version, ...]


def octets(given: bytes | str, field: str, kind: type[BadRequest] = BadParameter) -> bytes:
    """Text as UTF-8, bytes as they are. Raises `kind`, for a number too: bytes(5) are five."""
    try:
        return given.encode() if isinstance(given, str) else bytes(memoryview(given))
    except (TypeError, UnicodeEncodeError):
        word = "text beyond UTF-8" if isinstance(given, str) else type(given).__name__
        raise kind(f"{field}: wants text or bytes, not {word}") from None


def key_bytes(key: Key) -> bytes:
    """The key as bytes, text as UTF-8. Raises BadKey (S-KEY-1)."""
    data = octets(key, "key", BadKey)
    if not 1 <= len(data) <= KEY_BYTES_MAX:
        raise BadKey(f"key: {len(data)} bytes, must be 1 to {KEY_BYTES_MAX}")
    return data


def quoted(key: bytes) -> str:
    """For a path; dots too, as `.` and `..` would be folded on the way."""
    return quote(key, safe="").replace(".", "%2E")


def sendable(traceparent: str) -> str:
    """A traceparent as it is sent, "" where it is malformed. Raises BadParameter for no text."""
    if not isinstance(traceparent, str):
        raise BadParameter(f"traceparent: wants text, not {type(traceparent).__name__}")
    return traceparent_of(traceparent)


def fresh_id() -> str:
    """A unique request id."""
    return uuid4().hex


class Operations:
    """The operations of one client; `deadline_s` is what one may take where the call says nothing.
    Raises BadParameter in place of sending what cannot be right."""

    def __init__(self, attempts: Attempts, deadline_s: float = DEADLINE_S) -> None:
        self.attempts = attempts
        self._deadline_s = deadline_s

    def within(self, deadline_s: float | None, traceparent: str | None = None) -> Attempts:
        """The attempts of an operation that begins now. Raises BadParameter."""
        seconds = self._deadline_s if deadline_s is None else deadline_s
        if not (isinstance(seconds, int | float) and 0 < seconds < inf):
            raise BadParameter(f"deadline_s: wants seconds above 0, not {seconds!r}")
        if traceparent is None:
            return self.attempts.within(seconds)
        return replace(self.attempts, traceparent=sendable(traceparent)).within(seconds)

    def get(
        self, key: Key, *, r: Count | None = None, strict: bool | None = None,
        deadline_s: float | None = None, traceparent: str | None = None,
    ) -> Steps[Found]:  # fmt: skip
        """Reads; a 404 is a Found without values. Raises ClientError."""
        return self._get(self.within(deadline_s, traceparent), key, r, strict)

    def _get(
        self, attempts: Attempts, key: Key, r: Count | None, strict: bool | None
    ) -> Steps[Found]:
        name = key_bytes(key)
        headers = {"Accept": "application/json"}
        target = _target(name, {"r": r}, strict)
        reply = yield from attempts.ask(Request(name, "GET", target, headers, timed=True))
        return _found(name, reply)

    def _get_what_answers(self, attempts: Attempts, key: Key, strict: bool | None) -> Steps[Found]:
        """With the cluster's R, else what one node has, else nothing."""
        for r in (None, 1):
            few = attempts.few(TRIES_MAX).within(attempts.left_s / TRY_SHARE)
            try:
                return (yield from self._get(few, key, r, strict))
            except (Unavailable, ConnectionFailed):
                continue
        return Found(key_bytes(key), (), None)

    def put(
        self, key: Key, data: bytes | str, *, content_type: str = OCTETS,
        content_encoding: str = "", expires_in_s: int | None = None,
        expires_at: datetime | None = None, return_values: bool = False,
        deadline_s: float | None = None, traceparent: str | None = None,
        **how: Unpack[WriteOptions],
    ) -> Steps[Stored]:  # fmt: skip
        """Writes one value. Raises ClientError."""
        attempts, expiry = self.within(deadline_s, traceparent), expiry_of(expires_in_s, expires_at)
        said = _said(content_type, content_encoding)
        return _put(attempts, key, data, said, expiry, return_values, **how)

    def delete(
        self, key: Key, *, deadline_s: float | None = None, traceparent: str | None = None,
        **how: Unpack[WriteOptions],
    ) -> Steps[Stored]:  # fmt: skip
        """Writes a tombstone (S-DEL-1). Raises ClientError."""
        return _write(self.within(deadline_s, traceparent), "DELETE", key, b"", {}, **how)

    def update(
        self, key: Key, merge: Merge, *, attempts_max: int = 8, strict: bool | None = None,
        content_type: str | None = None, content_encoding: str | None = None,
        always_write: bool = False, w: Count | None = None, dw: Count | None = None,
        expires_in_s: int | Never | None = None, expires_at: datetime | None = None,
        deadline_s: float | None = None, traceparent: str | None = None,
    ) -> Steps[Stored]:  # fmt: skip
        """Reads, merges all siblings, and writes with the context of what was read. The value that
        is written expires as UpdateOptions says (S-TTL-2).

        A write whose outcome is unknown is written again, the same under the same id, until it is
        known: nothing is merged twice. One that was certainly not stored begins with a read again.
        """
        attempts = self.within(deadline_s, traceparent)
        expiry = expiry_of_update(expires_in_s, expires_at)
        error: ClientError = BadParameter("attempts_max: 1 at least")
        found, data, how = Found(b"", (), None), None, WriteOptions()
        for attempt in range(attempts_max):
            if attempt:
                pause = self.attempts.back_off(attempt)
                if pause.seconds >= attempts.left_s:
                    break
                yield pause
            if error.applied == "no":
                if always_write:
                    found = yield from self._get_what_answers(attempts, key, strict)
                else:
                    found = yield from self._get(attempts, key, None, strict)
                data = merge([version.data for version in found.values])
                how = WriteOptions(context=found.context, request_id=fresh_id(), strict=strict)
                how |= {"w": w, "dw": dw}
            if data is None and not found.exists:
                return Stored(found.context or "", Acks(), "")
            said = _said_again(found, content_type, content_encoding)
            try:
                tried = attempts
                if always_write and how["w"] != 1:
                    tried = attempts.few(TRIES_MAX).within(attempts.left_s / TRY_SHARE)
                if data is None:
                    return (yield from _write(tried, "DELETE", key, b"", {}, **how))
                kept = longest(version.expires_at for version in found.values)
                return (
                    yield from _put(
                        tried, key, data, said, kept if expiry is None else expiry, **how
                    )
                )
            except TooManySiblings as failed:
                if failed.applied != "no":
                    raise
                error = failed
            except (Unavailable, ConnectionFailed) as failed:
                error = failed
                if always_write:
                    # The same write, by its id; one node that has it is enough.
                    how |= {"w": 1, "dw": None if dw is None else 1}
        raise error

    def ring(self, deadline_s: float | None = None) -> Steps[Ring]:
        """The ring as it is now. Raises ClientError."""
        attempts = self.within(deadline_s)
        reply = yield from attempts.ask(Request(None, "GET", "/v1/ring", {}))
        self.attempts.routes.learn(reply)
        try:
            return from_document(msgspec.json.decode(reply.body, type=dict))
        except (msgspec.MsgspecError, UnicodeDecodeError, NotARing) as error:
            raise BadAnswer(f"not a ring: {error}", reply.status) from error


def _target(key: bytes, counts: Mapping[str, Count | None], strict: bool | None) -> str:
    """Without the time that the node has, which each attempt adds."""
    query = [f"{name}={quote(str(value))}" for name, value in counts.items() if value is not None]
    query += [f"strict={str(strict).lower()}"] if strict is not None else []
    return f"/v1/kv/{quoted(key)}?{'&'.join([*query, ''])}"


def _said(content_type: str, content_encoding: str) -> dict[str, str]:
    """The headers that say what the data is."""
    said = {"Content-Type": content_type}
    return said | {"Content-Encoding": content_encoding} if content_encoding else said


def _said_again(
    found: Found, content_type: str | None, content_encoding: str | None
) -> dict[str, str]:
    """The same for a merge of what was found. Raises NotMergeable where the values are encoded in
    several ways and the caller does not say how the merged one is: it would be read as another."""
    first = found.values[0] if found.exists else Version(b"", OCTETS, "")
    if content_encoding is None and len({one.content_encoding for one in found.values}) > 1:
        raise NotMergeable("the values have several content encodings: say content_encoding")
    encoding = first.content_encoding if content_encoding is None else content_encoding
    return _said(content_type or first.content_type, encoding)


def _put(
    attempts: Attempts, key: Key, data: bytes | str, said: dict[str, str],
    expiry: Expiry, return_values: bool = False, **how: Unpack[WriteOptions],
) -> Steps[Stored]:  # fmt: skip
    headers = {**said, "Accept": "application/json", **expiry.headers()}
    if return_values:
        headers["Prefer"] = "return=representation"
    return _write(attempts, "PUT", key, data, headers, **how)


def _write(
    attempts: Attempts, method: str, key: Key, data: bytes | str, headers: dict[str, str],
    *, context: str | None = None, request_id: str | None = None, strict: bool | None = None,
    **counts: Count | None,
) -> Steps[Stored]:  # fmt: skip
    name = key_bytes(key)
    headers["Dynamo-Request-Id"] = fresh_id() if request_id is None else request_id
    if context:
        headers["Dynamo-Context"] = context
    for field, text in headers.items():
        if not (text.isascii() and text.isprintable()):
            raise BadParameter(f"{field}: printable ASCII")
    content = octets(data, "data")
    target = _target(name, counts, strict)
    reply = yield from attempts.ask(
        Request(name, method, target, headers, content, writes=True, timed=True)
    )
    return _stored(reply)


def _found(key: bytes, reply: Reply) -> Found:
    if reply.status == 404 and node_of(reply):
        return Found(key, (), reply.headers.get("dynamo-context"))
    record = _record(reply)
    if record.key != key:
        raise BadAnswer(f"answered for the key {record.key!r}, not for {key!r}", reply.status)
    return Found(key, record.values, record.context or None)


def _record(reply: Reply) -> _Record:
    if reply.status != 200 or not node_of(reply):
        raise BadAnswer(f"answered {reply.status}, as no client listener does", reply.status)
    try:
        return msgspec.json.decode(reply.body, type=_Record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadAnswer(f"not a record: {error}", reply.status) from error


def _stored(reply: Reply) -> Stored:
    headers = reply.headers
    values = () if reply.status == 204 and node_of(reply) else _record(reply).values
    pairs = dict(pair.partition("=")[::2] for pair in headers.get("dynamo-acks", "").split())
    try:
        acks = msgspec.convert(pairs, Acks, strict=False)
    except msgspec.ValidationError as error:
        raise BadAnswer(f"Dynamo-Acks: {error}", reply.status) from error
    return Stored(headers.get("dynamo-context", ""), acks, node_of(reply), values)
