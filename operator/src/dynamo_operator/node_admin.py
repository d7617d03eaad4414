"""The way to the nodes' admin listeners, by the address of their pod."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

from dynamo_operator.pod import PORTS
from dynamo_operator.ports import Failed, Found, failure

LOOK_S = 2.0
ASK_S = 20.0
"""A look must not wait for a node that hangs; a founding or a plan asks the other nodes first."""


class NodeAdmin:
    """`ports.NodeApi` over HTTP."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=50)
        self._http = httpx.AsyncClient(timeout=ASK_S, limits=limits, trust_env=False)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def get(self, address: str, path: str, token: str) -> Found:
        """A document of the node at `address`, its IP."""
        return await self._ask("GET", address, path, token, None, LOOK_S)

    async def post(self, address: str, path: str, token: str, body: Mapping[str, Any]) -> Found:
        """Its answer to a request that may change something."""
        return await self._ask("POST", address, path, token, json.dumps(body).encode(), ASK_S)

    async def _ask(
        self, method: str, address: str, path: str, token: str, body: bytes | None, timeout: float
    ) -> Found:
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{PORTS['admin']}{path}"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            answer = await self._http.request(
                method, url, content=body, headers=headers, timeout=timeout
            )
            document = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Failed(f"{url}: {error or type(error).__name__}") from error
        if not isinstance(document, dict):
            raise Failed(f"{url}: not an answer of a node", answer.status_code)
        if answer.status_code >= 400:
            text = str(document.get("detail") or document.get("title") or answer.reason_phrase)
            raise failure(answer.status_code, text, document)
        return document
