"""`POST /v1/batch`: many operations in one request, each with its own outcome (docs/http-api.md).

JSON or MessagePack, as the Content-Type says; the answer comes in the same. One failure fails only
itself: what is wrong with one operation becomes its result, what is wrong with the request as a
whole is a problem before any effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from dynamo_core.operations import Get, Operation, Outcome, Put
from dynamo_node.kv_words import (
    CONTENT_TYPE_CHARS_MAX,
    REQUEST_ID_CHARS_MAX,
    TIMEOUT_MS,
    USUAL,
    Ways,
    checked_key,
    context_of,
    count_of,
    problem_of,
    sealed_of,
    shown,
    timeout_s_of,
    word_of,
)
from dynamo_node.problems import FIXED_HEAD, Answer, Problem, bad_parameter

if TYPE_CHECKING:
    from dynamo_node.client_api import Answered, ClientApi

OPERATIONS_MAX = 1024
JSON, MSGPACK = b"application/json", b"application/msgpack"
Encode = Callable[[object], Answer]


class Item(msgspec.Struct, forbid_unknown_fields=True):
    """One operation of a batch."""

    op: Literal["get", "put", "delete"]
    key: bytes
    data: bytes | UnsetType = UNSET
    content_type: str = ""
    context: str = ""
    request_id: str = ""


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a batch; the ways hold for every operation."""

    operations: Annotated[list[Item], Meta(max_length=OPERATIONS_MAX)]
    r: int | str = 0
    w: int | str = 0
    dw: int | str = 0
    strict: bool | None = None
    timeout_ms: int = TIMEOUT_MS


_from_json = msgspec.json.Decoder(BatchRequest)
_from_msgpack = msgspec.msgpack.Decoder(BatchRequest)
_to_json = msgspec.json.Encoder()
_to_msgpack = msgspec.msgpack.Encoder()


def _json_answer(body: object) -> Answer:
    return Answer(200, FIXED_HEAD + b"Content-Type: application/json\r\n", _to_json.encode(body))


def _msgpack_answer(body: object) -> Answer:
    head = FIXED_HEAD + b"Content-Type: application/msgpack\r\n"
    return Answer(200, head, _to_msgpack.encode(body))


def decode(content_type: bytes, body: bytes) -> tuple[BatchRequest, Encode]:
    """What is asked, and how to answer it. Raises Problem that names the field."""
    kind = content_type.partition(b";")[0].strip().lower()
    packed = kind in (MSGPACK, b"application/x-msgpack", b"application/vnd.msgpack")
    if kind and kind != JSON and not packed:
        raise Problem(415, "", "content-type: application/json or application/msgpack")
    try:
        asked = _from_msgpack.decode(body) if packed else _from_json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise bad_parameter("body", str(error)) from None
    return asked, _msgpack_answer if packed else _json_answer


class Batch:
    """The operations of one request under way; answers when the last of them has."""

    def __init__(self, api: ClientApi, asked: BatchRequest, encode: Encode, done: Answered) -> None:
        self._api = api
        self._asked = asked
        self._encode = encode
        self._done = done
        self._results: list[dict[str, Any]] = [{}] * len(asked.operations)
        self._missing = len(asked.operations)

    def start(self, n: int) -> None:
        """Begins all operations, in order. Raises Problem before any of them."""
        ways = self._ways(n)
        if not self._missing:
            self._done(self._encode({"results": []}))
        for at, item in enumerate(self._asked.operations):
            try:
                operation = self._operation(item, ways)
            except Problem as problem:
                self._put(at, {"status": problem.status, "problem": problem.document()})
                continue
            self._api.driver.submit(operation, self._taker(at, item.key))

    def _ways(self, n: int) -> Ways:
        asked = self._asked
        r, w, dw = (
            0 if value == 0 else count_of(field, value, n)
            for field, value in (("r", asked.r), ("w", asked.w), ("dw", asked.dw))
        )
        return USUAL._replace(
            r=r, w=w, dw=dw, strict=asked.strict, timeout_s=timeout_s_of(asked.timeout_ms)
        )

    def _operation(self, item: Item, ways: Ways) -> Operation:
        key = checked_key(item.key)
        if item.op == "get":
            return Get(key=key, r=ways.r, strict=ways.strict, timeout_s=ways.timeout_s)
        value = None
        if item.op == "put":
            if item.data is UNSET:
                raise bad_parameter("data", "a put needs it")
            value = item.data
            if len(value) > self._api.value_bytes_max:
                raise Problem(
                    413, "value-too-large", f"data: at most {self._api.value_bytes_max} bytes"
                )
        context = context_of(self._api.secret, key, item.context) if item.context else None
        return Put(
            key=key, value=value, context=context, w=ways.w, dw=ways.dw, strict=ways.strict,
            content_type=word_of("content_type", item.content_type, CONTENT_TYPE_CHARS_MAX),
            request_id=word_of("request_id", item.request_id, REQUEST_ID_CHARS_MAX),
            timeout_s=ways.timeout_s,
        )  # fmt: skip

    def _taker(self, at: int, key: bytes) -> Callable[[Outcome], None]:
        return lambda outcome: self._put(at, self._result(key, outcome))

    def _result(self, key: bytes, outcome: Outcome) -> dict[str, Any]:
        result: dict[str, Any] = {"status": outcome.status}
        sealed = sealed_of(self._api.secret, key, outcome)
        if sealed:
            result["context"] = sealed
        if outcome.values:
            result["values"] = list(map(shown, outcome.values))
        if outcome.acks is not None:
            result["acks"] = msgspec.structs.asdict(outcome.acks)
        if outcome.applied:
            result["applied"] = outcome.applied
        if outcome.status >= 400:
            result["problem"] = problem_of(outcome, sealed).document()
        return result

    def _put(self, at: int, result: dict[str, Any]) -> None:
        self._results[at] = result
        self._missing -= 1
        if not self._missing:
            self._done(self._encode({"results": self._results}))
