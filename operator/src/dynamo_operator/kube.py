"""The only connection to the API server, with the kubernetes package's own async client.

It uses raw objects and no models: models need 30 MB more and add nothing to a dict.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException

from dynamo_operator.ports import FIELD_MANAGER, Failed, Gone, Json, failure

ACCEPTED = "application/json, application/jwk-set+json"
"""The API server gives its public keys in the second type alone (else 406)."""
TIMEOUT_S = 10.0
PAGE = 500
PLACES = {
    "DynamoCluster": ("apis/dynamo-ring.dev/v1alpha1", "dynamoclusters"),
    "DynamoRepair": ("apis/dynamo-ring.dev/v1alpha1", "dynamorepairs"),
    "DynamoBackup": ("apis/dynamo-ring.dev/v1alpha1", "dynamobackups"),
    "DynamoRestore": ("apis/dynamo-ring.dev/v1alpha1", "dynamorestores"),
    "StatefulSet": ("apis/apps/v1", "statefulsets"),
    "Pod": ("api/v1", "pods"),
    "PersistentVolumeClaim": ("api/v1", "persistentvolumeclaims"),
    "Service": ("api/v1", "services"),
    "ConfigMap": ("api/v1", "configmaps"),
    "Secret": ("api/v1", "secrets"),
    "Node": ("api/v1", "nodes"),
    "PersistentVolume": ("api/v1", "persistentvolumes"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "ServiceMonitor": ("apis/monitoring.coreos.com/v1", "servicemonitors"),
    "Certificate": ("apis/cert-manager.io/v1", "certificates"),
    "VolumeSnapshot": ("apis/snapshot.storage.k8s.io/v1", "volumesnapshots"),
    "Event": ("apis/events.k8s.io/v1", "events"),
}

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def in_pod() -> bool:
    """Whether the operator speaks as its pod's service account and not as kubeconfig says.

    The order is that of Go's controllers: KUBECONFIG, the pod, ~/.kube/config. A token file alone
    makes no pod: it can be left on a machine, and the address of its API server is then unknown.
    """
    asked = os.environ.get("KUBECONFIG")
    return not asked and "KUBERNETES_SERVICE_HOST" in os.environ and TOKEN.exists()


class Kube:
    """`ports.KubeApi` on a real API server; `calls` counts requests by verb, for the metrics."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self.calls: dict[str, int] = {}

    @staticmethod
    async def connect() -> Kube:
        """As the pod's service account or as kubeconfig says (`in_pod`). Raises Failed."""
        configuration = Configuration()
        configuration.disable_strict_ssl_verification = True  # as handlers.Connection
        try:
            if in_pod():
                config.load_incluster_config(  # type: ignore[no-untyped-call]
                    client_configuration=configuration
                )
            else:
                await config.load_kube_config(  # type: ignore[no-untyped-call]
                    client_configuration=configuration
                )
        except Exception as error:
            why = next(iter(str(error).splitlines()), type(error).__name__)
            raise Failed(f"no connection to a cluster: {why}") from error
        return Kube(ApiClient(configuration))

    async def close(self) -> None:
        """Closes the connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def get(self, kind: str, namespace: str, name: str) -> Json | None:
        """The object, None if there is none."""
        try:
            return await self._ask("GET", _path(kind, namespace, name))
        except Gone:
            return None

    async def find(self, kind: str, namespace: str, selector: str = "") -> list[Json]:
        """Objects by label; an empty namespace means all."""
        found: list[Json] = []
        query = [("limit", str(PAGE)), ("labelSelector", selector)]
        page = query
        while True:
            answer = await self._ask("GET", _path(kind, namespace), page)
            found += answer["items"]
            token = answer["metadata"].get("continue")
            if not token:
                return found
            page = [*query, ("continue", token)]

    async def read(self, path: str) -> Json:
        """A document of the API server itself, that is no object."""
        return await self._ask("GET", path.lstrip("/"))

    async def create(self, body: Mapping[str, Any]) -> Json:
        """Raises Conflict if the name is taken."""
        path = _path(body["kind"], body["metadata"]["namespace"])
        return await self._ask("POST", path, [("fieldManager", FIELD_MANAGER)], body)

    async def apply(self, body: Mapping[str, Any]) -> Json:
        """Server-side apply of whole objects, forced: fields that are left out are removed."""
        meta = body["metadata"]
        path = _path(body["kind"], meta["namespace"], meta["name"])
        query = [("fieldManager", FIELD_MANAGER), ("force", "true")]
        return await self._ask("PATCH", path, query, body, "application/apply-patch+yaml")

    async def patch(
        self, kind: str, namespace: str, name: str, body: Mapping[str, Any], sub: str = ""
    ) -> Json:
        """Merge patch; lists are replaced as a whole."""
        path = _path(kind, namespace, name, sub)
        query = [("fieldManager", FIELD_MANAGER)]
        return await self._ask("PATCH", path, query, body, "application/merge-patch+json")

    async def delete(
        self, kind: str, namespace: str, name: str, preconditions: Mapping[str, str]
    ) -> None:
        """Deletes exactly this object, by uid and resourceVersion."""
        body = {"preconditions": dict(preconditions), "propagationPolicy": "Background"}
        await self._ask("DELETE", _path(kind, namespace, name), [], body)

    async def evict(self, namespace: str, name: str, preconditions: Mapping[str, str]) -> None:
        """Raises Busy if the disruption budget is used up."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": dict(preconditions)},
        }
        await self._ask("POST", _path("Pod", namespace, name, "eviction"), [], body)

    async def _ask(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None = None,
        body: Mapping[str, Any] | None = None,
        kind: str = "application/json",
    ) -> Json:
        self.calls[method] = self.calls.get(method, 0) + 1
        request: Any = await self._api.param_serialize(
            method,
            "/" + path,
            query_params=[pair for pair in query or () if pair[1]],
            header_params={"Accept": ACCEPTED, "Content-Type": kind},
            body=None if body is None else dict(body),
            auth_settings=["BearerToken"],
        )
        try:
            call: Any = self._api.call_api
            answer = await call(*request, _request_timeout=TIMEOUT_S)
            data: bytes = await answer.read()
        except ApiException as error:
            raise failure(error.status or 0, _told(error.body) or str(error.reason)) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Failed(f"{method} {path}: {error or type(error).__name__}") from error
        if answer.status >= 400:
            text = _told(data) or f"{method} {path}: {answer.reason}"
            raise failure(answer.status, text)
        try:
            return dict(json.loads(data)) if data else {}
        except ValueError as error:
            raise Failed(f"{method} {path}: not JSON", answer.status) from error


def _path(kind: str, namespace: str, name: str = "", sub: str = "") -> str:
    group, plural = PLACES[kind]
    place = f"{group}/namespaces/{namespace}/{plural}" if namespace else f"{group}/{plural}"
    return "/".join(part for part in (place, name, sub) if part)


def _told(body: bytes | str | None) -> str:
    """The message of a Status; a proxy's error page is not always JSON."""
    try:
        found = json.loads(body or b"")
        return str(found["message"]) if isinstance(found, dict) else ""
    except (ValueError, LookupError):
        return ""
