"""The admin listener's application: what it answers."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dynamo_node.admin_api import BODY_BYTES_MAX
from tests.dynamo_node.lone_admin import CREATE, Admin, with_node


def test_an_unjoined_node_lives_and_is_not_ready() -> None:
    async def body(admin: Admin) -> None:
        assert (await admin.get("/livez")).json() == {"live": True}
        ready = await admin.get("/readyz")
        assert (ready.status_code, ready.json()) == (
            503,
            {"ready": False, "reason": "not a member of a ring"},
        )
        for path in ("/v1/ring", "/v1/keys", "/v1/preference-list/k"):
            assert await admin.problem("GET", path) == (503, "not-a-member")
        status = (await admin.get("/v1/status")).json()
        assert (status["disk"], status["cluster_id"], status["version"]) == ("empty", None, "1.2.3")

    with_node(body, founded=False)


def test_a_ring_is_created_once() -> None:
    async def body(admin: Admin) -> None:
        created = await admin.post("/v1/ring", json=CREATE)
        assert created.status_code == 201
        again = await admin.post("/v1/ring", json=CREATE)
        ring = await admin.get("/v1/ring")
        assert (again.status_code, again.json()) == (200, ring.json())
        assert ring.json() == created.json()
        other = {**CREATE, "cluster_id": "d"}
        assert await admin.problem("POST", "/v1/ring", json=other) == (409, "wrong-cluster")
        for path in ("/readyz", "/readyz?level=synced"):
            assert (await admin.get(path)).json() == {"ready": True}

    with_node(body, founded=False)


JSON = {"Content-Type": "application/json"}
BAD_BODIES = {
    "not JSON": b"{",
    "NaN": b'{"partitions":NaN}',
    "infinity": b'{"n":Infinity}',
    "invalid UTF-8": b'{"cluster_id":"\xff"}',
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "nothing": b"",
    "no members": b'{"members":[]}',
    "unknown field": b'{"members":[{"name":"a","address":"h:1"}],"partition":16}',
    "unknown field of a member": b'{"members":[{"name":"a","address":"h:1","id":1}]}',
    "huge number": b'{"n":1e400,"members":[{"name":"a","address":"h:1"}]}',
    "a float": b'{"n":1.5,"members":[{"name":"a","address":"h:1"}]}',
    "17 partitions": b'{"n":1,"partitions":17,"members":[{"name":"a","address":"h:1"}]}',
    "n above the members": b'{"n":2,"members":[{"name":"a","address":"h:1"}]}',
    "w above n": b'{"n":1,"w":2,"members":[{"name":"a","address":"h:1"}]}',
    "not the one that was asked": b'{"n":1,"members":[{"name":"b","address":"h:1"}]}',
    "address without a port": b'{"n":1,"members":[{"name":"a","address":"h"}]}',
    "empty name": b'{"n":1,"members":[{"name":"","address":"h:1"}]}',
}


@pytest.mark.parametrize("content", BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_bodies_are_problems(content: bytes) -> None:
    async def body(admin: Admin) -> None:
        said = await admin.problem("POST", "/v1/ring", content=content, headers=JSON)
        assert said == (400, "bad-parameter")
        assert admin.driver.node.ring_or_none is None

    with_node(body, founded=False)


def test_a_body_without_end_is_refused() -> None:
    async def body(admin: Admin) -> None:
        content = b" " * (BODY_BYTES_MAX + 1)
        said = await admin.problem("POST", "/v1/repairs", content=content, headers=JSON)
        assert said == (413, "value-too-large")

    with_node(body)


REFUSED = {
    "other cluster in the body": ("POST", "/v1/repairs", {"cluster_id": "d"}, 409, "wrong-cluster"),
    "other cluster in the query": ("POST", "/v1/repairs?cluster_id=d", {}, 409, "wrong-cluster"),
    "differ": ("POST", "/v1/repairs?cluster_id=c", {"cluster_id": "d"}, 400, "bad-parameter"),
    "no such partition": ("POST", "/v1/repairs", {"partitions": [16]}, 400, "bad-parameter"),
    "no such node": ("POST", "/v1/repairs", {"nodes": ["z"]}, 400, "bad-parameter"),
    "no such mode": ("POST", "/v1/repairs", {"mode": "half"}, 400, "bad-parameter"),
    "no such member": ("POST", "/v1/ring/replace", {"name": "z"}, 400, "bad-parameter"),
    "not lost": ("POST", "/v1/ring/replace", {"name": "a"}, 409, "not-lost"),
    "no such repair": ("GET", "/v1/repairs/none", None, 404, "not-found"),
    "a wish of no kind": ("POST", "/v1/ring/plan", {"joins": []}, 400, "bad-parameter"),
    "a move of neither": ("POST", "/v1/ring/plan", {"moves": [{"to": "a"}]}, 400, "bad-parameter"),
    "no weight": ("POST", "/v1/ring/plan", {"weights": {"a": 0}}, 400, "bad-parameter"),
    "the last leaves": ("POST", "/v1/ring/plan", {"leave": ["a"]}, 400, "bad-parameter"),
    "no hash": ("POST", "/v1/ring/apply", {"leave": ["a"]}, 400, "bad-parameter"),
    "a bad operation id": (
        "POST", "/v1/ring/apply", {"hash": "", "operation_id": "~a"}, 400, "bad-parameter",
    ),
    "nobody joins": (
        "POST", "/v1/ring/plan", {"join": [{"name": "a", "address": "h:9"}]}, 400, "bad-parameter",
    ),
    "removes itself": ("POST", "/v1/ring/remove", {"name": "a"}, 400, "bad-parameter"),
    "removes a stranger": ("POST", "/v1/ring/remove", {"name": "z"}, 400, "bad-parameter"),
    "no such path": ("GET", "/v1/nothing", None, 404, "not-found"),
    "slash at the end": ("GET", "/v1/status/", None, 404, "not-found"),
    "no such method": ("DELETE", "/v1/ring", None, 405, "method-not-allowed"),
    "no such level": ("GET", "/readyz?level=x", None, 400, "bad-parameter"),
    "no such parameter": ("GET", "/v1/keys?x=1", None, 400, "bad-parameter"),
    "twice": ("GET", "/v1/keys?limit=1&limit=2", None, 400, "bad-parameter"),
    "not a number": ("GET", "/v1/keys?limit=-1", None, 400, "bad-parameter"),
    "too many": ("GET", "/v1/keys?limit=100000", None, 400, "bad-parameter"),
    "partition out of range": ("GET", "/v1/keys?partition=16", None, 400, "bad-parameter"),
    "not a next": ("GET", "/v1/keys?after=!", None, 400, "bad-parameter"),
    "empty key": ("GET", "/v1/preference-list/", None, 400, "bad-key"),
    "bad escape": ("GET", "/v1/preference-list/a%2", None, 400, "bad-key"),
    "long key": ("GET", "/v1/preference-list/" + "a" * 1025, None, 400, "bad-key"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "json", "status", "slug"), REFUSED.values(), ids=REFUSED
)
def test_refusals_are_problems(
    method: str, path: str, json: dict[str, Any] | None, status: int, slug: str
) -> None:
    async def body(admin: Admin) -> None:
        more = {} if json is None else {"json": json}
        assert await admin.problem(method, path, **more) == (status, slug)

    with_node(body)


@pytest.mark.parametrize(
    ("path", "key"),
    [("k", b"k"), ("a/b", b"a/b"), ("a%2Fb", b"a/b"), ("%ff%0a%00", b"\xff\n\x00"),
     ("%FE", b"\xfe"), ("%3Fx", b"?x")],
)  # fmt: skip
def test_a_key_in_a_path_is_its_raw_bytes(path: str, key: bytes) -> None:
    async def body(admin: Admin) -> None:
        answer = (await admin.get("/v1/preference-list/" + path)).json()
        assert answer.pop("partition") in range(16)
        assert answer == {
            "key": b64encode(key).decode(),
            "owners": ["a"],
            "stand_ins": [],
            "up": {"a": True},
        }

    with_node(body)


def test_keys_are_listed_page_by_page() -> None:
    async def body(admin: Admin) -> None:
        keys = [b"key %d \xff" % n for n in range(25)]
        for key in keys:
            await admin.put(key)
        listed: list[str] = []
        query: dict[str, str] = {"limit": "10"}
        while True:
            page = (await admin.get("/v1/keys", params=query)).json()
            listed += page["keys"]
            if page["next"] is None:
                break
            query["after"] = page["next"]
        assert sorted(listed) == sorted(b64encode(key).decode() for key in keys)

    with_node(body)


def test_a_repair_is_followed_to_its_end() -> None:
    async def body(admin: Admin) -> None:
        started = await admin.post("/v1/repairs?cluster_id=c", json={"partitions": [1, 2]})
        assert (started.status_code, started.json()["state"]) == (202, "running")
        path = "/v1/repairs/" + started.json()["id"]
        while (report := (await admin.get(path)).json())["state"] == "running":
            await asyncio.sleep(0.01)
        assert report == {
            "id": started.json()["id"],
            "state": "done",
            "partitions_total": 2,
            "partitions_done": 2,
            "keys_repaired": 0,
        }

    with_node(body)


def test_a_repair_with_an_id_is_run_once() -> None:
    async def body(admin: Admin) -> None:
        wish = {"id": "7f0c-1", "partitions": [3]}
        assert (await admin.post("/v1/repairs", json=wish)).json()["id"] == "7f0c-1"
        while (await admin.get("/v1/repairs/7f0c-1")).json()["state"] == "running":
            await asyncio.sleep(0.01)
        again = await admin.post("/v1/repairs", json=wish)
        assert (again.status_code, again.json()) == (202, {"id": "7f0c-1", "state": "done"})

    with_node(body)


def test_metrics_have_the_names_of_the_contract() -> None:
    async def body(admin: Admin) -> None:
        await admin.put(b"k")
        text = (await admin.get("/metrics")).text
        families = {f.name: f for f in text_string_to_metric_families(text)}
        assert {
            "dynamo_requests",
            "dynamo_request_seconds",
            "dynamo_siblings",
            "dynamo_divergence",
            "dynamo_hints",
            "dynamo_read_repairs",
            "dynamo_exchange_differences",
            "dynamo_corrupt_records",
            "dynamo_peer_state_changes",
            "dynamo_tombstones",
            "dynamo_background_budget",
        } <= set(families)
        assert [(s.labels, s.value) for s in families["dynamo_requests"].samples] == [
            ({"operation": "put", "status": "204"}, 1.0)
        ]

    with_node(body)


def test_a_draining_or_full_node_is_not_ready_but_lives() -> None:
    async def body(admin: Admin) -> None:
        node = admin.driver.node
        node.draining = True
        assert (await admin.get("/readyz")).json() == {"ready": False, "reason": "draining"}
        node.draining = False
        node.write_batch.writable = False
        reason = (await admin.get("/readyz")).json()["reason"]
        assert reason == "the store refuses writes"
        node.write_batch.writable = True
        assert (await admin.get("/livez")).status_code == 200

    with_node(body)


JOIN_B = {"join": [{"name": "b", "address": "h:2"}]}


def test_a_plan_is_shown_and_quoted() -> None:
    async def body(admin: Admin) -> None:
        await admin.put(b"k")
        plan = (await admin.post("/v1/ring/plan?cluster_id=c", json=JOIN_B)).json()
        assert set(plan) == {
            "hash",
            "moves",
            "before",
            "after",
            "zones",
            "violations",
            "bytes",
            "seconds_estimated",
        }
        assert (plan["before"], plan["after"]) == ({"a": 16, "b": 0}, {"a": 8, "b": 8})
        assert set(plan["moves"][0]) == {"partition", "out", "in", "bytes", "keys"}
        assert plan == (await admin.post("/v1/ring/plan", json=JOIN_B)).json()
        response = await admin.post("/v1/ring/apply", json={**JOIN_B, "hash": "old"})
        changed = response.json()
        assert (response.status_code, changed["plan"]) == (409, plan)
        assert changed["type"].endswith("/plan-changed") and "problem" not in changed
        weights = {"weights": {"a": 7}}
        quoted = (await admin.post("/v1/ring/plan", json=weights)).json()["hash"]
        body = {**weights, "hash": quoted, "operation_id": "ns/name:1"}
        for _ in range(2):
            answer = await admin.post("/v1/ring/apply", json=body)
            epoch = (await admin.get("/v1/ring")).json()["epoch"]
            said = {"operation_id": "ns/name:1", "epoch": epoch}
            assert (answer.status_code, answer.json()) == (202, said)
        assert (await admin.get("/v1/status")).json()["operation"] == {
            "id": "ns/name:1",
            "moves_total": 0,
            "moves_done": 0,
            "state": "done",
            "earlier": [],
        }
        cancelled = await admin.post("/v1/ring/cancel")
        assert (cancelled.status_code, cancelled.json()["operation_id"]) == (202, "ns/name:1")

    with_node(body)


@pytest.mark.parametrize("path", ["plan", "apply", "cancel", "remove"])
def test_changes_are_for_members_and_name_their_cluster(path: str) -> None:
    json = {"apply": {"hash": ""}, "remove": {"name": "a"}}.get(path, {})

    async def outside(admin: Admin) -> None:
        said = await admin.problem("POST", f"/v1/ring/{path}", json=json)
        assert said == (503, "not-a-member")

    async def inside(admin: Admin) -> None:
        said = await admin.problem("POST", f"/v1/ring/{path}?cluster_id=d", json=json)
        assert said == (409, "wrong-cluster")

    with_node(outside, founded=False)
    with_node(inside)
