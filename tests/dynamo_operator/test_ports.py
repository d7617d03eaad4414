"""The real ports, each with a server on loopback that gives prepared answers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from msgspec import structs

from dynamo_core.secret_keys import token_of
from dynamo_operator.kube import Kube
from dynamo_operator.node_admin import NodeAdmin
from dynamo_operator.ports import Busy, Conflict, Failed, Gone, Refused, Way
from dynamo_operator.tokens import tokens_of
from dynamoctl.trial_ca import make_ca, make_node

Answer = tuple[int, Any]
HERE = Way("127.0.0.1")


class Server:
    """Answers each request with the next of `answers`; `asked` has the requests."""

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.tls = tls
        self.accepted: list[str] = []
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []

    async def handle(self, request: web.Request) -> web.Response:
        """Any request."""
        text = await request.text()
        kind = request.headers.get("Content-Type", "")
        self.accepted.append(request.headers.get("Accept", ""))
        about = {"type": kind, "auth": request.headers.get("Authorization", "")}
        self.asked.append((request.method, request.path_qs, about, text))
        status, body = self.answers.pop(0)
        if isinstance(body, str):
            return web.Response(status=status, text=body)
        return web.json_response(body, status=status)

    def run(self, call: Callable[[int], Awaitable[Any]]) -> Any:
        """Calls with the port, while it serves."""

        async def body() -> Any:
            app = web.Application()
            app.router.add_route("*", "/{tail:.*}", self.handle)
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.tls)
            await site.start()
            try:
                return await call(runner.addresses[0][1])
            finally:
                await runner.cleanup()

        return asyncio.run(body())


def kube(server: Server, call: Callable[[Kube], Awaitable[Any]]) -> Any:
    """A call of the API server's port."""

    async def body(port: int) -> Any:
        configuration = Configuration(host=f"http://127.0.0.1:{port}")
        configuration.api_key["BearerToken"] = "Bearer token"
        api = Kube(ApiClient(configuration))
        try:
            return await call(api)
        finally:
            await api.close()

    return server.run(body)


def test_an_apply_is_forced_and_whole() -> None:
    server = Server((200, {"metadata": {"resourceVersion": "2"}}))
    body = {"kind": "Service", "metadata": {"name": "a", "namespace": "n"}, "spec": {"x": 1}}
    made = kube(server, lambda port: port.apply(body))
    assert made == {"metadata": {"resourceVersion": "2"}}
    ((method, path, about, text),) = server.asked
    assert method == "PATCH"
    assert path == "/api/v1/namespaces/n/services/a?fieldManager=dynamo-operator&force=true"
    assert about == {"type": "application/apply-patch+yaml", "auth": "Bearer token"}
    assert '"spec": {"x": 1}' in text


def test_lists_are_read_in_pages() -> None:
    first = {"items": [{"a": 1}], "metadata": {"continue": "more"}}
    server = Server((200, first), (200, {"items": [{"a": 2}], "metadata": {}}))
    found = kube(server, lambda port: port.find("Pod", "", "app=x"))
    assert found == [{"a": 1}, {"a": 2}]
    assert [path for _, path, _, _ in server.asked] == [
        "/api/v1/pods?limit=500&labelSelector=app%3Dx",
        "/api/v1/pods?limit=500&labelSelector=app%3Dx&continue=more",
    ]


def test_keys_of_accounts_are_read_in_their_own_type() -> None:
    """The API server has them as application/jwk-set+json, and answers 406 to who wants JSON."""
    server = Server((200, {"keys": []}))
    assert kube(server, lambda port: port.read("/openid/v1/jwks")) == {"keys": []}
    assert [path for _, path, _, _ in server.asked] == ["/openid/v1/jwks"]
    assert server.accepted == ["application/json, application/jwk-set+json"]


def test_statuses_are_patched_and_deletions_are_precise() -> None:
    server = Server((200, {}), (200, {}), (201, {}))

    async def calls(port: Kube) -> None:
        await port.patch("DynamoCluster", "n", "a", {"status": {"x": 1}}, "status")
        await port.delete("Pod", "n", "a-0", {"uid": "u", "resourceVersion": "7"})
        await port.evict("n", "a-0", {"uid": "u"})

    kube(server, calls)
    (patch, delete, evict) = server.asked
    group = "/apis/dynamo-ring.dev/v1alpha1/namespaces/n/dynamoclusters/a/status"
    assert patch[:2] == ("PATCH", f"{group}?fieldManager=dynamo-operator")
    assert patch[2]["type"] == "application/merge-patch+json"
    assert '"preconditions": {"uid": "u", "resourceVersion": "7"}' in delete[3]
    assert evict[:2] == ("POST", "/api/v1/namespaces/n/pods/a-0/eviction")
    assert '"deleteOptions": {"preconditions": {"uid": "u"}}' in evict[3]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, Gone), (409, Conflict), (429, Busy), (403, Refused), (422, Refused), (503, Failed)],
)
def test_failures_have_a_kind_and_a_message(status: int, kind: type[Failed]) -> None:
    server = Server((status, {"kind": "Status", "message": "because"}))
    with pytest.raises(Failed, match="because") as caught:
        kube(server, lambda port: port.create({"kind": "Secret", "metadata": {"namespace": "n"}}))
    assert (type(caught.value), caught.value.status) == (kind, status)


def test_a_proxy_that_answers_in_html_is_a_failure() -> None:
    with pytest.raises(Failed) as caught:
        kube(Server((502, "<html>")), lambda port: port.get("Pod", "n", "a"))
    assert type(caught.value) is Failed
    with pytest.raises(Failed):
        kube(Server((200, "<html>")), lambda port: port.get("Pod", "n", "a"))


def test_what_is_not_there_is_none() -> None:
    assert kube(Server((404, {})), lambda port: port.get("Pod", "n", "a")) is None


def test_a_server_that_is_gone_is_a_failure() -> None:
    async def body() -> None:
        port = Kube(ApiClient(Configuration(host="http://127.0.0.1:1")))
        try:
            await port.get("Pod", "n", "a")
        finally:
            await port.close()

    with pytest.raises(Failed):
        asyncio.run(body())


def node(server: Server, call: Callable[[NodeAdmin], Awaitable[Any]]) -> Any:
    """A call of the nodes' port."""

    async def body(port: int) -> Any:
        admin = NodeAdmin(port)
        try:
            return await call(admin)
        finally:
            await admin.close()

    return server.run(body)


def test_nodes_are_asked_with_the_token() -> None:
    server = Server((200, {"name": "a-0"}), (202, {"id": "1"}))

    async def calls(port: NodeAdmin) -> list[Any]:
        return [
            await port.get(Way("127.0.0.1", tokens_of("s3cret")), "/v1/status"),
            await port.post(Way("127.0.0.1"), "/v1/repairs", {"id": "1"}),
        ]

    assert node(server, calls) == [{"name": "a-0"}, {"id": "1"}]
    assert [ask[2]["auth"] for ask in server.asked] == [f"Bearer {token_of(b's3cret')}", ""]
    assert server.asked[1][3] == '{"id": "1"}'


def test_a_node_hears_the_secret_itself_only_after_it_has_refused_all_tokens() -> None:
    """A node of 0.1.0 knows no tokens, and the second secret may be the one that a node has."""
    refused = 401, {"type": "x/unauthorized", "detail": "no"}
    server = Server(refused, refused, (200, {}), refused, refused, refused)

    async def calls(port: NodeAdmin) -> None:
        assert await port.get(Way("127.0.0.1", tokens_of("new\r\nold\n")), "/v1/status") == {}
        with pytest.raises(Failed):
            await port.post(Way("127.0.0.1", tokens_of("new\nold")), "/v1/repairs", {"id": "1"})

    node(server, calls)
    tokens = [token_of(b"new"), token_of(b"old"), "new"]
    assert [ask[2]["auth"] for ask in server.asked] == [f"Bearer {token}" for token in tokens] * 2


def test_nodes_with_tls_are_believed_by_authority_and_name(tmp_path: Path) -> None:
    """A node of another name, or of another authority, gets nothing."""
    for place in ("ours", "theirs"):
        make_ca(tmp_path / place)
    cert = make_node(tmp_path / "ours", "a-0", [], 1.0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, cert.with_suffix(".key"))
    server = Server(*[(401, {"detail": "no"})] * 2, tls=context)
    ours, theirs = ((tmp_path / place / "ca.crt").read_text() for place in ("ours", "theirs"))

    async def calls(port: NodeAdmin) -> None:
        good = Way("127.0.0.1", ("t",), ours, "a-0")
        for way in (
            structs.replace(good, name="a-1"),
            structs.replace(good, believed=theirs),
            structs.replace(good, believed=""),
            structs.replace(good, believed="no PEM"),
        ):
            with pytest.raises(Failed) as failed:
                await port.get(way, "/v1/status")
            assert failed.value.status == 0
        with pytest.raises(Failed) as refused:
            await port.get(good, "/v1/status")
        assert refused.value.status == 401

    node(server, calls)
    assert [ask[2]["auth"] for ask in server.asked] == ["Bearer t"]


def test_a_problem_of_a_node_is_a_failure() -> None:
    problem = {"type": "x/plan-changed", "detail": "the ring is another now"}
    with pytest.raises(Conflict, match="another now") as caught:
        node(Server((409, problem)), lambda port: port.post(HERE, "/x", {}))
    assert caught.value.body == problem
    for answer in ((200, "<html>"), (200, [1])):
        with pytest.raises(Failed):
            node(Server(answer), lambda port: port.get(HERE, "/x"))
