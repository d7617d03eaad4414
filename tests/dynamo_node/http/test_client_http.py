"""The client listener's words (docs/http-api.md), through real HTTP, on both fronts."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from email import message_from_bytes, policy
from http.client import HTTPConnection
from time import monotonic
from typing import Any

import httpx
import msgspec
import pytest

from dynamo_node.http_limits import Limits
from tests.dynamo_node.http.client_listener import DEADLINE_S, Listener

SLUGS = "https://dynamo-ring.dev/problems/"


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return "/v1/kv/" + b64encode(request.node.name.encode()).decode().replace("=", "")


def raw(listener: Listener, method: str, target: bytes, body: bytes = b"") -> httpx.Response:
    """With the target unchanged: httpx would normalize it."""
    connection = HTTPConnection(*listener.address)
    connection.request(method, target.decode(), body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return httpx.Response(answer.status, headers=answer.getheaders(), content=content)


def slug(response: httpx.Response) -> tuple[int, str]:
    """Of a refusal that is a problem in every part."""
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code and body["title"] and body["detail"]
    if response.status_code in (429, 503):
        assert response.headers["retry-after"] == "1"
    return response.status_code, body["type"].removeprefix(SLUGS)


def test_put_get_delete(kv: httpx.Client, key: str) -> None:
    absent = kv.get(key)
    assert slug(absent) == (404, "not-found")
    assert "dynamo-context" not in absent.headers
    answer = kv.put(key, content=b"v\x00\xff", headers={"content-type": "image/x"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-length" not in answer.headers
    assert answer.headers["dynamo-acks"] == "total=1 owners=1 hinted=0 durable=1"
    assert answer.headers["dynamo-node"] == "a"
    got = kv.get(key)
    assert (got.status_code, got.content) == (200, b"v\x00\xff")
    assert got.headers["content-type"] == "image/x"
    assert got.headers["dynamo-siblings"] == "1"
    for name, value in (("cache-control", "no-store"), ("x-content-type-options", "nosniff")):
        assert got.headers[name] == value == answer.headers[name] == absent.headers[name]
    deleted = kv.delete(key, headers={"dynamo-context": got.headers["dynamo-context"]})
    assert deleted.status_code == 204
    gone = kv.get(key)
    assert slug(gone) == (404, "not-found")
    assert gone.headers["dynamo-context"], "S-CTX-2: also where a tombstone hides"


def test_siblings_are_shown_and_merged(kv: httpx.Client, key: str) -> None:
    for value in (b"one", b"two", b"three"):
        assert kv.put(key, content=value).status_code == 204
    found = kv.get(key)
    assert (found.status_code, found.headers["dynamo-siblings"]) == (300, "3")
    values = found.json()
    assert {b64decode(v["data"]) for v in values} == {b"one", b"two", b"three"}
    assert len({v["dot"] for v in values}) == 3
    assert {v["content_type"] for v in values} == {"application/octet-stream"}
    whole = kv.get(key, headers={"accept": "text/html;q=0.3, application/json"})
    assert whole.status_code == 200
    assert whole.json()["values"] == values
    assert b64decode(whole.json()["key"]).decode() == key.removeprefix("/v1/kv/")
    assert whole.json()["context"] == whole.headers["dynamo-context"]
    parts = kv.get(key, headers={"accept": "multipart/mixed"})
    assert parts.status_code == 300
    head = f"Content-Type: {parts.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + parts.content, policy=policy.HTTP)
    assert [p.get_payload(decode=True) for p in message.iter_parts()] == [  # type: ignore[attr-defined]
        b64decode(v["data"]) for v in values
    ]
    assert [p["dynamo-dot"] for p in message.iter_parts()] == [v["dot"] for v in values]  # type: ignore[attr-defined]
    assert len({r.headers["etag"] for r in (found, whole, parts)}) == 3
    context = {"dynamo-context": found.headers["dynamo-context"]}
    merged = kv.put(key, content=b"all", headers={**context, "prefer": "return=representation"})
    assert (merged.status_code, merged.content) == (200, b"all")
    assert kv.get(key).content == b"all"


def test_a_bare_put_s_context_covers_only_what_its_writer_saw(kv: httpx.Client, key: str) -> None:
    kv.put(key, content=b"unseen")
    mine = kv.put(key, content=b"mine").headers["dynamo-context"]
    kv.put(key, content=b"mine too", headers={"dynamo-context": mine})
    assert {b64decode(v["data"]) for v in kv.get(key).json()} == {b"unseen", b"mine too"}


def test_a_request_id_makes_one_event(kv: httpx.Client, key: str) -> None:
    for _ in range(3):
        assert kv.put(key, content=b"v", headers={"dynamo-request-id": "r"}).status_code == 204
    assert kv.get(key).status_code == 200


def test_head_is_get_without_a_body(kv: httpx.Client, key: str) -> None:
    assert kv.head(key).status_code == 404
    kv.put(key, content=b"value")
    head, got = kv.head(key), kv.get(key)
    assert (head.status_code, head.content) == (200, b"")
    volatile = ("date", "dynamo-context")
    assert {k: v for k, v in head.headers.items() if k not in volatile} == {
        k: v for k, v in got.headers.items() if k not in volatile
    }


def test_delete_without_a_context_deletes_what_is_there(kv: httpx.Client, key: str) -> None:
    assert kv.delete(key).status_code == 204
    kv.put(key, content=b"one")
    kv.put(key, content=b"two")
    assert kv.delete(key).status_code == 204
    assert kv.get(key).status_code == 404


KEYS = {
    b"%ff": b"\xff", b"%fe": b"\xfe", b"%80": b"\x80", b"%00": b"\0", b"a/b//c": b"a/b//c",
    b"%2e%2e%2f": b"../", b"../x": b"../x", b".": b".", b"+": b"+", b"%2B%20": b"+ ",
    b"%25ff": b"%ff", b"a=b&c;d": b"a=b&c;d", b"%C3%A9": b"\xc3\xa9", b"k" * 1024: b"k" * 1024,
    b"%3f%23": b"?#",
}  # fmt: skip


def test_keys_are_bytes_and_no_two_alias(listener: Listener) -> None:
    """S-KEY-1, C14."""
    for target, meant in KEYS.items():
        assert raw(listener, "PUT", b"/v1/kv/" + target, meant).status_code == 204
    for target, meant in KEYS.items():
        answer = raw(listener, "GET", b"/v1/kv/" + target)
        assert (answer.status_code, answer.content) == (200, meant)
        quoted = b"".join(b"%%%02x" % byte for byte in meant)
        assert raw(listener, "GET", b"/v1/kv/" + quoted).content == meant


@pytest.mark.parametrize("target", [b"", b"%", b"%f", b"%zz", b"a%2", b"k" * 1025])
def test_bad_keys(listener: Listener, target: bytes) -> None:
    assert slug(raw(listener, "GET", b"/v1/kv/" + target)) == (400, "bad-key")


BAD_QUERIES = {
    "r=0": "r", "r=2": "r", "r=-1": "r", "r=1_0": "r", "r=nan": "r", "r=": "r", "w=many": "w",
    "dw=1.0": "dw", "strict=1": "strict", "explain=True": "explain", "timeout_ms=0": "timeout_ms",
    "timeout_ms=30001": "timeout_ms", "timeout_ms=1e3": "timeout_ms", "r=1&r=1": "r", "n=1": "n",
    "r=1&&w=1": "query", "R=1": "R",
}  # fmt: skip


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_bad_queries_name_the_field(kv: httpx.Client, query: str) -> None:
    refused = kv.put(f"/v1/kv/bad?{query}", content=b"v")
    assert slug(refused) == (400, "bad-parameter")
    assert refused.json()["detail"].startswith(BAD_QUERIES[query] + ": ")
    assert kv.get("/v1/kv/bad").status_code == 404


@pytest.mark.parametrize("query", ["r=one&strict=false", "w=quorum&dw=all", "timeout_ms=30000"])
def test_good_queries(kv: httpx.Client, key: str, query: str) -> None:
    assert kv.put(f"{key}?{query}", content=b"v").status_code == 204
    assert kv.get(f"{key}?{query}").status_code in (200, 300)


BAD_FIELDS = {
    "dynamo-context": "no", "dynamo-request-id": "r" * 65, "dynamo-expires-in": "soon",
    "content-type": "t" * 257, "if-match": '"etag"', "if-none-match": "*",
}  # fmt: skip


@pytest.mark.parametrize("field", BAD_FIELDS)
def test_bad_fields_are_named(kv: httpx.Client, field: str) -> None:
    refused = kv.put("/v1/kv/bad", content=b"v", headers={field: BAD_FIELDS[field]})
    assert slug(refused) == (400, "bad-context" if field == "dynamo-context" else "bad-parameter")
    twice = [("dynamo-request-id", "a"), ("dynamo-request-id", "b")]
    assert slug(kv.put("/v1/kv/bad", content=b"v", headers=twice)) == (400, "bad-parameter")
    assert kv.get("/v1/kv/bad").status_code == 404


def test_contexts_belong_to_their_key(kv: httpx.Client, key: str) -> None:
    context = kv.put(key, content=b"v").headers["dynamo-context"]
    for text in (context + "A", context[:-2] + "__", context.swapcase()):
        refused = kv.put(key, content=b"w", headers={"dynamo-context": text})
        assert slug(refused) == (400, "bad-context")
    other = kv.put(key + "x", content=b"w", headers={"dynamo-context": context})
    assert slug(other) == (400, "bad-context")


def test_an_expiry_reads_as_a_delete(kv: httpx.Client, key: str) -> None:
    kv.put(key, content=b"v", headers={"dynamo-expires-in": "3600"})
    assert kv.get(key).status_code == 200
    kv.put(key + "x", content=b"v", headers={"dynamo-expires-in": "1"})
    end = monotonic() + DEADLINE_S
    while kv.get(key + "x").status_code == 200:
        assert monotonic() < end, "a value of one second is still there"
    assert slug(kv.get(key + "x")) == (404, "not-found")


def test_explain(kv: httpx.Client, key: str) -> None:
    put = kv.put(f"{key}?explain=true", content=b"v")
    assert put.status_code == 200
    assert {"status", "partition", "coordinator", "asked", "skipped", "decided"} <= set(put.json())
    got = kv.get(f"{key}?explain=true").json()
    assert (got["status"], got["coordinator"]) == (200, "a")
    assert [(a["node"], a["role"]) for a in got["asked"]] == [("a", "owner")]


def test_too_many_siblings_need_a_context(kv: httpx.Client, key: str) -> None:
    """S-SIB-1."""
    for index in range(100):
        assert kv.put(key, content=b"%d" % index).status_code == 204
    refused = kv.put(key, content=b"one more")
    assert slug(refused) == (409, "too-many-siblings")
    context = refused.headers["dynamo-context"]
    assert refused.json()["context"] == context
    assert kv.put(key, content=b"all", headers={"dynamo-context": context}).status_code == 204
    assert kv.get(key).content == b"all"


def test_values_up_to_the_cap(kv: httpx.Client, key: str) -> None:
    for value in (b"", b"v" * (1 << 20)):
        assert kv.put(key, content=value).status_code == 204
        got = kv.get(key)
        context = {"dynamo-context": got.headers["dynamo-context"]}
        assert (got.status_code, got.content) == (200, value)
        assert kv.delete(key, headers=context).status_code == 204
    refused = kv.put(key, content=b"v" * ((1 << 20) + 1))
    assert slug(refused) == (413, "value-too-large")
    assert refused.headers["dynamo-applied"] == "no"


def test_other_methods_and_paths(kv: httpx.Client) -> None:
    assert slug(kv.patch("/v1/kv/k")) == (405, "method-not-allowed")
    assert kv.patch("/v1/kv/k").headers["allow"] == "GET, HEAD, PUT, DELETE"
    assert kv.post("/v1/ring").headers["allow"] == "GET, HEAD"
    assert kv.get("/v1/batch").headers["allow"] == "POST"
    for path in ("/", "/metrics", "/livez", "/docs", "/v1/status", "/v1/kv"):
        assert slug(kv.get(path)) == (404, "not-found")


def test_the_ring(kv: httpx.Client) -> None:
    ring = kv.get("/v1/ring")
    document = ring.json()
    assert ring.headers["etag"] == f'"{document["epoch"]}-{document["digest"]}"'
    assert (document["cluster_id"], len(document["entries"])) == ("c", 16)
    again = kv.get("/v1/ring", headers={"if-none-match": ring.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert slug(kv.get("/v1/ring?full=1")) == (400, "bad-parameter")


def text(data: bytes) -> str:
    return b64encode(data).decode()


def test_a_batch_in_json(kv: httpx.Client, key: str) -> None:
    one, two = text(b"\xff1" + key.encode()), text(b"\xff2" + key.encode())
    asked: list[dict[str, Any]] = [
        {"op": "put", "key": one, "data": text(b"v"), "content_type": "t/x", "request_id": "r"},
        {"op": "get", "key": one},
        {"op": "get", "key": two},
        {"op": "put", "key": two, "data": text(b"w"), "context": "forged"},
        {"op": "put", "key": ""},
        {"op": "put", "key": two},
        {"op": "delete", "key": one},
    ]
    answer = kv.post("/v1/batch", json={"operations": asked, "w": "all", "timeout_ms": 5000})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [r["status"] for r in results] == [204, 200, 404, 400, 400, 400, 204]
    assert results[0]["acks"] == {"total": 1, "owners": 1, "hinted": 0, "durable": 1}
    (value,) = results[1]["values"]
    assert (b64decode(value["data"]), value["content_type"]) == (b"v", "t/x")
    problems = [r["problem"]["type"].removeprefix(SLUGS) for r in results[2:6]]
    assert problems == ["not-found", "bad-context", "bad-key", "bad-parameter"]
    asked = [
        {"op": "put", "key": two, "data": "", "context": context}
        for context in (results[0]["context"], "A" * 16385)
    ]
    for other in kv.post("/v1/batch", json={"operations": asked}).json()["results"]:
        assert other["problem"]["type"] == SLUGS + "bad-context"


def test_a_batch_in_messagepack(kv: httpx.Client, key: str) -> None:
    asked = {"operations": [{"op": "put", "key": key.encode(), "data": b"\x00v"}]}
    asked["operations"].append({"op": "get", "key": key.encode()})
    answer = kv.post(
        "/v1/batch",
        content=msgspec.msgpack.encode(asked),
        headers={"content-type": "application/msgpack"},
    )
    assert answer.headers["content-type"] == "application/msgpack"
    results = msgspec.msgpack.decode(answer.content)["results"]
    assert results[0]["status"] == 204
    assert results[1]["values"][0]["data"] == b"\x00v"


BAD_BATCHES = {
    "not JSON": (b"{", "body"),
    "no operations": (b"{}", "operations"),
    "an unknown word": (b'{"operations":[],"n":1}', "`n`"),
    "an unknown operation": (b'{"operations":[{"op":"cas","key":"aaaa"}]}', "operations[0].op"),
    "a key that is no base64": (b'{"operations":[{"op":"get","key":"?"}]}', "operations[0].key"),
    "r out of range": (b'{"operations":[],"r":2}', "r: "),
    "r as true": (b'{"operations":[],"r":true}', ".r"),
    "time out of range": (b'{"operations":[],"timeout_ms":0}', "timeout_ms: "),
    "too many": (
        json.dumps({"operations": [{"op": "get", "key": "aaaa"}] * 1025}).encode(),
        "operations",
    ),
    "deep": (b'{"operations":' + b"[" * 100_000, "body"),
    "a lone surrogate": (b'{"operations":[{"op":"get","key":"\\ud800"}]}', "body"),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_bad_batches_are_refused_whole(kv: httpx.Client, name: str) -> None:
    body, named = BAD_BATCHES[name]
    refused = kv.post("/v1/batch", content=body, headers={"content-type": "application/json"})
    assert slug(refused) == (400, "bad-parameter")
    assert named in refused.json()["detail"]


def test_a_batch_of_nothing_and_of_another_kind(kv: httpx.Client) -> None:
    assert kv.post("/v1/batch", json={"operations": []}).json() == {"results": []}
    other = kv.post("/v1/batch", content=b"<x/>", headers={"content-type": "text/xml"})
    assert other.status_code == 415
    assert slug(kv.post("/v1/batch?r=1", json={"operations": []})) == (400, "bad-parameter")


@pytest.mark.parametrize("front", ["protocol", "asgi"])
def test_a_node_without_a_ring_says_so(front: str) -> None:
    listener = Listener(front, Limits(1 << 20), founded=False)
    with listener.client() as client:
        for answer in (client.get("/v1/kv/k"), client.put("/v1/kv/k"), client.get("/v1/ring")):
            assert slug(answer) == (503, "not-a-member")
            assert answer.headers["dynamo-applied"] == "no"
    listener.stop()


@pytest.mark.parametrize("front", ["protocol", "asgi"])
def test_overload_and_draining_are_said_before_any_effect(front: str) -> None:
    """C16."""
    listener = Listener(front, Limits(1 << 20), in_flight_max=2)
    with listener.client() as client:
        listener.call(lambda: setattr(listener.node.admission_control.slots, "used", 2))
        answer = client.put("/v1/kv/k", content=b"v")
        assert slug(answer) == (503, "overloaded")
        assert answer.headers["dynamo-applied"] == "no"
        listener.call(lambda: setattr(listener.node.admission_control.slots, "used", 0))
        assert client.get("/v1/kv/k").status_code == 404
        listener.call(lambda: setattr(listener.node, "draining", True))
        answer = client.put("/v1/kv/k", content=b"v")
        assert slug(answer) == (503, "draining")
        assert answer.headers["connection"] == "close"
        assert answer.headers["dynamo-applied"] == "no"
    listener.stop()


@pytest.mark.parametrize("front", ["protocol", "asgi"])
def test_an_error_of_our_own_is_never_answered_as_a_refusal(front: str) -> None:
    """S-RW-5: the write may have happened, but 4xx would say that it has not."""
    listener = Listener(front, Limits(1 << 20))
    submit = listener.driver.submit

    def faulty(operation: Any, done: Any, principal: str) -> None:
        submit(operation, done, principal)
        raise ValueError("a fault of our own")

    listener.call(lambda: setattr(listener.driver, "submit", faulty))
    said = listener.say(b"PUT /v1/kv/k HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nv")
    assert said == b"" or said.startswith((b"HTTP/1.1 204", b"HTTP/1.1 5"))
    listener.call(lambda: setattr(listener.driver, "submit", submit))
    with listener.client() as client:
        assert client.get("/v1/kv/k").content == b"v"
    listener.stop()
