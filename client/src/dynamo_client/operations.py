"""What a client can do, as steps: requests are built here, and answers read (contract.md §4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TypedDict
from urllib.parse import quote
from uuid import uuid4

import msgspec

from dynamo_client.answers import Acks, Found, Stored, Version
from dynamo_client.attempts import Attempts, Request, node_of
from dynamo_client.errors import (
    BadAnswer,
    BadKey,
    BadParameter,
    BadRequest,
    ClientError,
    ConnectionFailed,
    TooManySiblings,
    Unavailable,
)
from dynamo_client.merges import Merge
from dynamo_client.steps import Reply, Steps
from dynamo_core.errors import BadParameter as NotARing
from dynamo_core.ids import KEY_BYTES_MAX
from dynamo_core.ring import Ring
from dynamo_core.ring_document import from_document

Key = bytes | str
Count = int | str
"""How many nodes: 1..N, `one`, `quorum` or `all`."""
OCTETS = "application/octet-stream"
TIMEOUT_MS_MAX = 30_000
READS_MAX = 2
"""Attempts of a read that an update can do without."""


class ReadOptions(TypedDict, total=False):
    """Of a get. What is not given is the cluster's own."""

    r: Count | None
    """Nodes that must answer."""
    strict: bool | None
    """Only complete owners count (S-RW-4)."""


class DeleteOptions(TypedDict, total=False):
    """Of a delete."""

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


class PutOptions(DeleteOptions, total=False):
    """Of a put. Without a context it is concurrent with everything that is there."""

    content_type: str
    expires_in_s: int | None
    """Seconds after which it reads as deleted (S-TTL-1)."""
    return_values: bool
    """Whether `Stored.values` has the versions that are there after it."""


class UpdateOptions(TypedDict, total=False):
    """Of an update."""

    attempts_max: int
    """How often it is begun or its write repeated, each time with the attempts of the client."""
    strict: bool | None
    """Of the read and the write."""
    content_type: str | None
    """None: that of what is there, else bytes without a type."""
    always_write: bool
    """Where nobody can read the key, write all the same [P 2.3]: as a sibling, for a later update
    to merge. For carts and sets; a counter would forget what it had counted."""


class _Record(msgspec.Struct):
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


def fresh_id() -> str:
    """A request id that nobody else makes."""
    return uuid4().hex


class Operations:
    """The operations of one client; `timeout_s` is what one attempt may take."""

    def __init__(self, attempts: Attempts, timeout_s: float) -> None:
        self.attempts = attempts
        self._few = replace(attempts, attempts_max=min(READS_MAX, attempts.attempts_max))
        # The node hears of less, so that its own honest answer is here before we stop listening.
        self.timeout_ms = max(1, min(int(timeout_s * 900), TIMEOUT_MS_MAX))

    def get(self, key: Key, *, r: Count | None = None, strict: bool | None = None) -> Steps[Found]:
        """Reads; a 404 is a Found without values. Raises ClientError."""
        return self._get(self.attempts, key, r, strict)

    def _get(
        self, attempts: Attempts, key: Key, r: Count | None, strict: bool | None
    ) -> Steps[Found]:
        name = key_bytes(key)
        headers = {"Accept": "application/json"}
        target = self._target(name, {"r": r}, strict)
        reply = yield from attempts.ask(Request(name, "GET", target, headers))
        return _found(name, reply)

    def _get_or_nothing(self, key: Key, strict: bool | None) -> Steps[Found]:
        try:
            return (yield from self._get(self._few, key, None, strict))
        except (Unavailable, ConnectionFailed):
            return Found(key_bytes(key), (), None)

    def put(
        self, key: Key, data: bytes | str, *, content_type: str = OCTETS,
        expires_in_s: int | None = None, return_values: bool = False, context: str | None = None,
        w: Count | None = None, dw: Count | None = None, strict: bool | None = None,
        request_id: str | None = None,
    ) -> Steps[Stored]:  # fmt: skip
        """Writes one value. Raises ClientError."""
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        if expires_in_s is not None:
            headers["Dynamo-Expires-In"] = str(expires_in_s)
        if return_values:
            headers["Prefer"] = "return=representation"
        return self._write(
            "PUT", key, data, headers, context, request_id, w=w, dw=dw, strict=strict
        )

    def delete(
        self, key: Key, *, context: str | None = None, w: Count | None = None,
        dw: Count | None = None, strict: bool | None = None, request_id: str | None = None,
    ) -> Steps[Stored]:  # fmt: skip
        """Writes a tombstone (S-DEL-1). Raises ClientError."""
        return self._write("DELETE", key, b"", {}, context, request_id, w=w, dw=dw, strict=strict)

    def update(
        self, key: Key, merge: Merge, *, attempts_max: int = 8, strict: bool | None = None,
        content_type: str | None = None, always_write: bool = False,
    ) -> Steps[Stored]:  # fmt: skip
        """Reads, merges all siblings, and writes with the context of what was read.

        A write whose outcome is unknown is written again, the same under the same id, until it is
        known: nothing is merged twice. One that was certainly not stored begins with a read again.
        """
        read = self._get_or_nothing if always_write else partial(self._get, self.attempts, r=None)
        error: ClientError = BadParameter("attempts_max: 1 at least")
        found, data, how = Found(b"", (), None), None, DeleteOptions()
        for attempt in range(attempts_max):
            if attempt:
                yield self.attempts.back_off(attempt)
            if error.applied == "no":
                found = yield from read(key, strict=strict)
                data = merge([version.data for version in found.values])
                how = {"context": found.context, "request_id": fresh_id(), "strict": strict}
            if data is None and not found.exists:
                return Stored(found.context or "", Acks(), "")
            try:
                if data is None:
                    return (yield from self.delete(key, **how))
                kind = content_type or (found.values[0].content_type if found.exists else OCTETS)
                return (yield from self.put(key, data, content_type=kind, **how))
            except TooManySiblings as failed:
                if failed.applied != "no":
                    raise
                error = failed
            except (Unavailable, ConnectionFailed) as failed:
                error = failed
        raise error

    def ring(self) -> Steps[Ring]:
        """The ring as it is now. Raises ClientError."""
        reply = yield from self.attempts.ask(Request(None, "GET", "/v1/ring", {}))
        self.attempts.routes.learn(reply)
        try:
            return from_document(msgspec.json.decode(reply.body, type=dict))
        except (msgspec.MsgspecError, UnicodeDecodeError, NotARing) as error:
            raise BadAnswer(f"not a ring: {error}", reply.status) from error

    def _target(self, key: bytes, counts: Mapping[str, Count | None], strict: bool | None) -> str:
        query = [
            f"{name}={quote(str(value))}" for name, value in counts.items() if value is not None
        ]
        query += [f"strict={str(strict).lower()}"] if strict is not None else []
        return f"/v1/kv/{quoted(key)}?{'&'.join([*query, f'timeout_ms={self.timeout_ms}'])}"

    def _write(
        self, method: str, key: Key, data: bytes | str, headers: dict[str, str],
        context: str | None, request_id: str | None, *, strict: bool | None, **counts: Count | None,
    ) -> Steps[Stored]:  # fmt: skip
        name = key_bytes(key)
        headers["Dynamo-Request-Id"] = fresh_id() if request_id is None else request_id
        if context:
            headers["Dynamo-Context"] = context
        for field, text in headers.items():
            if not (text.isascii() and text.isprintable()):
                raise BadParameter(f"{field}: printable ASCII")
        content = octets(data, "data")
        target = self._target(name, counts, strict)
        reply = yield from self.attempts.ask(
            Request(name, method, target, headers, content, writes=True)
        )
        return _stored(reply)


def _found(key: bytes, reply: Reply) -> Found:
    if reply.status == 404 and node_of(reply):
        return Found(key, (), reply.headers.get("dynamo-context"))
    record = _record(reply)
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
