"""Looks inside: who may look, who is shown values, and what stays in bounds."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from dynamo_core.secret_keys import token_of
from dynamo_node.access import Access
from dynamo_node.keyring import Keyring
from dynamo_node.look_api import GATHERING_BYTES, LOOKS, STREAMS_MAX, LookApi
from dynamo_node.problems import Problem
from dynamo_node.rights import Rights, Rule
from tests.dynamo_node.access.test_rights_admin import SECRET, bearer
from tests.dynamo_node.lone_admin import CREATE, Admin, with_node


def rule(token: str, **what: Any) -> Rule:
    return Rule(token_sha256=sha256(token.encode()).hexdigest(), name=token, **what)


RIGHTS = Rights(
    [
        rule("boss", admin=True),
        rule("reader", admin=True, prefixes=["mine:"], verbs=["get"]),
        rule("client", prefixes=[""], verbs=["get", "put", "delete", "list"]),
    ]
)
LOOKED = ["/v1/cluster", "/v1/records/mine:k", "/v1/history/mine:k", "/v1/trees/1", "/v1/hints"]
EVERY = [*LOOKED, "/v1/events"]


def value_in(document: dict[str, Any]) -> bytes:
    return b64decode(document["copies"][0]["siblings"][0]["value"])


def test_values_are_shown_to_those_who_may_get_the_key() -> None:
    """`admin` is no right to a key: the name needs `get` as well, also who shows the token that is
    derived from the secret."""

    async def body(admin: Admin) -> None:
        checks: Any = admin._transport
        checks.app._access = admin.driver.access = Access(RIGHTS, None, admin.driver.audit)
        boss = bearer("boss")
        assert (await admin.post("/v1/ring", json=CREATE, headers=boss)).status_code == 201
        await admin.put(b"mine:k")
        await admin.put(b"other")
        expected = {
            ("boss", "mine:k"): False,
            ("boss", "other"): False,
            ("reader", "mine:k"): True,
            ("reader", "other"): False,
            (token_of(SECRET), "mine:k"): False,
        }
        for (token, key), shown in expected.items():
            found = (await admin.get(f"/v1/records/{key}", headers=bearer(token))).json()
            assert (found["values_shown"], value_in(found)) == (shown, b"v" if shown else b"")
            assert found["copies"][0]["siblings"][0]["bytes"] == 1
            found = (await admin.get(f"/v1/history/{key}", headers=bearer(token))).json()
            assert found["values_shown"] == shown and not found["watched"]
        for path in EVERY:
            assert await admin.problem("GET", path, headers=bearer("client")) == (403, "forbidden")
            assert await admin.problem("GET", path) == (401, "unauthorized")
            assert (await admin.post(path, headers=boss)).status_code == 405

    with_node(body, Keyring((SECRET,)), founded=False)


def test_where_clients_need_no_name_values_are_shown() -> None:
    async def body(admin: Admin) -> None:
        await admin.put(b"k/\xff%")
        found = (await admin.get("/v1/records/k%2F%FF%25")).json()
        assert b64decode(found["key"]) == b"k/\xff%"
        assert found["values_shown"] and value_in(found) == b"v"
        for path in LOOKED:
            heard = await admin.get(path)
            assert heard.status_code == 200 and heard.json()["no_answer"] == {}, path
        for path in ("/v1/records/", "/v1/history/%zz", "/v1/records/" + "k" * 1025):
            assert await admin.problem("GET", path) == (400, "bad-key")
        for path in (
            "/v1/trees/16", "/v1/trees/x", "/v1/trees/-1", "/v1/hints?limit=101", "/v1/cluster?a=b",
            "/v1/events?after=-1", "/v1/records/k?strict=true",
        ):  # fmt: skip
            assert await admin.problem("GET", path) == (400, "bad-parameter"), path
        assert await admin.problem("GET", "/v1/records%2Fk") == (404, "not-found")

    with_node(body)


def test_looks_take_their_memory_from_the_records_of_gets() -> None:
    async def body(admin: Admin) -> None:
        records = admin.driver.node.records
        held = []
        inside = admin.driver.node.inside
        cluster = inside.cluster

        def watched(done: Any) -> None:
            held.append(records.held(LOOKS))
            cluster(done)

        inside.cluster = watched  # type: ignore[method-assign]
        answers = await asyncio.gather(*(admin.get("/v1/cluster") for _ in range(6)))
        assert {a.status_code for a in answers} == {200}
        assert 0 < max(held) <= 2 * GATHERING_BYTES and records.used == 0
        records.take("a get", records.total)
        assert await admin.problem("GET", "/v1/cluster") == (503, "overloaded")

    with_node(body)


def lines_of(data: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line[6:]) for line in data.splitlines() if line[:6] == b"data: "]


def looking(admin: Admin, keyring: Keyring) -> LookApi:
    async def answered(*_: Any) -> tuple[int, dict[str, Any]]:
        raise AssertionError("events ask no node")

    return LookApi(admin.driver, keyring, answered)


class Asked:
    """What a handler reads of a request for events."""

    def __init__(self, after: str = "0", last: str = "") -> None:
        from starlette.datastructures import QueryParams

        self.query_params = QueryParams({"after": after})
        self.headers = {"last-event-id": last} if last else {}


def test_events_come_as_they_happen_and_from_where_the_client_was() -> None:
    async def body(admin: Admin) -> None:
        node, api = admin.driver.node, looking(admin, Keyring())
        answer: Any = await api.events(Asked())  # type: ignore[arg-type]
        assert answer.media_type == "text/event-stream"
        stream = answer.body_iterator
        assert (await anext(stream)).startswith(b":")
        node.happened("peer_down", "S-MEM-2", {"node": "b"})
        while (lines := lines_of(await anext(stream)))[0]["kind"] != "peer_down":
            pass
        assert lines[0]["node"] == "b" and lines[0]["rule"] == "S-MEM-2" and lines[0]["at_ms"] > 0
        last = node.events.last
        node.happened("peer_up", "S-MEM-2", {"node": "b"})
        again: Any = await api.events(Asked("0", str(last)))  # type: ignore[arg-type]
        lines = again.body_iterator
        await anext(lines)
        block = await anext(lines)
        assert (
            block.startswith(b"id: %d\n" % (last + 1)) and lines_of(block)[0]["kind"] == "peer_up"
        )
        await stream.aclose()
        await lines.aclose()
        assert not api._news

    with_node(body)


@pytest.mark.parametrize("what", ["drains", "rights", "secrets"])
def test_a_stream_ends_when_the_node_drains_or_rights_or_secrets_change(what: str) -> None:
    async def body(admin: Admin) -> None:
        keyring = Keyring((SECRET,))
        access = admin.driver.access = Access(RIGHTS, None, admin.driver.audit)
        api = looking(admin, keyring)
        answer: Any = await api.events(Asked())  # type: ignore[arg-type]
        stream = answer.body_iterator
        await anext(stream)
        if what == "drains":
            admin.driver.node.drain()
        elif what == "rights":
            access.take(Rights())
        else:
            keyring.take((b"another secret, that is as long!", SECRET))
        assert [block async for block in stream if b"data" in block] == []

    with_node(body, founded=False)


def test_streams_are_bounded() -> None:
    async def body(admin: Admin) -> None:
        api = looking(admin, Keyring())
        streams = []
        for _ in range(STREAMS_MAX):
            answer: Any = await api.events(Asked())  # type: ignore[arg-type]
            streams.append(answer.body_iterator)
            await anext(streams[-1])
        with pytest.raises(Problem) as refused:
            await api.events(Asked())  # type: ignore[arg-type]
        assert (refused.value.status, refused.value.slug) == (503, "overloaded")
        for stream in streams:
            await stream.aclose()

    with_node(body)
