"""Content type and encoding of a value in one word (decision 14), and nodes that know only the type
(C17)."""

from __future__ import annotations

from email import message_from_bytes, policy
from http.client import HTTPConnection, parse_headers
from io import BytesIO

import httpx
import msgspec
import pytest

from dynamo_core.causality.codec import decode_record, encode_record, merge_bytes
from dynamo_core.causality.records import EMPTY, NOTHING, Sibling, update
from dynamo_core.keys import store_key
from dynamo_core.protocol.arrivals import put_digest, verified_put, verified_record
from dynamo_core.protocol.frames import Frame, decode_frame, encode_frame
from dynamo_core.protocol.messages import Forward
from dynamo_core.protocol.operations import Put
from dynamo_node.media import OCTETS, kept_word, lines_of, said_of
from dynamo_node.problems import Problem
from tests.dynamo_node.http.client_listener import Listener

FIELDS = ("content-type", "content-encoding")


@pytest.mark.parametrize(
    ("kind", "encoding", "shown"),
    [
        ("", "", (OCTETS, "")),
        ("", "gzip", (OCTETS, "gzip")),
        ("t/p; a=b", "", ("t/p; a=b", "")),
        ("t/p", "gzip, br", ("t/p", "gzip, br")),
        ("t" * 256, "e" * 64, ("t" * 256, "e" * 64)),
    ],
)
def test_one_word_says_both(kind: str, encoding: str, shown: tuple[str, str]) -> None:
    assert said_of(kept_word(FIELDS, kind, encoding)) == shown


def test_a_type_alone_is_kept_as_it_always_was() -> None:
    """So records of values without an encoding have the bytes, and digests, of every version."""
    assert kept_word(FIELDS, "text/plain", "") == "text/plain"
    assert kept_word(FIELDS, "", "") == ""


def test_no_client_writes_the_word_of_another_type() -> None:
    with pytest.raises(Problem, match="content-type"):
        kept_word(FIELDS, "text/plain\tgzip", "")


KEY = b"k"
WORD = kept_word(FIELDS, "image/svg+xml", "gzip")


class OldSibling(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """As nodes of 0.1 have it."""

    actor: int
    counter: int
    value: bytes | None
    content_type: str = ""
    request_id: str = ""
    expires_ms: int = 0
    stamp: int = 0


def test_a_node_that_knows_only_the_type_carries_the_encoding_along() -> None:
    """It reads a record, merges it with a concurrent one and writes what it read: the encoding is
    there, and the digest is the one that newer nodes make."""
    mine = update(EMPTY, NOTHING, Sibling(1, 1, b"packed", WORD))
    other = update(EMPTY, NOTHING, Sibling(2, 1, b"plain", "text/plain"))
    read = decode_record(encode_record(KEY, mine))
    old = msgspec.convert(msgspec.to_builtins(read.siblings[0]), OldSibling)
    again = Sibling(*msgspec.structs.astuple(old))
    written = encode_record(KEY, update(EMPTY, NOTHING, again))
    assert written == encode_record(KEY, mine)
    merged = merge_bytes(KEY, written, encode_record(KEY, other))
    assert verified_record(store_key(KEY), merged) == merged
    assert [s.content_type for s in decode_record(merged).siblings] == [WORD, "text/plain"]


def test_a_forwarded_put_takes_its_encoding_through_an_older_node() -> None:
    put = Put(key=KEY, value=b"packed", content_type=WORD, w=1, dw=1, strict=False)
    frame = Frame(1, "c", "a", 1, "a:1", 1, 1, 1, 1, [Forward(1, put, put_digest(put))])
    (heard,) = decode_frame(encode_frame(frame)).messages
    assert isinstance(heard, Forward)
    assert verified_put(heard.put, heard.digest).content_type == WORD


def test_what_an_older_node_answers_is_one_field_and_no_broken_head() -> None:
    """It returns the whole word as the type: clients read one HTTP field, and no line is split."""
    head = parse_headers(BytesIO(b"Content-Type: %b\r\nX: y\r\n\r\n" % WORD.encode("latin-1")))
    assert head.items() == [("Content-Type", WORD), ("X", "y")]


def test_lines_of_an_answer() -> None:
    assert lines_of(WORD) == b"Content-Type: image/svg+xml\r\nContent-Encoding: gzip\r\n"
    assert lines_of("") == b"Content-Type: application/octet-stream\r\n"


ENCODED = b"\x1f\x8b no gzip at all"


def test_a_content_encoding_comes_back_as_it_was(listener: Listener, kv: httpx.Client) -> None:
    """The value too: no node decodes or encodes it for any `Accept-Encoding`."""
    said = {"content-type": "image/svg+xml", "content-encoding": "gzip"}
    connection = HTTPConnection(*listener.address)
    connection.request("PUT", "/v1/kv/enc", ENCODED, {**said, "prefer": "return=representation"})
    answers = [connection.getresponse()]
    assert answers[0].read() == ENCODED
    for method, accepted in (("GET", "identity"), ("GET", "br;q=1, *;q=0"), ("HEAD", "gzip")):
        connection.request(method, "/v1/kv/enc", headers={"accept-encoding": accepted})
        answers.append(connection.getresponse())
        assert answers[-1].read() == (ENCODED if method == "GET" else b"")
    for answer in answers:
        assert answer.status == 200
        assert {name: answer.headers[name] for name in said} == said
    connection.close()
    kv.put("/v1/kv/enc", content=b"plain")
    values = kv.get("/v1/kv/enc", headers={"accept": "application/json"}).json()["values"]
    assert sorted((v["content_type"], v.get("content_encoding")) for v in values) == [
        ("application/octet-stream", None),
        ("image/svg+xml", "gzip"),
    ]
    assert kv.get("/v1/kv/enc").json() == values
    parts = kv.get("/v1/kv/enc", headers={"accept": "multipart/mixed"})
    head = f"Content-Type: {parts.headers['content-type']}\r\n\r\n".encode()
    shown = message_from_bytes(head + parts.content, policy=policy.HTTP).iter_parts()  # type: ignore[attr-defined]
    assert [p["content-encoding"] for p in shown] == [v.get("content_encoding") for v in values]


def test_several_codings_of_several_lines_are_one_list(kv: httpx.Client) -> None:
    lines = [("content-encoding", "x-one"), ("content-encoding", "x-two , x-three")]
    assert kv.put("/v1/kv/codings", content=b"v", headers=lines).status_code == 204
    assert kv.get("/v1/kv/codings").headers["content-encoding"] == "x-one, x-two , x-three"


@pytest.mark.parametrize("bad", ["gzip,", ", gzip", "gz ip", "g\tzip", "a" * 65, "gzip;q=1", '"x"'])
def test_what_is_no_content_encoding_is_named(kv: httpx.Client, bad: str) -> None:
    refused = kv.put("/v1/kv/bad", content=b"v", headers={"content-encoding": bad})
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("content-encoding: ")
    item = {"op": "put", "key": "aaaa", "data": "", "content_encoding": bad}
    (result,) = kv.post("/v1/batch", json={"operations": [item]}).json()["results"]
    assert result["problem"]["detail"].startswith("content_encoding: ")


def test_a_batch_keeps_encodings_and_has_none(kv: httpx.Client) -> None:
    put = {"op": "put", "key": "aaab", "data": "", "content_encoding": "gzip"}
    asked = {"operations": [put, {"op": "get", "key": "aaab"}]}
    _, got = kv.post("/v1/batch", json=asked).json()["results"]
    assert got["values"][0]["content_encoding"] == "gzip"
    refused = kv.post("/v1/batch", content=b"x", headers={"content-encoding": "gzip"})
    assert refused.status_code == 415 and "content-encoding" in refused.json()["detail"]


def test_an_encoding_outlives_an_update_beside_it(kv: httpx.Client) -> None:
    kv.put("/v1/kv/k", content=b"packed", headers={"content-encoding": "x-packed"})
    answer = kv.put("/v1/kv/k", content=b"plain")
    context = {"dynamo-context": answer.headers["dynamo-context"]}
    kv.put("/v1/kv/k", content=b"other", headers=context)
    values = kv.get("/v1/kv/k").json()
    assert {v["data"]: v.get("content_encoding", "") for v in values} == {
        "cGFja2Vk": "x-packed",
        "b3RoZXI=": "",
    }
