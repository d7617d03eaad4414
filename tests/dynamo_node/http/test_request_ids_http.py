"""Request ids as clients meet them (S-REQ-2), on both fronts and in a batch."""

from __future__ import annotations

import pytest

from dynamo_node.http_limits import Limits
from tests.dynamo_node.http.client_listener import Listener

REUSED = "https://dynamo-ring.dev/problems/request-id-reused"


@pytest.mark.parametrize("front", ["protocol", "asgi"])
def test_an_id_of_another_write_is_a_conflict(front: str) -> None:
    listener = Listener(front, Limits(1 << 20))
    once = {"dynamo-request-id": "order-7"}
    with listener.client() as kv:
        for _ in range(2):
            assert kv.put("/v1/kv/order", content=b"paid", headers=once).status_code == 204
        for other in (
            {"content-type": "t/p"},
            {"content-encoding": "br"},
            {"dynamo-expires-in": "60"},
        ):
            refused = kv.put("/v1/kv/order", content=b"paid", headers=once | other)
            assert (refused.status_code, refused.json()["type"]) == (409, REUSED)
        refused = kv.put("/v1/kv/order", content=b"refunded", headers=once)
        assert (refused.status_code, refused.json()["type"]) == (409, REUSED)
        item = {"op": "put", "key": "b3JkZXI=", "data": "cmVmdW5kZWQ=", "request_id": "order-7"}
        other = item | {"request_id": "order-8"}
        results = kv.post("/v1/batch", json={"operations": [item, other]}).json()["results"]
        assert [result["status"] for result in results] == [409, 204]
        assert results[0]["problem"]["type"] == REUSED
        shown = {value["data"] for value in kv.get("/v1/kv/order").json()}
        assert shown == {"cGFpZA==", "cmVmdW5kZWQ="}, "what was first, and the one under its own id"
    listener.stop()
