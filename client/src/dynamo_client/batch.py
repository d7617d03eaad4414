"""Many operations in one request, each with its own outcome: one failure fails only itself.

Operations that a node could not do are sent again, with the same ids, without the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Unpack

import msgspec

from dynamo_client.answers import BatchResult, Found, Stored
from dynamo_client.attempts import Attempts, Request, node_ms
from dynamo_client.errors import (
    BadAnswer,
    BadKey,
    ClientError,
    ConnectionFailed,
    Unavailable,
    ValueTooLarge,
)
from dynamo_client.expiry import expiry_of
from dynamo_client.operations import OCTETS, Operations, fresh_id, octets
from dynamo_client.problems import error_of
from dynamo_client.request_options import Count, Key, ReadOptions
from dynamo_client.steps import Reply, Steps
from dynamo_client.versions import Acks, Version

OPERATIONS_MAX = 256
"""Of one request: the node and the client keep the values of its gets in memory. More operations
become several requests, one after another."""
REQUEST_BYTES_MAX = 16 * 1024 * 1024
ITEM_BYTES = 512
"""Bytes of the rest of an item: ids, types, names of fields."""
_HEADERS = {"Content-Type": "application/msgpack"}


class GetOp(msgspec.Struct, frozen=True):
    """A get of a batch."""

    key: Key


class PutOp(msgspec.Struct, frozen=True):
    """A put of a batch; the fields are those of `DynamoClient.put`."""

    key: Key
    data: bytes | str
    context: str | None = None
    content_type: str = OCTETS
    request_id: str | None = None
    expires_in_s: int | None = None
    expires_at: datetime | None = None
    content_encoding: str = ""


class DeleteOp(msgspec.Struct, frozen=True):
    """A delete of a batch; the fields are those of `DynamoClient.delete`."""

    key: Key
    context: str | None = None
    request_id: str | None = None


Op = GetOp | PutOp | DeleteOp


class BatchOptions(ReadOptions, total=False):
    """Options of all operations of a batch: those of a get, and those of a put."""

    w: Count | None
    dw: Count | None


class _Item(msgspec.Struct, omit_defaults=True):
    op: str
    key: bytes
    data: bytes | None = None
    content_type: str = ""
    context: str = ""
    request_id: str = ""
    expires_in_s: int | None = None
    expires_at: str | None = None
    content_encoding: str = ""


class _Result(msgspec.Struct):
    status: int
    context: str = ""
    values: tuple[Version, ...] = ()
    acks: Acks = Acks()
    applied: str = ""
    problem: dict[str, Any] = {}


class _Results(msgspec.Struct):
    results: list[_Result]


def batch(
    client: Operations, operations: Sequence[Op], **how: Unpack[BatchOptions]
) -> Steps[list[BatchResult]]:
    """The results, in order. Raises BadRequest if the request as a whole is wrong."""
    attempts = client.within(how.pop("deadline_s", None), how.pop("traceparent", None))
    ways = {name: value for name, value in how.items() if value is not None}
    results: dict[int, BatchResult] = {}
    for chunk in _chunks(map(_item_of, operations)):
        try:
            yield from _send(attempts, chunk, ways, results)
        except ClientError as error:
            if any(map(_may_be_stored, results.values())):
                error.applied = "unknown"
            raise
    return [results[at] for at in range(len(operations))]


def _may_be_stored(result: BatchResult) -> bool:
    failed = result.error
    return result.stored is not None or (failed is not None and failed.applied == "unknown")


def _item_of(op: Op) -> _Item:
    key = octets(op.key, "key", BadKey)
    if isinstance(op, GetOp):
        return _Item("get", key)
    context, request_id = op.context or "", op.request_id or fresh_id()
    if isinstance(op, DeleteOp):
        return _Item("delete", key, context=context, request_id=request_id)
    expiry = expiry_of(op.expires_in_s, op.expires_at)
    data = octets(op.data, "data")
    said = op.content_type, context, request_id, *expiry, op.content_encoding
    return _Item("put", key, data, *said)


def _chunks(items: Iterable[_Item]) -> Iterator[dict[int, _Item]]:
    chunk: dict[int, _Item] = {}
    size = 0
    for at, item in enumerate(items):
        more = len(item.data or b"") + len(item.key) + len(item.context) + ITEM_BYTES
        if chunk and (len(chunk) == OPERATIONS_MAX or size + more > REQUEST_BYTES_MAX):
            yield chunk
            chunk, size = {}, 0
        chunk[at] = item
        size += more
    if chunk:
        yield chunk


def _send(
    attempts: Attempts,
    items: dict[int, _Item],
    ways: dict[str, Any],
    results: dict[int, BatchResult],
) -> Steps[None]:
    """One request, and again for what is left of it; `results` has the last word on each item."""
    doubted: set[int] = set()
    for attempt in range(attempts.attempts_max):
        if attempt:
            pause = attempts.back_off(attempt)
            if pause.seconds >= attempts.left_s:
                return
            yield pause
        ways["timeout_ms"] = node_ms(attempts.attempt_s(0))
        body = msgspec.msgpack.encode({"operations": list(items.values()), **ways})
        writes = any(item.op != "get" for item in items.values())
        try:
            reply = yield from attempts.ask(
                Request(None, "POST", "/v1/batch", _HEADERS, body, writes)
            )
            answers = _answers(reply, len(items))
        except (BadAnswer, ConnectionFailed, Unavailable, ValueTooLarge) as error:
            error.applied = "unknown" if doubted else error.applied
            results |= {at: BatchResult(error.status, error=error) for at in items}
            return
        left = {}
        for (at, item), answer in zip(items.items(), answers, strict=True):
            results[at] = result = _result_of(item, answer)
            if result.error is not None:
                if item.op != "get" and (reply.doubt or result.error.applied == "unknown"):
                    doubted.add(at)
                result.error.applied = "unknown" if at in doubted else "no"
                if isinstance(result.error, Unavailable):
                    left[at] = item
        items = left
        if not items:
            return


def _answers(reply: Reply, count: int) -> list[_Result]:
    try:
        results = msgspec.msgpack.decode(reply.body, type=_Results).results
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadAnswer(f"not the results of a batch: {error}", reply.status) from error
    if len(results) != count:
        raise BadAnswer(f"{len(results)} results of {count}", reply.status)
    return results


def _result_of(item: _Item, answer: _Result) -> BatchResult:
    status, context = answer.status, answer.context
    if item.op == "get" and status in (200, 404):
        return BatchResult(status, found=Found(item.key, answer.values, context or None))
    if status >= 400:
        return BatchResult(status, error=error_of(status, answer.problem, answer.applied))
    return BatchResult(status, stored=Stored(context, answer.acks, ""))
