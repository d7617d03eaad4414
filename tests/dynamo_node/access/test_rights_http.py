"""Who may do what: role by verb by prefix by endpoint, at both fronts (docs/security.md)."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import httpx
import pytest
import structlog

from dynamo_node.http_limits import Limits
from dynamo_node.rights import Rights, Rule
from tests.dynamo_node.http.client_listener import Listener, statuses

FRONTS = ("protocol", "asgi")
LIMITS = Limits(1 << 20)
ROLES: dict[str, tuple[str, ...]] = {
    "reader": ("get",),
    "writer": ("put",),
    "remover": ("delete",),
    "owner": ("get", "put", "delete", "list"),
    "lister": ("list",),
    "administrator": (),
}
"""Each has its verbs on the keys that begin with `mine:`."""
KEYS = {"mine:there": True, "mine:missing": True, "others:there": False, "others:missing": False,
        "mine": False, "%6Dine:there": True, "others:%2Fmine:": False}  # fmt: skip
"""Whether a key is one of `mine:`; both with and without a value, and as clients may write it."""
VERBS = {"GET": "get", "HEAD": "get", "PUT": "put", "DELETE": "delete"}


def rule(role: str) -> Rule:
    verbs: Any = list(ROLES[role])
    return Rule(
        token_sha256=sha256(role.encode()).hexdigest(),
        name=role,
        verbs=verbs,
        prefixes=["mine:"] if verbs else [],
        admin=role == "administrator",
    )


RIGHTS = Rights(
    [
        *map(rule, ROLES),
        Rule(
            token_sha256=sha256(b"all").hexdigest(),
            name="all",
            prefixes=[""],
            verbs=["get", "put", "delete"],
        ),
    ]
)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


@contextmanager
def listening(front: str) -> Iterator[Listener]:
    listener = Listener(front, LIMITS, rights=RIGHTS)
    with listener.client() as client:
        for key in KEYS:
            if "there" in key and "%" not in key:  # that is one of the others, written otherwise
                put = client.put(f"/v1/kv/{key}", content=b"v", headers=bearer("all"))
                assert put.status_code == 204
    yield listener
    listener.stop()


@pytest.fixture(scope="module", params=FRONTS)
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    with listening(request.param) as listener:
        yield listener


@pytest.fixture(scope="module", params=[*FRONTS, "admin"])
def every_listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    """Also the admin listener, which has the keys for the console."""
    with listening(request.param) as listener:
        yield listener


@pytest.fixture
def client(listener: Listener) -> Iterator[httpx.Client]:
    with listener.client() as client:
        yield client


def said(response: httpx.Response) -> tuple[int, Any]:
    """Status and body; a refusal is the same for an existing and a missing key."""
    return response.status_code, response.json() if response.content else None


@pytest.mark.parametrize("method", VERBS)
@pytest.mark.parametrize("role", ROLES)
def test_each_role_does_to_each_key_what_it_may(
    every_listener: Listener, role: str, method: str
) -> None:
    with every_listener.client() as client:
        walk(client, role, method)


def walk(client: httpx.Client, role: str, method: str) -> None:
    refusals = set()
    for key, mine in KEYS.items():
        for query in ("", "?explain=true"):
            url = f"/v1/kv/{key}{query}"
            content = b"v" if method == "PUT" else None
            heard = client.request(method, url, content=content, headers=bearer(role))
            if mine and VERBS[method] in ROLES[role]:
                assert heard.status_code in (200, 204, 300, 404), (key, heard.text)
            else:
                assert heard.status_code == 403
                assert heard.headers["dynamo-applied"] == "no"
                refusals.add(heard.text)
        restore(client, key)
    assert len(refusals) <= 1, "a refusal tells nothing of what is there"
    if method != "HEAD" and refusals:
        assert json.loads(refusals.pop())["type"].endswith("/forbidden")


def restore(client: httpx.Client, key: str) -> None:
    if "there" in key:
        value = client.get(f"/v1/kv/{key}", headers=bearer("all"))
        if value.status_code != 200:
            context = {"Dynamo-Context": value.headers["dynamo-context"]}
            headers = {**bearer("all"), **context}
            client.put(f"/v1/kv/{key}", content=b"v", headers=headers)


@pytest.mark.parametrize("token", ["", "wrong", "Reader", "reader "])
@pytest.mark.parametrize("path", ["/v1/kv/mine:there", "/v1/batch", "/v1/ring", "/nothing"])
@pytest.mark.parametrize("method", [*VERBS, "POST", "OPTIONS"])
def test_who_is_not_known_hears_401_everywhere(
    listener: Listener, token: str, path: str, method: str
) -> None:
    listener.call(listener.driver.audit._guessers.clear)
    with listener.client() as client:
        headers = bearer(token) if token != "reader " else {"Authorization": "Basic cmVhZGVyOg=="}
        heard = client.request(method, path, headers=headers)
    assert heard.status_code == 401 and heard.headers["www-authenticate"] == "Bearer"
    if method != "HEAD":
        assert heard.json()["type"].endswith("/unauthorized")


@pytest.mark.parametrize("role", ROLES)
def test_each_item_of_a_batch_for_itself(client: httpx.Client, role: str) -> None:
    asked = [
        {"op": op, "key": b64encode(key.encode()).decode(), **({"data": ""} if op == "put" else {})}
        for op in ("get", "put", "delete")
        for key in ("mine:b", "others:b", "")
    ]
    heard = client.post("/v1/batch", json={"operations": asked}, headers=bearer(role))
    if role in ("lister", "administrator"):
        assert heard.status_code == 403
        return
    results = heard.json()["results"]
    for item, result in zip(asked, results, strict=True):
        mine = item["key"] == b64encode(b"mine:b").decode()
        if mine and item["op"] in ROLES[role]:
            assert result["status"] in (200, 204, 404)
        else:
            assert (result["status"], result["applied"]) == (403, "no")
            assert result["problem"]["type"].endswith("/forbidden")


def test_each_refusal_is_a_line_and_a_batch_has_one_line(
    client: httpx.Client, listener: Listener
) -> None:
    listener.call(listener.driver.audit.forget)
    counters = listener.node.counters
    names = ("requests_without_credential", "batch_items_forbidden")
    before = [counters[name] for name in names]
    mine, others = (b64encode(key).decode() for key in (b"mine:b", b"others:b"))
    asked = [{"op": "get", "key": key} for key in (others, mine, others, mine)]
    with structlog.testing.capture_logs() as lines:
        client.get("/v1/kv/others:secret")
        client.post("/v1/batch", json={"operations": asked}, headers=bearer("reader"))
        client.post("/v1/batch", json={"operations": asked[1:2]}, headers=bearer("reader"))
        client.put("/v1/kv/others:secret", content=b"v", headers=bearer("reader"))
    told = [(e["who"], e["what"], e["outcome"]) for e in lines if e["event"] == "audit"]
    assert told == [
        ("", "GET /v1/kv", "refused: no credential"),
        ("token:reader", "POST /v1/batch", "refused: no right to 2 of 4 items"),
        ("token:reader", "PUT /v1/kv", "refused: no right"),
    ]
    assert all(e["source"] == "127.0.0.1" for e in lines if e["event"] == "audit")
    assert [counters[name] for name in names] == [before[0] + 1, before[1] + 2]


@pytest.mark.parametrize("role", [*ROLES, "all"])
def test_the_ring_is_shown_to_known_names(client: httpx.Client, role: str) -> None:
    assert client.get("/v1/ring", headers=bearer(role)).status_code == 200
    assert client.get("/v1/nothing", headers=bearer(role)).status_code == 404
    assert client.post("/v1/kv/mine:there", headers=bearer(role)).status_code == 405


def test_who_may_only_write_is_not_shown_values(client: httpx.Client) -> None:
    wanted = {
        "return=representation": True, "a, Return = Representation": True, "a;b=1": False,
        'return="representation"': True, "return=representation; a=b": True,
        "return=\trepresentation": True, "return=repre sentation": False, "return=minimal": False,
    }  # fmt: skip
    for preference, wants in wanted.items():
        headers = {**bearer("writer"), "Prefer": preference}
        refused = client.put("/v1/kv/mine:w", content=b"v", headers=headers).status_code == 403
        headers |= bearer("owner")
        shown = client.put("/v1/kv/mine:w", content=b"v", headers=headers).status_code in (200, 300)
        assert (refused, shown) == (wants, wants), preference


PUT = b"PUT /v1/kv/others:x HTTP/1.1\r\nHost: h\r\n"
TOKEN = b"Authorization: Bearer writer\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [(PUT, 401), (PUT + TOKEN, 403), (PUT + TOKEN.replace(b"writer", b"guess"), 401),
     (PUT + TOKEN + b"Expect: 100-continue\r\n", 403),
     (b"POST /v1/batch HTTP/1.1\r\nHost: h\r\n", 401)],
)  # fmt: skip
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 9\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]
)
def test_a_refusal_comes_before_the_body(
    listener: Listener, head: bytes, status: int, framing: bytes
) -> None:
    listener.call(listener.driver.audit._guessers.clear)
    assert statuses(listener.say(head + framing + b"\r\n\r\n")) == [status]
    assert listener.call(lambda: listener.edge.books.requests.used) == 0


def test_the_right_of_one_request_is_not_that_of_the_next(listener: Listener) -> None:
    """Of a pipeline on one connection; and a refusal without a body leaves it open."""
    one = b"GET /v1/kv/mine:there HTTP/1.1\r\nHost: h\r\n%b\r\n"
    asked = [TOKEN.replace(b"writer", b"reader"), b"", TOKEN, TOKEN.replace(b"writer", b"owner")]
    last = b"GET /v1/ring HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    heard = listener.say(b"".join(one % credential for credential in asked) + last)
    assert statuses(heard) == [200, 401, 403, 200, 401]


def test_rights_that_are_taken_away_hold_on_open_connections(listener: Listener) -> None:
    with listener.client() as client:
        assert client.get("/v1/kv/mine:there", headers=bearer("reader")).status_code == 200
        try:
            listener.call(lambda: listener.driver.access.take(Rights([])))
            assert client.get("/v1/kv/mine:there", headers=bearer("reader")).status_code == 401
        finally:
            listener.call(lambda: listener.driver.access.take(RIGHTS))
        assert client.get("/v1/kv/mine:there", headers=bearer("reader")).status_code == 200


def test_an_operation_takes_the_share_of_its_name(listener: Listener) -> None:
    shares: list[str] = []
    submit = listener.node.submit

    def spied(operation: Any, done: Any, principal: str = "") -> None:
        shares.append(principal)
        submit(operation, done, principal)

    listener.call(lambda: setattr(listener.node, "submit", spied))
    with listener.client() as client:
        client.get("/v1/kv/mine:there", headers=bearer("reader"))
        batch = {"operations": [{"op": "get", "key": b64encode(b"mine:b").decode()}]}
        client.post("/v1/batch", json=batch, headers=bearer("owner"))
    listener.call(lambda: setattr(listener.node, "submit", submit))
    assert shares == ["token:reader", "token:owner"]


def test_ten_wrong_credentials_slow_an_address_but_no_known_name(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener.driver.audit, "_clock", lambda: 1e6)
    listener.call(listener.driver.audit._guessers.clear)
    with listener.client() as known:
        url = "/v1/kv/mine:there"
        assert known.get(url, headers=bearer("reader")).status_code == 200
        before = listener.node.counters["credentials_refused"]
        heard = []
        for n in range(12):
            with listener.client() as guesser:
                heard.append(guesser.get(url, headers=bearer(f"guess {n}")))
        assert [answer.status_code for answer in heard] == [401] * 10 + [429] * 2
        assert [answer.headers["retry-after"] for answer in heard[10:]] == ["6", "6"]
        assert listener.node.counters["credentials_refused"] == before + 10
        assert known.get(url, headers=bearer("reader")).status_code == 200
    listener.call(listener.driver.audit._guessers.clear)


def test_who_guesses_locks_out_no_one_who_was_there_before(listener: Listener) -> None:
    """Clients behind one address, as of a proxy, make new connections all the time."""
    listener.call(listener.driver.audit.forget)
    url = "/v1/kv/mine:there"

    def asked(token: str) -> int:
        with listener.client() as client:
            return client.get(url, headers=bearer(token)).status_code

    assert asked("reader") == 200
    assert [asked(f"guess {n}") for n in range(11)] == [401] * 10 + [429]
    assert [asked("reader"), asked("owner")] == [200, 429]
    assert asked("guess") == 429, "to be known once lets no other credential in"
    listener.call(listener.driver.audit.forget)
