"""Admin HTTP, listener 2: probes, metrics, status and what administrators ask (docs/http-api.md).

Bodies are decoded strictly into typed structs with bounds; every error is a problem (RFC 9457).
`admin_checks` checks the bearer token before a request is routed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache, partial
from time import monotonic
from typing import Any, TypeVar

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from msgspec import UNSET
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dynamo_archive.sealing import PLAIN, Sealing
from dynamo_core.admin.admin import KEYS_PAGE_MAX
from dynamo_core.keys import KEY_BYTES_MAX
from dynamo_node.admin_answers import answer, durability, problem, query_of, refusal
from dynamo_node.admin_checks import AdminChecks
from dynamo_node.admin_document import (
    ApplyChange,
    Body,
    CancelChange,
    Cluster,
    CreateRing,
    Level,
    Page,
    PlanChange,
    RemoveNode,
    ReplaceNode,
    StartRepair,
    WantedReport,
    extra,
)
from dynamo_node.backup_api import BackupApi
from dynamo_node.budget import Books, holder
from dynamo_node.client_api import ClientApi
from dynamo_node.driver import Driver
from dynamo_node.http_limits import Limits
from dynamo_node.keyring import Keyring
from dynamo_node.kv_asgi import KvApp
from dynamo_node.look_api import LookApi
from dynamo_node.media import JSON, media_of
from dynamo_node.metrics import registry_of
from dynamo_node.openapi import camel, fill_document
from dynamo_node.own_keys import page_of
from dynamo_node.own_status import of_shell
from dynamo_node.problems import Problem

BODY_BYTES_MAX = 1024 * 1024
ANSWER_S_MAX = 30.0
B = TypeVar("B", bound=Body)


LISTINGS_MAX = 4
"""Listings of keys that run at once; further listings wait (T-5)."""
PAGE_BYTES_MAX = 4 * KEYS_PAGE_MAX * KEY_BYTES_MAX // 3
"""A page of the longest keys, in base64."""


class AdminApi:
    """The routes of one node's driver."""

    def __init__(self, driver: Driver, version: str, books: Books) -> None:
        self.driver = driver
        self.books = books
        self._listings = asyncio.Semaphore(LISTINGS_MAX)
        self.node = driver.node
        self.version = version
        self.registry = registry_of(driver)
        self.node.inside.own.attach(partial(of_shell, driver, version, monotonic()))

    async def livez(self) -> Response:
        """200 while the event loop runs and the store is open; never depends on peers."""
        alive = not self.driver.stopped
        return answer(200 if alive else 503, {"live": alive})

    async def readyz(self, request: Request) -> Response:
        """200 for a member that can write and does not drain; `level=synced`: also complete."""
        level = query_of(request, Level).level
        node = self.node
        why = ""
        if not node.member:
            why = node.ring_state.lost_ring or "not a member of a ring"
        elif node.draining:
            why = "draining"
        elif not node.writable:
            why = "the store refuses writes"
        elif node.whereabouts.yields:
            why = node.whereabouts.trouble()
        elif level == "synced":
            counts = node.admin.status()["partitions"]
            if counts["complete"] < counts["owned"]:
                why = f"{counts['complete']} of {counts['owned']} partitions are complete"
        body: dict[str, Any] = {"ready": not why, **({"reason": why} if why else {})}
        if node.stalled or node.settings.volatile:
            body["durability"] = durability(node)
        return answer(503 if why else 200, body)

    async def metrics(self) -> Response:
        """Prometheus text."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

    async def status(self) -> Response:
        """This node: its disk, partitions, hints, peers."""
        self.driver.enter()
        return answer(200, self.node.inside.own.status())

    async def ring(self) -> Response:
        """The ring document."""
        if self.node.ring_or_none is None:
            raise Problem(503, "not-a-member", "this node is in no ring")
        return answer(200, self.node.admin.ring_document())

    async def create_ring(self, request: Request) -> Response:
        """201 with the new ring; 200 if this id has one already; 409 if the ring has another id."""
        body = await self.body_of(request, CreateRing)
        return await self.ask(self.node.admin.create_ring, msgspec.to_builtins(body))

    async def plan(self, request: Request) -> Response:
        """Shows what joins, leaves, weights and moves would do, with a hash; changes nothing."""
        return await self._change(request, PlanChange, self.node.admin.planner.plan)

    async def apply(self, request: Request) -> Response:
        """Carries out the plan with this hash; 409 with the new plan if the plan has changed."""
        return await self._change(request, ApplyChange, self.node.admin.planner.apply)

    async def cancel(self, request: Request) -> Response:
        """Cancels the moves that have not switched yet."""
        return await self._change(request, CancelChange, self.node.admin.planner.cancel)

    async def remove(self, request: Request) -> Response:
        """Removes a node that will never return; without `force` only shows what that would do."""
        return await self._change(request, RemoveNode, self.node.admin.planner.remove)

    async def _change(
        self, request: Request, kind: type[Body], call: Callable[..., None]
    ) -> Response:
        body = await self.body_of(request, kind, in_ring=True)
        return await self.ask(call, msgspec.to_builtins(body))

    async def replace(self, request: Request) -> Response:
        """Lets the empty node of that name take the place of the lost one (S-MEM-4)."""
        body = await self.body_of(request, ReplaceNode, in_ring=True)
        return await self.ask(self.node.admin.replace, body.name)

    async def start_repair(self, request: Request) -> Response:
        """Anti-entropy over all partitions, over named ones, or over those of named nodes."""
        body = await self.body_of(request, StartRepair, in_ring=True)
        full, name = body.mode == "full", "" if body.id is UNSET else body.id
        return await self.ask(self.node.admin.repair, name, body.partitions, body.nodes, full)

    async def repair(self, repair_id: str) -> Response:
        """Progress and result of a repair that was started on this node."""
        report = self.node.admin.repair_status(repair_id)
        if report is None:
            raise Problem(404, "not-found", f"no repair {repair_id!r} was started on this node")
        return answer(200, report)

    async def keys(self, request: Request) -> Response:
        """A page of live keys of the whole cluster; `after` is `next` of the page before."""
        page = query_of(request, Page)
        ask = (page.partition, page.after, page.limit)
        client = holder(request.client.host) if request.client else ""
        async with self._listings:
            if status := self.books.room_for(client, PAGE_BYTES_MAX):
                raise Problem(status, "overloaded", "read the earlier answers first")
            prefixes = request.scope.get("dynamo_list")
            if prefixes is None:
                return await self.ask(self.node.admin.list_keys, *ask)
            return await self._own_keys(page, prefixes)

    async def _own_keys(self, page: Page, prefixes: tuple[bytes, ...]) -> Response:
        """A page for a name that may list only keys with these prefixes."""
        if not self.node.member:
            raise Problem(503, "not-a-member", "this node is in no ring")

        async def ask(after: str) -> tuple[int, dict[str, Any]]:
            wanted = (page.partition, after, KEYS_PAGE_MAX)
            return await self._answered(self.node.admin.list_keys, *wanted)

        bits = self.node.ring.partition_bits
        return answer(*await page_of(ask, page.after, page.limit, prefixes, bits))

    async def preference_list(self, request: Request) -> Response:
        """Partition, owners and stand-ins of a key, and which of them are up."""
        key = request.scope["dynamo_key"]
        if not self.node.member:
            raise Problem(503, "not-a-member", "this node is in no ring")
        return answer(200, self.node.admin.preference_list(key))

    async def staleness(self, request: Request) -> Response:
        """How likely a read sees the last write, for each R and W: predicted, and measured."""
        wanted = query_of(request, WantedReport)
        return await self.ask(self.node.staleness.ask, wanted.max_age_s, wanted.n)

    async def body_of(self, request: Request, kind: type[B], in_ring: bool = False) -> B:
        """The checked body of a request; checks also the cluster that body or query names."""
        asked = query_of(request, Cluster).cluster_id
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > BODY_BYTES_MAX:
                raise Problem(413, "value-too-large", f"body: at most {BODY_BYTES_MAX} bytes")
        if data:
            _check_kind(request)
        try:
            body = msgspec.json.decode(bytes(data) or b"{}", type=kind)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Problem(400, "bad-parameter", f"body: {error}") from None
        named = body.cluster_id
        if asked is not UNSET:
            if named not in (UNSET, asked):
                raise Problem(400, "bad-parameter", "cluster_id: body and query differ")
            named = body.cluster_id = asked
        ring = self.node.ring_or_none
        if ring is not None and named not in (UNSET, "", ring.identity.cluster_id):
            detail = f"cluster_id: this node is in {ring.identity.cluster_id}"
            raise Problem(409, "wrong-cluster", detail)
        if in_ring and ring is None and named not in (UNSET, ""):
            raise Problem(409, "wrong-cluster", "cluster_id: this node is in no ring")
        return body

    async def ask(self, call: Callable[..., None], *arguments: object) -> Response:
        """Asks the node and waits for its answer."""
        return answer(*await self._answered(call, *arguments))

    async def _answered(
        self, call: Callable[..., None], *arguments: object
    ) -> tuple[int, dict[str, Any]]:
        answered: asyncio.Future[tuple[int, dict[str, Any]]] = asyncio.Future()

        def done(status: int, body: dict[str, Any]) -> None:
            if not answered.done():
                answered.set_result((status, body))

        self.driver.enter()
        call(*arguments, done)
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                return await answered
        except TimeoutError:
            raise Problem(503, "insufficient-owners", "no answer in time") from None


def _check_kind(request: Request) -> None:
    """A body says that it is JSON: a page of another site cannot have a browser send that. Programs
    of the first version say nothing and show a token, which no page can either (C17). Raises
    Problem."""
    kind = media_of(request.headers.get("content-type", "").encode("latin-1"))
    if kind != JSON and (kind or "authorization" not in request.headers):
        raise Problem(415, "", f"content-type: a body is {JSON.decode()}")


def admin_app(
    driver: Driver, keyring: Keyring, version: str, books: Books, limits: Limits,
    sealing: Sealing = PLAIN,
) -> AdminChecks:  # fmt: skip
    """The ASGI application of listener 2, with the console's files and `/v1/kv` for its page."""
    api = AdminApi(driver, version, books)
    app = FastAPI(
        title="dynamo-ring node",
        version=version,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: camel(route.name),
    )
    routes: list[tuple[str, str, Callable[..., Any], int]] = [
        ("GET", "/livez", api.livez, 200),
        ("GET", "/readyz", api.readyz, 200),
        ("GET", "/metrics", api.metrics, 200),
        ("GET", "/v1/status", api.status, 200),
        ("GET", "/v1/ring", api.ring, 200),
        ("POST", "/v1/ring", api.create_ring, 201),
        ("POST", "/v1/ring/plan", api.plan, 200),
        ("POST", "/v1/ring/apply", api.apply, 202),
        ("POST", "/v1/ring/cancel", api.cancel, 202),
        ("POST", "/v1/ring/remove", api.remove, 202),
        ("POST", "/v1/ring/replace", api.replace, 202),
        ("POST", "/v1/repairs", api.start_repair, 202),
        ("GET", "/v1/repairs/{repair_id}", api.repair, 200),
        *BackupApi(api, sealing).routes(),
        ("GET", "/v1/keys", api.keys, 200),
        ("GET", "/v1/preference-list/{key}", api.preference_list, 200),
        ("GET", "/v1/staleness", api.staleness, 200),
        *LookApi(driver, keyring, api._answered).routes(),
    ]
    for method, path, endpoint, status in routes:
        app.add_api_route(
            path,
            endpoint,
            methods=[method],
            status_code=status,
            response_class=Response,
            tags=["admin listener"],
            summary=(endpoint.__doc__ or "").strip(),
            description="",
            openapi_extra=extra(path, method),
        )
    app.openapi = cache(partial(fill_document, app))  # type: ignore[method-assign]
    _add_error_handlers(app)
    keys = ClientApi(driver, keyring, limits, books)
    keys.access = driver.access
    paths = [path for _, path, _, _ in routes]
    return AdminChecks(app, KvApp(keys), keyring, driver.access, driver.audit, paths=paths)


def _add_error_handlers(app: FastAPI) -> None:
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return refusal(error)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        slug = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "")
        return problem(error.status_code, slug, str(error.detail))

    async def invalid(request: Request, error: Exception) -> Response:
        return problem(400, "bad-parameter", str(error))

    async def fault(request: Request, error: Exception) -> Response:
        return problem(500, "", "an error inside this node; see its log")

    async def gone(request: Request, error: Exception) -> Response:
        return problem(400, "", "the body did not arrive")

    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Problem, refused)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, fault)
