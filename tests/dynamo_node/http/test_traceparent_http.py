"""The header `traceparent` on the client listener: handed on, never an error."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from dynamo_core.protocol.operations import Operation
from tests.dynamo_node.http.client_listener import Listener

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def submitted(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Operation]]:
    """Operations as they enter the node."""
    operations: list[Operation] = []
    submit = listener.node.submit

    def listen(operation: Operation, *rest: object) -> None:
        operations.append(operation)
        submit(operation, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(listener.node, "submit", listen)
    yield operations


def test_an_operation_has_the_trace_of_its_request(
    kv: httpx.Client, submitted: list[Operation]
) -> None:
    headers = {"traceparent": TRACE}
    answers = [
        kv.put("/v1/kv/k", content=b"v", headers=headers),
        kv.get("/v1/kv/k", headers=headers),
        kv.delete("/v1/kv/k", headers=headers),
        kv.post(
            "/v1/batch", headers=headers, json={"operations": [{"op": "get", "key": "aw=="}] * 2}
        ),
    ]
    assert [answer.status_code for answer in answers] == [204, 200, 204, 200]
    assert [operation.trace for operation in submitted] == [TRACE] * 5
    # The recommendation defines no header of an answer.
    assert not any("traceparent" in answer.headers for answer in answers)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([("traceparent", "00-xyz")], id="malformed"),
        pytest.param([("traceparent", "")], id="empty"),
        pytest.param([("traceparent", TRACE), ("traceparent", TRACE)], id="twice"),
        pytest.param([("traceparent", "\u00e9".encode("latin-1"))], id="not-ascii"),
        pytest.param([], id="none"),
    ],
)
def test_a_malformed_one_is_ignored(
    kv: httpx.Client, submitted: list[Operation], headers: list[tuple[str, str]]
) -> None:
    assert kv.put("/v1/kv/k", content=b"v", headers=headers).status_code == 204
    assert kv.get("/v1/kv/k", headers=headers).status_code in (200, 300)
    assert [operation.trace for operation in submitted] == ["", ""]
