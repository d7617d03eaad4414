"""The operator's process: puts the parts together.

Settings are environment variables, all optional:

    DYNAMO_OPERATOR_NAMESPACES   comma list of namespaces to watch; empty: all
    DYNAMO_OPERATOR_NAMESPACE    the operator's own namespace, for the NetworkPolicy of the rings
    DYNAMO_OPERATOR_LISTEN       host:port of /livez, /readyz and /metrics (:8080)
    DYNAMO_OPERATOR_LOG_LEVEL    debug, info, warning or error (info)
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from time import monotonic

from aiohttp import web
from msgspec import Struct

from dynamo_operator import handlers
from dynamo_operator.act import Actor, Outcome
from dynamo_operator.actions import Step
from dynamo_operator.events import EventRecorder
from dynamo_operator.kube import Kube
from dynamo_operator.metrics import Metrics
from dynamo_operator.node_admin import NodeAdmin
from dynamo_operator.observe import Observer
from dynamo_operator.ports import Failed
from dynamo_operator.reconcile import RESYNC_S, Reconciler
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.workqueue import Key, Workqueue

RELIST_S = 30.0
"""Seconds between two lists of the resources, so that a lost event does not matter."""
SLOWER = 1.25
"""Factor by which the look at an unchanged cluster comes later, up to each relist."""
BEGIN_S = 5.0
"""Seconds between two tries to list some namespace at the start."""
SILENT_S_MAX = 3 * RESYNC_S
NOT_FOUND = 404
log = logging.getLogger("dynamo_operator")


class NoCRD(Exception):
    """The API server does not have DynamoCluster: the operator cannot start."""


class Settings(Struct, frozen=True):
    """Settings from the environment."""

    namespaces: tuple[str, ...] = ()
    namespace: str = ""
    listen: str = ":8080"
    log_level: str = "info"

    @staticmethod
    def read() -> Settings:
        """The values of DYNAMO_OPERATOR_*."""

        def variable(name: str, default: str) -> str:
            return os.environ.get(f"DYNAMO_OPERATOR_{name}") or default

        given = (part.strip() for part in variable("NAMESPACES", "").split(","))
        return Settings(
            namespaces=tuple(part for part in given if part),
            namespace=variable("NAMESPACE", ""),
            listen=variable("LISTEN", ":8080"),
            log_level=variable("LOG_LEVEL", "info"),
        )


class App:
    """One operator; two at once do no harm, because each reads before it writes."""

    def __init__(self, settings: Settings, kube: Kube) -> None:
        self.settings = settings
        self.kube = kube
        self.nodes = NodeAdmin()
        self.metrics = Metrics()
        recorder = EventRecorder(kube, socket.gethostname())
        self.reconciler = Reconciler(
            Observer(kube, self.nodes, settings.namespace),
            Actor(kube, self.nodes, recorder, self.metrics.did),
            self._saw,
        )
        self.workqueue = Workqueue(self._pass, self._failed)
        self._steps: dict[Key, tuple[str, int]] = {}
        """The last message of each cluster, and how many times in a row it was the same."""

    async def run(self) -> None:
        """Runs until SIGTERM, or until watching ends for good. Raises NoCRD at the start."""
        runner = await self._serve()
        try:
            await self._begin()
            await self._watch()
        finally:
            await runner.cleanup()
            await self.nodes.close()
            await self.kube.close()

    async def _begin(self) -> None:
        """Start watching when at least one namespace can be listed. A missing or forbidden
        namespace must not delay the others; each relist tries it again."""
        while not await self._relist(beginning=True):
            self.workqueue.ended = asyncio.get_running_loop().time()
            await asyncio.sleep(BEGIN_S)

    async def _watch(self) -> None:
        log.info("watching", extra={"namespaces": list(self.settings.namespaces) or "all"})
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.workqueue.run()),
                group.create_task(self._relist_for_ever()),
            ]
            await handlers.watch(self._wake, self.settings.namespaces)
            for task in tasks:
                task.cancel()

    def _wake(self, key: Key) -> None:
        if all(key):
            self.workqueue.wake(key)

    async def _relist(self, beginning: bool = False) -> bool:
        """Whether any namespace could be listed; each failure is logged. Raises NoCRD at the
        beginning: 404 means that the kind does not exist. The list of a deleted namespace is empty
        or forbidden."""
        listed = False
        for namespace in self.settings.namespaces or ("",):
            try:
                resources = await self.kube.find("DynamoCluster", namespace)
            except Failed as failed:
                if beginning and failed.status == NOT_FOUND:
                    raise NoCRD from failed
                about = {"namespace": namespace or "all", "error": str(failed)}
                log.warning("the resources could not be listed", extra=about)
                self.metrics.listed.labels(namespace or "all").set(0)
                continue
            listed = True
            self.metrics.listed.labels(namespace or "all").set(1)
            for found in resources:
                key = found["metadata"]["namespace"], found["metadata"]["name"]
                if not self.workqueue.knows(key):
                    self.workqueue.wake(key)
        return listed

    async def _relist_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RELIST_S)
            await self._relist()
            self.workqueue.ended = asyncio.get_running_loop().time()

    async def _pass(self, key: Key) -> float | None:
        began = monotonic()
        with self.metrics.pass_seconds.time():
            again = await self.reconciler.reconcile(*key)
        self.metrics.passes.labels("done").inc()
        if again is None:
            self._steps.pop(key, None)
            with suppress(KeyError):
                self.metrics.gone(key)
        log.debug("pass", extra={"cluster": "/".join(key), "seconds": monotonic() - began})
        if again is None or again > RELIST_S:
            return again
        _, times = self._steps.get(key, ("", 0))
        return min(RELIST_S, again * SLOWER**times)

    def _failed(self, key: Key, error: Exception, again_s: float) -> None:
        self.metrics.passes.labels("failed").inc()
        known = isinstance(error, Failed)
        about = {"cluster": "/".join(key), "error": str(error), "again_s": again_s}
        log.warning("the pass failed", extra=about, exc_info=None if known else error)

    def _saw(self, o: Snapshot, step: Step, outcome: Outcome) -> None:
        self.metrics.saw(o, step, outcome)
        key = o.namespace, o.name
        text = "; ".join(filter(None, (step.message, outcome.said, outcome.refused)))
        last, times = self._steps.get(key, ("", 0))
        if outcome.changed or text != last:
            about = {"cluster": "/".join(key), "reason": step.reason, "changed": outcome.changed}
            log.info(text, extra=about)
        self._steps[key] = text, 0 if outcome.changed or text != last else times + 1

    async def _serve(self) -> web.AppRunner:
        """The probes fail when no attempt, good or bad, has ended for three resyncs."""

        async def alive(_: web.Request) -> web.Response:
            silent_s = asyncio.get_running_loop().time() - self.workqueue.ended
            ok = silent_s < SILENT_S_MAX
            return web.Response(status=200 if ok else 500, text=f"last attempt {silent_s:.0f} s\n")

        async def metrics(_: web.Request) -> web.Response:
            text = self.metrics.text(len(self.workqueue), self.kube.calls)
            return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4"})

        site = web.Application()
        site.add_routes([web.get("/livez", alive), web.get("/readyz", alive)])
        site.add_routes([web.get("/metrics", metrics)])
        runner = web.AppRunner(site, access_log=None)
        await runner.setup()
        host, _, port = self.settings.listen.rpartition(":")
        await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
        return runner


async def _run(settings: Settings) -> None:
    main_task = asyncio.current_task()
    assert main_task is not None
    kube = await Kube.connect()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main_task.cancel)
    await App(settings, kube).run()


def main() -> None:
    """`dynamo-operator`: exits with 0 after SIGTERM, with 1 and one line if it cannot start."""
    settings = Settings.read()
    handlers.log_as_json(settings.log_level)
    try:
        asyncio.run(_run(settings))
    except NoCRD:
        sys.exit("dynamo-operator: this API server has no DynamoCluster; install the CRDs first")
    except Failed as failed:
        sys.exit(f"dynamo-operator: {failed}")
    except (asyncio.CancelledError, KeyboardInterrupt):
        return
