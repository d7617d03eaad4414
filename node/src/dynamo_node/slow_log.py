"""Slow operations in the log: one line each, never with a key or a value (SECURITY.md)."""

from __future__ import annotations

from typing import Any

import structlog

from dynamo_core.protocol.traceparent import traceparent_of
from dynamo_core.runtime.slow import Slow, SlowBook
from dynamo_node.clock import now_s

log = structlog.get_logger()


def tell(book: SlowBook) -> None:
    """Logs the slow operations that are not logged yet."""
    while book.untold:
        line = book.untold.popleft()
        log.warning("a slow operation", kind=line.kind, ms=_ms(line.seconds), **fields_of(line))
    if suppressed := book.suppressed(now_s()):
        log.warning("further slow operations were not logged", left_out=suppressed)


def tell_batch(book: SlowBook, seconds: float, operations: int, trace: str) -> None:
    """A batch was answered; it is logged if it was slow as a whole."""
    if seconds >= book.limit_s and book.wants(now_s()):
        line = Slow(kind="batch", seconds=seconds, operations=operations, trace=trace)
        book.untold.append(line)


def fields_of(line: Slow) -> dict[str, Any]:
    """The fields of a line besides kind and time; empty ones are left out."""
    fields: dict[str, Any] = {}
    if line.kind == "batch":
        fields["operations"] = line.operations
    else:
        fields |= {"key_hash": line.position, "status": line.status, "hedged": line.hedged}
        word = "answers" if line.kind == "get" else "acks"
        fields[word] = f"{line.answers} of {'r' if line.kind == 'get' else 'w'}={line.wanted}"
        if line.kind != "get":
            fields["durable"] = f"{line.durable} of dw={line.dw}"
        fields["late"] = [f"{one.node}: {one.answer} after {one.ms:g} ms" for one in line.late]
        fields["silent"] = line.silent
    if line.forwarded_to:
        fields["forwarded_to"] = line.forwarded_to
    if trace := traceparent_of(line.trace):
        fields["traceparent"] = trace
    return fields


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
