"""Answers in the order of requests (T-6), and HTTP as clients speak it, on both fronts."""

from __future__ import annotations

import pytest

from dynamo_node.http_codec import check_levels, ways_of
from dynamo_node.problems import Problem
from tests.dynamo_node.http.client_listener import SHORT, Listener, everything, statuses

LIMITS = SHORT
LAST = b"Connection: close\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def head(method: str, key: str, *fields: bytes) -> bytes:
    line = f"{method} /v1/kv/{key} HTTP/1.1\r\nHost: h\r\n".encode()
    return line + b"".join(field + b"\r\n" for field in fields)


def put(key: str, value: bytes = b"v", *fields: bytes) -> bytes:
    return head("PUT", key, *fields, b"Content-Length: %d" % len(value)) + b"\r\n" + value


def get(key: str, *fields: bytes) -> bytes:
    return head("GET", key, *fields) + b"\r\n"


def value_of(listener: Listener, key: str) -> bytes | None:
    with listener.client() as client:
        answer = client.get(f"/v1/kv/{key}")
        return answer.content if answer.status_code == 200 else None


NOWHERE = b"GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n"  # answered in the turn of the one before
ENDS = {
    "broken bytes": (b"GET /v1/kv/a HTTP/1.1\nbroken\n\n", 400),
    "an expectation": (put("end", b"v", b"Expect: wonders"), 417),
    "a body too long, announced": (head("PUT", "end", b"Content-Length: 100001") + b"\r\n", 413),
    "a body too long, in chunks": (
        head("PUT", "end") + CHUNKED + b"\r\n" + (b"8000\r\n" + b"v" * 32768 + b"\r\n") * 4,
        413,
    ),
    "a trailer": (head("PUT", "end") + CHUNKED + b"\r\n1\r\nv\r\n0\r\nX: y\r\n\r\n", 400),
    "a body that is waited for and broken": (
        head("PUT", "end", b"Expect: 100-continue") + CHUNKED + b"\r\nnone\r\n",
        400,
    ),
    "65 fields": (get("end", *[b"X: y"] * 65), 431),
    "half a head": (b"GET /v1/kv/end HTTP/1.1\r\nHos", 408),
    "half a body": (head("PUT", "end", b"Content-Length: 9") + b"\r\nhalf", 408),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_refusal_is_the_last_answer_and_stands_for_its_own_request(
    listener: Listener, name: str
) -> None:
    end, refusal = ENDS[name]
    for index, (before, expected) in enumerate(
        (
            (b"", []),
            (put("{}"), [204]),
            (NOWHERE, [404]),
            (put("{}a") + NOWHERE + put("{}"), [204, 404, 204]),
            (NOWHERE + put("{}") + NOWHERE + NOWHERE, [404, 204, 404, 404]),
        )
    ):
        key = f"{name.replace(' ', '-').replace(',', '')}-{index}"
        said = listener.say(before.replace(b"{}", key.encode()) + end).replace(CONTINUE, b"")
        assert statuses(said) == [*expected, refusal], said
        assert (value_of(listener, key) is not None) == (204 in expected)
        assert value_of(listener, "end") is None, "what was refused had an effect"


def test_a_refusal_that_comes_in_pieces_waits_for_the_answer_before(listener: Listener) -> None:
    end = head("PUT", "end") + CHUNKED + b"\r\n1\r\nv\r\n0\r\nX: y\r\n\r\n"
    for at in range(1, len(end), 9):
        said = listener.say(put("pieces") + end[:at], end[at:])
        assert statuses(said) == [204, 400]
    assert value_of(listener, "end") is None


def test_half_a_request_behind_others_is_not_waited_for(listener: Listener) -> None:
    assert statuses(listener.say(get("none") * 3 + b"GET /v1/kv/half HT")) == [404, 404, 404, 408]


TRAILERS = {
    "a field": (b"0\r\nX: y\r\n\r\n", 400),
    "the value's type": (b"0\r\nContent-Type: text/evil\r\nDynamo-Expires-In: 1\r\n\r\n", 400),
    "framing": (b"0\r\nHost: b\r\nContent-Length: 5\r\n\r\n", 400),
    "a name without an end": (b"0\r\n" + b"x" * (5 << 20), 431),
    "a value without an end": (b"0\r\nX: " + b"x" * (5 << 20), 431),
    "fields without an end": (b"0\r\n" + b"X: y\r\n" * 200_000, 400),
    "an extension without an end": (b"0;" + b"x" * (5 << 20), 431),
}


@pytest.mark.parametrize("name", TRAILERS)
def test_trailers_are_refused(listener: Listener, name: str) -> None:
    trailer, status = TRAILERS[name]
    said = listener.say(head("PUT", "trailed") + CHUNKED + b"\r\n1\r\nv\r\n" + trailer)
    assert statuses(said) == [status], said[:300]
    assert value_of(listener, "trailed") is None


def test_an_announced_trailer_is_refused_before_the_body(listener: Listener) -> None:
    said = listener.say(head("PUT", "trailed", b"Trailer: X") + CHUNKED + b"\r\n")
    assert statuses(said) == [400]


OFFERS = {
    "h2c": [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAA"],
    "websocket": [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"],
    "TLS": [b"connection: upgrade", b"upgrade: TLS/1.0"],
    "two": [b"Upgrade: h2c", b"Upgrade: websocket", b"Connection: keep-alive, Upgrade"],
    "without Connection": [b"Upgrade: h2c"],
    "without Upgrade": [b"Connection: Upgrade"],
}


@pytest.mark.parametrize("name", OFFERS)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_an_offer_of_an_upgrade_is_ignored(listener: Listener, name: str, size: int) -> None:
    offer = OFFERS[name]
    key = f"offered-{name.replace(' ', '-')}-{size}"
    chunked = head("PUT", key + "-chunked", *offer) + CHUNKED + b"\r\n3\r\nGET\r\n0\r\n\r\n"
    raw = put(key, b"GET / HTTP/1.1\r\n\r\n", *offer) + get(key, *offer) + chunked
    raw += get(key) + get("no-such", *offer, b"Connection: close")
    said = listener.say(*(raw[at : at + size] for at in range(0, len(raw), size)))
    assert statuses(said) == [204, 200, 204, 200, 404], said
    assert b"upgrade" not in said.lower().replace(b"get / http", b"")
    assert value_of(listener, key) == b"GET / HTTP/1.1\r\n\r\n"
    assert value_of(listener, key + "-chunked") == b"GET"


def test_an_offer_does_not_hide_a_head_that_is_refused(listener: Listener) -> None:
    offer = OFFERS["h2c"]
    for raw, status in (
        (head("PUT", "k", *offer, b"Content-Length: 5") + CHUNKED + b"\r\n", 400),
        (head("GET", "k", *offer, b"Host: b") + b"\r\n", 400),
        (put("k", b"v", *offer, b"Expect: wonders"), 417),
        (head("PUT", "k", *offer, b"Content-Length: 100001") + b"\r\n", 413),
        (get("k", *offer, *[b"X: y"] * 62), 431),
        (b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 400),
    ):
        assert statuses(listener.say(put("before") + raw)) == [204, status], raw


@pytest.mark.parametrize("word", [b"100-continue", b"100-Continue", b"100-CONTINUE"])
@pytest.mark.parametrize("before", [b"", get("none") * 2])
def test_a_client_that_waits_is_told_to_send(
    listener: Listener, word: bytes, before: bytes
) -> None:
    for framing, body in (
        (b"Content-Length: 5\r\n", b"hello"),
        (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"),
    ):
        with listener.connect() as connection:
            asked = head("PUT", "told", b"Expect: " + word) + framing + LAST
            connection.sendall(before + asked)
            said = b""
            while not said.endswith(CONTINUE):
                piece = connection.recv(1000)
                assert piece, said
                said += piece
            connection.sendall(body)
            assert statuses(said.removesuffix(CONTINUE)) == [404, 404][: before.count(b"GET")]
            assert statuses(everything(connection)) == [204]


NOT_TOLD = {
    "HTTP/1.0": (
        b"PUT /v1/kv/untold HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nv",
        204,
    ),
    "HTTP/1.0, another": (
        b"PUT /v1/kv/untold HTTP/1.0\r\nExpect: wonders\r\nContent-Length: 1\r\n\r\nv",
        204,
    ),
    "no body": (get("untold-none", b"Expect: 100-continue", b"Connection: close"), 404),
    "an empty body": (put("untold", b"", b"Expect: 100-continue", b"Connection: close"), 204),
    "too long": (
        head("PUT", "untold", b"Expect: 100-continue", b"Content-Length: 100001") + b"\r\n",
        413,
    ),
    "another, chunked": (head("PUT", "untold", b"Expect: bogus") + CHUNKED + b"\r\n", 417),
    "another, no body": (get("untold", b"Expect: bogus"), 417),
    "two": (get("untold", b"Expect: 100-continue", b"Expect: 100-continue"), 400),
}


@pytest.mark.parametrize("name", NOT_TOLD)
def test_nothing_is_said_before_the_answer(listener: Listener, name: str) -> None:
    raw, status = NOT_TOLD[name]
    assert statuses(listener.say(raw)) == [status]


def test_a_part_does_not_take_the_place_of_the_value(listener: Listener) -> None:
    whole = b"hello world, this is the whole document"
    with listener.client() as client:
        assert client.put("/v1/kv/whole", content=whole).status_code == 204
        context = client.get("/v1/kv/whole").headers["dynamo-context"]
        fields = {"content-range": "bytes 30-38/39", "dynamo-context": context}
        for method, path in (("PUT", "/v1/kv/whole"), ("DELETE", "/v1/kv/whole")):
            refused = client.request(method, path, headers=fields, content=whole[30:])
            assert refused.status_code == 400, refused.text
            assert refused.json()["detail"] == "content-range: a value is written whole"
        batch = {"operations": [{"op": "get", "key": "a2V5"}]}
        fields = {"content-range": "bytes 0-1/2"}
        assert client.post("/v1/batch", json=batch, headers=fields).status_code == 400
        assert client.get("/v1/kv/whole", headers=fields).content == whole


RAW, JSON, MULTIPART = "text/plain", "application/json", "multipart/mixed"
ACCEPTED = {
    "": RAW,
    "*/*": RAW,
    "application/json": JSON,
    "Application/JSON ; charset=utf-8": JSON,
    "multipart/mixed": MULTIPART,
    "application/json;q=0, */*": RAW,
    "application/json;q=0": RAW,
    "application/json;q=0.000, multipart/mixed;q=0.1": MULTIPART,
    "multipart/mixed;q=0, application/json;q=0.2": JSON,
    "application/json; Q=0.5, multipart/mixed; q=0.7": MULTIPART,
    "application/json, text/plain, */*": JSON,
    "application/json;q=0.1, text/plain": RAW,
    "text/html;q=0.3, application/json": JSON,
    "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2": RAW,
    'text/plain;x="application/json, multipart/mixed"': RAW,
    "application/jsonp, text/application/json": RAW,
    "application/json;q=nonsense": JSON,
    ",, application/json ,": JSON,
}


@pytest.mark.parametrize("accept", ACCEPTED)
def test_accept_is_obeyed(listener: Listener, accept: str) -> None:
    with listener.client() as client:
        if client.get("/v1/kv/accepted").status_code == 404:
            client.put("/v1/kv/accepted", content=b"v", headers={"content-type": "text/plain"})
        answer = client.get("/v1/kv/accepted", headers={"accept": accept})
        assert answer.status_code == 200
        assert answer.headers["content-type"].split(";")[0] == ACCEPTED[accept]


RAW_BYTES = {
    "OPTIONS": (b"OPTIONS /v1/kv/a HTTP/1.1\r\nHost: a\r\n" + LAST, [405]),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", [400]),
    "a range": (get("table", b"Range: bytes=0-1", b"Connection: close"), [200]),
    "HTTP/1.0": (b"GET /v1/kv/table HTTP/1.0\r\n\r\n", [200]),
    "HTTP/1.0, kept": (b"GET /v1/kv/table HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", [200]),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),
    "empty lines before": (b"\r\n\r\n" + get("table", b"Connection: close"), [200]),
    "no length": (head("PUT", "nolen", b"Connection: close") + b"\r\n", [204]),
    "an empty context": (put("table2", b"x", b"Dynamo-Context: ", b"Connection: close"), [400]),
}


@pytest.mark.parametrize("name", RAW_BYTES)
def test_what_other_programs_say(listener: Listener, name: str) -> None:
    with listener.client() as client:
        if client.get("/v1/kv/table").status_code == 404:
            client.put("/v1/kv/table", content=b"hello")
    raw, expected = RAW_BYTES[name]
    assert statuses(listener.say(raw)) == expected


def test_no_more_fsyncs_than_copies_are_asked_for() -> None:
    """Where the request says both; in a query, and so in a batch."""
    assert ways_of(b"w=2&dw=2", 3)[1:3] == (2, 2)
    assert ways_of(b"dw=all", 3)[1:3] == (0, 3)
    for query in (b"w=1&dw=2", b"dw=all&w=quorum"):
        with pytest.raises(Problem, match="dw: at most w="):
            ways_of(query, 3)
    with pytest.raises(Problem, match="dw: at most w=2"):
        check_levels(2, 3)
