"""What clients ask and what they get back: the operations of one key and their outcomes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from dynamo_core.bounds import EXPIRES_MS_MAX, Count
from dynamo_core.causality.context import Context
from dynamo_core.causality.records import Sibling
from dynamo_core.protocol.traceparent import Trace
from dynamo_core.ring.document import RingTarget


class Get(msgspec.Struct, kw_only=True, gc=False):
    """Read one key. `r` 0 and `strict` None mean the ring's defaults; `timeout_s` counts from
    submission.
    `trace`: the traceparent of the request, "" for none."""

    key: bytes
    r: int = 0
    strict: bool | None = None
    timeout_s: float = 1.0
    explain: bool = False
    trace: Trace = ""


class Put(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """Write one key; `value` None deletes. `w`, `dw` 0 and `strict` None mean the ring's defaults.
    `answer_record`: the answer shows the record as a get would (`return=representation`).
    `expires_ms`: when the value expires, in ms of wall time since 1970, 0 for never (S-TTL-1).
    `expires_in_s`: the same in seconds from now, 0 if the client gave none. After `settle` both
    are set, or neither is. `trace`: the traceparent of the request, "" for none."""

    key: bytes
    value: bytes | None
    content_type: str = ""
    context: Context | None = None
    request_id: str = ""
    w: int = 0
    dw: int = 0
    strict: bool | None = None
    timeout_s: float = 1.0
    expires_in_s: int = 0
    answer_record: bool = False
    explain: bool = False
    expires_ms: Count = 0
    trace: Trace = ""


class Acks(msgspec.Struct, array_like=True, gc=False):
    """Distinct nodes that acknowledged a put (S-RW-2)."""

    total: int = 0
    owners: int = 0
    hinted: int = 0
    durable: int = 0


class Asked(msgspec.Struct, gc=False):
    """One line of `explain`: `role` is "owner" or "stand-in"."""

    node: str
    role: str
    answer: str
    ms: float


class Explanation(msgspec.Struct, gc=False):
    """Why the operation ended as it did (docs/http-api.md)."""

    partition: int = 0
    coordinator: str = ""
    asked: list[Asked] = []
    skipped: list[dict[str, str]] = []
    decided: str = ""


class Outcome(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """How an operation ended. `status` is an HTTP status: 200 shown, 204 stored, 404, 409, 503.

    `problem` is a slug of docs/http-api.md or "". `values` are live siblings in canonical order.
    `context` is None only if no node has seen the key. `applied`: "" | "no" | "unknown" (S-RW-5).
    """

    status: int
    problem: str = ""
    detail: str = ""
    values: list[Sibling] = []
    context: Context | None = None
    acks: Acks | None = None
    applied: str = ""
    node: str = ""
    explanation: Explanation | None = None


Operation = Get | Put
Done = Callable[[Outcome], None]
"""Called once, with the outcome of an operation."""


def fill_in(operation: Operation, defaults: RingTarget, wall_ms: int) -> None:
    """Writes the ring's defaults into the open options of the operation (S-RW-1, S-RW-2). The node
    that the client asked does this once. So the options stay the same when the defaults change
    while the operation is forwarded or waits for a read. None is never sent: older nodes without
    `sloppy` could not read it (C17). The expiry becomes an absolute time, by the clock of this node
    (S-TTL-1)."""
    if operation.strict is None:
        operation.strict = not defaults.sloppy
    if isinstance(operation, Get):
        operation.r = operation.r or defaults.r
        return
    w, dw = operation.w, operation.dw
    if w and not dw:
        dw = min(defaults.dw, w)  # with fewer copies there can be only as many fsyncs (C8)
    elif dw and not w:
        w = max(defaults.w, dw)  # a copy that is fsynced is a copy
    operation.w, operation.dw = w or defaults.w, dw or defaults.dw
    if operation.expires_in_s or operation.expires_ms:
        _stamp(operation, wall_ms)


def _stamp(put: Put, wall_ms: int) -> None:
    """Turns seconds into an absolute time, unless the put has one: a node that gets a forwarded put
    must not stamp it again. An older node knows only seconds (C17), so it gets the remaining
    seconds."""
    if put.expires_ms:
        put.expires_in_s = put.expires_in_s or max(1, -((wall_ms - put.expires_ms) // 1000))
    else:
        put.expires_ms = min(wall_ms + put.expires_in_s * 1000, EXPIRES_MS_MAX)
