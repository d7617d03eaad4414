"""The operations of a client, as steps: builds requests and reads answers (docs/http-api.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from math import inf
from typing import Unpack
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
from dynamo_client.request_options import (
    Count,
    Key,
    WriteOptions,
)
from dynamo_client.steps import Reply, Steps
from dynamo_client.versions import Acks, Version
from dynamo_core.errors import BadParameter as NotARing
from dynamo_core.keys import KEY_BYTES_MAX
from dynamo_core.protocol.traceparent import traceparent_of
from dynamo_core.ring.document import Ring
from dynamo_core.ring.json_form import from_document

OCTETS = "application/octet-stream"
DEADLINE_S = 15.0
"""Deadline of one operation with all its attempts and pauses."""
TRIES_MAX = 2
"""Attempts of a step without which an `always_write` update can go on."""
TRY_SHARE = 4
"""Such a step may take 1/TRY_SHARE of the time until the deadline."""


class _Record(msgspec.Struct):
    key: bytes
    context: str
    values: tuple[Version, ...]


def octets(given: bytes | str, field: str, kind: type[BadRequest] = BadParameter) -> bytes:
    """Text as UTF-8, bytes unchanged. Raises `kind`, also for a number: bytes(5) has five bytes."""
    try:
        return given.encode() if isinstance(given, str) else bytes(memoryview(given))
    except (TypeError, UnicodeEncodeError):
        word = "text beyond UTF-8" if isinstance(given, str) else type(given).__name__
        raise kind(f"{field}: needs text or bytes, not {word}") from None


def key_bytes(key: Key) -> bytes:
    """The key as bytes, text as UTF-8. Raises BadKey (S-KEY-1)."""
    data = octets(key, "key", BadKey)
    if not 1 <= len(data) <= KEY_BYTES_MAX:
        raise BadKey(f"key: {len(data)} bytes, must be 1 to {KEY_BYTES_MAX}")
    return data


def quoted(key: bytes) -> str:
    """The key in a path; dots are quoted too, because proxies resolve `.` and `..`."""
    return quote(key, safe="").replace(".", "%2E")


def sendable(traceparent: str) -> str:
    """A traceparent to send, "" if it is malformed. Raises BadParameter if it is not text."""
    if not isinstance(traceparent, str):
        raise BadParameter(f"traceparent: needs text, not {type(traceparent).__name__}")
    return traceparent_of(traceparent)


def fresh_id() -> str:
    """A unique request id."""
    return uuid4().hex


class Operations:
    """The operations of one client; `deadline_s` is the default of each call. Raises BadParameter
    instead of sending a request that is certainly wrong."""

    def __init__(self, attempts: Attempts, deadline_s: float = DEADLINE_S) -> None:
        self.attempts = attempts
        self._deadline_s = deadline_s

    def within(self, deadline_s: float | None, traceparent: str | None = None) -> Attempts:
        """The attempts of an operation that begins now. Raises BadParameter."""
        seconds = self._deadline_s if deadline_s is None else deadline_s
        if not (isinstance(seconds, int | float) and 0 < seconds < inf):
            raise BadParameter(f"deadline_s: needs seconds above 0, not {seconds!r}")
        if traceparent is None:
            return self.attempts.within(seconds)
        return replace(self.attempts, traceparent=sendable(traceparent)).within(seconds)

    def get(
        self,
        key: Key,
        *,
        r: Count | None = None,
        strict: bool | None = None,
        deadline_s: float | None = None,
        traceparent: str | None = None,
    ) -> Steps[Found]:
        """Reads; a 404 is a Found without values. Raises ClientError."""
        return self._get(self.within(deadline_s, traceparent), key, r, strict)

    def _get(
        self, attempts: Attempts, key: Key, r: Count | None, strict: bool | None
    ) -> Steps[Found]:
        name = key_bytes(key)
        headers = {"Accept": "application/json"}
        path = _path(name, {"r": r}, strict)
        reply = yield from attempts.ask(Request(name, "GET", path, headers, timed=True))
        return _found(name, reply)

    def _get_what_answers(self, attempts: Attempts, key: Key, strict: bool | None) -> Steps[Found]:
        """With the cluster's R, else from one node, else no value."""
        for r in (None, 1):
            few = attempts.few(TRIES_MAX).within(attempts.left_s / TRY_SHARE)
            try:
                return (yield from self._get(few, key, r, strict))
            except (Unavailable, ConnectionFailed):
                continue
        return Found(key_bytes(key), (), None)

    def put(
        self,
        key: Key,
        data: bytes | str,
        *,
        content_type: str = OCTETS,
        content_encoding: str = "",
        expires_in_s: int | None = None,
        expires_at: datetime | None = None,
        return_values: bool = False,
        deadline_s: float | None = None,
        traceparent: str | None = None,
        **how: Unpack[WriteOptions],
    ) -> Steps[Stored]:
        """Writes one value. Raises ClientError."""
        attempts, expiry = self.within(deadline_s, traceparent), expiry_of(expires_in_s, expires_at)
        said = _said(content_type, content_encoding)
        return _put(attempts, key, data, said, expiry, return_values, **how)

    def delete(
        self,
        key: Key,
        *,
        deadline_s: float | None = None,
        traceparent: str | None = None,
        **how: Unpack[WriteOptions],
    ) -> Steps[Stored]:
        """Writes a tombstone (S-DEL-1). Raises ClientError."""
        return _write(self.within(deadline_s, traceparent), "DELETE", key, b"", {}, **how)

    def update(
        self,
        key: Key,
        merge: Merge,
        *,
        attempts_max: int = 8,
        strict: bool | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        always_write: bool = False,
        w: Count | None = None,
        dw: Count | None = None,
        expires_in_s: int | Never | None = None,
        expires_at: datetime | None = None,
        deadline_s: float | None = None,
        traceparent: str | None = None,
    ) -> Steps[Stored]:
        """Reads, merges all siblings, and writes with the context of the read. The expiry of the
        written value is in UpdateOptions (S-TTL-2).

        A write with an unknown outcome is repeated, unchanged and with the same id, until its
        outcome is known: so no change is merged twice. After a write that was certainly not stored,
        the update reads again.
        """
        attempts = self.within(deadline_s, traceparent)
        expiry = expiry_of_update(expires_in_s, expires_at)
        error: ClientError = BadParameter("attempts_max: must be at least 1")
        found, data, how = Found(b"", (), None), None, WriteOptions()
        # A write that must not be refused has a second attempt, with w=1.
        rounds = 2 if always_write and attempts_max == 1 else attempts_max
        for attempt in range(rounds):
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
            except ClientError as failed:
                if error.applied == "unknown":  # a write before this one may have been stored
                    failed.applied = "unknown"
                error = failed
                full = isinstance(failed, TooManySiblings) and failed.applied == "no"
                if not (full or isinstance(failed, Unavailable | ConnectionFailed)):
                    raise
                if always_write and not full:
                    # The same write, by its id; one node with it is enough.
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


def _path(key: bytes, counts: Mapping[str, Count | None], strict: bool | None) -> str:
    """The path and query without the node's time, which each attempt adds."""
    query = [f"{name}={quote(str(value))}" for name, value in counts.items() if value is not None]
    query += [f"strict={str(strict).lower()}"] if strict is not None else []
    return f"/v1/kv/{quoted(key)}?{'&'.join([*query, ''])}"


def _said(content_type: str, content_encoding: str) -> dict[str, str]:
    """The headers for type and encoding of the data."""
    said = {"Content-Type": content_type}
    return said | {"Content-Encoding": content_encoding} if content_encoding else said


def _said_again(
    found: Found, content_type: str | None, content_encoding: str | None
) -> dict[str, str]:
    """The same for a merge of the found values. Raises NotMergeable if they have several encodings
    and the caller gives none: readers would decode the result wrongly."""
    first = found.values[0] if found.exists else Version(b"", OCTETS, "")
    if content_encoding is None and len({one.content_encoding for one in found.values}) > 1:
        raise NotMergeable("the values have several content encodings: give content_encoding")
    encoding = first.content_encoding if content_encoding is None else content_encoding
    return _said(content_type or first.content_type, encoding)


def _put(
    attempts: Attempts,
    key: Key,
    data: bytes | str,
    said: dict[str, str],
    expiry: Expiry,
    return_values: bool = False,
    **how: Unpack[WriteOptions],
) -> Steps[Stored]:
    headers = {**said, "Accept": "application/json", **expiry.headers()}
    if return_values:
        headers["Prefer"] = "return=representation"
    return _write(attempts, "PUT", key, data, headers, **how)


def _write(
    attempts: Attempts,
    method: str,
    key: Key,
    data: bytes | str,
    headers: dict[str, str],
    *,
    context: str | None = None,
    request_id: str | None = None,
    strict: bool | None = None,
    **counts: Count | None,
) -> Steps[Stored]:
    name = key_bytes(key)
    headers["Dynamo-Request-Id"] = fresh_id() if request_id is None else request_id
    if context:
        headers["Dynamo-Context"] = context
    for field, text in headers.items():
        if not (text.isascii() and text.isprintable()):
            raise BadParameter(f"{field}: printable ASCII")
    content = octets(data, "data")
    path = _path(name, counts, strict)
    reply = yield from attempts.ask(
        Request(name, method, path, headers, content, writes=True, timed=True)
    )
    return _stored(reply)


def _found(key: bytes, reply: Reply) -> Found:
    if reply.status == 404 and node_of(reply):
        return Found(key, (), reply.headers.get("dynamo-context"))
    record = _record(reply)
    if record.key != key:
        raise BadAnswer(f"the answer is for the key {record.key!r}, not for {key!r}", reply.status)
    return Found(key, record.values, record.context or None)


def _record(reply: Reply) -> _Record:
    if reply.status != 200 or not node_of(reply):
        raise BadAnswer(f"no client listener answers {reply.status} here", reply.status)
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
