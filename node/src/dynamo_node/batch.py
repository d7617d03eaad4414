"""`POST /v1/batch`: many operations in one request, each with its own outcome (docs/http-api.md).

JSON or MessagePack, as the Content-Type says; the answer has the same format. An error in one
operation becomes the result of that operation. An error in the request as a whole is a problem,
before any effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import UNSET, Meta, UnsetType

from dynamo_core.protocol.operations import Get, Operation, Outcome, Put
from dynamo_node.access import UNNAMED, Asker, forbidden, may
from dynamo_node.budget import Books, overloaded
from dynamo_node.clock import now_s
from dynamo_node.driver import Driver
from dynamo_node.expiry import set_expiry
from dynamo_node.http_codec import (
    REQUEST_ID_CHARS_MAX,
    TIMEOUT_MS,
    USUAL,
    Ways,
    check_levels,
    checked_key,
    context_of,
    count_of,
    problem_of,
    sealed_of,
    shown,
    timeout_s_of,
)
from dynamo_node.http_limits import Limits
from dynamo_node.keyring import Keyring
from dynamo_node.media import JSON, kept_word, media_of, word_of
from dynamo_node.problems import FIXED_HEAD, Answer, Problem, bad_parameter
from dynamo_node.slow_log import tell_batch

OPERATIONS_MAX = 1024
WAVE_MIN, WAVE_MAX = 16, 128
"""Operations of one batch at once: at the start, and when the values are small."""
WAVE_BYTES_MAX = 8 * 1024 * 1024
"""Bytes of values of one batch under way, estimated from the largest value until now."""
MSGPACK = b"application/msgpack"
_EXPIRY_FIELDS = ("expires_in_s", "expires_at")
Encode = Callable[[object], Answer]
Answered = Callable[[Answer], None]


class Item(msgspec.Struct, forbid_unknown_fields=True):
    """One operation of a batch."""

    op: Literal["get", "put", "delete"]
    key: bytes
    data: bytes | UnsetType = UNSET
    content_type: str = ""
    context: str = ""
    request_id: str = ""
    expires_in_s: int | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET
    """RFC 3339, also in MessagePack."""
    content_encoding: str = ""


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a batch; the options hold for every operation."""

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
    """The request, and the encoder of its answer. Raises Problem that names the field."""
    kind = media_of(content_type)
    packed = kind in (MSGPACK, b"application/x-msgpack", b"application/vnd.msgpack")
    if kind != JSON and not packed:
        raise Problem(415, "", "content-type: application/json or application/msgpack")
    try:
        asked = _from_msgpack.decode(body) if packed else _from_json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise bad_parameter("body", str(error)) from None
    return asked, _msgpack_answer if packed else _json_answer


def bytes_of(outcome: Outcome) -> int:
    """Bytes of the values in the outcome."""
    return sum(len(sibling.value or b"") for sibling in outcome.values)


class Listener(Protocol):
    """What a batch needs of its listener; `client_api.ClientApi` is one."""

    driver: Driver
    books: Books
    limits: Limits
    keyring: Keyring
    value_bytes_max: int


class Batch:
    """The operations of one request; answers after the last of them has answered.

    They begin in waves, so that a long batch yields to others (T-5). The first wave has few gets,
    because the size of their values is unknown; if it was small, the next wave has more. When the
    time of the batch is over, operations that have not begun are refused. A get whose values do not
    fit into the answer is refused too (T-4).
    """

    def __init__(
        self,
        listener: Listener,
        asked: BatchRequest,
        encode: Encode,
        done: Answered,
        asker: Asker = UNNAMED,
        trace: str = "",
    ) -> None:
        self._listener = listener
        self._asked = asked
        self._encode = encode
        self._done = done
        self._principal = asker.address
        self._share = asker.share
        self._who = None if asker.known is None else asker.known.who
        self._trace = trace
        self._results: list[dict[str, Any]] = [{}] * len(asked.operations)
        self._missing = len(asked.operations)
        self._next = self._under_way = self._held = self._largest = self._forbidden = 0
        self._beginning = self._full = False

    def start(self, n: int) -> None:
        """Begins operations, in order. Raises Problem before any of them begins."""
        self._ways_asked = self._ways(n)
        self._began = now_s()
        self._until = self._began + self._ways_asked.timeout_s
        if not self._missing:
            self._done(self._encode({"results": []}))
        else:
            self._begin()

    def _room(self) -> int:
        """How many more operations may begin."""
        done = self._next - self._under_way
        most = min(WAVE_MAX, WAVE_MIN + done)
        if self._largest:
            most = min(most, max(1, WAVE_BYTES_MAX // self._largest))
        return most - self._under_way

    def _begin(self) -> None:
        """Begins as many operations as allowed, at most one wave in one turn of the loop."""
        self._beginning = True
        turn = WAVE_MAX
        count = len(self._results)
        while self._next < count and turn and self._room() > 0:
            at, self._next = self._next, self._next + 1
            turn -= 1
            self._under_way += 1
            self._begin_one(at, self._asked.operations[at])
        self._beginning = False
        if self._next < count and self._room() > 0:
            self._beginning = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin_one(self, at: int, item: Item) -> None:
        left_s = self._until - now_s()
        refusal: Problem | None = None
        try:
            if self._who is not None and not may(self._who, item.op, item.key):
                self._forbidden += 1
                raise forbidden(f"{self._who.name} has no right to this")
            if left_s <= 0:
                raise overloaded(503)
            if self._full and item.op == "get":
                raise Problem(503, "overloaded", "the answer is full: send the rest again")
            operation = self._operation(item, self._ways_asked._replace(timeout_s=left_s))
            operation.trace = self._trace
        except Problem as problem:
            refusal = problem
        if refusal is not None:  # not in the `except` block, as in `ClientApi.answer`
            self._put(at, self._refused(refusal))
            return
        self._listener.driver.submit(operation, self._taker(at, item.key), self._share)

    def _refused(self, problem: Problem) -> dict[str, Any]:
        result: dict[str, Any] = {"status": problem.status, "problem": problem.document()}
        if problem.status in (403, 429, 503):
            result["applied"] = "no"
        return result

    def _ways(self, n: int) -> Ways:
        asked = self._asked
        r, w, dw = (
            0 if value == 0 else count_of(field, value, n)
            for field, value in (("r", asked.r), ("w", asked.w), ("dw", asked.dw))
        )
        check_levels(w, dw)
        return USUAL._replace(
            r=r, w=w, dw=dw, strict=asked.strict, timeout_s=timeout_s_of(asked.timeout_ms)
        )

    def _operation(self, item: Item, ways: Ways) -> Operation:
        key = checked_key(item.key)
        seconds = None if item.expires_in_s is UNSET else item.expires_in_s
        at = None if item.expires_at is UNSET else item.expires_at
        if item.op == "get":
            if seconds is not None or at is not None:
                field = _EXPIRY_FIELDS[seconds is None]
                raise bad_parameter(field, "a get has no expiry")
            return Get(key=key, r=ways.r, strict=ways.strict, timeout_s=ways.timeout_s)
        value = None
        if item.op == "put":
            if item.data is UNSET:
                raise bad_parameter("data", "required in a put")
            value = item.data
            if len(value) > self._listener.value_bytes_max:
                raise Problem(
                    413, "value-too-large", f"data: at most {self._listener.value_bytes_max} bytes"
                )
        context = None
        if item.context:
            context = context_of(self._listener.keyring.now.contexts, key, item.context)
        put = Put(
            key=key,
            value=value,
            context=context,
            w=ways.w,
            dw=ways.dw,
            strict=ways.strict,
            content_type=kept_word(
                ("content_type", "content_encoding"), item.content_type, item.content_encoding
            ),
            request_id=word_of("request_id", item.request_id, REQUEST_ID_CHARS_MAX),
            timeout_s=ways.timeout_s,
        )
        set_expiry(put, _EXPIRY_FIELDS, seconds, at)
        return put

    def _taker(self, at: int, key: bytes) -> Callable[[Outcome], None]:
        return lambda outcome: self._put(at, self._result(key, outcome))

    def _result(self, key: bytes, outcome: Outcome) -> dict[str, Any]:
        if outcome.values and (refusal := self._hold(bytes_of(outcome))) is not None:
            return self._refused(refusal)
        result: dict[str, Any] = {"status": outcome.status}
        sealed = sealed_of(self._listener.keyring.now.contexts, key, outcome)
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

    def _hold(self, size: int) -> Problem | None:
        """Reserves room for values in the answer; returns the refusal if there is no room."""
        listener = self._listener
        self._largest = max(self._largest, size)
        if self._held and self._held + size > listener.limits.batch_answer_bytes_max:
            self._full = True
            return Problem(503, "overloaded", "the answer is full: send the rest again")
        if status := listener.books.room_for(self._principal, size):
            return overloaded(status)
        listener.books.answers.take(self._principal, size)
        self._held += size
        return None

    def _put(self, at: int, result: dict[str, Any]) -> None:
        self._results[at] = result
        self._missing -= 1
        self._under_way -= 1
        if self._missing:
            if not self._beginning:
                self._beginning = True
                asyncio.get_running_loop().call_soon(self._begin)
            return
        if self._forbidden and self._who is not None:
            count, of = self._forbidden, len(self._results)
            audit = self._listener.driver.audit
            audit.items_forbidden(self._who.name, count, of, self._principal)
        answer = self._encode({"results": self._results})
        self._results = []
        if self._held:
            self._listener.books.answers.give(self._principal, self._held)
        took_s, slow = now_s() - self._began, self._listener.driver.node.slow
        tell_batch(slow, took_s, self._next, self._trace)
        self._done(answer)
