"""The connection to the nodes' admin listeners, at the address of each pod.

With TLS the certificate of a node has to be of an authority of its ring, and to name its pod: the
address of a pod is no proof. A token never goes to a node that has not shown such a certificate,
unless the ring is plain.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from dynamo_operator.pod import PORTS
from dynamo_operator.ports import Failed, Json, Way, failure

LOOK_S = 2.0
ASK_S = 20.0
"""A look must not wait for a node that hangs; but a node asks others for a ring or a plan."""
CONNECTIONS_MAX = 100
RINGS_MAX = 256
"""Authorities with connections that are kept; the one that was asked for first makes room."""
UNAUTHORIZED = 401


class NodeAdmin:
    """`ports.NodeApi` over HTTP."""

    def __init__(self, port: int = PORTS["admin"]) -> None:
        self._port = port
        self._plain = _client(None)
        self._believing: dict[str, httpx.AsyncClient] = {}

    async def close(self) -> None:
        """Closes the connections."""
        for client in (self._plain, *self._believing.values()):
            await client.aclose()

    async def get(self, way: Way, path: str) -> Json:
        """A document of the node."""
        return await self._ask("GET", way, path, None, LOOK_S)

    async def post(self, way: Way, path: str, body: Mapping[str, Any]) -> Json:
        """The node's answer to a request that may change something."""
        return await self._ask("POST", way, path, json.dumps(body).encode(), ASK_S)

    async def _ask(
        self, method: str, way: Way, path: str, body: bytes | None, timeout: float
    ) -> Json:
        host = f"[{way.address}]" if ":" in way.address else way.address
        url = f"{'https' if way.believed else 'http'}://{host}:{self._port}{path}"
        try:
            client = await self._client_of(way)
            answer = await self._sent(client, way, (method, url, body, timeout))
            document = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, ValueError) as error:
            raise Failed(f"{url}: {error or type(error).__name__}") from error
        if not isinstance(document, dict):
            raise Failed(f"{url}: the answer is not from a node", answer.status_code)
        if answer.status_code >= 400:
            text = str(document.get("detail") or document.get("title") or answer.reason_phrase)
            raise failure(answer.status_code, text, document)
        return document

    async def _client_of(self, way: Way) -> httpx.AsyncClient:
        if not way.believed:
            return self._plain
        client = self._believing.get(way.believed)
        if client is None:
            client = self._believing[way.believed] = _client(way.believed)
            if len(self._believing) > RINGS_MAX:
                await self._believing.pop(next(iter(self._believing))).aclose()
        return client

    async def _sent(
        self, client: httpx.AsyncClient, way: Way, request: tuple[str, str, bytes | None, float]
    ) -> httpx.Response:
        method, url, body, timeout = request
        named = {"sni_hostname": way.name} if way.believed else {}

        async def send(token: str) -> httpx.Response:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            if body is not None:
                headers["Content-Type"] = "application/json"
            return await client.request(
                method, url, content=body, headers=headers, timeout=timeout, extensions=named
            )

        for token in way.tokens or ("",):
            answer = await send(token)
            if answer.status_code != UNAUTHORIZED:
                break
        return answer


def _client(believed: str | None) -> httpx.AsyncClient:
    """Raises ssl.SSLError where what is to be believed is no PEM."""
    limits = httpx.Limits(
        max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX // 2
    )
    verify: ssl.SSLContext | bool = True
    if believed is not None:
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        verify.minimum_version = ssl.TLSVersion.TLSv1_3
        verify.load_verify_locations(cadata=believed)
    return httpx.AsyncClient(timeout=ASK_S, limits=limits, trust_env=False, verify=verify)
