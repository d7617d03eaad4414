"""What the operator watches, with an API server on loopback: every part of our rings only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dynamo_operator import kube
from dynamo_operator.handlers import GROUP, OURS, PARTS, RUNS, watch

NAMESPACES = ("v1", "namespaces")
OWN = tuple((GROUP, "v1alpha1", plural) for plural in ("dynamoclusters", *RUNS))
Workqueue = list[tuple[str, str]]
WAIT_S = 30.0


class ApiServer:
    """Discovery of the kinds in `kinds`, empty lists, and watches with prepared events."""

    def __init__(self, *kinds: tuple[str, ...]) -> None:
        self.kinds = (*kinds, NAMESPACES)  # kopf looks that it is there
        self.watches: dict[str, web.StreamResponse] = {}
        self.selectors: dict[str, str] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        *head, last = request.path.strip("/").split("/")
        if request.path == "/api":
            return web.json_response({"versions": ["v1"]})
        if request.path == "/apis":
            groups = sorted({kind[0] for kind in self.kinds if len(kind) == 3})
            return web.json_response({"groups": [self._group(group) for group in groups]})
        if (*head[1:], last) in {kind[:-1] for kind in self.kinds}:
            return web.json_response({"resources": self._resources((*head[1:], last))})
        if (*head[1:], last) not in self.kinds:
            return web.json_response({"kind": "Status", "message": "none"}, status=404)
        if "watch" not in request.query:
            return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})
        self.selectors[last] = request.query.get("labelSelector", "")
        stream = web.StreamResponse()
        await stream.prepare(request)
        self.watches[last] = stream
        await asyncio.sleep(3600)
        return stream

    def _group(self, group: str) -> dict[str, Any]:
        version = next(kind[1] for kind in self.kinds if kind[0] == group)
        named = {"groupVersion": f"{group}/{version}", "version": version}
        return {"name": group, "versions": [named], "preferredVersion": named}

    def _resources(self, place: tuple[str, ...]) -> list[dict[str, Any]]:
        return [
            {
                "name": kind[-1],
                "singularName": "",
                "kind": kind[-1],
                "namespaced": True,
                "verbs": ["list", "watch", "patch"],
            }
            for kind in self.kinds
            if kind[:-1] == place
        ]

    async def tell(self, plural: str, event: str, instance: str) -> None:
        """One event of an object of that ring."""
        labels = {"app.kubernetes.io/name": "dynamo-ring", "app.kubernetes.io/instance": instance}
        meta = {"name": "x", "namespace": "shop", "uid": instance, "labels": labels}
        thing = {"type": event, "object": {"metadata": {**meta, "resourceVersion": "2"}}}
        await self.watches[plural].write(json.dumps(thing).encode() + b"\n")


async def until(what: str, met: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(WAIT_S):
            while not met():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


async def watched(server: ApiServer, directory: Path) -> Workqueue:
    """Watches before that server; each part tells of one deletion and one edit."""
    site = web.Application()
    site.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(site, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    named = {"cluster": {"server": f"http://127.0.0.1:{port}"}, "user": {"token": "t"}}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": named["cluster"]}],
        "users": [{"name": "c", "user": named["user"]}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    }
    (directory / "config").write_text(json.dumps(config))
    workqueue: Workqueue = []
    task = asyncio.create_task(watch(workqueue.append, ()))
    parts = [kind[-1] for kind in PARTS if kind in server.kinds]
    try:
        await until("all is watched", lambda: len(server.watches) == len(server.kinds) - 1)
        for plural in parts:
            for event in ("DELETED", "MODIFIED"):
                await server.tell(plural, event, f"{plural}-{event.lower()}")
        await until(f"woken: {workqueue}", lambda: len(set(workqueue)) == 2 * len(parts))
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await runner.cleanup()
    return workqueue


@pytest.mark.parametrize(
    ("asked", "host", "token", "expected"),
    [
        ("", "10.0.0.1", True, True),
        ("", "10.0.0.1", False, False),  # automountServiceAccountToken: false
        ("", None, True, False),  # a file that was left on a machine
        ("", None, False, False),
        ("config", "10.0.0.1", True, False),
        ("config", None, True, False),
    ],
)
def test_kubeconfig_is_used_if_it_is_asked_for_or_no_pod_is_around(
    asked: str, host: str | None, token: bool, expected: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The same answer for the client that writes and for the client that watches."""
    monkeypatch.setenv("KUBECONFIG", asked)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    if host:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    file = tmp_path / "token"
    if token:
        file.touch()
    monkeypatch.setattr(kube, "TOKEN", file)
    assert kube.in_pod() is expected


@pytest.mark.parametrize("absent", [None, ("policy", "v1", "poddisruptionbudgets")])
def test_an_edit_or_a_deletion_of_any_part_wakes_its_ring(
    absent: tuple[str, ...] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the API server lacks a kind, the others are still watched."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    server = ApiServer(*(kind for kind in (*OWN, *PARTS) if kind != absent))
    workqueue = asyncio.run(watched(server, tmp_path))
    parts = [kind[-1] for kind in PARTS if kind != absent]
    assert {name for _, name in workqueue} == {
        f"{plural}-{event}" for plural in parts for event in ("deleted", "modified")
    }
    assert {namespace for namespace, _ in workqueue} == {"shop"}
    assert all(server.selectors[plural] == OURS for plural in parts)
