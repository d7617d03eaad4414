"""Watches the API server: each event wakes the cluster that it is about.

kopf keeps the connections. The operator uses none of its finalizers, annotations, timers and
indexes; an index keeps objects that were deleted during a relist. A cluster that is woken is read
again from the API server.

The operator also watches the objects of a ring, so that it puts back at once what another client
edits or deletes. The operator's own changes come back as events too: the next look finds nothing to
do, and an apply that changes nothing makes no event. The status of a disruption budget changes only
together with pods, and many events at once lead to one look. Secrets are not watched, because
Kubernetes cannot grant a watch of single Secrets. ServiceMonitors are not watched, because an API
server may not know them. Changes of both wait for the next look.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Collection, Iterator
from typing import Any

import kopf

from dynamo_operator.kube import in_pod

GROUP = "dynamo-ring.dev"
OURS = "app.kubernetes.io/name=dynamo-ring"
INSTANCE = "app.kubernetes.io/instance"
PARTS: tuple[tuple[str, str] | tuple[str, str, str], ...] = (
    ("v1", "persistentvolumeclaims"),
    ("v1", "pods"),
    ("v1", "services"),
    ("apps", "v1", "statefulsets"),
    ("networking.k8s.io", "v1", "networkpolicies"),
    ("policy", "v1", "poddisruptionbudgets"),
)
"""The watched objects of a ring: group, version, plural."""
RUNS = ("dynamorepairs", "dynamobackups", "dynamorestores")
"""What is done once, for the ring that it names."""
Wake = Callable[[tuple[str, str]], None]


class Endless:
    """Seconds between tries, without an end: with a finite list the process ends after 54 s of 503.
    It is an object and not a generator, because kopf starts it again each time."""

    def __iter__(self) -> Iterator[int]:
        yield from (1, 1, 2, 3, 5)
        while True:
            yield 8


class Connection(kopf.ConnectionInfo):
    """Verifies the API server as Go's clients do. The authority of many clusters does not name the
    usage of its key, and Python refuses that since 3.13. Signature, name and time are checked."""

    def as_ssl_context(self) -> ssl.SSLContext:
        """The context that kopf makes, without X509_STRICT."""
        context = super().as_ssl_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


def log_as_json(level: str) -> None:
    """All logs of the process: one JSON object a line on standard error."""
    kopf.configure(log_format=kopf.LogFormat.JSON)
    logging.getLogger().setLevel(level.upper())
    for noisy in ("kopf.objects", "kopf.activities", "httpx", "httpcore", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def settings() -> kopf.OperatorSettings:
    """The settings that a real API server has proved to need."""
    made = kopf.OperatorSettings()
    made.peering.standalone = made.scanning.disabled = True
    made.posting.enabled = False
    made.watching.server_timeout, made.watching.client_timeout = 300, 310
    made.watching.connect_timeout = 5
    made.watching.reconnect_backoff = 1
    made.watching.inactivity_timeout = 70
    made.networking.request_timeout, made.networking.connect_timeout = 15, 5
    made.networking.error_backoffs = Endless()
    made.process.ultimate_exiting_timeout = 25
    for kind in PARTS:
        made.watching.label_selectors[kind] = OURS
    return made


def registry(wake: Wake) -> kopf.OperatorRegistry:
    """The handlers: one line each; none runs in kopf's threads."""
    made = kopf.OperatorRegistry()

    def login(**about: Any) -> Any:
        ways = (kopf.login_with_kubeconfig, kopf.login_with_service_account)
        found = ways[in_pod()](**about)
        return found and Connection(**vars(found))

    async def cluster(namespace: str | None, name: str, **_: Any) -> None:
        wake((namespace or "", name))

    async def run(namespace: str | None, spec: kopf.Spec, **_: Any) -> None:
        wake((namespace or "", spec.get("clusterName", "")))

    async def part(namespace: str | None, labels: kopf.Labels, **_: Any) -> None:
        wake((namespace or "", labels.get(INSTANCE, "")))

    kopf.on.login(registry=made)(login)
    kopf.on.event(GROUP, "v1alpha1", "dynamoclusters", registry=made)(cluster)
    for plural in RUNS:
        kopf.on.event(GROUP, "v1alpha1", plural, registry=made)(run)
    for kind in PARTS:
        kopf.on.event(*kind, registry=made)(part)
    return made


async def watch(wake: Wake, namespaces: Collection[str]) -> None:
    """Watch until cancelled, or until kopf gives up. No namespaces means all."""
    await kopf.operator(
        registry=registry(wake),
        settings=settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
    )
