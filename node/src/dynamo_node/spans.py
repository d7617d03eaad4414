"""Spans of requests that are sampled, over OTLP by the official SDK (the extra [otel]).

Imported only if `otel_endpoint` is set. A request of a client is one span. A call to another node
is one span on each of both nodes. The SDK exports in a separate thread, from a bounded queue: a
span that does not fit is dropped, and the event loop never waits. No span has a key or a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from msgspec.structs import replace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from dynamo_core.protocol.messages import Fetch, Forward, Message, Refused, Store
from dynamo_core.protocol.operations import Done, Outcome, Put
from dynamo_core.protocol.route import Route
from dynamo_core.protocol.traceparent import PARENT_ID, TRACE_ID, sampled, traceparent_of
from dynamo_core.runtime.traced import Say
from dynamo_node.problems import Answer

EXPORT_S_MAX = 2.0
"""An export that has not ended after this time has failed."""
EVERY_S = 1.0
QUEUE_SPANS_MAX = 4096
"""Spans that wait for export; when it is full, new spans are dropped."""
CALLS_MAX = 8192
"""Calls under way that have a span; when it is full, the oldest spans end early."""
PATH = "/v1/traces"
"""The path of an OTLP receiver for spans, below its base URL."""
NAMES: dict[type, str] = {Fetch: "fetch", Store: "store", Forward: "forward"}


class NodeSpans:
    """The spans of one node; `endpoint` is a receiver's base URL, or a complete URL."""

    def __init__(self, endpoint: str, node: str, version: str) -> None:
        whole = endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + PATH
        about = {
            "service.name": "dynamo-ring",
            "service.instance.id": node,
            "service.version": version,
        }
        self._provider = TracerProvider(
            sampler=ParentBased(ALWAYS_OFF), resource=Resource.create(about), shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(endpoint=whole, timeout=EXPORT_S_MAX),
                max_queue_size=QUEUE_SPANS_MAX,
                schedule_delay_millis=EVERY_S * 1000,
            )
        )
        self._tracer = self._provider.get_tracer("dynamo-ring", version)
        self._calls: dict[int, Span] = {}

    def close(self) -> None:
        """Exports the remaining spans. Blocks for one export at most."""
        self._provider.shutdown()

    # ------------------------------------------------------------ requests of clients

    def request(
        self, method: str, route: str, trace: str, done: Callable[[Answer], None]
    ) -> tuple[str, Callable[[Answer], None]]:
        """A client's request begins: the trace of its calls, and the callback for its answer."""
        about = {"http.request.method": method, "http.route": route}
        span = self._begin(f"{method} {route}", SpanKind.SERVER, trace, about)
        if span is None:
            return trace, done

        def answered(answer: Answer) -> None:
            span.set_attribute("http.response.status_code", answer.status)
            _end(span, f"status {answer.status}" if answer.status >= 500 else "")
            done(answer)

        return _trace_of(span, trace), answered

    # ------------------------------------------------------------ calls of peers

    def serving(self, peer: str, messages: Sequence[Message], say: Say) -> Say:
        """As `traced.Spans` says."""
        spans: dict[int, Span] = {}
        for message in messages:
            if isinstance(message, Fetch | Store) and message.trace:
                span = self._of_message(message, message.trace, SpanKind.SERVER, peer)
                if span is not None:
                    spans[message.id] = span
        if not spans:
            return say

        def said(reply: Message) -> None:
            span = spans.pop(reply.id, None)
            if span is not None:
                _end(span, _fault(reply))
            say(reply)

        return said

    def coordinating(self, peer: Route, put: Put, done: Done) -> Done:
        """As `traced.Spans` says."""
        span = self._begin("coordinate", SpanKind.SERVER, put.trace, {"dynamo.peer": str(peer)})
        if span is None:
            return done
        put.trace = _trace_of(span, put.trace)

        def ended(outcome: Outcome) -> None:
            _end(span, outcome.problem)
            done(outcome)

        return ended

    # ------------------------------------------------------------ calls to peers

    def calling(self, peer: Route, messages: Sequence[Message]) -> None:
        """As `traced.Spans` says."""
        for message in messages:
            if isinstance(message, Fetch | Store):
                if message.trace and message.id not in self._calls:
                    message.trace = self._call(str(peer), message, message.trace)
            elif (
                isinstance(message, Forward) and message.put.trace and message.id not in self._calls
            ):
                # If the peer stays silent, this node coordinates the same put.
                trace = self._call(str(peer), message, message.put.trace)
                message.put = replace(message.put, trace=trace)

    def _call(self, peer: str, message: Message, trace: str) -> str:
        span = self._of_message(message, trace, SpanKind.CLIENT, peer)
        if span is None:
            return trace
        while len(self._calls) >= CALLS_MAX:
            _end(self._calls.pop(next(iter(self._calls))), "too many calls under way")
        self._calls[message.id] = span
        return _trace_of(span, trace)

    def answered(self, replies: Sequence[Message]) -> None:
        """As `traced.Spans` says."""
        if self._calls:
            for reply in replies:
                span = self._calls.pop(reply.id, None)
                if span is not None:
                    _end(span, _fault(reply))

    def unanswered(self, call_id: int) -> None:
        """As `traced.Spans` says."""
        span = self._calls.pop(call_id, None)
        if span is not None:
            _end(span, "no answer before the end of the wait")

    # ------------------------------------------------------------ inside

    def _of_message(self, message: Message, trace: str, kind: SpanKind, peer: str) -> Span | None:
        about = {"dynamo.peer": peer}
        if isinstance(message, Store):
            about |= {"dynamo.cause": message.cause, "dynamo.fsync": str(message.sync).lower()}
            if message.target:
                about["dynamo.hint_for"] = message.target
        return self._begin(NAMES[type(message)], kind, trace, about)

    def _begin(self, name: str, kind: SpanKind, trace: str, about: dict[str, str]) -> Span | None:
        """A span under a traceparent; None if it is not sampled or there is none."""
        trace = traceparent_of(trace)
        if not sampled(trace):
            return None
        parent = SpanContext(
            int(trace[TRACE_ID], 16),
            int(trace[PARENT_ID], 16),
            is_remote=True,
            trace_flags=TraceFlags(int(trace[-2:], 16)),
        )
        context = set_span_in_context(NonRecordingSpan(parent), Context())
        return self._tracer.start_span(name, context, kind, about)


def _trace_of(span: Span, trace: str) -> str:
    """The traceparent of the calls of a span; `trace` is the span's own."""
    return f"{trace[:35]}-{span.get_span_context().span_id:016x}-{trace[-2:]}"


def _fault(reply: Message) -> str:
    return reply.reason.words if isinstance(reply, Refused) else ""


def _end(span: Span, fault: str) -> None:
    if fault:
        span.set_status(Status(StatusCode.ERROR, fault))
    span.end()
