"""The admin listener by names: administrators, who may list what, and the lines that are told."""

from __future__ import annotations

import asyncio
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from typing import Any

import httpx
import pytest
import structlog

import dynamo_node.own_keys as own_keys
from dynamo_core.secret_keys import token_of
from dynamo_node.access import Access
from dynamo_node.http_limits import Limits
from dynamo_node.keyring import Keyring
from dynamo_node.rights import Rights, Rule
from dynamo_node.tls import Within
from tests.dynamo_node.access.authorities import Authority
from tests.dynamo_node.http.client_listener import TOKEN, Listener
from tests.dynamo_node.lone_admin import CREATE, Admin, with_node

SECRET = b"between us and no others, really!"
ODD = [
    ("POST", "/docs"), ("GET", "/openapi.json"), ("GET", "/v1/keys/"), ("POST", "/v1/keys"),
    ("GET", "/v1/nothing"), ("POST", "/console"), ("GET", "/v1/kv"), ("POST", "/v1/batch"),
    ("GET", "/v1/%6bv/mine:k"), ("GET", "/v1/records%2Fk"), ("GET", "//v1/status"),
]  # fmt: skip
"""What no route is for."""
LISTED, STREAM = ("GET", "/v1/keys"), ("GET", "/v1/events")
WITHOUT_TOKEN = [("GET", "/livez"), ("GET", "/readyz"), ("GET", "/metrics")]


def rule(token: str, **what: Any) -> Rule:
    return Rule(token_sha256=sha256(token.encode()).hexdigest(), name=token, **what)


NO_OPERATIONS = b'{"operations":[]}'
RIGHTS = Rights(
    [
        rule("boss", admin=True),
        rule("lister", prefixes=["mine:"], verbs=["list"]),
        rule("owner", prefixes=[""], verbs=["get", "put", "delete"]),
    ]
)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


BOSS, LISTER = bearer("boss"), bearer("lister")


def with_rights(test: Callable[[Admin], Awaitable[None]], secret: bool = True) -> None:
    async def body(admin: Admin) -> None:
        checks: Any = admin._transport
        driver = admin.driver
        driver.access = checks.app._access = Access(RIGHTS, None, driver.audit)
        assert (await admin.post("/v1/ring", json=CREATE, headers=BOSS)).status_code == 201
        await test(admin)

    with_node(body, Keyring((SECRET,) if secret else ()), founded=False)


async def routes_of(admin: Admin) -> list[tuple[str, str]]:
    """Every request that the admin listener's document tells, so that none is forgotten here. Those
    for keys are in test_console_rights.py."""
    paths = (await admin.get("/openapi.json", headers=BOSS)).json()["paths"]
    return [
        (method.upper(), path.format(key="k", repair_id="x", run_id="x", partition=1))
        for path, operations in paths.items()
        for method, what in operations.items()
        if method != "servers" and "admin listener" in what["tags"] and "/v1/kv/" not in path
    ]


@pytest.mark.parametrize("secret", [True, False])
def test_only_administrators_get_behind_the_door(secret: bool) -> None:
    async def body(admin: Admin) -> None:
        routes = await routes_of(admin)
        assert {*WITHOUT_TOKEN, LISTED, STREAM, ("POST", "/v1/deletions")} <= set(routes)
        for method, path in [*routes, *ODD]:
            if (method, path) in WITHOUT_TOKEN:
                continue
            for name in ("lister", "owner"):
                if (method, path) != LISTED or name != "lister":
                    said = await admin.problem(method, path, headers=bearer(name))
                    assert said == (403, "forbidden"), (method, path)
            assert await admin.problem(method, path) == (401, "unauthorized")
            admin.driver.audit._guessers.clear()
            said = await admin.problem(method, path, headers=bearer("guess"))
            assert said == (401, "unauthorized")
            shown = [BOSS, *([bearer(token_of(SECRET))] if secret else [])]
            for headers in shown:
                if (method, path) == STREAM:
                    continue  # it has no end; test_look_rights.py asks for it
                heard = await admin.request(method, path, headers=headers)
                assert heard.status_code not in (401, 403)
        for _, path in WITHOUT_TOKEN:
            assert (await admin.get(path)).status_code == 200

    with_rights(body, secret)


def test_the_document_says_what_must_be_shown_and_how_it_is_refused() -> None:
    """Each operation of both listeners is asked for with nothing shown, and with a name without
    rights."""
    client = Listener("protocol", Limits(1 << 20), rights=RIGHTS)

    async def body(admin: Admin) -> None:
        document = (await admin.get("/openapi.json", headers=BOSS)).json()
        assert document["openapi"].startswith("3.1"), "the first that knows mutualTLS"
        assert set(document["components"]["securitySchemes"]) == {"bearer", "certificate"}
        for path, operations in document["paths"].items():
            for method, what in operations.items():
                if method == "servers":
                    continue
                url = path.format(key="k", repair_id="r", run_id="r", partition=1)
                on_client = "client listener" in what["tags"]
                heard = set()
                for shown in ({}, LISTER):
                    if "admin listener" in what["tags"]:
                        heard.add((await admin.request(method, url, headers=shown)).status_code)
                    if on_client:
                        ask = partial(httpx.request, method, client.url + url, headers=shown)
                        heard.add((await asyncio.to_thread(ask)).status_code)
                refusals = {str(status) for status in heard} & {"401", "403"}
                listed = path in ("/v1/keys", "/v1/ring")  # also for who may only list
                assert bool(what["security"]) == ("401" in refusals), (method, path)
                assert bool(what["security"]) == ("403" in refusals) or listed, (method, path)
                assert refusals <= what["responses"].keys()
                assert ("415" in what["responses"]) == (method == "post"), (method, path)

    try:
        with_rights(body)
    finally:
        client.stop()


def test_a_token_is_shown_once_and_keys_have_one_path() -> None:
    async def body(admin: Admin) -> None:
        twice = [("authorization", "Bearer owner"), ("authorization", "Bearer boss")]
        assert await admin.problem("GET", "/v1/status", headers=twice) == (400, "bad-parameter")
        said = await admin.problem("GET", "/v1/preference-list%2Fk", headers=BOSS)
        assert said == (404, "not-found")

    with_rights(body)


async def pages(admin: Admin, limit: int, headers: dict[str, str]) -> list[bytes]:
    keys: list[bytes] = []
    after: str | None = ""
    while after is not None:
        query = {"limit": limit} | ({"after": after} if after else {})
        heard = (await admin.get("/v1/keys", params=query, headers=headers)).json()
        assert len(heard["keys"]) <= limit
        keys += map(b64decode, heard["keys"])
        after = heard["next"]
        if after is not None:
            cursor = urlsafe_b64decode(after)
            assert headers is BOSS or len(cursor) == 2 or b"mine:" in cursor
    return keys


@pytest.mark.parametrize("look_s", [10.0, -1.0])
def test_who_may_list_sees_its_prefix_alone(look_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key once, for every size of page. `next` names no key that the name may not list, also
    when the time of a page is over."""
    monkeypatch.setattr(own_keys, "LOOK_S_MAX", look_s)

    async def body(admin: Admin) -> None:
        mine = [b"mine:%d" % n for n in range(40)]
        for key in [*mine, *(b"others:%d" % n for n in range(80))]:
            await admin.put(key)
        for limit in (1, 7, 40, 1000):
            assert sorted(await pages(admin, limit, LISTER)) == sorted(mine)
        assert len(await pages(admin, 1000, BOSS)) == 120
        assert (await admin.get("/v1/keys", headers=bearer("owner"))).status_code == 403

    with_rights(body)


def test_changes_and_refusals_are_told_once_each() -> None:
    async def body(admin: Admin) -> None:
        with structlog.testing.capture_logs() as lines:
            await admin.post("/v1/ring/plan", json={}, headers=BOSS)
            await admin.get("/v1/status", headers=BOSS)
            await admin.post("/v1/repairs", json={}, headers=BOSS)
            await admin.post(
                "/v1/ring/remove", json={"name": "z"}, headers=bearer(token_of(SECRET))
            )
            await admin.post("/v1/repairs", json={}, headers=LISTER)
            await admin.get("/v1/preference-list/secret-key", headers=bearer("guess"))
            await admin.get("/v1/records/secret-key")
            await admin.get("/kv/secret-key", headers=LISTER)
            await admin.get("/v1/repairs/secret-key", headers=LISTER)
        told = [(e["who"], e["what"], e["outcome"]) for e in lines if e["event"] == "audit"]
        assert told == [
            ("token:boss", "POST /v1/repairs", "done: 202"),
            ("administrator", "POST /v1/ring/remove", "refused: 400"),
            ("token:lister", "POST /v1/repairs", "refused: no right"),
            ("", "GET /v1/preference-list/", "refused: unknown or expired"),
            ("", "GET /v1/records/", "refused: no credential"),
            ("token:lister", "GET another path", "refused: no right"),
            ("token:lister", "GET /v1/repairs/", "refused: no right"),
        ]
        assert all(e["source"] == "127.0.0.1" for e in lines if e["event"] == "audit")
        counters = admin.driver.node.counters
        names = ("admin_changes", "requests_forbidden", "credentials_refused",
                 "requests_without_credential")  # fmt: skip
        assert [counters[name] for name in names] == [3, 3, 1, 1]

    with_rights(body)


def test_a_certificate_is_a_name_on_both_listeners(tmp_path: Any) -> None:
    ours = Authority(tmp_path / "ours")
    rights = Rights(
        [
            Rule(certificate="anna", admin=True, prefixes=["a"], verbs=["get"]),
            Rule(certificate="bob", prefixes=["b"], verbs=["get"]),
        ]
    )
    for front, path, expected in (
        ("admin", "/v1/status", {"anna": 200, "bob": 403, "eve": 403}),
        ("protocol", "/v1/kv/a", {"anna": 404, "bob": 403, "eve": 403}),
        ("asgi", "/v1/kv/b", {"anna": 403, "bob": 404, "eve": 403}),
    ):
        tls = Within("mutual", ours.node("a"))
        listener = Listener(front, Limits(1 << 20), tls=tls, rights=rights)
        try:
            url = f"https://127.0.0.1:{listener.address[1]}{path}"
            for name, status in expected.items():
                with httpx.Client(verify=ours.client(name)) as client:
                    assert client.get(url).status_code == status
                    wrong = client.get(url, headers=bearer("guess"))
                    assert wrong.status_code == 401, "a token that is shown counts alone"
            if front == "admin":
                shown = bearer(TOKEN.decode())
                known = httpx.get(url, verify=ours.client("eve"), headers=shown)
                assert known.status_code == 200
        finally:
            listener.stop()


@pytest.mark.parametrize("front", ["protocol", "asgi", "admin"])
def test_a_page_of_another_site_may_not_ask(front: str) -> None:
    listener = Listener(front, Limits(1 << 20))
    path = "/livez" if front == "admin" else "/v1/ring"
    host = f"127.0.0.1:{listener.address[1]}"
    try:
        for headers, allowed in (
            ({"Sec-Fetch-Site": "none"}, True), ({"Sec-Fetch-Site": "same-origin"}, True),
            ({"Sec-Fetch-Site": "cross-site"}, False), ({"Sec-Fetch-Site": "same-site"}, False),
            ({"Sec-Fetch-Site": "new-word"}, False), ({"Origin": f"http://{host}"}, True),
            ({"Origin": "http://evil.example"}, False), ({"Origin": "null"}, False),
            ({"Origin": f"http://{host}.evil.example"}, False),
            ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}, False),
        ):  # fmt: skip
            with listener.client() as client:
                heard = client.get(path, headers=headers)
                assert heard.status_code == (200 if allowed else 403), headers
                assert allowed or heard.json()["type"].endswith("/forbidden")
    finally:
        listener.stop()


@pytest.mark.parametrize("front", ["protocol", "asgi", "admin"])
@pytest.mark.parametrize("rights", [None, RIGHTS])
def test_a_page_of_another_site_is_told_and_counted(front: str, rights: Rights | None) -> None:
    """With good credentials and without; the line has no key and no text that the page chose."""
    listener = Listener(front, Limits(1 << 20), rights=rights)
    path, told = ("/v1/records/key", "/v1/records/") if front == "admin" else ("/v1/ring",) * 2
    cross, same = {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-origin"}
    try:
        with structlog.testing.capture_logs() as lines, listener.client() as client:
            client.get(path, headers=same | bearer("owner"))
            before = len(lines)
            assert client.get(path, headers=cross | bearer("boss")).status_code == 403
            evil = {"Origin": "http://evil.example"}
            assert client.put("/v1/kv/key?a", content=b"v", headers=evil).status_code == 403
            offer = {"Connection": "Upgrade", "Upgrade": "h2c"}
            assert client.delete("/another%0apath", headers=cross | offer).status_code == 403
        found = [(e["who"], e["what"], e["source"]) for e in lines[before:]]
        assert found == [
            ("", f"GET {told}", "127.0.0.1"),
            ("", "PUT /v1/kv", "127.0.0.1"),
            ("", "DELETE another path", "127.0.0.1"),
        ]
        assert {e["outcome"] for e in lines[before:]} == {"refused: a page of another site"}
        assert listener.node.counters["requests_of_other_sites"] == 3
    finally:
        listener.stop()


FORMS = ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b")
"""What a page may have a browser send to another site without asking first (Fetch, 2.2.2)."""


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("front", ["protocol", "asgi", "admin"])
def test_a_body_that_does_not_say_what_it_is_is_not_read(front: str, kind: str) -> None:
    listener = Listener(front, Limits(1 << 20))
    said = {"Content-Type": kind} if kind else {}
    path, text = ("/v1/repairs", b"{}") if front == "admin" else ("/v1/batch", NO_OPERATIONS)
    try:
        with listener.client() as client:
            shown = bearer(TOKEN.decode()) if front == "admin" else {}
            heard = client.post(path, content=text, headers={**said, **shown})
            # Programs of the first version say nothing; they show a token, as no form can (C17).
            assert heard.status_code == (202 if shown and not kind else 415)
            json = {"Content-Type": "Application/JSON; charset=utf-8", **shown}
            assert client.post(path, content=text, headers=json).status_code in (200, 202)
    finally:
        listener.stop()


def test_who_shows_no_token_says_what_a_body_is() -> None:
    """A browser sends a client certificate by itself; an open node asks for nothing."""

    async def body(admin: Admin) -> None:
        assert (await admin.post("/v1/repairs", content=b"{}")).status_code == 415
        assert (await admin.post("/v1/repairs")).status_code == 202, "there is no body"

    with_node(body)


@pytest.mark.parametrize("front", ["protocol", "asgi", "admin"])
def test_no_other_site_is_ever_given_leave(front: str) -> None:
    """PUT, DELETE and JSON need leave (CORS), which no answer gives."""
    listener = Listener(front, Limits(1 << 20))
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "a"}
    try:
        for origin, status in ((listener.url, 405), ("https://evil.example", 403)):
            with listener.client() as client:
                headers = {**asked, **bearer(TOKEN.decode()), "Origin": origin}
                path = "/v1/repairs" if front == "admin" else "/v1/kv/k"
                heard = client.options(path, headers=headers)
                assert heard.status_code == status
                assert not [name for name in heard.headers if name.startswith("access-control")]
    finally:
        listener.stop()


@pytest.mark.parametrize("accept", ["*/*", "multipart/mixed"])
def test_a_stored_page_runs_nothing_in_a_browser(accept: str) -> None:
    listener = Listener("protocol", Limits(1 << 20))
    try:
        with listener.client() as client:
            page = {"Content-Type": "text/html"}
            client.put("/v1/kv/page", content=b"<script>1</script>", headers=page)
            heard = client.get("/v1/kv/page", headers={"Accept": accept})
            assert heard.headers["content-security-policy"] == "sandbox; default-src 'none'"
            assert heard.headers["x-content-type-options"] == "nosniff"
    finally:
        listener.stop()
