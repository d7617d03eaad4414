"""OpenTelemetry: real nodes export spans to a receiver of OTLP that decodes the protobuf."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import NamedTuple

import httpx
import pytest
from benchmarks.cluster import QUICK
from benchmarks.processes import until
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from dynamo_client.local_nodes import LocalNode, create_ring

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE_ID[::-1]}-{PARENT_ID}-00"}
KEY, VALUE = "a-name-of-a-customer", b"worth-more-than-gold"
WAIT_S_MAX = 60.0


class Exported(NamedTuple):
    """One span, and the node that exported it."""

    node: str
    name: str
    kind: int
    id: str
    parent: str
    trace: str
    failed: bool
    about: dict[str, str]


class Receiver:
    """Takes spans as a collector does."""

    def __init__(self) -> None:
        self.spans: list[Exported] = []
        self.bodies: list[bytes] = []
        self._lock = Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.take(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def take(self, body: bytes) -> None:
        with self._lock:
            self.bodies.append(body)
            for whole in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {a.key: a.value.string_value for a in whole.resource.attributes}
                for scope in whole.scope_spans:
                    self.spans += [exported(named["service.instance.id"], s) for s in scope.spans]

    def named(self, name: str, kind: int) -> list[Exported]:
        return [span for span in self.spans if (span.name, span.kind) == (name, kind)]


def exported(node: str, span: Span) -> Exported:
    assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
    about = {a.key: a.value.string_value or str(a.value.int_value) for a in span.attributes}
    return Exported(
        node,
        span.name,
        span.kind,
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.trace_id.hex(),
        span.status.code == 2,
        about,
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join(30.0)
    made.server.server_close()


@contextmanager
def pair(directory: Path, endpoint: str) -> Iterator[list[LocalNode]]:
    """Two nodes, each an owner of everything."""
    nodes = [LocalNode(name, directory / name) for name in ("a", "b")]
    try:
        for node in nodes:
            node.start(*QUICK, f"--otel-endpoint={endpoint}")
        for node in nodes:
            until(node.lives, f"{node.name} does not start", WAIT_S_MAX)
        create_ring(nodes, partitions=16, n=2, r=2, w=2)
        for node in nodes:
            until(node.ready, f"{node.name} is not ready", WAIT_S_MAX)
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def put_well(node: LocalNode, headers: dict[str, str]) -> None:
    """Once both nodes know that the other is there."""
    url = f"{node.endpoint}/v1/kv/{KEY}?w=2&timeout_ms=5000"
    until(
        lambda: httpx.put(url, content=VALUE, headers=headers).status_code == 204,
        "no put is done",
        WAIT_S_MAX,
    )


def test_one_trace_goes_through_two_nodes(tmp_path: Path, receiver: Receiver) -> None:
    with pair(tmp_path, receiver.url) as (a, b):
        put_well(a, NOT_SAMPLED)
        assert httpx.put(
            f"{a.endpoint}/v1/kv/{KEY}?w=2&dw=2", content=VALUE, headers=SAMPLED
        ).is_success
        assert httpx.get(f"{a.endpoint}/v1/kv/{KEY}?r=2", headers=SAMPLED).status_code in (200, 300)
        wanted = [
            ("PUT /v1/kv/{key}", Span.SPAN_KIND_SERVER),
            ("store", Span.SPAN_KIND_CLIENT),
            ("store", Span.SPAN_KIND_SERVER),
            ("GET /v1/kv/{key}", Span.SPAN_KIND_SERVER),
            ("fetch", Span.SPAN_KIND_CLIENT),
            ("fetch", Span.SPAN_KIND_SERVER),
        ]
        until(lambda: all(receiver.named(*one) for one in wanted), "spans are missing", WAIT_S_MAX)
        a.stop()
        b.stop()
    for number in (0, 3):
        request, call, work = (receiver.named(*one)[0] for one in wanted[number : number + 3])
        assert (request.node, call.node, work.node) == ("a", "a", "b")
        assert [request.parent, call.parent, work.parent] == [PARENT_ID, request.id, call.id]
        assert (call.about["dynamo.peer"], work.about["dynamo.peer"]) == ("b", "a")
    assert {span.trace for span in receiver.spans} == {TRACE_ID}, "the rest is not sampled"
    assert not any(span.failed for span in receiver.spans)
    assert not any(KEY.encode() in body or VALUE in body for body in receiver.bodies)


def test_a_receiver_that_is_not_there_costs_no_request_and_no_clean_end(tmp_path: Path) -> None:
    with pair(tmp_path, "http://127.0.0.1:1") as (a, b):
        for _ in range(20):
            put_well(a, SAMPLED)
        for node in (a, b):
            process = node.process
            assert process is not None
            node.stop()
            assert not process.alive and "an internal error" not in node.log.read_text()


def test_without_the_extra_the_setting_is_refused_in_one_line(tmp_path: Path) -> None:
    """Refused, not ignored, because the person who set it expects spans."""
    program = (
        "import sys; sys.modules['opentelemetry.exporter'] = None;"
        "from dynamo_node.app import main; main(sys.argv[1:])"
    )
    flags = [f"--data-dir={tmp_path / 'a'}", "--otel-endpoint=http://127.0.0.1:4318"]
    flags += [f"--{which}-listen=127.0.0.1:0" for which in ("client", "admin", "peer")]
    ended = subprocess.run(
        [sys.executable, "-c", program, *flags], capture_output=True, text=True, timeout=WAIT_S_MAX
    )
    assert ended.returncode == 2 and not (tmp_path / "a").exists()
    (line,) = [text for text in ended.stderr.splitlines() if text.startswith("dynamo-node:")]
    assert line.startswith("dynamo-node: otel_endpoint: needs the package's extra [otel] (open")


@pytest.mark.parametrize("url", ["collector:4318", "ftp://collector", "http://"])
def test_a_receiver_is_a_url(url: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "dynamo_node.app", f"--otel-endpoint={url}"],
        capture_output=True,
        text=True,
        timeout=WAIT_S_MAX,
    )
    assert ended.returncode == 2
    assert ended.stderr == "dynamo-node: otel_endpoint: needs a URL like http://host:4318\n"
